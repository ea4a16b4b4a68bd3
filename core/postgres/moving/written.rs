//! What the text of a table's definition says.

use super::app_table::Kind;

/// What follows each place where this word stands.
pub(super) fn after_word<'t>(text: &'t str, word: &'static str) -> impl Iterator<Item = &'t str> {
    text.match_indices(word).filter_map(move |(place, _)| {
        let (before, after) = (text.get(..place)?, text.get(place + word.len()..)?);
        let is_word = !before.ends_with(is_of_word) && !after.starts_with(is_of_word);
        is_word.then_some(after)
    })
}

/// Whether that is the name of the rule that compares bytes, in quotes or not.
pub(super) fn begins_with_binary(text: &str) -> bool {
    let name = text.trim_start().trim_start_matches(['"', '\'', '`', '[']);
    name.strip_prefix("BINARY").is_some_and(|after| !after.starts_with(is_of_word))
}

fn is_of_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_' || character == '$'
}

/// A default that is a number or a text, for a column that keeps such.
pub(super) fn literal(text: &str, kind: Kind) -> Option<String> {
    let is_number = |text: &str| text.parse::<f64>().is_ok_and(f64::is_finite);
    let inside = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
    let is_text = inside.is_some_and(|text| {
        !text.replace("''", "").contains('\'') && !text.contains('\\') && !text.contains('\0')
    });
    match kind {
        Kind::Integer if text.parse::<i64>().is_ok() => Some(text.to_string()),
        Kind::Real if is_number(text) => Some(text.to_string()),
        Kind::Text if is_text => Some(text.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_where_it_stands_alone() {
        let found = |text: &str| after_word(text, "CHECK").count();
        assert_eq!(found("N INTEGER CHECK(N > 0), CHECK (A)"), 2);
        assert_eq!(found("CHECKSUM TEXT, RECHECK TEXT, _CHECK TEXT"), 0);
        for (text, is_binary) in [
            (" BINARY", true),
            (" \"BINARY\"", true),
            (" BINARYX", false),
            ("/**/ BINARY", false),
            (" NOCASE", false),
        ] {
            assert_eq!(begins_with_binary(text), is_binary, "{text}");
        }
    }

    #[test]
    fn a_default_is_taken_over_only_if_it_means_the_same() {
        for (text, kind, there) in [
            ("7", Kind::Integer, Some("7")),
            ("-7", Kind::Integer, Some("-7")),
            ("7.5", Kind::Integer, None),
            ("1e3", Kind::Real, Some("1e3")),
            ("inf", Kind::Real, None),
            ("'it''s'", Kind::Text, Some("'it''s'")),
            ("'a' || 'b'", Kind::Text, None),
            ("'\\'", Kind::Text, None),
            ("7", Kind::Text, None),
            ("CURRENT_TIMESTAMP", Kind::Text, None),
            ("x'00'", Kind::Blob, None),
        ] {
            assert_eq!(literal(text, kind).as_deref(), there, "{text}");
        }
    }
}
