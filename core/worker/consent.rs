//! What a dropped-in worker asks for, in words a person can decide on, and what was decided.

use std::fmt;

use serde::Serialize;
use verger_worker::{Args, Manifest, Verb};

use crate::grant::Grant;
use crate::time::Timestamp;

/// One thing a worker asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asked {
    Table(Verb, String),
    Capability(String),
    /// Jobs for another worker.
    Enqueue(String),
}

impl Asked {
    /// What a manifest asks for, each with its reason. A table that an arg names is taken to be the
    /// arg's default.
    pub(crate) fn of(manifest: &Manifest) -> Vec<(Self, String)> {
        let mut asked = Vec::new();
        let no_args = Args::default();
        for ask in &manifest.tables {
            let table = ask.resolve(&no_args).to_ascii_lowercase();
            for verb in &ask.verbs {
                asked.push((Self::Table(*verb, table.clone()), ask.reason.clone()));
            }
        }
        for name in &manifest.capabilities {
            let reason = manifest.reasons.get(name).cloned().unwrap_or_default();
            asked.push((Self::Capability(name.clone()), reason));
        }
        for name in manifest.enqueues.iter().filter(|name| **name != manifest.name) {
            let reason = manifest.reasons.get(name).cloned().unwrap_or_default();
            asked.push((Self::Enqueue(name.clone()), reason));
        }
        asked.sort();
        asked.dedup_by(|later, first| later.0 == first.0);
        asked
    }

    /// Reads the column `what`.
    fn parse(text: &str) -> Option<Self> {
        let (word, name) = text.split_once(' ')?;
        if name.is_empty() {
            return None;
        }
        let table = |verb| Some(Self::Table(verb, name.to_ascii_lowercase()));
        match word {
            "read" => table(Verb::Read),
            "insert" => table(Verb::Insert),
            "update" => table(Verb::Update),
            "delete" => table(Verb::Delete),
            "capability" => Some(Self::Capability(name.to_string())),
            "enqueue" => Some(Self::Enqueue(name.to_string())),
            _ => None,
        }
    }

    /// Adds it to a grant.
    fn add_to(&self, grant: Grant) -> Grant {
        match self {
            Self::Table(Verb::Read, table) => grant.read(table),
            Self::Table(Verb::Insert, table) => grant.insert(table),
            Self::Table(Verb::Update, table) => grant.update(table),
            Self::Table(Verb::Delete, table) => grant.delete(table),
            Self::Capability(name) => grant.capability(name),
            Self::Enqueue(name) => grant.enqueue(name),
        }
    }

    fn sentence(&self, reason: &str) -> String {
        let what = match self {
            Self::Table(Verb::Read, table) => format!("It reads rows of the table {table}"),
            Self::Table(Verb::Insert, table) => format!("It adds rows to the table {table}"),
            Self::Table(Verb::Update, table) => format!("It changes rows of the table {table}"),
            Self::Table(Verb::Delete, table) => format!("It deletes rows of the table {table}"),
            Self::Capability(name) => format!("It calls the function `{name}` of the app"),
            Self::Enqueue(name) => format!("It enqueues jobs for the worker `{name}`"),
        };
        // A worker's words, on one line.
        let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
        match reason.trim_end_matches('.') {
            "" => format!("{what}."),
            reason => format!("{what}: {reason}."),
        }
    }
}

/// As the column `what` has it.
impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(verb, table) => write!(f, "{verb} {table}"),
            Self::Capability(name) => write!(f, "capability {name}"),
            Self::Enqueue(name) => write!(f, "enqueue {name}"),
        }
    }
}

/// What somebody decided about one thing that a worker asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum GrantDecision {
    /// The worker has it.
    Granted,
    /// It was asked for and not given.
    Denied,
    /// It was given, and taken back.
    Revoked,
}

impl GrantDecision {
    /// The word in the column `decision`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Denied => "denied",
            Self::Revoked => "revoked",
        }
    }

    pub(super) fn parse(word: &str) -> Option<Self> {
        let all = [Self::Granted, Self::Denied, Self::Revoked];
        all.into_iter().find(|decision| decision.as_str() == word)
    }
}

/// A row of `verger_grants`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GrantRow {
    /// The worker.
    pub worker: String,
    /// What it asks for: `read orders`, `capability mailer`.
    pub what: String,
    /// The SHA-256 of the component that was looked at when this was decided.
    pub digest: String,
    /// What was decided. `None` when the row's word is unknown.
    pub decision: Option<GrantDecision>,
    /// Who decided.
    pub decided_by: String,
    /// When.
    pub decided_at: Timestamp,
    /// What is wrong with a row that somebody wrote by hand. It grants nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl GrantRow {
    /// Says what is wrong with a row, if anything is.
    pub(super) fn checked(mut self, word: &str) -> Self {
        let wrong = match (self.decision, Asked::parse(&self.what)) {
            (None, _) => Some(format!(
                "the column decision says {word:?}: it may say granted, denied or revoked"
            )),
            (_, None) => Some(format!(
                "the column what says {:?}: it may say read, insert, update or delete and a table, capability and a name, or enqueue and a worker",
                self.what
            )),
            _ => None,
        };
        self.problem = wrong;
        self
    }
}

/// One thing a worker asks for, and what was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Ask {
    /// As the table `verger_grants` has it: `read orders`, `capability mailer`.
    pub what: String,
    /// In words, with the reason that the worker's manifest gives.
    pub sentence: String,
    /// Why, as the worker says. Empty when it does not say.
    pub reason: String,
    /// What was decided. `None` when nobody has decided.
    pub decision: Option<GrantDecision>,
    /// Who decided. Empty when nobody has.
    pub decided_by: String,
}

