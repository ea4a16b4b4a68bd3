//! Assertions on the audit log.

use serde_json::Value as Json;

use super::{contains, stop};
use crate::audit::{AuditFilter, AuditRow};
use crate::queue::JobId;
use crate::verger::Verger;

/// What a row of the audit log must be like. What is not said may be anything. The macros
/// [`assert_audited!`](crate::assert_audited) and [`refute_audited!`](crate::refute_audited) are a
/// short way to write one.
#[derive(Debug, Clone, Default)]
#[must_use = "it asserts nothing by itself"]
pub struct AuditMatch {
    action: Option<String>,
    outcome: Option<String>,
    organization: Option<Option<String>>,
    actor: Option<Option<String>>,
    effective_user: Option<Option<String>>,
    impersonating_from: Option<Option<String>>,
    worker: Option<String>,
    job: Option<JobId>,
    subject: Option<(String, String)>,
    before: Option<Json>,
    after: Option<Json>,
    metadata: Option<Json>,
}

impl AuditMatch {
    /// Any row.
    pub fn new() -> Self {
        Self::default()
    }

    /// With this action: `membership.updated`.
    pub fn action(mut self, action: impl Into<String>) -> Self {
        self.action = Some(action.into());
        self
    }

    /// With this outcome: `success`, `failure` or `error`.
    pub fn outcome(mut self, outcome: impl Into<String>) -> Self {
        self.outcome = Some(outcome.into());
        self
    }

    /// Of this tenant. `None` means of no tenant.
    pub fn organization<'a>(mut self, id: impl Into<Option<&'a str>>) -> Self {
        self.organization = Some(id.into().map(str::to_string));
        self
    }

    /// Done by this actor, who is the impersonator when there was one. `None` means by the system.
    pub fn actor<'a>(mut self, id: impl Into<Option<&'a str>>) -> Self {
        self.actor = Some(id.into().map(str::to_string));
        self
    }

    /// Done as this user.
    pub fn effective_user<'a>(mut self, id: impl Into<Option<&'a str>>) -> Self {
        self.effective_user = Some(id.into().map(str::to_string));
        self
    }

    /// Done by this impersonator. `None` means without one.
    pub fn impersonating_from<'a>(mut self, id: impl Into<Option<&'a str>>) -> Self {
        self.impersonating_from = Some(id.into().map(str::to_string));
        self
    }

    /// Done by this worker.
    pub fn worker(mut self, name: impl Into<String>) -> Self {
        self.worker = Some(name.into());
        self
    }

    /// Done in this job.
    pub fn job(mut self, id: JobId) -> Self {
        self.job = Some(id);
        self
    }

    /// Done to this: its type and its id.
    pub fn subject(mut self, (kind, id): (impl Into<String>, impl Into<String>)) -> Self {
        self.subject = Some((kind.into(), id.into()));
        self
    }

    /// Whose state before has at least this: see [`contains`].
    pub fn before(mut self, state: Json) -> Self {
        self.before = Some(state);
        self
    }

    /// Whose state after has at least this: see [`contains`].
    pub fn after(mut self, state: Json) -> Self {
        self.after = Some(state);
        self
    }

    /// Whose metadata have at least this: see [`contains`].
    pub fn metadata(mut self, metadata: Json) -> Self {
        self.metadata = Some(metadata);
        self
    }

    fn matches(&self, row: &AuditRow) -> bool {
        let subject = row.subject_type.as_ref().zip(row.subject_id.as_ref());
        self.action.as_ref().is_none_or(|action| *action == row.action)
            && self.outcome.as_ref().is_none_or(|outcome| *outcome == row.outcome)
            && self.organization.as_ref().is_none_or(|id| *id == row.organization_id)
            && self.actor.as_ref().is_none_or(|id| *id == row.actor_id)
            && self.effective_user.as_ref().is_none_or(|id| *id == row.effective_user_id)
            && self.impersonating_from.as_ref().is_none_or(|id| *id == row.impersonating_from)
            && self.worker.as_ref().is_none_or(|worker| row.worker.as_ref() == Some(worker))
            && self.job.is_none_or(|job| row.job == Some(job))
            && self.subject.as_ref().is_none_or(|(kind, id)| subject == Some((kind, id)))
            && has(&row.before, self.before.as_ref())
            && has(&row.after, self.after.as_ref())
            && has(&row.metadata, self.metadata.as_ref())
    }

    /// The newest row that matches.
    ///
    /// # Panics
    /// When none does, with the rows there are.
    #[track_caller]
    pub fn assert_in(&self, verger: &Verger) -> AuditRow {
        let rows = log(verger);
        match rows.iter().find(|row| self.matches(row)) {
            Some(row) => row.clone(),
            None => stop(&format!("no audit row is {self:?}\nthere are: {}", listed(&rows))),
        }
    }

    /// Stops the test when a row matches.
    ///
    /// # Panics
    /// When one does, with that row.
    #[track_caller]
    pub fn refute_in(&self, verger: &Verger) {
        if let Some(row) = log(verger).iter().find(|row| self.matches(row)) {
            stop(&format!("an audit row is {self:?}:{}", line(row)));
        }
    }
}

fn has(text: &Option<String>, wanted: Option<&Json>) -> bool {
    let Some(wanted) = wanted else { return true };
    let json = text.as_ref().and_then(|text| serde_json::from_str(text).ok());
    json.is_some_and(|json| contains(&json, wanted))
}

#[track_caller]
fn log(verger: &Verger) -> Vec<AuditRow> {
    verger
        .audit_log(&AuditFilter::default(), u32::MAX)
        .unwrap_or_else(|error| stop(&error.to_string()))
}

fn listed(rows: &[AuditRow]) -> String {
    if rows.is_empty() {
        "no audit rows at all".to_string()
    } else {
        rows.iter().map(line).collect()
    }
}

fn line(row: &AuditRow) -> String {
    format!("\n  {}", serde_json::to_string(row).unwrap_or_default())
}

/// Asserts that something was audited: `assert_audited!(test, action: "membership.updated",
/// organization: "acme")`. The fields are the functions of
/// [`AuditMatch`](crate::testing::AuditMatch). Returns the newest such row.
#[macro_export]
macro_rules! assert_audited {
    ($verger:expr $(, $field:ident : $value:expr)* $(,)?) => {
        $crate::testing::AuditMatch::new()$(.$field($value))*.assert_in(&$verger)
    };
}

/// Asserts that no such thing was audited: see [`assert_audited!`](crate::assert_audited).
#[macro_export]
macro_rules! refute_audited {
    ($verger:expr $(, $field:ident : $value:expr)* $(,)?) => {
        $crate::testing::AuditMatch::new()$(.$field($value))*.refute_in(&$verger)
    };
}
