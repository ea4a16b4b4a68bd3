//! What was written to the log while something ran.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

use crate::mutex::lock;

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// `TRACE` to `ERROR`.
    pub level: Level,
    /// Where it comes from: `verger::worker` for the lines of workers.
    pub target: String,
    /// The line itself.
    pub message: String,
    /// Its fields, as text: `worker`, `job`, `reason`, …
    pub fields: BTreeMap<String, String>,
}

/// Runs `work` and returns the lines that it wrote to `tracing` on this thread.
///
/// ```
/// use verger::testing::capture_logs;
/// let (sum, lines) = capture_logs(|| {
///     tracing::warn!(count = 2, "adding");
///     1 + 1
/// });
/// assert_eq!((sum, lines[0].message.as_str(), lines[0].fields["count"].as_str()), (2, "adding", "2"));
/// ```
pub fn capture_logs<T>(work: impl FnOnce() -> T) -> (T, Vec<LogLine>) {
    keep_listening();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let done = tracing::subscriber::with_default(
        Catcher { lines: Arc::clone(&lines), spans: AtomicU64::new(0) },
        work,
    );
    let lines = std::mem::take(&mut *lock(&lines));
    (done, lines)
}

/// Makes `tracing` ask at each line whether anybody listens.
///
/// Otherwise it asks once for each place that logs, when that place is first reached. If another
/// test reaches it just as a capture begins, the answer may be no, and stay no.
pub(super) fn keep_listening() {
    static LISTENER: OnceLock<Dispatch> = OnceLock::new();
    LISTENER.get_or_init(|| Dispatch::new(Listener));
}

/// It asks to be asked, and takes no line.
struct Listener;

impl Subscriber for Listener {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        false
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Catcher {
    lines: Arc<Mutex<Vec<LogLine>>>,
    spans: AtomicU64,
}

impl Subscriber for Catcher {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut read = Fields::default();
        event.record(&mut read);
        let line = LogLine {
            level: *event.metadata().level(),
            target: event.metadata().target().to_string(),
            message: read.message,
            fields: read.fields,
        };
        lock(&self.lines).push(line);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Fields {
    message: String,
    fields: BTreeMap<String, String>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.fields.insert(field.name().to_string(), text);
        }
    }
}
