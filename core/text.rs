//! Text of a stranger, made safe for a log and for an error; and bytes as text.

use std::borrow::Cow;
use std::fmt::Write;

/// The most bytes of a stranger's text that an error repeats.
pub(crate) const REASON_MAX_BYTES: usize = 4 << 10;

/// The text as one line. Characters that would break it, move the cursor or turn the direction of
/// writing are escaped, so that nobody can forge a line of their own.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if steers(c) {
            // Writing to a String does not fail.
            let _ = write!(line, "{}", c.escape_default());
        } else {
            line.push(c);
        }
    }
    Cow::Owned(line)
}

/// Control characters, the separators of lines and paragraphs, and the marks of direction.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{61c}' | '\u{200e}' | '\u{200f}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Bytes as hexadecimal digits.
#[cfg(any(feature = "wasm", feature = "postgres"))]
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The beginning of a text: at most so many bytes, whole characters.
pub(crate) fn beginning(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or(text)
}

/// A text no longer than an error repeats.
pub(crate) fn reason(mut text: String) -> String {
    if text.len() > REASON_MAX_BYTES {
        text.truncate(text.floor_char_boundary(REASON_MAX_BYTES));
        text.push('…');
        text.shrink_to_fit();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_or_breaks_a_line_is_written_out() {
        assert_eq!(one_line("plain ä ⊕ text"), "plain ä ⊕ text");
        for (text, line) in [
            ("a\nWARN forged", r"a\nWARN forged"),
            ("a\r\tb", r"a\r\tb"),
            ("\u{1b}[2J\u{7}\u{9b}", r"\u{1b}[2J\u{7}\u{9b}"),
            ("a\u{85}b\u{2028}c\u{2029}", r"a\u{85}b\u{2028}c\u{2029}"),
            ("\u{202e}abc\u{2066}", r"\u{202e}abc\u{2066}"),
        ] {
            assert_eq!(one_line(text), line);
        }
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(beginning("äää", 3), "ä");
        assert_eq!(beginning("abc", 3), "abc");
        let cut = reason("ä".repeat(REASON_MAX_BYTES));
        assert!(cut.len() <= REASON_MAX_BYTES + 3 && cut.ends_with("ä…"));
        assert_eq!(reason("short".to_string()), "short");
    }
}
