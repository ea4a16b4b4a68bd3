//! What a worker may do in one job.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use verger_worker::{Args, Manifest, Verb};

use super::{Grant, TableGrant};
use crate::limits::Limits;

/// What is both declared and granted, for one job. The tables that its args name are resolved.
#[derive(Debug)]
pub(crate) struct Effective {
    pub(super) worker: String,
    pub(super) tables: BTreeMap<String, TableGrant>,
    /// What the manifest asks for and the grant withholds, so that an error can say which of the
    /// two is missing.
    pub(super) withheld: BTreeMap<String, BTreeSet<Verb>>,
    pub(super) capabilities: BTreeSet<String>,
    /// The other workers it may enqueue jobs for.
    pub(super) enqueues: BTreeSet<String>,
    pub(super) tenant_column: Option<String>,
    pub(super) shared: BTreeSet<String>,
    pub(crate) limits: Limits,
    /// How long it may hold the write lock, if that is bounded.
    pub(crate) write_lock: Option<Duration>,
}

impl Effective {
    /// What a worker with this manifest may do under this grant in a job with these args.
    pub(crate) fn of(manifest: &Manifest, grant: &Grant, args: &Args) -> Self {
        let mut tables: BTreeMap<String, TableGrant> = BTreeMap::new();
        let mut withheld: BTreeMap<String, BTreeSet<Verb>> = BTreeMap::new();
        for ask in &manifest.tables {
            let table = ask.resolve(args).to_ascii_lowercase();
            for verb in &ask.verbs {
                let columns = if grant.as_declared {
                    Some(&None)
                } else {
                    grant.tables.get(&table).and_then(|granted| granted.verbs.get(verb))
                };
                match columns {
                    Some(columns) => {
                        tables
                            .entry(table.clone())
                            .or_default()
                            .verbs
                            .insert(*verb, columns.clone());
                    }
                    None => {
                        withheld.entry(table.clone()).or_default().insert(*verb);
                    }
                }
            }
        }
        let asked = manifest.capabilities.iter();
        let capabilities = asked
            .filter(|name| grant.as_declared || grant.capabilities.contains(*name))
            .cloned()
            .collect();
        let asked = manifest.enqueues.iter();
        let enqueues = asked
            .filter(|name| grant.as_declared || grant.enqueues.contains(*name))
            .cloned()
            .collect();
        Self {
            worker: format!("worker {}", manifest.name),
            tables,
            withheld,
            capabilities,
            enqueues,
            tenant_column: grant.tenant_column.clone(),
            shared: grant.shared.clone(),
            limits: grant.limits.clone(),
            write_lock: grant.limits.write_lock_of(grant.as_declared),
        }
    }

    /// The tables it covers in any way, in lower case.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &str> {
        self.tables.keys().map(String::as_str)
    }

    /// What it covers: a table, in lower case, a verb, and the columns, or none for all of them.
    #[cfg(feature = "postgres")]
    pub(crate) fn grants(&self) -> impl Iterator<Item = (&str, Verb, Option<&BTreeSet<String>>)> {
        self.tables.iter().flat_map(|(table, granted)| {
            granted
                .verbs
                .iter()
                .map(move |(verb, columns)| (table.as_str(), *verb, columns.as_ref()))
        })
    }

    pub(crate) fn tenant_column(&self) -> Option<&str> {
        self.tenant_column.as_deref()
    }

    /// Whether a table belongs to no tenant.
    pub(crate) fn is_shared(&self, table: &str) -> bool {
        self.shared.contains(&table.to_ascii_lowercase())
    }

    pub(crate) fn worker(&self) -> &str {
        &self.worker
    }

    /// Whether a verb on a table, and on a column of it, is covered. The error names what is denied
    /// and what is granted.
    pub(crate) fn check(
        &self,
        verb: Verb,
        table: &str,
        column: Option<&str>,
    ) -> Result<(), String> {
        let key = table.to_ascii_lowercase();
        let granted = self.tables.get(&key);
        match granted.and_then(|granted| granted.verbs.get(&verb)) {
            Some(None) => return Ok(()),
            Some(Some(columns)) => {
                // The row as a whole, for a count or a delete.
                let Some(column) = column else { return Ok(()) };
                if columns.contains(&column.to_ascii_lowercase()) {
                    return Ok(());
                }
                let columns: Vec<_> = columns.iter().map(String::as_str).collect();
                return Err(format!(
                    "{verb} denied: column {table}.{column} ({} is granted {verb} on its columns {})",
                    self.worker,
                    columns.join(", ")
                ));
            }
            None => {}
        }
        let has = match granted {
            Some(granted) => {
                granted.verbs.keys().map(Verb::to_string).collect::<Vec<_>>().join(", ")
            }
            None => "nothing".to_string(),
        };
        let why = if self.withheld.get(&key).is_some_and(|verbs| verbs.contains(&verb)) {
            "; it asks for more than the app's grant gives"
        } else {
            "; its manifest does not ask for more"
        };
        Err(format!("{verb} denied: table {table} ({} is granted {has} on it{why})", self.worker))
    }

    /// Whether a verb on a table is granted on some of its columns only.
    pub(crate) fn is_narrowed(&self, verb: Verb, table: &str) -> bool {
        let granted = self.tables.get(&table.to_lowercase());
        matches!(granted.and_then(|granted| granted.verbs.get(&verb)), Some(Some(_)))
    }

    /// Whether a function of the app is covered.
    pub(crate) fn check_capability(&self, name: &str) -> Result<(), String> {
        if self.capabilities.contains(name) {
            return Ok(());
        }
        Err(format!("call denied: capability `{name}` ({} is not granted it)", self.worker))
    }

    /// Whether the worker of this name, `own`, may enqueue jobs for that worker.
    pub(crate) fn check_enqueue(&self, name: &str, own: &str) -> Result<(), String> {
        if name == own || self.enqueues.contains(name) {
            return Ok(());
        }
        Err(format!(
            "enqueue denied: jobs for worker `{name}` ({} enqueues for itself, and for those its manifest asks for and its grant names)",
            self.worker
        ))
    }
}
