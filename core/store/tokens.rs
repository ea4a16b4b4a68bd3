//! The words of a statement, as SQLite's own tokenizer separates them.
//!
//! A port of `sqlite3GetToken` (tokenize.c), byte for byte: white space with U+FEFF, comments,
//! every quoted form, `?1word`, blobs, and NUL as the end of the text. A test compares it with
//! SQLite itself.
//!
//! SQLite tells the authorizer which table is accessed, but not whether the worker or a view of the
//! app's named it. To name a table, a column or a function, a token of the statement has to *be*
//! that name. So the worker did not name a thing that is no token. The reverse does not hold,
//! because a token may be an alias, or a text.

use std::collections::HashMap;

/// What a token is to the grammar, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A keyword, or a name without quotes.
    Word,
    /// `"…"`, `` `…` ``, `[…]`, and `'…'`, which SQLite also takes for a name where it expects one.
    Quoted,
    Open,
    Close,
    Comma,
    Semicolon,
    Other,
}

pub(super) struct Token {
    pub(super) kind: Kind,
    /// In lower case and without its quotes, for a token that may be a name.
    pub(super) name: Option<Box<str>>,
}

/// The tokens of one statement.
#[derive(Default)]
pub(crate) struct Tokens {
    pub(super) list: Vec<Token>,
    names: HashMap<Box<str>, u32>,
}

impl Tokens {
    pub(crate) fn of(text: &str) -> Self {
        let mut tokens = Self::default();
        let mut rest = text.as_bytes();
        while let Some((class, length)) = next(rest) {
            let (bytes, after) = rest.split_at(length.min(rest.len()));
            rest = after;
            let kind = match class {
                Class::Space | Class::Comment => continue,
                Class::Word => Kind::Word,
                Class::Quoted | Class::Text => Kind::Quoted,
                Class::Illegal | Class::Other => match bytes {
                    b"(" => Kind::Open,
                    b")" => Kind::Close,
                    b"," => Kind::Comma,
                    b";" => Kind::Semicolon,
                    _ => Kind::Other,
                },
            };
            let name = matches!(kind, Kind::Word | Kind::Quoted).then(|| name(bytes));
            if let Some(name) = &name {
                *tokens.names.entry(name.clone()).or_default() += 1;
            }
            tokens.list.push(Token { kind, name });
        }
        tokens
    }

    /// Whether anything comes after the end of a statement. A trigger's body would count as such.
    pub(super) fn are_of_several_statements(&self) -> bool {
        let is_end = |token: &Token| token.kind == Kind::Semicolon;
        let mut rest = self.list.iter().skip_while(|token| is_end(token));
        rest.any(is_end) && !rest.all(is_end)
    }

    /// Whether a token may be this name.
    pub(super) fn mentions(&self, name: &str) -> bool {
        self.count(name) > 0
    }

