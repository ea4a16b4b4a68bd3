//! What commands print: plain text, aligned tables, JSON.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use serde_json::{Map, Value as Json};
use tracing_subscriber::EnvFilter;
use verger::Timestamp;

/// Prints text on stdout.
///
/// # Errors
/// When it cannot be written; a reader that went away is an error too, so that the command ends.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Prints a value as one line of JSON.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(print(&format!("{}\n", serde_json::to_string(value)?))?)
}

/// Prints each value as a line of JSON.
pub(crate) fn print_json_lines(values: impl IntoIterator<Item = Json>) -> io::Result<()> {
    print(&values.into_iter().map(|value| format!("{value}\n")).collect::<String>())
}

/// A row as JSON, with its times as text and its JSON columns as JSON.
pub(crate) fn row(row: &impl Serialize, times: &[&str], json: &[&str]) -> Json {
    let mut row = match serde_json::to_value(row) {
        Ok(Json::Object(row)) => row,
        _ => Map::new(),
    };
    for column in times {
        if let Some(millis) = row.get(*column).and_then(Json::as_i64) {
            row.insert(
                (*column).to_string(),
                Json::String(Timestamp::from_millis(millis).to_string()),
            );
        }
    }
    for column in json {
        // What someone wrote there by hand and is no JSON stays text.
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

/// A time for people.
pub(crate) fn time(millis: i64) -> String {
    Timestamp::from_millis(millis).to_string()
}

/// A time that may not be there, for people.
pub(crate) fn opt_time(millis: Option<i64>) -> String {
    millis.map_or_else(|| "-".to_string(), time)
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

/// The longest text of a stranger that is shown, in characters.
const SHOWN_MAX: usize = 1_000;

/// A stranger's text as one line that a terminal shows as it is, cut where it is far too long.
pub(crate) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => escaped(text.get(..end).unwrap_or(text)) + "…",
        None => escaped(text),
    }
}

/// A stranger's text with nothing in it that moves the cursor, sets colours, or turns the direction
/// of writing. What would is written as JSON escapes it: a JSON text means the same as before.
fn escaped(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        let hidden = matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}');
        match c.is_control() || hidden {
            true => shown
                .extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}"))),
            false => shown.push(c),
        }
    }
    shown
}

/// A JSON text as one word for a shell, whatever is in it.
pub(crate) fn to_paste(json: &str) -> String {
    format!("'{}'", escaped(json).replace('\'', r"'\''"))
}

/// A count with its thousands apart: 12,345.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count and its noun: `1 job`, `2 jobs`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Columns that line up. Nothing is cut: a long last column runs over.
pub(crate) struct Table {
    columns: Vec<(&'static str, Side)>,
    rows: Vec<Vec<String>>,
}

/// Which side of its column a cell keeps to.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Side {
    Left,
    Right,
}

impl Table {
    pub(crate) fn new(columns: &[(&'static str, Side)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(crate) fn to_text(&self) -> String {
        let head: Vec<String> = self.columns.iter().map(|(name, _)| (*name).to_string()).collect();
        let rows: Vec<&Vec<String>> = std::iter::once(&head).chain(&self.rows).collect();
        let width = |place: usize| {
            rows.iter()
                .filter_map(|row| row.get(place))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut text = String::new();
        for row in rows {
            let mut line = String::new();
            for ((cell, (_, side)), width) in row.iter().zip(&self.columns).zip(&widths) {
                match side {
                    Side::Left => line.push_str(&format!("{cell:width$}  ")),
                    Side::Right => line.push_str(&format!("{cell:>width$}  ")),
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Whether a progress bar can be shown.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Sends the library's log lines to stderr: what `RUST_LOG` asks for, else errors; for a
/// long-running command, news too.
pub(crate) fn log_to_stderr(news: bool) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new(if news { "info" } else { "error" }));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(is_watched())
        .init();
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
    fn what_a_stranger_wrote_does_not_reach_the_terminal_as_a_command() {
        assert_eq!(shown("Grüße, 世界"), "Grüße, 世界");
        assert_eq!(
            shown("a\n\u{1b}[2Jb\u{202e}c\u{e0041}"),
            "a\\u000a\\u001b[2Jb\\u202ec\\udb40\\udc41"
        );
        assert_eq!(shown(&"x".repeat(5_000)).chars().count(), 1_001);
    }

    #[test]
    fn what_is_to_be_pasted_is_one_word() {
        assert_eq!(to_paste("a 'b'; rm -rf \u{202e}x"), r"'a '\''b'\''; rm -rf \u202ex'");
    }

    #[test]
    fn columns_line_up_and_nothing_is_cut() {
        let mut table = Table::new(&[("ID", Side::Right), ("WORD", Side::Left)]);
        table.row(["7".to_string(), "short".to_string()]);
        table.row(["1234".to_string(), "a much longer one".to_string()]);
        assert_eq!(table.to_text(), "  ID  WORD\n   7  short\n1234  a much longer one\n");
    }

    #[test]
    fn rows_carry_times_as_text() {
        #[derive(Serialize)]
        struct Row {
            id: i64,
            due_at: Option<i64>,
            metadata: &'static str,
        }
        let text =
            row(&Row { id: 1, due_at: Some(0), metadata: "{\"a\":1}" }, &["due_at"], &["metadata"]);
        assert_eq!(text, json!({"id": 1, "due_at": "1970-01-01T00:00:00Z", "metadata": {"a": 1}}));
        assert_eq!(
            row(&Row { id: 1, due_at: None, metadata: "{" }, &["due_at"], &["metadata"])["metadata"],
            "{"
        );
    }
}
