//! The roles of components: their names, their passwords, and what each is to be granted.

use std::collections::{BTreeMap, BTreeSet};

use hmac::{Hmac, Mac};
use postgres::types::Type;
use sha2::{Digest, Sha256};
use verger_worker::{Args, Verb};

use crate::grant::Effective;
use crate::plugin_error::PluginError;
use crate::text::{beginning, hex};
use crate::worker::Registered;

/// The longest name the server keeps, in bytes.
const NAME_MAX_BYTES: usize = 63;

/// How roles are named, and what their passwords are made of. Roles belong to the whole server, so
/// their names begin with that of the database.
pub(in crate::postgres) struct Roles {
    database: String,
    secret: Vec<u8>,
}

impl Roles {
    pub(in crate::postgres) fn new(database: String, secret: Vec<u8>) -> Self {
        Self { database, secret }
    }

    /// The role of a worker, or that for its jobs of one tenant.
    pub(in crate::postgres) fn name(&self, worker: &str, confined: bool) -> String {
        let tail = if confined { ":tenant" } else { "" };
        let whole = format!("verger_{}_{worker}", self.database);
        if whole.len() + tail.len() <= NAME_MAX_BYTES {
            return whole + tail;
        }
        let digest = Sha256::digest(&whole);
        let digits = hex(&digest[..8]);
        let kept = beginning(&whole, NAME_MAX_BYTES - tail.len() - 1 - digits.len());
        format!("{kept}_{digits}{tail}")
    }

    /// The password of a role. Nodes that have one secret agree on it.
    pub(in crate::postgres) fn password(&self, role: &str) -> String {
        // A key of any length is taken.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.secret) else {
            return String::new();
        };
        mac.update(role.as_bytes());
        hex(&mac.finalize().into_bytes())
    }
}

/// What may be done with a table: by verb, with all columns or with these.
pub(super) type Verbs = BTreeMap<Verb, Option<BTreeSet<String>>>;

/// What one component is to be granted.
pub(in crate::postgres) struct Wanted {
    pub(super) worker: String,
    pub(super) tables: BTreeMap<String, Verbs>,
    pub(super) tenant_column: Option<String>,
    pub(super) shared: BTreeSet<String>,
}

impl Wanted {
    /// By what the worker declares and the app grants. A table that an arg names is its default.
    pub(in crate::postgres) fn of(worker: &Registered) -> Result<Self, PluginError> {
        let manifest = worker.manifest()?;
        let args = manifest.fill_in(&Args::default());
        let effective = Effective::of(manifest, &worker.grant, &args);
        let mut tables: BTreeMap<String, Verbs> = BTreeMap::new();
        for (table, verb, columns) in effective.grants() {
            tables.entry(table.to_string()).or_default().insert(verb, columns.cloned());
        }
        let shared = tables.keys().filter(|table| effective.is_shared(table)).cloned().collect();
        Ok(Self {
            worker: manifest.name.clone(),
            tenant_column: effective.tenant_column().map(str::to_string),
            tables,
            shared,
        })
    }
}

/// A name as SQL has it.
pub(in crate::postgres) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A type as SQL has it, whatever the search path.
pub(super) fn type_name(of: &Type) -> String {
    format!("{}.{}", quoted(of.schema()), quoted(of.name()))
}

/// A text as SQL has it.
pub(super) fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The word for a verb in a GRANT.
pub(super) fn privilege(verb: Verb) -> &'static str {
    match verb {
        Verb::Read => "SELECT",
        Verb::Insert => "INSERT",
        Verb::Update => "UPDATE",
        Verb::Delete => "DELETE",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_differ() {
        let roles = Roles::new("app".to_string(), b"secret".to_vec());
        assert_eq!(roles.name("close-stale", false), "verger_app_close-stale");
        assert_eq!(roles.name("close-stale", true), "verger_app_close-stale:tenant");
        let long = "é".repeat(60);
        let names: BTreeSet<String> = [long.clone(), long + "x"]
            .iter()
            .flat_map(|worker| [roles.name(worker, false), roles.name(worker, true)])
            .collect();
        assert_eq!(names.len(), 4);
        assert!(names.iter().all(|name| name.len() <= NAME_MAX_BYTES), "{names:?}");
    }

    #[test]
    fn a_password_belongs_to_its_role_and_secret() {
        let roles = Roles::new("app".to_string(), b"secret".to_vec());
        let other = Roles::new("app".to_string(), b"another".to_vec());
        assert_eq!(roles.password("a").len(), 64);
        assert_ne!(roles.password("a"), roles.password("b"));
        assert_ne!(roles.password("a"), other.password("a"));
    }
}
