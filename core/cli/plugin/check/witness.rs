//! What Verger's log says of a worker while it is loaded and performed: it tells what the worker
//! itself may keep quiet about.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;

/// The most statements, refusals and lines that are kept: a worker may send millions.
const KEPT_MAX: usize = 1_000;

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The worker's statements, each once.
    pub(super) statements: BTreeSet<String>,
    /// What it was denied, each once.
    pub(super) denied: BTreeSet<String>,
    /// Why audit events of it were dropped, each reason once.
    pub(super) dropped: BTreeSet<String>,
    /// The lines it logged.
    pub(super) lines: Vec<Line>,
    /// How long it took to describe itself, and the bytes of memory it had then.
    pub(super) described: Option<(Duration, u64)>,
    /// The bytes of its machine code, and whether that was in the cache.
    pub(super) compiled: Option<(u64, bool)>,
    /// The text of its manifest.
    pub(super) manifest: Option<String>,
    /// The bytes of memory it had at the end of its work.
    pub(super) memory: Option<u64>,
}

/// A line in a worker's own words.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Line {
    pub(super) level: String,
    pub(super) message: String,
}

/// Does something and sees what Verger says of it meanwhile, on this thread.
pub(super) fn witness<T>(work: impl FnOnce() -> T) -> (T, Seen) {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let layer =
        Witness(Arc::clone(&seen)).with_filter(Targets::new().with_target("verger", Level::TRACE));
    let done = tracing::subscriber::with_default(Registry::default().with(layer), work);
    let seen = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    (done, seen)
}

struct Witness(Arc<Mutex<Seen>>);

impl<S: Subscriber> Layer<S> for Witness {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let keep = |set: &mut BTreeSet<String>, text: String| {
            if set.len() < KEPT_MAX {
                set.insert(text);
            }
        };
        match (event.metadata().target(), fields.message.as_str()) {
            ("verger::sql", _) => {
                if let Some(sql) = fields.texts.remove("sql") {
                    keep(&mut seen.statements, sql);
                }
            }
            ("verger::denied", _) => keep(&mut seen.denied, fields.message),
            ("verger::worker", _) if seen.lines.len() < KEPT_MAX => {
                let level = event.metadata().level().as_str().to_lowercase();
                seen.lines.push(Line { level, message: fields.message });
            }
            ("verger::sandbox", "described") => {
                let elapsed =
                    Duration::from_micros(fields.number("elapsed_us").unwrap_or_default());
                seen.described = Some((elapsed, fields.number("memory_bytes").unwrap_or_default()));
            }
            ("verger::sandbox", "compiled") => {
                let was_cached = fields.texts.get("was_cached").is_some_and(|word| word == "true");
                seen.compiled = Some((fields.number("bytes").unwrap_or_default(), was_cached));
            }
            ("verger::sandbox", "manifest") => seen.manifest = fields.texts.remove("manifest"),
            ("verger::sandbox", "performed") => seen.memory = fields.number("memory_bytes"),
            ("verger::run::audit", _) => {
                keep(&mut seen.dropped, fields.texts.remove("reason").unwrap_or(fields.message))
            }
            _ => {}
        }
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    texts: BTreeMap<&'static str, String>,
}

impl Fields {
    fn number(&self, name: &str) -> Option<u64> {
        self.texts.get(name)?.parse().ok()
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = value.to_string(),
            name => drop(self.texts.insert(name, value.to_string())),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            name => drop(self.texts.insert(name, text)),
        }
    }
}
