//! What commands print: lines for people, which are escaped, and JSON, which is exact.
//!
//! A reader that goes away and a full device end the printing, not the work. What cannot be written
//! is dropped, and [`main`](crate::main) checks that in the end.

use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::OnceLock;

use serde::Serialize;
use serde_json::{Map, Value as Json};
use tracing_subscriber::EnvFilter;
use verger::Timestamp;

use crate::escape::Escaped;

/// Why stdout takes no more.
static CLOSED: OnceLock<ErrorKind> = OnceLock::new();

/// Whether somebody still reads what is printed. A verb that prints without end stops when nobody
/// does.
pub(crate) fn is_read() -> bool {
    CLOSED.get().is_none()
}

/// Why not all that was printed could be written. A reader that has seen enough is no reason.
pub(crate) fn lost() -> Option<ErrorKind> {
    CLOSED.get().copied().filter(|kind| *kind != ErrorKind::BrokenPipe)
}

fn write(text: &str) {
    if !is_read() {
        return;
    }
    let mut stdout = io::stdout().lock();
    if let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // Only the first reason counts.
        let _ = CLOSED.set(error.kind());
    }
}

/// Prints lines for people. Each is one line, whatever is in it.
pub(crate) fn print(lines: impl IntoIterator<Item = impl Display>) {
    write(&lines.into_iter().map(|line| format!("{}\n", Escaped(line))).collect::<String>());
}

/// Prints a text of the command's own as it is, lines and all.
pub(crate) fn print_text(text: &str) {
    write(text);
}

/// Prints a value as one line of JSON.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    write(&format!("{}\n", serde_json::to_string(value)?));
    Ok(())
}

/// Prints each value as a line of JSON.
pub(crate) fn print_json_lines(values: impl IntoIterator<Item = Json>) {
    write(&values.into_iter().map(|value| format!("{value}\n")).collect::<String>());
}

/// Writes a line to stderr, where somebody may or may not read it.
pub(crate) fn tell(line: impl Display) {
    let _ = writeln!(io::stderr(), "{}", Escaped(line));
}

/// A row as JSON. Its columns that hold JSON text become JSON.
pub(crate) fn row(row: &impl Serialize, json: &[&str]) -> Json {
    let mut row = match serde_json::to_value(row) {
        Ok(Json::Object(row)) => row,
        _ => Map::new(),
    };
    for column in json {
        // Text that someone wrote by hand and that is no JSON stays text.
        let value = row
            .get(*column)
            .and_then(Json::as_str)
            .and_then(|text| serde_json::from_str(text).ok());
        if let Some(value) = value {
            row.insert((*column).to_string(), value);
        }
    }
    Json::Object(row)
}

/// A time that may not be there, for people.
pub(crate) fn opt_time(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "-".to_string(), |time| time.to_string())
}

/// JSON for people: a flat object as `deleted 3, errors 0`, anything else as it is.
pub(crate) fn brief(json: &Json) -> String {
    let flat = |value: &Json| !value.is_object() && !value.is_array();
    match json {
        Json::Object(map) if !map.is_empty() && map.values().all(flat) => map
            .iter()
            .map(|(key, value)| format!("{key} {}", plain(value)))
            .collect::<Vec<_>>()
            .join(", "),
        other => plain(other),
    }
}

/// A JSON value without the quotes of a text.
pub(crate) fn plain(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A count with its thousands separated, as the page writes it: 12,345.
pub(crate) use verger_ui::count;

/// A count and its noun: `1 job`, `2 jobs`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Whether a progress bar can be shown.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Sends the library's log lines to stderr: what `RUST_LOG` asks for, otherwise errors, and for a
/// long-running command news too.
pub(crate) fn log_to_stderr(news: bool) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new(if news { "info" } else { "error" }));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Log)
        .with_ansi(false)
        .log_internal_errors(false)
        .init();
}

/// Takes a line of the log at a time.
struct Log;

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        tell(String::from_utf8_lossy(line).trim_end_matches('\n'));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn thousands_stand_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn rows_carry_times_as_text() {
        #[derive(Serialize)]
        struct Row {
            id: i64,
            due_at: Timestamp,
            metadata: &'static str,
        }
        let due_at = Timestamp::from_millis(0);
        let text = row(&Row { id: 1, due_at, metadata: "{\"a\":1}" }, &["metadata"]);
        assert_eq!(text, json!({"id": 1, "due_at": "1970-01-01T00:00:00Z", "metadata": {"a": 1}}));
        assert_eq!(row(&Row { id: 1, due_at, metadata: "{" }, &["metadata"])["metadata"], "{");
    }
}
