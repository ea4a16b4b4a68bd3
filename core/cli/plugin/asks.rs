//! What a worker asks for, compared with what it is granted.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Value as Json, json};
use verger::verger_worker::{TableName, Verb};
use verger::{Manifest, Withheld, WrittenGrant};

use crate::escape::shown;
use crate::grants::{Grants, others};
use crate::options::Options;
use crate::table::{Side, Table};

/// What a worker is granted.
#[derive(Clone, Copy)]
pub(super) enum Granted<'a> {
    Nothing,
    /// All it asks for.
    AsDeclared,
    Given(&'a WrittenGrant),
}

impl<'a> Granted<'a> {
    /// What the command line grants this worker. Its own entry counts before --trust.
    pub(super) fn to(worker: &str, grants: &'a Grants, options: &Options) -> Self {
        match grants.get(worker) {
            Some(given) => Self::Given(given),
            None if options.trust => Self::AsDeclared,
            None => Self::Nothing,
        }
    }

    pub(super) fn given(self) -> Option<&'a WrittenGrant> {
        match self {
            Self::Given(given) => Some(given),
            _ => None,
        }
    }

    /// The limits an attempt has, by the names they have in a grant.
    pub(super) fn limits(self) -> Vec<(&'static str, u64)> {
        self.given().map(WrittenGrant::limits).unwrap_or_default().all().collect()
    }

    pub(super) fn to_json(self) -> Json {
        match self {
            Self::Nothing => Json::Null,
            Self::AsDeclared => json!("as-declared"),
            Self::Given(given) => json!(given),
        }
    }
}

/// What is asked for, verb by verb, and whether it is granted.
#[derive(Default)]
pub(super) struct Asks {
    pub(super) tables: Vec<TableAsked>,
    pub(super) capabilities: Vec<CapabilityAsked>,
    /// The other workers it asks to enqueue jobs for.
    pub(super) enqueues: Vec<CapabilityAsked>,
    /// What is granted and not asked for. It stays closed.
    pub(super) unasked: Vec<String>,
}

/// A verb on a table.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct TableAsked {
    /// Its name. If an arg names it, the arg's default.
    table: String,
    /// The arg that names the table.
    arg: Option<String>,
    verb: Verb,
    granted: bool,
    /// The columns it is granted for. `None` when it is granted for all.
    columns: Option<BTreeSet<String>>,
}

/// A function of the app, or a worker.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct CapabilityAsked {
    name: String,
    granted: bool,
}

impl Asks {
    /// `withheld` is what Verger says of a worker with this grant.
    pub(super) fn of(
        manifest: &Manifest,
        granted: Granted<'_>,
        withheld: Option<&Withheld>,
    ) -> Self {
        let given = granted.given().map(WrittenGrant::tables).unwrap_or_default();
        let as_declared = matches!(granted, Granted::AsDeclared);
        let mut unasked: BTreeSet<(String, Verb)> = given.keys().cloned().collect();
        let mut tables = Vec::new();
        for ask in &manifest.tables {
            let (table, arg) = match &ask.table {
                TableName::Named { table } => (table, None),
                TableName::FromArg { arg, default } => (default, Some(arg.clone())),
            };
            for verb in &ask.verbs {
                let key = (table.to_ascii_lowercase(), *verb);
                unasked.remove(&key);
                let missing = withheld.is_some_and(|withheld| {
                    withheld
                        .tables
                        .iter()
                        .any(|(missing, verbs)| *missing == key.0 && verbs.contains(verb))
                });
                tables.push(TableAsked {
                    table: table.clone(),
                    arg: arg.clone(),
                    verb: *verb,
                    granted: as_declared || !missing,
                    columns: given.get(&key).cloned().flatten(),
                });
            }
        }
        let missing =
            |name: &String| withheld.is_some_and(|withheld| withheld.capabilities.contains(name));
        let capabilities = manifest.capabilities.iter();
        let capabilities = capabilities
            .map(|name| CapabilityAsked {
                name: name.clone(),
                granted: as_declared || !missing(name),
            })
            .collect();
        let unasked = unasked.into_iter().map(|(table, verb)| format!("{verb} on {table}"));
        let functions = granted.given().map(WrittenGrant::capabilities).unwrap_or_default();
        let functions = functions
            .iter()
            .filter(|name| !manifest.capabilities.contains(name))
            .map(|name| format!("the function {name}"));
        let missing =
            |name: &String| withheld.is_some_and(|withheld| withheld.enqueues.contains(name));
        let enqueues = others(manifest).map(|name| CapabilityAsked {
            name: name.clone(),
            granted: as_declared || !missing(name),
        });
        let workers = granted.given().map(WrittenGrant::enqueue).unwrap_or_default();
        let workers = workers
            .iter()
            .filter(|name| !manifest.enqueues.contains(name))
            .map(|name| format!("jobs for {name}"));
        let unasked = unasked.chain(functions).chain(workers).collect();
        Self { tables, capabilities, enqueues: enqueues.collect(), unasked }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.capabilities.is_empty() && self.enqueues.is_empty()
    }

