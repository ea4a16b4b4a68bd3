//! A statement split where quotes and comments begin and end, as the server splits it.

/// One piece of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'s> {
    /// A comment, or blanks.
    Blank(&'s str),
    /// `'…'`.
    Text(&'s str),
    /// A text in one of the server's own ways: `E'…'`, `$…$…$…$`.
    OwnText(&'s str),
    /// `"…"`.
    Quoted(&'s str),
    Word(&'s str),
    /// `?`, or `?` and a number.
    Mark(&'s str),
    Other(&'s str),
}

/// A statement, piece by piece.
pub(super) struct Pieces<'s>(pub(super) &'s str);

impl<'s> Iterator for Pieces<'s> {
    type Item = Piece<'s>;

    fn next(&mut self) -> Option<Piece<'s>> {
        let first = self.0.chars().next()?;
        // As the server splits: every character beyond ASCII is a part of a word.
        let is_word = |char: char| {
            char.is_ascii_alphanumeric() || char == '_' || char == '$' || !char.is_ascii()
        };
        let (length, make): (usize, fn(&'s str) -> Piece<'s>) = match first {
            '\'' => (quoted(self.0, first), Piece::Text),
            '"' => (quoted(self.0, first), Piece::Quoted),
            '-' if self.0.starts_with("--") => {
                (self.0.find(['\n', '\r']).unwrap_or(self.0.len()), Piece::Blank)
            }
            '/' if self.0.starts_with("/*") => (comment(self.0), Piece::Blank),
            '$' => match dollar_quoted(self.0) {
                Some(length) => (length, Piece::OwnText),
                None => (1 + digits(&self.0[1..]), Piece::Other),
            },
            '?' => (1 + digits(&self.0[1..]), Piece::Mark),
            ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c' => (1, Piece::Blank),
            'e' | 'E' if self.0[1..].starts_with('\'') => (escaped(self.0), Piece::OwnText),
            letter if is_word(letter) => {
                (self.0.find(|char| !is_word(char)).unwrap_or(self.0.len()), Piece::Word)
            }
            other => (other.len_utf8(), Piece::Other),
        };
        let (piece, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(make(piece))
    }
}

/// The length of a quoted text. A doubled quote stands for itself.
fn quoted(sql: &str, quote: char) -> usize {
    let mut from = 1;
    loop {
        match sql[from..].find(quote) {
            None => return sql.len(),
            Some(at) => {
                from += at + 1;
                if !sql[from..].starts_with(quote) {
                    return from;
                }
                from += 1;
            }
        }
    }
}

/// The length of `E'…'`, in which a backslash takes the next character with it.
fn escaped(sql: &str) -> usize {
    let mut chars = sql.char_indices().skip(2).peekable();
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => drop(chars.next()),
            '\'' if chars.peek().is_some_and(|(_, next)| *next == '\'') => drop(chars.next()),
            '\'' => return at + 1,
            _ => {}
        }
    }
    sql.len()
}

/// The length of a comment. Comments nest on this server.
fn comment(sql: &str) -> usize {
    let (mut depth, mut at) = (0_u32, 0);
    while let Some(rest) = sql.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    sql.len()
}

/// The length of the digits that a text begins with.
fn digits(sql: &str) -> usize {
    sql.bytes().take_while(u8::is_ascii_digit).count()
}

/// The length of `$tag$ … $tag$`, if the text begins with that.
fn dollar_quoted(sql: &str) -> Option<usize> {
    let is_tag = |char: char| char.is_ascii_alphanumeric() || char == '_' || !char.is_ascii();
    let tag = sql[1..].find(|char| !is_tag(char)).map_or(sql.len(), |at| at + 1);
    let is_quote =
        sql[tag..].starts_with('$') && !sql[1..tag].starts_with(|char: char| char.is_ascii_digit());
    let (quote, rest) = sql.split_at_checked(tag + 1).filter(|_| is_quote)?;
    Some(rest.find(quote).map_or(sql.len(), |at| quote.len() + at + quote.len()))
}
