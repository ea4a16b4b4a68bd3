//! `--grant`: what a person grants workers on the command line. One form for all verbs: JSON, by
//! the worker's name.

use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::time::Duration;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use verger::verger_worker::{TableName, Verb};
use verger::{Grant, Limits, Manifest};

use crate::input;

/// What workers are granted, by their names.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Grants(BTreeMap<String, Given>);

/// What one worker is granted: a [`Grant`] as people write it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object that says what a worker is granted")]
pub(crate) struct Given {
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
    pub(crate) tenant_column: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) shared: Vec<Table>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    capabilities: Vec<String>,
    /// The workers it may enqueue jobs for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    enqueue: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<GivenLimits>,
}

/// The name of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Table(pub(crate) String);

/// A table, or some columns of it: `orders`, `users:id,name`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Part {
    table: String,
    columns: Option<Vec<String>>,
}

/// A SHA-256 in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String")]
struct Digest(String);

/// What of [`Limits`] is not to be the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct GivenLimits {
    time_ms: Option<NonZeroU64>,
    memory_bytes: Option<NonZeroUsize>,
    sql_memory_bytes: Option<NonZeroUsize>,
    chunk_bytes: Option<NonZeroUsize>,
    statements: Option<NonZeroU64>,
    transaction_bytes: Option<NonZeroU64>,
    growth_bytes: Option<NonZeroU64>,
    audit_rows: Option<NonZeroU64>,
    audit_bytes: Option<NonZeroU64>,
    events: Option<NonZeroUsize>,
    event_bytes: Option<NonZeroUsize>,
    call_bytes: Option<NonZeroUsize>,
    log_lines: Option<NonZeroU32>,
    log_bytes: Option<NonZeroUsize>,
    write_lock_ms: Option<NonZeroU64>,
    jobs: Option<NonZeroU64>,
    job_bytes: Option<NonZeroUsize>,
    state_bytes: Option<NonZeroUsize>,
}

/// The other workers that one asks to enqueue jobs for.
pub(crate) fn others(manifest: &Manifest) -> impl Iterator<Item = &String> {
    manifest.enqueues.iter().filter(|name| **name != manifest.name)
}

/// Reads the value of `--grant`: JSON, or the name of a file that holds it.
pub(crate) fn parse(text: &str) -> Result<Grants, String> {
    let json = match text.trim_start().starts_with('{') {
        true => text.to_string(),
        false => input::file(text.as_ref()).map_err(|error| {
            format!("it is no JSON object, and no file that can be read: {error}")
        })?,
    };
    serde_json::from_str(&json).map_err(|error| format!("it is no grant: {error}"))
}

impl Grants {
    /// All of them as one. No worker may be in two: which one holds would be a guess.
    pub(crate) fn merged(all: &[Self]) -> Result<Self> {
        let mut merged = BTreeMap::new();
        for (worker, given) in all.iter().flat_map(|grants| &grants.0) {
            if merged.insert(worker.clone(), given.clone()).is_some() {
                bail!("--grant names the worker `{worker}` twice: put all it is granted into one");
            }
        }
        Ok(Self(merged))
    }

    pub(crate) fn get(&self, worker: &str) -> Option<&Given> {
        self.0.get(worker)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Given)> {
        self.0.iter()
    }

    /// What gives a worker all it asks for, and this very component alone, as a value of `--grant`.
    /// A table that an arg names is the one it names by default.
    pub(crate) fn all_of(manifest: &Manifest, sha256: &str) -> Self {
        let mut asked: BTreeMap<&str, BTreeSet<Verb>> = BTreeMap::new();
        for ask in &manifest.tables {
            let (TableName::Named { table } | TableName::FromArg { default: table, .. }) =
                &ask.table;
            asked.entry(table).or_default().extend(&ask.verbs);
        }
        let mut given = Given {
            capabilities: manifest.capabilities.clone(),
            enqueue: others(manifest).cloned().collect(),
            sha256: Some(Digest(sha256.to_string())),
            ..Given::default()
        };
        for (table, verbs) in asked {
            if verbs.len() == 4 {
                given.write.push(Table(table.to_string()));
                continue;
            }
            for verb in verbs {
                let (table, columns) = (table.to_string(), None);
                match verb {
                    Verb::Read => given.read.push(Part { table, columns }),
                    Verb::Insert => given.insert.push(Table(table)),
                    Verb::Update => given.update.push(Part { table, columns }),
                    Verb::Delete => given.delete.push(Table(table)),
                }
            }
        }
        Self(BTreeMap::from([(manifest.name.clone(), given)]))
    }
}

