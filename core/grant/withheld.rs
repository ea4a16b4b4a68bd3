//! What a worker asks for beyond its grant.

use std::fmt;

use verger_worker::{Args, Manifest, Verb};

use super::Grant;
use super::effective::Effective;

impl Grant {
    /// What a worker asks for and this grant does not give it. A table that an arg names is taken
    /// to be the arg's default.
    pub(crate) fn withholds(&self, manifest: &Manifest) -> Option<Withheld> {
        let effective = Effective::of(manifest, self, &Args::default());
        let capabilities: Vec<String> = manifest
            .capabilities
            .iter()
            .filter(|name| !self.as_declared && !self.capabilities.contains(*name))
            .cloned()
            .collect();
        let enqueues: Vec<String> = manifest
            .enqueues
            .iter()
            .filter(|name| {
                let is_granted = self.as_declared || self.enqueues.contains(*name);
                !is_granted && **name != manifest.name
            })
            .cloned()
            .collect();
        let tables: Vec<(String, Vec<Verb>)> = effective
            .withheld
            .into_iter()
            .map(|(table, verbs)| (table, verbs.into_iter().collect()))
            .collect();
        let withheld = Withheld {
            worker: manifest.name.clone(),
            tables,
            capabilities,
            enqueues,
            unconfined: self.confines() && !manifest.tenant_aware,
            scope_defaults: manifest.ignored_defaults().map(str::to_string).collect(),
        };
        (!withheld.is_empty()).then_some(withheld)
    }
}

/// What a worker asks for in its manifest and its grant does not give it, such as what a new
/// version asks for beyond the one that was granted. It runs without it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Withheld {
    /// The worker.
    pub worker: String,
    /// The tables, each with the verbs that are missing.
    pub tables: Vec<(String, Vec<Verb>)>,
    /// The app's functions.
    pub capabilities: Vec<String>,
    /// The workers it would enqueue jobs for.
    pub enqueues: Vec<String>,
    /// It says that it is not tenant-aware, and its grant names a tenant column. It is confined all
    /// the same.
    pub unconfined: bool,
    /// The keys of a scope (`organization_id`, `actor_id`, `impersonating_from`) for which its
    /// manifest has a default. No default is filled in, because only the app says for whom a job
    /// runs.
    pub scope_defaults: Vec<String>,
}

impl Withheld {
    pub(super) fn is_empty(&self) -> bool {
        let Self { worker: _, tables, capabilities, enqueues, unconfined, scope_defaults } = self;
        let nothing_asked = tables.is_empty() && capabilities.is_empty() && enqueues.is_empty();
        nothing_asked && !unconfined && scope_defaults.is_empty()
    }
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables = self.tables.iter().map(|(table, verbs)| {
            let verbs: Vec<String> = verbs.iter().map(Verb::to_string).collect();
            format!("{} on table {table}", verbs.join(", "))
        });
        let asked: Vec<String> = tables
            .chain(self.capabilities.iter().map(|name| format!("capability `{name}`")))
            .chain(self.enqueues.iter().map(|name| format!("jobs for worker `{name}`")))
            .chain(self.unconfined.then(|| "to run unconfined, as not tenant-aware".to_string()))
            .chain(self.scope_defaults.iter().map(|key| format!("a default for `{key}`")))
            .collect();
        write!(f, "worker `{}` asks for what it is not granted: {}", self.worker, asked.join("; "))
    }
}