    /// How many tokens may be this name.
    pub(super) fn count(&self, name: &str) -> u32 {
        let lower;
        let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            lower = name.to_ascii_lowercase();
            &lower
        } else {
            name
        };
        self.names.get(name).copied().unwrap_or(0)
    }

    /// The keyword in this place, or the name without quotes.
    pub(super) fn word(&self, place: usize) -> Option<&str> {
        let token = self.list.get(place).filter(|token| token.kind == Kind::Word)?;
        token.name.as_deref()
    }

    /// Whether the statement may contain this keyword, without quotes.
    pub(super) fn has_keyword(&self, keyword: &str) -> bool {
        (0..self.list.len()).any(|place| self.word(place) == Some(keyword))
    }

    /// Whether rows in the way may be replaced: `OR REPLACE`, `REPLACE INTO`. Before a parenthesis
    /// the word is a function, and in the grammar nothing else is.
    pub(super) fn replaces(&self) -> bool {
        (0..self.list.len()).any(|place| {
            self.word(place) == Some("replace")
                && self.list.get(place + 1).is_none_or(|next| next.kind != Kind::Open)
        })
    }

    /// Whether the statement itself says what happens at a conflict, so that the table's own word
    /// does not count. `INSERT` and `UPDATE` are never names.
    pub(super) fn settles_conflicts(&self) -> bool {
        (0..self.list.len()).any(|place| {
            matches!(self.word(place), Some("insert" | "update"))
                && self.word(place + 1) == Some("or")
                && matches!(
                    self.word(place + 2),
                    Some("abort" | "fail" | "ignore" | "rollback" | "replace")
                )
        })
    }

    /// The name that follows the first such keyword.
    pub(super) fn behind(&self, keyword: &str) -> Option<&str> {
        let place = (0..self.list.len()).find(|place| self.word(*place) == Some(keyword))?;
        self.list.get(place + 1)?.name.as_deref()
    }

    /// How many arguments beyond one the calls of these functions have, together.
    pub(super) fn further_arguments(&self, is_function: impl Fn(&str) -> bool) -> usize {
        let mut further = 0;
        // For each open parenthesis, whether it belongs to a call.
        let mut open = Vec::new();
        let mut before: Option<&Token> = None;
        for token in &self.list {
            match token.kind {
                Kind::Open => open
                    .push(before.and_then(|token| token.name.as_deref()).is_some_and(&is_function)),
                Kind::Close => {
                    open.pop();
                }
                Kind::Comma if open.last() == Some(&true) => further += 1,
                _ => {}
            }
            before = Some(token);
        }
        further
    }
}

/// A name without its quotes, with ASCII letters in lower case, because SQLite compares names so.
fn name(token: &[u8]) -> Box<str> {
    let text = String::from_utf8_lossy(token);
    let quote = match token.first() {
        Some(b'[') => "]",
        Some(b'"') => "\"",
        Some(b'`') => "`",
        Some(b'\'') => "'",
        _ => return text.to_ascii_lowercase().into(),
    };
    let inside = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
    inside.replace(&quote.repeat(2), quote).to_ascii_lowercase().into()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Space,
    Comment,
    Word,
    Quoted,
    Text,
    Other,
    Illegal,
}

/// What a name may contain: letters, digits, `_`, `$`, and every byte that is not ASCII.
fn is_part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || !byte.is_ascii()
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// The class of the first token of the text, and its length in bytes. `None` at the end. As in C,
/// the text ends with a NUL; if it has none, one is assumed after it.
fn next(text: &[u8]) -> Option<(Class, usize)> {
    let at = |place: usize| text.get(place).copied().unwrap_or(0);
    // The bytes from there on for which it holds.
    let run = |from: usize, holds: &dyn Fn(u8) -> bool| {
        from + text.get(from..).unwrap_or_default().iter().take_while(|byte| holds(**byte)).count()
    };
    let word = |from: usize| Some((Class::Word, run(from, &is_part)));
    let other = |length: usize| Some((Class::Other, length));
    match at(0) {
        0 => None,
        // 0x0b is white space only after other white space.
        b' ' | b'\t' | b'\n' | 0x0c | b'\r' => Some((Class::Space, run(1, &is_space))),
        b'-' if at(1) == b'-' => Some((Class::Comment, run(2, &|byte| byte != b'\n' && byte != 0))),
        b'-' if at(1) == b'>' => other(2 + usize::from(at(2) == b'>')),
        b'/' if at(1) == b'*' && at(2) != 0 => {
            let mut place = 3;
            let mut last = at(2);
            while last != 0 && !(last == b'*' && at(place) == b'/') {
                last = at(place);
                place += usize::from(last != 0);
            }
            Some((Class::Comment, place + usize::from(last != 0)))
        }
        b'=' => other(1 + usize::from(at(1) == b'=')),
        b'<' => other(1 + usize::from(matches!(at(1), b'=' | b'>' | b'<'))),
        b'>' => other(1 + usize::from(matches!(at(1), b'=' | b'>'))),
        b'!' if at(1) == b'=' => other(2),
        b'|' => other(1 + usize::from(at(1) == b'|')),
        b'-' | b'/' | b'(' | b')' | b';' | b'+' | b'*' | b'%' | b',' | b'&' | b'~' => other(1),
        quote @ (b'`' | b'"' | b'\'') => Some(quoted(text, quote)),
        b'[' => {
            let end = run(1, &|byte| byte != b']' && byte != 0);
            Some(if at(end) == 0 { (Class::Illegal, end) } else { (Class::Quoted, end + 1) })
        }
        b'.' if !at(1).is_ascii_digit() => other(1),
        b'0'..=b'9' | b'.' => Some(number(text)),
        b'?' => other(run(1, &|byte| byte.is_ascii_digit())),
        b'$' | b'@' | b':' | b'#' => Some(variable(text)),
        b'x' | b'X' if at(1) == b'\'' => {
            let digits = run(2, &|byte| byte.is_ascii_hexdigit());
            let end = run(digits, &|byte| byte != b'\'' && byte != 0);
            let whole = end == digits && digits % 2 == 0 && at(end) != 0;
            let class = if whole { Class::Other } else { Class::Illegal };
            Some((class, end + usize::from(at(end) != 0)))
        }
        0xef if at(1) == 0xbb && at(2) == 0xbf => Some((Class::Space, 3)),
        byte if is_part(byte) => word(1),
        _ => Some((Class::Illegal, 1)),
    }
}

