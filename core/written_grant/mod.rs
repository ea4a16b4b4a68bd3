//! A grant as people write it, in the one form that the command, `verger.toml` and an app's own
//! settings read.

mod limits;
mod names;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use verger_worker::{Manifest, TableName, Verb};

use self::limits::WrittenLimits;
use self::names::{Digest, Part, Table};
use crate::grant::Grant;
use crate::limits::Limits;

/// What one worker is granted, as people write it in JSON. [`to_grant`](Self::to_grant) makes a
/// [`Grant`] of it. It is for an app that keeps grants in its own settings. The command's `--grant`
/// takes an object of these, by the workers' names.
///
/// A table is written as its name. In `read` and `update` it may name some of its columns,
/// `users:id,name`. `write` has all four verbs. The limits have the names of [`Limits::all`], and
/// count milliseconds, bytes or things, from 1.
///
/// ```
/// use verger::{Grant, WrittenGrant};
///
/// let written: WrittenGrant = serde_json::from_str(
///     r#"{"read": ["orders", "users:id,name"], "write": ["totals"], "limits": {"time_ms": 5000}}"#,
/// )?;
/// let limits = verger::Limits::new().time(std::time::Duration::from_secs(5));
/// let grant = Grant::new().read("orders").read_columns("users", ["id", "name"]).write("totals");
/// assert_eq!(written.to_grant(), grant.limits(limits));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object that says what a worker is granted")]
pub struct WrittenGrant {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    read: Vec<Part>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    insert: Vec<Table>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    update: Vec<Part>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    delete: Vec<Table>,
    /// All four verbs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    write: Vec<Table>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_column: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shared: Vec<Table>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    capabilities: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    enqueue: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<Digest>,
    #[serde(skip_serializing_if = "WrittenLimits::is_empty")]
    limits: WrittenLimits,
}

impl WrittenGrant {
    /// A written grant of all that a worker asks for, for this component alone. A table that an arg
    /// names is taken to be the arg's default.
    ///
    /// # Errors
    /// A sentence when `sha256` is no SHA-256.
    pub fn all_of(manifest: &Manifest, sha256: &str) -> Result<Self, String> {
        let mut asked: BTreeMap<&str, BTreeSet<Verb>> = BTreeMap::new();
        for ask in &manifest.tables {
            let (TableName::Named { table } | TableName::FromArg { default: table, .. }) =
                &ask.table;
            asked.entry(table).or_default().extend(&ask.verbs);
        }
        let others = manifest.enqueues.iter().filter(|name| **name != manifest.name);
        let mut written = Self {
            capabilities: manifest.capabilities.clone(),
            enqueue: others.cloned().collect(),
            ..Self::default()
        };
        written.bind(sha256)?;
        for (table, verbs) in asked {
            if verbs.len() == 4 {
                written.write.push(Table(table.to_string()));
                continue;
            }
            for verb in verbs {
                let (table, columns) = (table.to_string(), None);
                match verb {
                    Verb::Read => written.read.push(Part { table, columns }),
                    Verb::Insert => written.insert.push(Table(table)),
                    Verb::Update => written.update.push(Part { table, columns }),
                    Verb::Delete => written.delete.push(Table(table)),
                }
            }
        }
        Ok(written)
    }

    /// Adds a verb, or `write` for all four, on a table or on some of its columns.
    ///
    /// # Errors
    /// A sentence that names the part when it cannot be read.
    #[cfg(feature = "config")]
    pub(crate) fn allow(&mut self, verb: &str, part: &str) -> Result<(), String> {
        let part = part.to_string();
        match verb {
            "read" => self.read.push(part.try_into()?),
            "insert" => self.insert.push(part.try_into()?),
            "update" => self.update.push(part.try_into()?),
            "delete" => self.delete.push(part.try_into()?),
            "write" => self.write.push(part.try_into()?),
            "shared" => self.shared.push(part.try_into()?),
            other => return Err(format!("there is no verb {other:?}")),
        }
        Ok(())
    }

    /// Binds it to the component with this SHA-256.
    ///
    /// # Errors
    /// A sentence when it is no SHA-256.
    pub(crate) fn bind(&mut self, sha256: &str) -> Result<(), String> {
        self.sha256 = Some(Digest::try_from(sha256.to_string())?);
        Ok(())
    }

