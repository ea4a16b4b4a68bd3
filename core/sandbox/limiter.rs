//! How much memory an attempt may have: one total over all its memories and tables.

use wasmtime::ResourceLimiter;

/// Bytes a table element counts for.
const ELEMENT_BYTES: usize = 16;

/// Counts and refuses.
pub(super) struct Limiter {
    left: usize,
    most: usize,
    refused: bool,
}

impl Limiter {
    pub(super) fn new(bytes: usize) -> Self {
        Self { left: bytes, most: bytes, refused: false }
    }

    /// The limit, when growth was refused because of it.
    pub(super) fn refused(&self) -> Option<usize> {
        self.refused.then_some(self.most)
    }

    /// The most bytes it took. Nothing is ever given back, because memories only grow.
    pub(super) fn taken(&self) -> usize {
        self.most - self.left
    }

    fn take(&mut self, bytes: usize) -> bool {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                true
            }
            None => {
                self.refused = true;
                false
            }
        }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Growth over the module's own maximum fails anyway and must not count.
        Ok(maximum.is_none_or(|maximum| desired <= maximum)
            && self.take(desired.saturating_sub(current)))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let grows = desired.saturating_sub(current).saturating_mul(ELEMENT_BYTES);
        Ok(maximum.is_none_or(|maximum| desired <= maximum) && self.take(grows))
    }

    fn instances(&self) -> usize {
        256
    }

    fn memories(&self) -> usize {
        16
    }

    fn tables(&self) -> usize {
        256
    }
}