    pub(super) fn are_all_granted(&self) -> bool {
        self.tables.iter().all(|asked| asked.granted)
            && self.capabilities.iter().chain(&self.enqueues).all(|asked| asked.granted)
    }

    /// One line for each, with what it is granted.
    pub(super) fn to_text(&self) -> String {
        let mut table =
            Table::new(&[("ON", Side::Left), ("ASKS TO", Side::Left), ("AND IS", Side::Left)]);
        let word = |granted: bool| if granted { "granted" } else { "NOT GRANTED" }.to_string();
        for asked in &self.tables {
            let on = match &asked.arg {
                None => format!("table {}", asked.table),
                Some(arg) => {
                    format!("table {}, or what the arg `{}` names", asked.table, shown(arg))
                }
            };
            let is = match &asked.columns {
                Some(columns) if asked.granted => {
                    format!(
                        "granted on the columns {} alone",
                        columns.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
                    )
                }
                _ => word(asked.granted),
            };
            table.row([on, asked.verb.to_string(), is]);
        }
        for asked in &self.capabilities {
            let whose = if is_the_engines(&asked.name) { "Verger" } else { "the app" };
            table.row([
                format!("function {} of {whose}", shown(&asked.name)),
                "call".to_string(),
                word(asked.granted),
            ]);
        }
        for asked in &self.enqueues {
            table.row([
                format!("jobs for the worker {}", shown(&asked.name)),
                "enqueue".to_string(),
                word(asked.granted),
            ]);
        }
        table.into_text()
    }
}

/// Whether a function is the engine's own; an app registers the others.
pub(super) fn is_the_engines(capability: &str) -> bool {
    capability.starts_with("verger.")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;
    use crate::grants;
    use verger::verger_worker::{ArgSpec, TableAsk};

    fn manifest() -> Manifest {
        Manifest::new("w", "1")
            .arg("table", ArgSpec::default_value("orders"))
            .table(TableAsk::from_arg("table", "Orders").read().update())
            .capability("mailer")
    }

    #[test]
    fn what_is_granted_and_not_asked_for_is_told() {
        let grants = grants::parse(
            r#"{"w": {"read": ["orders:id"], "delete": ["orders"], "capabilities": ["printer"]}}"#,
        )
        .unwrap();
        let asks = Asks::of(&manifest(), Granted::Given(grants.get("w").unwrap()), None);
        assert_eq!(asks.unasked, ["delete on orders", "the function printer"]);
        assert_eq!(asks.tables[0].columns, Some(BTreeSet::from(["id".to_string()])));
        assert_eq!(asks.tables[1].columns, None);
    }

    #[test]
    fn with_trust_everything_is_granted() {
        let asks = Asks::of(&manifest(), Granted::AsDeclared, None);
        assert!(asks.are_all_granted() && !asks.is_empty());
    }
}