impl Given {
    /// The verbs on each table, and the columns where not all are meant. Tables in lower case, as
    /// SQLite takes them.
    pub(crate) fn tables(&self) -> BTreeMap<(String, Verb), Option<BTreeSet<String>>> {
        let mut tables: BTreeMap<(String, Verb), Option<BTreeSet<String>>> = BTreeMap::new();
        for (verb, parts) in [(Verb::Read, &self.read), (Verb::Update, &self.update)] {
            for part in parts {
                let known = tables
                    .entry((part.table.to_lowercase(), verb))
                    .or_insert_with(|| Some(BTreeSet::new()));
                match (&part.columns, known) {
                    (Some(columns), Some(known)) => {
                        known.extend(columns.iter().map(|column| column.to_lowercase()))
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
                tables.insert((name.0.to_lowercase(), verb), None);
            }
        }
        tables
    }

    /// The limits it sets, with the defaults of the others.
    pub(crate) fn limits(&self) -> Limits {
        self.limits.unwrap_or_default().to_limits()
    }

    /// The capabilities it gives.
    pub(crate) fn capabilities(&self) -> &[String] {
        &self.capabilities
    }

    /// The workers it may enqueue jobs for.
    pub(crate) fn enqueue(&self) -> &[String] {
        &self.enqueue
    }

    /// The one component it is for, when it names one.
    pub(crate) fn sha256(&self) -> Option<&str> {
        self.sha256.as_ref().map(|digest| digest.0.as_str())
    }

    /// The grant, for the one component it names.
    pub(crate) fn to_grant(&self) -> Grant {
        match self.sha256() {
            Some(sha256) => self.to_grant_for_any_file().for_digest(sha256),
            None => self.to_grant_for_any_file(),
        }
    }

    /// The grant, whatever component it is for: to look at one that it may not be for.
    pub(crate) fn to_grant_for_any_file(&self) -> Grant {
        let mut grant = Grant::new();
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
        grant = self.shared.iter().fold(grant, |grant, table| grant.shared(&table.0));
        grant = self.capabilities.iter().fold(grant, |grant, name| grant.capability(name));
        grant = self.enqueue.iter().fold(grant, |grant, name| grant.enqueue(name));
        grant.limits(self.limits())
    }
}

impl GivenLimits {
    fn to_limits(self) -> Limits {
        fn set<T>(limits: Limits, given: Option<T>, to: impl Fn(Limits, T) -> Limits) -> Limits {
            match given {
                Some(value) => to(limits, value),
                None => limits,
            }
        }
        let mut limits = Limits::new();
        limits = set(limits, self.time_ms, |limits, millis| {
            limits.time(Duration::from_millis(millis.get()))
        });
        limits = set(limits, self.memory_bytes, |limits, most| limits.memory_bytes(most.get()));
        limits =
            set(limits, self.sql_memory_bytes, |limits, most| limits.sql_memory_bytes(most.get()));
        limits = set(limits, self.chunk_bytes, |limits, most| limits.chunk_bytes(most.get()));
        limits = set(limits, self.statements, |limits, most| limits.statements(most.get()));
        limits = set(limits, self.transaction_bytes, |limits, most| {
            limits.transaction_bytes(most.get())
        });
        limits = set(limits, self.growth_bytes, |limits, most| limits.growth_bytes(most.get()));
        limits = set(limits, self.audit_rows, |limits, most| limits.audit_rows(most.get()));
        limits = set(limits, self.audit_bytes, |limits, most| limits.audit_bytes(most.get()));
        limits = set(limits, self.events, |limits, most| limits.events(most.get()));
        limits = set(limits, self.event_bytes, |limits, most| limits.event_bytes(most.get()));
        limits = set(limits, self.call_bytes, |limits, most| limits.call_bytes(most.get()));
        limits = set(limits, self.log_lines, |limits, most| limits.log_lines(most.get()));
        limits = set(limits, self.log_bytes, |limits, most| limits.log_bytes(most.get()));
        limits = set(limits, self.jobs, |limits, most| limits.jobs(most.get()));
        limits = set(limits, self.job_bytes, |limits, most| limits.job_bytes(most.get()));
        limits = set(limits, self.state_bytes, |limits, most| limits.state_bytes(most.get()));
        set(limits, self.write_lock_ms, |limits, millis| {
            limits.write_lock(Duration::from_millis(millis.get()))
        })
    }
}

impl TryFrom<String> for Table {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match name.contains(':') {
            _ if name.trim().is_empty() => Err("a table's name is empty".to_string()),
            true => Err(format!("{name:?} names columns: only \"read\" and \"update\" take them")),
            false => Ok(Self(name)),
        }
    }
}

impl TryFrom<String> for Part {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let Some((table, columns)) = text.split_once(':') else {
            return Table::try_from(text).map(|Table(table)| Self { table, columns: None });
        };
        let columns: Vec<String> =
            columns.split(',').map(|column| column.trim().to_string()).collect();
        if table.trim().is_empty() || columns.iter().any(String::is_empty) {
            return Err(format!("{text:?} is no TABLE:COLUMN,COLUMN"));
        }
        Ok(Self { table: table.to_string(), columns: Some(columns) })
    }
}

