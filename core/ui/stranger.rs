//! Text that someone else wrote, made safe to show.
//!
//! It cannot become markup, because all text is escaped where it is put in. Characters that are
//! invisible or turn the direction of writing are escaped here.

use std::fmt::Write;

use maud::{Markup, html};

/// The longest text that is shown in a list, in characters.
const SHORT: usize = 200;

/// The longest text that is shown at all, in characters.
const LONG: usize = 20_000;

/// A text in a list: one line, cut if it is long.
pub(crate) fn short(text: &str) -> Markup {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    shown(&line, SHORT)
}

/// A text by itself, with its lines.
pub(crate) fn long(text: &str) -> Markup {
    shown(text, LONG)
}

/// A text as one word of a sentence or of an attribute.
pub(crate) fn plain(text: &str) -> String {
    visible(text, SHORT)
}

fn shown(text: &str, most: usize) -> Markup {
    html! { bdi { (visible(text, most)) } }
}

fn visible(text: &str, most: usize) -> String {
    let mut visible = String::with_capacity(text.len().min(most * 4));
    for (place, c) in text.chars().enumerate() {
        if place == most {
            visible.push('…');
            break;
        }
        if is_hidden(c) {
            // Writing to a String does not fail.
            let _ = write!(visible, "\\u{{{:x}}}", u32::from(c));
        } else {
            visible.push(c);
        }
    }
    visible
}

/// Control characters except line breaks and tabs, and characters that are invisible or turn the
/// direction of writing.
fn is_hidden(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\t'))
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_text_is_no_markup_and_hides_nothing() {
        let text = "<script>alert('1')</script>\u{202e}\u{0}&\"";
        let shown = short(text).into_string();
        assert!(!shown.contains("<script") && shown.contains("&lt;script&gt;"), "{shown}");
        assert!(shown.contains("\\u{202e}\\u{0}") && shown.contains("&amp;&quot;"), "{shown}");
        assert!(short(&"x".repeat(9_999)).into_string().len() < 300);
        assert_eq!(plain("a b"), "a b");
    }
}