/// A text, or a name in quotes. Inside, a quote is doubled.
fn quoted(text: &[u8], quote: u8) -> (Class, usize) {
    let at = |place: usize| text.get(place).copied().unwrap_or(0);
    let mut place = 1;
    while at(place) != 0 {
        if at(place) == quote {
            if at(place + 1) != quote {
                let class = if quote == b'\'' { Class::Text } else { Class::Quoted };
                return (class, place + 1);
            }
            place += 1;
        }
        place += 1;
    }
    (Class::Illegal, place)
}

fn number(text: &[u8]) -> (Class, usize) {
    let at = |place: usize| text.get(place).copied().unwrap_or(0);
    let run = |mut from: usize, is_digit: &dyn Fn(u8) -> bool| {
        while is_digit(at(from)) || at(from) == b'_' {
            from += 1;
        }
        from
    };
    let decimal = |byte: u8| byte.is_ascii_digit();
    let mut end;
    if at(0) == b'0' && matches!(at(1), b'x' | b'X') && at(2).is_ascii_hexdigit() {
        end = run(3, &|byte| byte.is_ascii_hexdigit());
    } else {
        end = run(0, &decimal);
        if at(end) == b'.' {
            end = run(end + 1, &decimal);
        }
        let sign = usize::from(matches!(at(end + 1), b'+' | b'-'));
        if matches!(at(end), b'e' | b'E') && at(end + 1 + sign).is_ascii_digit() {
            end = run(end + 2, &decimal);
        }
    }
    let digits = end;
    while is_part(at(end)) {
        end += 1;
    }
    (if end > digits { Class::Illegal } else { Class::Other }, end)
}

/// `:name`, `@name`, `$name`, `#name`, and the forms of Tcl: `$a::b(c)`.
fn variable(text: &[u8]) -> (Class, usize) {
    let at = |place: usize| text.get(place).copied().unwrap_or(0);
    let (mut place, mut letters) = (1, 0);
    let mut class = Class::Other;
    loop {
        match at(place) {
            0 => break,
            byte if is_part(byte) => letters += 1,
            b'(' if letters > 0 => {
                place += 1;
                while !matches!(at(place), 0 | b')') && !is_space(at(place)) {
                    place += 1;
                }
                if at(place) == b')' {
                    place += 1
                } else {
                    class = Class::Illegal
                }
                break;
            }
            b':' if at(place + 1) == b':' => place += 1,
            _ => break,
        }
        place += 1;
    }
    (if letters == 0 { Class::Illegal } else { class }, place)
}

#[cfg(test)]
#[path = "tokens_test.rs"]
mod tests;