    #[cfg(feature = "config")]
    pub(crate) fn confine(&mut self, column: &str) {
        self.tenant_column = Some(column.to_string());
    }

    #[cfg(feature = "config")]
    pub(crate) fn give(&mut self, capabilities: &[&str], enqueue: &[&str]) {
        self.capabilities.extend(capabilities.iter().map(ToString::to_string));
        self.enqueue.extend(enqueue.iter().map(ToString::to_string));
    }

    /// The verbs on each table, and the columns where not all are meant. Tables and columns are in
    /// lower case, as SQLite compares them.
    #[must_use]
    pub fn tables(&self) -> BTreeMap<(String, Verb), Option<BTreeSet<String>>> {
        let mut tables: BTreeMap<(String, Verb), Option<BTreeSet<String>>> = BTreeMap::new();
        for (verb, parts) in [(Verb::Read, &self.read), (Verb::Update, &self.update)] {
            for part in parts {
                let known = tables
                    .entry((part.table.to_ascii_lowercase(), verb))
                    .or_insert_with(|| Some(BTreeSet::new()));
                match (&part.columns, known) {
                    (Some(columns), Some(known)) => {
                        known.extend(columns.iter().map(|column| column.to_ascii_lowercase()));
                    }
                    // All columns, once granted, stay granted.
                    (_, known) => *known = None,
                }
            }
        }
        let every = [Verb::Read, Verb::Insert, Verb::Update, Verb::Delete];
        for (verbs, names) in [
            (&[Verb::Insert][..], &self.insert),
            (&[Verb::Delete], &self.delete),
            (&every, &self.write),
        ] {
            for (verb, name) in
                verbs.iter().flat_map(|verb| names.iter().map(move |name| (*verb, name)))
            {
                tables.insert((name.0.to_ascii_lowercase(), verb), None);
            }
        }
        tables
    }

    /// The column that holds the organization of a row, if it names one.
    #[must_use]
    pub fn tenant_column(&self) -> Option<&str> {
        self.tenant_column.as_deref()
    }

    /// The tables that belong to no organization.
    pub fn shared(&self) -> impl Iterator<Item = &str> {
        self.shared.iter().map(|table| table.0.as_str())
    }

    /// The limits it sets, with the defaults of the others.
    pub fn limits(&self) -> Limits {
        self.limits.set_on(Limits::new())
    }

    /// The capabilities it gives.
    #[must_use]
    pub fn capabilities(&self) -> &[String] {
        &self.capabilities
    }

    /// The workers it may enqueue jobs for, beside itself.
    #[must_use]
    pub fn enqueue(&self) -> &[String] {
        &self.enqueue
    }

    /// The one component it is for, if it names one.
    #[must_use]
    pub fn sha256(&self) -> Option<&str> {
        self.sha256.as_ref().map(|digest| digest.0.as_str())
    }

    /// The grant, for the one component it names.
    #[must_use]
    pub fn to_grant(&self) -> Grant {
        match self.sha256() {
            Some(sha256) => self.to_grant_for_any_file().for_digest(sha256),
            None => self.to_grant_for_any_file(),
        }
    }

    /// The grant, whatever component it is for, to examine one that it may not be for.
    #[must_use]
    pub fn to_grant_for_any_file(&self) -> Grant {
        self.add_to(Grant::new()).limits(self.limits())
    }

    /// Adds all that it gives to a grant, except its limits and the component it is for.
    fn add_to(&self, mut grant: Grant) -> Grant {
        for ((table, verb), columns) in self.tables() {
            grant = match (verb, columns) {
                (Verb::Read, Some(columns)) => grant.read_columns(table, columns),
                (Verb::Update, Some(columns)) => grant.update_columns(table, columns),
                (Verb::Read, None) => grant.read(table),
                (Verb::Update, None) => grant.update(table),
                (Verb::Insert, _) => grant.insert(table),
                (Verb::Delete, _) => grant.delete(table),
            };
        }
        if let Some(column) = &self.tenant_column {
            grant = grant.tenant_column(column);
        }
        grant = self.shared().fold(grant, Grant::shared);
        grant = self.capabilities.iter().fold(grant, Grant::capability);
        self.enqueue.iter().fold(grant, Grant::enqueue)
    }

