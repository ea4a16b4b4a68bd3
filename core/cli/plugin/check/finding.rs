//! What a check found.

use serde::Serialize;

use crate::escape::shown;
use crate::output::counted;

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Level {
    Ok,
    Advice,
    MustFix,
}

/// One thing a check found, in a sentence that says what a person should do.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Finding {
    pub(super) level: Level,
    /// What was checked, in one word. Programs may match on it.
    pub(super) check: &'static str,
    pub(super) says: String,
}

/// All that was found, in the order it was looked at.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn ok(&mut self, check: &'static str, says: impl Into<String>) {
        self.add(Level::Ok, check, says);
    }

    pub(super) fn advice(&mut self, check: &'static str, says: impl Into<String>) {
        self.add(Level::Advice, check, says);
    }

    pub(super) fn must_fix(&mut self, check: &'static str, says: impl Into<String>) {
        self.add(Level::MustFix, check, says);
    }

    /// A text that a stranger may have written part of is made fit to be shown.
    pub(super) fn add(&mut self, level: Level, check: &'static str, says: impl Into<String>) {
        self.0.push(Finding { level, check, says: shown(&says.into()) });
    }

    pub(super) fn all(&self) -> &[Finding] {
        &self.0
    }

    pub(super) fn count(&self, level: Level) -> usize {
        self.0.iter().filter(|finding| finding.level == level).count()
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        for Finding { level, check, says } in &self.0 {
            let word = match level {
                Level::Ok => "ok",
                Level::Advice => "advice",
                Level::MustFix => "MUST FIX",
            };
            text.push_str(&format!("{word:8}  {check:12}  {says}\n"));
        }
        let advice = match self.count(Level::Advice) {
            0 => "no advice".to_string(),
            many => format!("{} of advice", counted(many as u64, "piece")),
        };
        let verdict = match self.count(Level::MustFix) {
            0 => "Nothing must be fixed".to_string(),
            many => format!("{} to fix", counted(many as u64, "thing")),
        };
        text.push_str(&format!("\n{verdict}; {advice}.\n"));
        text
    }
}
