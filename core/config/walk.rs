//! Checks a document against the list of keys, and finds all that is wrong with it, not only the
//! first problem.

use std::ops::Range;

use super::error::{Position, Problem};
use super::keys::{Key, Kind, find};
use super::node::{Node, Value};
use super::units;

/// The problems found while a document is read.
pub(super) struct Problems<'t> {
    text: &'t str,
    pub(super) found: Vec<Problem>,
}

impl<'t> Problems<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        Self { text, found: Vec::new() }
    }

    pub(super) fn add(&mut self, span: &Range<usize>, key: &str, message: impl Into<String>) {
        self.push(span, key, message.into(), false);
    }

    fn push(&mut self, span: &Range<usize>, key: &str, message: String, is_deprecation: bool) {
        let at = Position::of(self.text, span.start);
        self.found.push(Problem { at, key: key.to_string(), message, is_deprecation });
    }
}

/// Checks the keys of a table and their values.
pub(super) fn walk(node: &Node, keys: &'static [Key], path: &str, problems: &mut Problems<'_>) {
    for entry in node.entries() {
        let own = join(path, &entry.name);
        let Some(key) = find(keys, &entry.name) else {
            let names = keys.iter().filter(|key| key.replaced_by.is_none()).map(|key| key.name);
            problems.add(&entry.name_span, &own, unknown(&entry.name, names));
            continue;
        };
        if let Some(newer) = key.replaced_by {
            let message = format!("it is deprecated: write `{newer}` in its place");
            problems.push(&entry.name_span, &own, message, true);
        }
        value(&entry.node, key.kind, &own, problems);
    }
}

fn value(node: &Node, kind: Kind, path: &str, problems: &mut Problems<'_>) {
    let wrong = |what: &str| format!("it must be {what}, and is {}", node.kind());
    let bad = |text: &str, what: &str| format!("{text:?} is no {what}");
    let reason = match (kind, &node.value) {
        (Kind::Text | Kind::Path, Value::Text(text)) => {
            text.is_empty().then(|| "it is empty".to_string())
        }
        (Kind::Text, _) => Some(wrong("a text in quotes")),
        (Kind::Path, _) => Some(wrong("a path in quotes")),
        (Kind::Flag, Value::Flag(_)) => None,
        (Kind::Flag, _) => Some(wrong("true or false")),
        (Kind::Integer { least, most }, Value::Integer(number)) => {
            (!(least..=most).contains(number)).then(|| match most {
                i64::MAX => format!("it is {number}, and must be at least {least}"),
                most => format!("it is {number}, and must be from {least} to {most}"),
            })
        }
        (Kind::Integer { .. }, _) => Some(wrong("a whole number")),
        (Kind::Duration, Value::Text(text)) => units::duration(text).is_none().then(|| {
            bad(text, "length of time: write a whole number and ms, s, m, h or d, as 90s")
        }),
        (Kind::Duration, _) => Some(wrong("a length of time in quotes, as \"90s\"")),
        (Kind::Keep, Value::Text(text)) => (text != "forever" && units::duration(text).is_none())
            .then(|| {
                bad(
                    text,
                    "length of time: write a whole number and s, m, h or d, as 7d, or forever",
                )
            }),
        (Kind::Keep, _) => Some(wrong("a length of time in quotes, as \"7d\", or \"forever\"")),
        (Kind::Size, Value::Integer(number)) => {
            (*number < 1).then(|| format!("it is {number}, and must be at least 1"))
        }
        (Kind::Size, Value::Text(text)) => units::size(text)
            .is_none_or(|size| size == 0)
            .then(|| bad(text, "size: write a whole number of bytes, or with KiB, MiB or GiB")),
        (Kind::Size, _) => Some(wrong("a number of bytes, or a size in quotes, as \"16MiB\"")),
        (Kind::Choice(words), Value::Text(text)) => {
            (!words.contains(&text.as_str())).then(|| unknown_word(text, words))
        }
        (Kind::Choice(words), _) => Some(wrong(&format!("one of {}", words.join(", ")))),
        (Kind::Texts | Kind::Paths, Value::List(list)) => {
            for item in list {
                value(item, Kind::Text, path, problems);
            }
            None
        }
        (Kind::Texts | Kind::Paths, _) => Some(wrong("a list, as [\"orders\"]")),
        (Kind::Args, Value::Table(_)) => None,
        (Kind::Args, Value::Text(text)) => {
            crate::queue::parse_args(text).err().map(|error| error.to_string())
        }
        (Kind::Args, _) => Some(wrong("a table, or the text of a JSON object")),
        (Kind::Table(keys), Value::Table(_)) => {
            walk(node, keys, path, problems);
            None
        }
        (Kind::Named(keys), Value::Table(entries)) => {
            for entry in entries {
                let own = join(path, &entry.name);
                value(&entry.node, Kind::Table(keys), &own, problems);
            }
            None
        }
        (Kind::Table(_) | Kind::Named(_), _) => Some(wrong("a table")),
    };
    if let Some(reason) = reason {
        problems.add(&node.span, path, reason);
    }
}

/// The path to a key, as TOML writes it.
pub(super) fn join(path: &str, name: &str) -> String {
    let is_bare =
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    let name = if is_bare { name.to_string() } else { format!("{name:?}") };
    if path.is_empty() { name } else { format!("{path}.{name}") }
}

fn unknown(name: &str, known: impl Iterator<Item = &'static str> + Clone) -> String {
    match nearest(name, known.clone()) {
        Some(near) => format!("there is no such key; did you mean `{near}`?"),
        None => {
            let known: Vec<&str> = known.collect();
            format!("there is no such key; there are {}", known.join(", "))
        }
    }
}

fn unknown_word(word: &str, words: &[&'static str]) -> String {
    match nearest(word, words.iter().copied()) {
        Some(near) => format!("{word:?} is not one of its words; did you mean {near:?}?"),
        None => format!("{word:?} is not one of its words: they are {}", words.join(", ")),
    }
}

fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let name = name.to_lowercase().replace('-', "_");
    let distance = |known: &str| strsim::damerau_levenshtein(&name, known);
    let most = (name.chars().count() / 3).max(1);
    known
        .map(|known| (distance(known), known))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, known)| known)
}