/// The state of the decision about a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ConsentState {
    /// The app's code decides what it grants, and nobody is asked.
    ByTheApp,
    /// It has all it asks for.
    Granted,
    /// Somebody has to decide. Until then the version before runs. If there is none, its jobs wait.
    Waiting,
    /// Somebody said no, or took a grant back. The version before runs. If there is none, its jobs
    /// wait.
    Denied,
    /// This version was rolled back. Approving it takes it in again.
    RolledBack,
}

/// What a dropped-in worker asks for, and what was decided about it. It is about the version that
/// waits for a decision, if there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Consent {
    /// The worker.
    pub worker: String,
    /// Its version.
    pub version: String,
    /// The SHA-256 of its component.
    pub digest: String,
    /// What it does, as it says itself.
    pub description: String,
    /// The state of the decision.
    pub state: ConsentState,
    /// What it asks for. Empty when it asks for nothing.
    pub asks: Vec<Ask>,
}

impl Consent {
    pub(super) fn of(manifest: &Manifest, digest: &str, grants: &[GrantRow]) -> Self {
        let asks: Vec<Ask> = Asked::of(manifest)
            .into_iter()
            .map(|(asked, reason)| {
                let what = asked.to_string();
                let row = row_of(grants, &manifest.name, &asked);
                Ask {
                    sentence: asked.sentence(&reason),
                    what,
                    reason,
                    decision: row.and_then(|row| row.decision),
                    decided_by: row.map(|row| row.decided_by.clone()).unwrap_or_default(),
                }
            })
            .collect();
        let missing = || asks.iter().filter(|ask| ask.decision != Some(GrantDecision::Granted));
        let state = match missing().count() {
            0 => ConsentState::Granted,
            _ if missing().any(|ask| ask.decision.is_some()) => ConsentState::Denied,
            _ => ConsentState::Waiting,
        };
        Self {
            worker: manifest.name.clone(),
            version: manifest.version.clone(),
            digest: digest.to_string(),
            description: manifest.description.clone(),
            state,
            asks,
        }
    }

    /// What is not granted.
    pub fn missing(&self) -> impl Iterator<Item = &Ask> {
        self.asks.iter().filter(|ask| ask.decision != Some(GrantDecision::Granted))
    }
}

/// The sentences, one a line.
impl fmt::Display for Consent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.worker, self.version)?;
        if self.asks.is_empty() {
            return f.write_str(" asks for nothing.");
        }
        self.asks.iter().try_for_each(|ask| {
            let decided = ask.decision.map(GrantDecision::as_str).unwrap_or("not decided");
            write!(f, "\n- {} ({decided})", ask.sentence)
        })
    }
}

/// Grants a worker all it asks for that was granted, on top of `base`, which has the limits and the
/// tenant column.
pub(super) fn granted(base: &Grant, manifest: &Manifest, grants: &[GrantRow]) -> Grant {
    Asked::of(manifest).into_iter().fold(base.clone(), |grant, (asked, _)| {
        match row_of(grants, &manifest.name, &asked).and_then(|row| row.decision) {
            Some(GrantDecision::Granted) => asked.add_to(grant),
            _ => grant,
        }
    })
}

fn row_of<'a>(grants: &'a [GrantRow], worker: &str, asked: &Asked) -> Option<&'a GrantRow> {
    grants.iter().find(|row| {
        row.problem.is_none()
            && row.worker == worker
            && Asked::parse(&row.what).as_ref() == Some(asked)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use verger_worker::TableAsk;

    fn manifest() -> Manifest {
        Manifest::new("w", "1")
            .table(TableAsk::named("Orders").read().update().reason("to add them up"))
            .capability("mailer")
            .enqueues("report")
            .enqueues("w")
    }

    fn row(what: &str, word: &str) -> GrantRow {
        let row = GrantRow {
            worker: "w".to_string(),
            what: what.to_string(),
            digest: String::new(),
            decision: GrantDecision::parse(word),
            decided_by: "ann".to_string(),
            decided_at: Timestamp::from_millis(0),
            problem: None,
        };
        row.checked(word)
    }

    #[test]
    fn what_is_asked_is_told_in_sentences() {
        let consent = Consent::of(&manifest(), "d", &[row("read orders", "granted")]);
        assert_eq!(
            consent.to_string(),
            "w 1\n- It reads rows of the table orders: to add them up. (granted)\n- It changes rows of the table orders: to add them up. (not decided)\n- It calls the function `mailer` of the app. (not decided)\n- It enqueues jobs for the worker `report`. (not decided)"
        );
        assert_eq!(consent.state, ConsentState::Waiting);
        assert_eq!(Consent::of(&Manifest::new("w", "1"), "d", &[]).state, ConsentState::Granted);
    }

    #[test]
    fn all_that_is_asked_must_be_granted() {
        let some = [row("read orders", "granted"), row("UPDATE orders", "granted")];
        assert!(some[1].problem.is_some());
        let missing: Vec<String> =
            Consent::of(&manifest(), "d", &some).missing().map(|ask| ask.what.clone()).collect();
        assert_eq!(missing, ["update orders", "capability mailer", "enqueue report"]);
        let grant = granted(&Grant::new(), &manifest(), &some);
        assert_eq!(grant, Grant::new().read("orders"));
        let denied = [row("read ORDERS", "granted"), row("update orders", "denied")];
        assert_eq!(Consent::of(&manifest(), "d", &denied).state, ConsentState::Denied);
        for (what, word) in [("read orders", "yes"), ("read", "granted"), ("", "granted")] {
            assert!(row(what, word).problem.is_some(), "{what:?} {word:?}");
        }
    }
}