impl From<Part> for String {
    fn from(part: Part) -> Self {
        match part.columns {
            Some(columns) => format!("{}:{}", part.table, columns.join(",")),
            None => part.table,
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.len() == 64 && text.chars().all(|digit| digit.is_ascii_hexdigit()) {
            true => Ok(Self(text.to_lowercase())),
            false => Err(format!("{text:?} is no SHA-256: `verger plugin inspect` prints it")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;
    use verger::verger_worker::{ArgSpec, TableAsk};

    fn given(json: &str) -> Given {
        parse(&format!("{{\"w\": {json}}}")).unwrap().get("w").unwrap().clone()
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
        assert_eq!(given(&text).to_grant_for_any_file(), grant);
        assert_eq!(given(&text).to_grant(), grant.for_digest(sha256));
        assert_eq!(given("{}").to_grant(), Grant::new());
        assert_eq!(given(r#"{"read": ["t:a", "t"]}"#).to_grant(), Grant::new().read("t"));
    }

    #[test]
    fn a_bad_grant_names_the_place_and_the_reason() {
        for (text, names) in [
            (r#"{"w": {"reed": []}}"#, "unknown field `reed`"),
            (r#"{"w": {"read": "orders"}}"#, "expected a sequence"),
            (r#"{"w": {"insert": ["orders:id"]}}"#, "only \"read\" and \"update\""),
            (r#"{"w": {"read": ["orders:"]}}"#, "TABLE:COLUMN,COLUMN"),
            (r#"{"w": {"read": [""]}}"#, "empty"),
            (r#"{"w": {"sha256": "12"}}"#, "no SHA-256"),
            (r#"{"w": {"limits": {"time_ms": 0}}}"#, "nonzero"),
            (r#"{"w": "#, "line 1 column"),
            ("no-such-file.json", "no file that can be read"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(names), "{text}: {error}");
        }
        let twice = [parse(r#"{"w": {}}"#).unwrap(), parse(r#"{"w": {}}"#).unwrap()];
        assert!(Grants::merged(&twice).unwrap_err().to_string().contains("`w` twice"));
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
        let text = serde_json::to_string(&Grants::all_of(&manifest, &sha256)).unwrap();
        assert_eq!(
            text,
            format!(
                r#"{{"w":{{"read":["orders"],"update":["orders"],"write":["totals"],"capabilities":["mailer"],"enqueue":["other"],"sha256":"{sha256}"}}}}"#
            )
        );
        let grant = Grant::new()
            .read("orders")
            .update("orders")
            .write("totals")
            .capability("mailer")
            .enqueue("other")
            .for_digest(&sha256);
        assert_eq!(parse(&text).unwrap().get("w").unwrap().to_grant(), grant);
    }
}
