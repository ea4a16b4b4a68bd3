//! What the doctor finds: one thing that is wrong, or worth knowing, and what mends it.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing. Nothing is wrong.
    Note,
    /// Something does not work as it should, or will not before long.
    Warning,
    /// Something does not work, or is lost.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// One thing the doctor found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// A stable word for its kind: `overdue-jobs`, `journal-mode`, …
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about, where that has a name: a queue, a schedule, a table.
    pub subject: Option<String>,
    /// A sentence for a person.
    pub message: String,
    /// The command that mends it, or that shows more. `None` where nothing is to be done.
    pub mend: Option<String>,
    /// Whether [`Doctor::fix`](crate::Doctor::fix) can mend it, and may do so unasked.
    pub fix: Option<Fix>,
}

/// How [`Doctor::fix`](crate::Doctor::fix) treats a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fix {
    /// It loses nothing and changes no choice of the app's. It is mended with all others.
    Safe,
    /// It changes what the app may have chosen. It is mended only when asked for by its code.
    Asked,
}

impl Finding {
    pub(super) fn note(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(code, Severity::Note, message)
    }

    pub(super) fn warning(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(code, Severity::Warning, message)
    }

    pub(super) fn error(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(code, Severity::Error, message)
    }

    fn new(code: &'static str, severity: Severity, message: impl Into<Cow<'static, str>>) -> Self {
        let message = message.into().into_owned();
        Self { code, severity, subject: None, message, mend: None, fix: None }
    }

    pub(super) fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    pub(super) fn mend(mut self, command: impl Into<String>) -> Self {
        self.mend = Some(command.into());
        self
    }

    pub(super) fn fix(mut self, fix: Fix) -> Self {
        self.fix = Some(fix);
        self
    }
}
