//! The tables a worker asks for.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::args::Args;

/// What a worker may ask to do with a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// SELECT.
    Read,
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
        })
    }
}

/// A table a worker asks for, by verb.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableAsk {
    /// Which table.
    #[serde(flatten)]
    pub table: TableName,
    /// What it asks to do with it.
    pub verbs: Vec<Verb>,
    /// Why: a sentence for the person who decides.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// How a manifest names a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a table is named by `table`, or by `arg` and `default`")]
pub enum TableName {
    /// This one.
    Named {
        /// Its name.
        table: String,
    },
    /// The table that a job's arg names.
    FromArg {
        /// The arg.
        arg: String,
        /// The table when the job names none.
        default: String,
    },
}

impl TableAsk {
    /// Asks for this table. Add the verbs.
    #[must_use]
    pub fn named(table: impl Into<String>) -> Self {
        Self {
            table: TableName::Named { table: table.into() },
            verbs: Vec::new(),
            reason: String::new(),
        }
    }

    /// Asks for the table that a job's arg names. Add the verbs.
    #[must_use]
    pub fn from_arg(arg: impl Into<String>, default: impl Into<String>) -> Self {
        Self {
            table: TableName::FromArg { arg: arg.into(), default: default.into() },
            verbs: Vec::new(),
            reason: String::new(),
        }
    }

    /// Says why, in a sentence for the person who decides.
    #[must_use]
    pub fn reason(mut self, why: impl Into<String>) -> Self {
        self.reason = why.into();
        self
    }

    /// Asks to read it.
    #[must_use]
    pub fn read(self) -> Self {
        self.verb(Verb::Read)
    }

    /// Asks to insert rows.
    #[must_use]
    pub fn insert(self) -> Self {
        self.verb(Verb::Insert)
    }

    /// Asks to update rows.
    #[must_use]
    pub fn update(self) -> Self {
        self.verb(Verb::Update)
    }

    /// Asks to delete rows.
    #[must_use]
    pub fn delete(self) -> Self {
        self.verb(Verb::Delete)
    }

    fn verb(mut self, verb: Verb) -> Self {
        self.verbs.push(verb);
        self
    }

    /// The table it means in a job with these args.
    #[must_use]
    pub fn resolve<'a>(&'a self, args: &'a Args) -> &'a str {
        match &self.table {
            TableName::Named { table } => table,
            TableName::FromArg { arg, default } => {
                args.as_map().get(arg).and_then(Json::as_str).unwrap_or(default)
            }
        }
    }
}