    /// The grant with these limits. Where `declared`, it gives all that the manifest asks for.
    #[cfg(feature = "config")]
    pub(crate) fn to_grant_with(&self, declared: bool, limits: Limits) -> Grant {
        let grant = self.add_to(if declared { Grant::as_declared() } else { Grant::new() });
        let grant = match self.sha256() {
            Some(sha256) => grant.for_digest(sha256),
            None => grant,
        };
        grant.limits(limits)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use std::time::Duration;

    use super::*;
    use verger_worker::{ArgSpec, TableAsk};

    fn written(json: &str) -> WrittenGrant {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_is_written_is_what_is_granted() {
        let sha256 = "AB".repeat(32);
        let text = format!(
            r#"{{"read": ["orders", "Users:id, Name"], "insert": ["log"], "update": ["orders:state"], "delete": ["log"], "write": ["totals"],
                "tenant_column": "organization_id", "shared": ["log"], "capabilities": ["mailer"], "enqueue": ["other"], "sha256": "{sha256}",
                "limits": {{"time_ms": 1500, "memory_bytes": 1048576, "jobs": 7, "job_bytes": 8, "state_bytes": 9}}}}"#
        );
        let limits = Limits::new().time(Duration::from_millis(1_500)).memory_bytes(1 << 20);
        let limits = limits.jobs(7).job_bytes(8).state_bytes(9);
        let grant = Grant::new()
            .read("orders")
            .read_columns("users", ["id", "name"])
            .insert("log")
            .update_columns("orders", ["state"])
            .delete("log")
            .write("totals")
            .tenant_column("organization_id")
            .shared("log")
            .capability("mailer")
            .enqueue("other")
            .limits(limits);
        assert_eq!(written(&text).to_grant_for_any_file(), grant);
        assert_eq!(written(&text).to_grant(), grant.for_digest(sha256));
        assert_eq!(written("{}").to_grant(), Grant::new());
        assert_eq!(written(r#"{"read": ["t:a", "t"]}"#).to_grant(), Grant::new().read("t"));
        let again = serde_json::to_string(&written(&text)).unwrap();
        assert_eq!(written(&again), written(&text));
    }

    #[test]
    fn a_bad_grant_names_the_place_and_the_reason() {
        for (text, names) in [
            (r#"{"reed": []}"#, "unknown field `reed`"),
            (r#"{"read": "orders"}"#, "expected a sequence"),
            (r#"{"insert": ["orders:id"]}"#, "only `read` and `update`"),
            (r#"{"read": ["orders:"]}"#, "TABLE:COLUMN,COLUMN"),
            (r#"{"read": [""]}"#, "empty"),
            (r#"{"sha256": "12"}"#, "no SHA-256"),
            (r#"{"limits": {"time_ms": 0}}"#, "time_ms is 0, and must be at least 1"),
            (r#"{"limits": {"time_ms": -1}}"#, "invalid value"),
            (r#"{"limits": {"time": 1}}"#, "there is no limit \"time\"; there are time_ms"),
            (r#"{"limits": {"jobs": 1, "jobs": 2}}"#, "jobs is there twice"),
            (r#"{"read": ["#, "line 1 column"),
        ] {
            let error = serde_json::from_str::<WrittenGrant>(text).unwrap_err().to_string();
            assert!(error.contains(names), "{text}: {error}");
        }
    }

    #[test]
    fn what_gives_all_that_is_asked_for_withholds_nothing() {
        let manifest = Manifest::new("w", "1")
            .arg("table", ArgSpec::default_value("orders"))
            .table(TableAsk::from_arg("table", "orders").read().update())
            .table(TableAsk::named("totals").read().insert().update().delete())
            .capability("mailer")
            .enqueues("w")
            .enqueues("other");
        let sha256 = "0f".repeat(32);
        let all = WrittenGrant::all_of(&manifest, &sha256).unwrap();
        assert_eq!(
            serde_json::to_string(&all).unwrap(),
            format!(
                r#"{{"read":["orders"],"update":["orders"],"write":["totals"],"capabilities":["mailer"],"enqueue":["other"],"sha256":"{sha256}"}}"#
            )
        );
        assert_eq!(all.to_grant().withholds(&manifest), None);
        assert!(WrittenGrant::all_of(&manifest, "12").is_err());
    }
}
