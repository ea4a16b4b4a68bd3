//! Bytes that nobody can guess.

use super::failure::unusable;
use crate::store::StoreError;

/// So many of them. `doing` completes "could not …".
pub(super) fn random(doing: &'static str, bytes: usize) -> Result<Vec<u8>, StoreError> {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random).map_err(|error| unusable(doing, error.to_string()))?;
    Ok(random)
}
