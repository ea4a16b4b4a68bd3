//! One examination under way: the connection, the instant, and what was found so far.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::diagnosis::Known;
use super::facts::Facts;
use super::finding::Finding;
use crate::store::{advice, kind_of};
use crate::time::Timestamp;

/// What the checks share.
pub(super) struct Examination<'a> {
    pub(super) connection: &'a Connection,
    /// `None` in memory.
    pub(super) path: Option<&'a Path>,
    pub(super) now: Timestamp,
    pub(super) known: Option<&'a Known>,
    pub(super) facts: Facts,
    pub(super) findings: Vec<Finding>,
}

impl Examination<'_> {
    pub(super) fn found(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// The value, or a finding that says what could not be read.
    pub(super) fn look<T>(&mut self, at: &str, value: rusqlite::Result<T>) -> Option<T> {
        value
            .inspect_err(|error| {
                let message = format!("{at} cannot be read: {} ({error})", advice(kind_of(error)));
                let mend = match self.path {
                    Some(path) => format!("sqlite3 {} .recover", quoted(path)),
                    None => "restore a copy".to_string(),
                };
                self.found(Finding::error("unreadable", message).about(at).mend(mend));
            })
            .ok()
    }

    /// A command line of `verger` for this file.
    pub(super) fn verb(&self, verb: &str) -> String {
        match self.path {
            Some(path) => format!("verger {verb} --db {}", quoted(path)),
            None => format!("verger {verb}"),
        }
    }

    /// A command line of SQLite's own shell for this file.
    pub(super) fn sql(&self, sql: &str) -> String {
        let path = self.path.map(Path::to_path_buf).unwrap_or_else(|| PathBuf::from("app.db"));
        format!("sqlite3 {} {}", quoted(&path), quoted_text(sql))
    }
}

/// A path as one word for a shell.
pub(super) fn quoted(path: &Path) -> String {
    quoted_text(&path.display().to_string())
}

pub(super) fn quoted_text(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:=@%".contains(c);
    match !text.is_empty() && text.chars().all(plain) && !text.starts_with('-') {
        true => text.to_string(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// Bytes for a person.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(size, _)| count >= *size) {
        Some((size, unit)) => format!("{:.1} {unit}", count as f64 / *size as f64),
        None => format!("{count} bytes"),
    }
}

/// A count and its noun.
pub(super) fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
