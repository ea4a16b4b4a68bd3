//! What is wrong with a `verger.toml`, and where.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::error::OpenError;

/// A position in a file. Both numbers count from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Position {
    /// The position of this byte.
    pub(super) fn of(text: &str, byte: usize) -> Self {
        let before = text.get(..byte).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One thing in a `verger.toml` that is wrong, or old.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Problem {
    /// Where it is.
    #[serde(flatten)]
    pub at: Position,
    /// The key with its parents: `schedules.nightly.cron`. Empty for the file as a whole.
    pub key: String,
    /// A sentence for a person.
    pub message: String,
    /// Whether the file works all the same, because a key only has a newer name.
    pub is_deprecation: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.key.is_empty() { "" } else { ": " };
        write!(f, "{}: {}{colon}{}", self.at, self.key, self.message)
    }
}

/// A `verger.toml` cannot be used. Nothing was opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It switches a capability on that this program was built without.
    #[error("{} has `{key}`: build the app with verger's feature `{feature}`", path.display())]
    NotInThisBuild {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// The feature of the library that it needs.
        feature: &'static str,
    },
    /// It says something that cannot be used.
    #[error("{}", all(path, problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// All that is wrong with it, in the order of the file. Deprecations are not among them.
        problems: Vec<Problem>,
    },
    /// It names no database, and one is needed.
    #[error("{} names no database: write file = \"app.db\" in its first lines", path.display())]
    NoFile {
        /// The file.
        path: PathBuf,
    },
    /// The Verger it describes could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
}

fn all(path: &std::path::Path, problems: &[Problem]) -> String {
    let lines: Vec<String> =
        problems.iter().map(|problem| format!("{}:{problem}", path.display())).collect();
    lines.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_characters_and_lines_begin_at_one() {
        for (byte, line, column) in [(0, 1, 1), (3, 1, 3), (5, 2, 1), (9, 2, 5), (99, 2, 5)] {
            assert_eq!(Position::of("äxy\nabcd", byte), Position { line, column }, "{byte}");
        }
    }
}
