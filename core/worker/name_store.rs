//! Where plugins' names are bound to components: read, decided and written down in one transaction.

use std::collections::BTreeMap;

use rusqlite::{Connection, TransactionBehavior};

use super::{Bound, Decision, bind_name, bound_names};
use crate::store::{StoreContext, StoreError};
use crate::time::Timestamp;

/// Where names are bound to components.
pub(crate) struct NameStore<'a> {
    pub(crate) front: &'a mut Connection,
    /// Opened to be read only: nothing is written down.
    pub(crate) looking: bool,
    pub(crate) now: Timestamp,
}

pub(crate) type Decided = BTreeMap<String, (Decision, Option<Bound>)>;

impl NameStore<'_> {
    /// Whose each name is, and was. What is new is written down, in one transaction with the
    /// decision: of two processes that open at once, the second sees what the first decided.
    pub(crate) fn decide<'g>(
        &mut self,
        claims: &BTreeMap<String, Vec<Bound>>,
        granted: &dyn Fn(&str) -> Option<&'g str>,
    ) -> Result<Decided, StoreError> {
        let doing = "read the names of the plugins";
        if claims.is_empty() {
            return Ok(Decided::new());
        }
        let is_there = |path: &str| std::path::Path::new(path).exists();
        let decide = |connection: &Connection| -> rusqlite::Result<Decided> {
            let mut bound = bound_names(connection)?;
            let of = |(name, claimants): (&String, &Vec<Bound>)| {
                let bound = bound.remove(name);
                let decision = super::decide(claimants, bound.as_ref(), granted(name), is_there);
                (name.clone(), (decision, bound))
            };
            Ok(claims.iter().map(of).collect())
        };
        let decided = decide(self.front).doing(doing)?;
        let is_news = |(decision, _): &(Decision, _)| {
            matches!(decision, Decision::Owner { is_news: true, .. })
        };
        if self.looking || !decided.values().any(is_news) {
            return Ok(decided);
        }
        let doing = "write down the names of the plugins";
        let transaction =
            self.front.transaction_with_behavior(TransactionBehavior::Immediate).doing(doing)?;
        let decided = decide(&transaction).doing(doing)?;
        for (name, (decision, bound)) in &decided {
            let Decision::Owner { place, is_news: true } = decision else { continue };
            let Some(owner) = claims.get(name).and_then(|claimants| claimants.get(*place)) else {
                continue;
            };
            bind_name(&transaction, name, owner, self.now).doing(doing)?;
            if let Some(before) = bound.as_ref().filter(|before| before.digest != owner.digest) {
                tracing::info!(worker = %name, file = %owner.source, before = %before.digest, now = %owner.digest, "a plugin was replaced by another version");
            }
        }
        transaction.commit().doing(doing)?;
        Ok(decided)
    }
}
