//! `LIKE` and `GLOB` as SQLite has them, but looking at the deadline on the way.

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// `%`, `_`, an escape; ASCII letters match in either case.
    Like,
    /// `*`, `?`, `[…]`.
    Glob,
}

/// A pattern, taken apart.
pub(super) struct Pattern {
    parts: Vec<Part>,
    style: Style,
}

enum Part {
    Any,
    One,
    Character(char),
    Set {
        invert: bool,
        ranges: Vec<(char, char)>,
    },
    /// An escape or a `[` without an end.
    Never,
}

/// Steps between two looks at the deadline.
const STEPS: u32 = 1 << 14;

impl Pattern {
    pub(super) fn new(pattern: &[u8], style: Style, escape: Option<char>) -> Self {
        let text = String::from_utf8_lossy(until_nul(pattern));
        let mut characters = text.chars().peekable();
        let mut parts = Vec::new();
        while let Some(character) = characters.next() {
            parts.push(match (style, character) {
                // An escaped `%` or `_` is no wildcard.
                (Style::Like, _) if Some(character) == escape => {
                    characters.next().map_or(Part::Never, |next| Part::Character(fold(next, style)))
                }
                (Style::Like, '%') | (Style::Glob, '*') => {
                    if matches!(parts.last(), Some(Part::Any)) {
                        continue;
                    }
                    Part::Any
                }
                (Style::Like, '_') | (Style::Glob, '?') => Part::One,
                (Style::Glob, '[') => set(&mut characters),
                _ => Part::Character(fold(character, style)),
            });
        }
        Self { parts, style }
    }

    /// Whether a text matches. `None` when the time was over first.
    pub(super) fn matches(&self, subject: &[u8], over: impl Fn() -> bool) -> Option<bool> {
        let subject = String::from_utf8_lossy(until_nul(subject));
        let mut rest = subject.chars();
        let mut place = 0;
        // Where to go on after the last `%`, one character further each time. What came before it
        // need not be tried again.
        let mut again: Option<(usize, std::str::Chars<'_>)> = None;
        let mut steps = 0;
        loop {
            steps += 1;
            if steps % STEPS == 1 && over() {
                return None;
            }
            let matched = match self.parts.get(place) {
                Some(Part::Any) => {
                    place += 1;
                    again = Some((place, rest.clone()));
                    if place == self.parts.len() {
                        return Some(true);
                    }
                    continue;
                }
                None => match rest.as_str().is_empty() {
                    true => return Some(true),
                    false => false,
                },
                Some(part) => match rest.next() {
                    // Shorter ends of the text cannot match either.
                    None => return Some(false),
                    Some(character) => part.is(fold(character, self.style)),
                },
            };
            if matched {
                place += 1;
                continue;
            }
            let Some((from, text)) = &mut again else { return Some(false) };
            if text.next().is_none() {
                return Some(false);
            }
            (place, rest) = (*from, text.clone());
        }
    }
}

impl Part {
    fn is(&self, character: char) -> bool {
        match self {
            Self::One => true,
            Self::Character(own) => *own == character,
            Self::Set { invert, ranges } => {
                ranges.iter().any(|(from, to)| (*from..=*to).contains(&character)) != *invert
            }
            Self::Any | Self::Never => false,
        }
    }
}

/// SQLite reads a text up to its first NUL here.
pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn fold(character: char, style: Style) -> char {
    match style {
        Style::Like => character.to_ascii_lowercase(),
        Style::Glob => character,
    }
}

fn set(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Part {
    let mut ranges = Vec::new();
    let invert = characters.next_if_eq(&'^').is_some();
    if let Some(bracket) = characters.next_if_eq(&']') {
        ranges.push((bracket, bracket));
    }
    let mut before = None;
    while let Some(character) = characters.next() {
        match (character, before) {
            (']', _) => return Part::Set { invert, ranges },
            ('-', Some(from)) if characters.peek().is_some_and(|next| *next != ']') => {
                if let Some(to) = characters.next() {
                    ranges.push((from, to));
                }
                before = None;
            }
            _ => {
                ranges.push((character, character));
                before = Some(character);
            }
        }
    }
    Part::Never
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rusqlite::Connection;
    use rusqlite::types::Value;

    use crate::store::bounded_functions::install;

    /// Every function on every pair of these, by SQLite and by us.
    #[test]
    fn the_answers_are_those_of_sqlite() {
        let (own, theirs) =
            (Connection::open_in_memory().unwrap(), Connection::open_in_memory().unwrap());
        install(&own, 1 << 20, &(Arc::new(|| false) as _)).unwrap();
        let words = [
            "", "a", "A", "ab", "aab", "abab", "%", "a%", "%a", "%a%b", "_", "a_", "_%_", "a!%",
            "a!", "!_", "*", "a*", "*a", "*a*b*", "?", "[a-c]", "[^a]", "[a", "[]]", "[a-]x",
            "[-a]", "[a-]*", "[]-a]", "ä", "Ä", "äb", "🙂", "%🙂", "a\0b", "a%b", "ABAB", "*[0-9]",
            "12", "x-", "  a ", " ", "ba", "[^]]", "%%", "%_%", "**a",
        ];
        let mut values: Vec<Value> =
            words.iter().map(|word| Value::Text((*word).to_string())).collect();
        values.extend([
            Value::Null,
            Value::Integer(12),
            Value::Real(1.5),
            Value::Real(1e20),
            Value::Blob(b"ab".to_vec()),
            Value::Blob("äb".into()),
        ]);
        let calls = [
            "?1 LIKE ?2",
            "?1 GLOB ?2",
            "?1 LIKE ?2 ESCAPE '!'",
            "instr(?1, ?2)",
            "trim(?1, ?2)",
            "ltrim(?1, ?2)",
            "rtrim(?1, ?2)",
            "replace(?1, ?2, 'xy')",
            "replace(?1, ?2, '')",
            "replace(?1, ?2, NULL)",
            "replace('abcab', ?1, ?2)",
            "unhex(?1, ?2)",
            "unhex('41 42' || ?1, ' ' || ?2)",
        ];
        for call in calls {
            let sql = format!("SELECT {call}");
            let (mut one, mut other) = (own.prepare(&sql).unwrap(), theirs.prepare(&sql).unwrap());
            for first in &values {
                for second in &values {
                    let get = |row: &rusqlite::Row<'_>| row.get::<_, Value>(0);
                    let (ours, sqlite) = (
                        one.query_row([first, second], get),
                        other.query_row([first, second], get),
                    );
                    assert_eq!(ours.ok(), sqlite.ok(), "{call} of {first:?} and {second:?}");
                }
            }
        }
        for sql in [
            "SELECT 'a' LIKE 'a' ESCAPE 'xx'",
            "SELECT 'a' LIKE 'a' ESCAPE ''",
            "SELECT replace(hex(zeroblob(2000)), '0', hex(zeroblob(2000)))",
        ] {
            assert!(own.query_row(sql, [], |_| Ok(())).is_err(), "{sql}");
        }
    }

    #[test]
    fn a_long_match_ends_when_the_time_is_over() {
        let own = Connection::open_in_memory().unwrap();
        install(&own, 1 << 20, &(Arc::new(|| true) as _)).unwrap();
        for sql in ["SELECT 'a' LIKE 'b'", "SELECT 'a' GLOB '*b'", "SELECT replace('a', 'b', 'c')"]
        {
            let error = own.query_row(sql, [], |_| Ok(())).unwrap_err();
            assert_eq!(
                error.sqlite_error_code(),
                Some(rusqlite::ErrorCode::OperationInterrupted),
                "{sql}: {error}"
            );
        }
    }
}
