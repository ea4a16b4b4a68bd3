//! Text of strangers, made safe for a terminal.

use std::fmt::{self, Display, Write};

/// One line of text for a terminal, whatever is in it. Nothing in it moves the cursor, sets
/// colours, turns the direction of writing, is invisible, or begins another line.
///
/// All that the command prints for people goes through it (see [`crate::output`]), so that no verb
/// can forget it.
pub(crate) struct Escaped<T>(pub(crate) T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| match c {
            '\n' => self.0.write_str(" ⏎ "),
            '\r' => Ok(()),
            '\t' => self.0.write_char(' '),
            c if is_hidden(c) => c
                .encode_utf16(&mut [0; 2])
                .iter()
                .try_for_each(|unit| write!(self.0, "\\u{unit:04x}")),
            c => self.0.write_char(c),
        })
    }
}

/// Control characters, and characters that are invisible or turn the direction of writing.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// The longest text of a stranger that is shown, in characters.
const SHOWN_MAX: usize = 1_000;

/// A stranger's text as one line, cut where it is far too long.
pub(crate) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", Escaped(text.get(..end).unwrap_or(text))),
        None => Escaped(text).to_string(),
    }
}

/// A JSON text as one word for a shell, whatever is in it. The escaped text means the same, because
/// JSON has line breaks only between its words.
pub(crate) fn to_paste(json: &str) -> String {
    let json = Escaped(json.replace(['\n', '\r'], " ")).to_string();
    format!("'{}'", json.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_wrote_does_not_reach_the_terminal_as_a_command() {
        assert_eq!(shown("Grüße, 世界"), "Grüße, 世界");
        assert_eq!(
            shown("a\r\n\u{1b}[2Jb\u{202e}c\u{e0041}\u{9b}\td\u{ad}"),
            "a ⏎ \\u001b[2Jb\\u202ec\\udb40\\udc41\\u009b d\\u00ad"
        );
        assert_eq!(shown(&"x".repeat(5_000)).chars().count(), 1_001);
    }

    #[test]
    fn what_is_to_be_pasted_is_one_word() {
        assert_eq!(to_paste("a 'b'; rm -rf \u{202e}x"), r"'a '\''b'\''; rm -rf \u202ex'");
    }
}
