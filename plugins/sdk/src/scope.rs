//! For whom a job runs: ids for the audit log, and no more.

use crate::args::Args;
use crate::manifest::SCOPE_KEYS;

/// The audit-only identity of a job.
///
/// It carries ids and nothing an app could authorize with: no session, no membership, no role. The
/// host makes it from a job's args. It has no public constructor, converts into nothing, and must
/// not be handed to an authorization check.
///
/// ```compile_fail
/// let scope = verger_worker::Scope { organization_id: None, actor_id: None, impersonating_from: None };
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    organization_id: Option<String>,
    actor_id: Option<String>,
    impersonating_from: Option<String>,
}

impl Scope {
    /// The tenant the job runs for. `None` for the whole system.
    #[must_use]
    pub fn organization_id(&self) -> Option<&str> {
        self.organization_id.as_deref()
    }

    /// Who caused the job. `None` for the system itself.
    #[must_use]
    pub fn actor_id(&self) -> Option<&str> {
        self.actor_id.as_deref()
    }

    /// The person behind the actor, when one acts as another.
    #[must_use]
    pub fn impersonating_from(&self) -> Option<&str> {
        self.impersonating_from.as_deref()
    }

    /// For hosts: the scope of a job, read from its args as they were enqueued, without defaults.
    /// `None` when they have none of its keys. Ids that are numbers become text.
    #[doc(hidden)]
    #[must_use]
    pub fn of(args: &Args) -> Option<Self> {
        SCOPE_KEYS.iter().any(|key| args.as_map().contains_key(*key)).then(|| Self::from_args(args))
    }

    fn from_args(args: &Args) -> Self {
        let id = |key: &str| match args.as_map().get(key) {
            None | Some(serde_json::Value::Null) => None,
            Some(serde_json::Value::String(id)) => Some(id.clone()),
            Some(other) => Some(other.to_string()),
        };
        Self {
            organization_id: id("organization_id"),
            actor_id: id("actor_id"),
            impersonating_from: id("impersonating_from"),
        }
    }

    #[cfg(target_family = "wasm")]
    pub(crate) fn from_parts(
        organization_id: Option<String>,
        actor_id: Option<String>,
        impersonating_from: Option<String>,
    ) -> Self {
        Self { organization_id, actor_id, impersonating_from }
    }
}
