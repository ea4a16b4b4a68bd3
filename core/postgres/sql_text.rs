//! A worker's SQL in the words of this server: `?1` is `$1`, and `IS ?1` compares NULLs too.
//!
//! The text is split where quotes and comments begin and end, so that nothing inside them is
//! touched. Everything else stays as it is. What the server thinks of it is the server's word, not
//! this file's.

/// One piece of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece<'s> {
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

/// The statement with parameters as the server names them.
pub(super) fn translated(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len() + 16);
    let mut greatest = 0_u32;
    let pieces: Vec<Piece<'_>> = Pieces(sql).collect();
    let mut place = 0;
    while let Some(piece) = pieces.get(place) {
        place += 1;
        match piece {
            // As SQLite counts: one more than the greatest before.
            Piece::Mark(mark) => {
                let number = mark[1..].parse().unwrap_or_else(|_| greatest.saturating_add(1));
                greatest = greatest.max(number);
                out.push_str(&format!("${number}"));
            }
            Piece::Word(word) if word.eq_ignore_ascii_case("is") => {
                let (is_not, next) = after_is(&pieces, place);
                if matches!(pieces.get(next), Some(Piece::Mark(_))) {
                    out.push_str(if is_not {
                        "IS DISTINCT FROM "
                    } else {
                        "IS NOT DISTINCT FROM "
                    });
                    place = next;
                } else {
                    out.push_str(word);
                }
            }
            Piece::Blank(text)
            | Piece::Text(text)
            | Piece::OwnText(text)
            | Piece::Quoted(text)
            | Piece::Word(text)
            | Piece::Other(text) => out.push_str(text),
        }
    }
    out
}

/// Whether NOT follows, and the place of what stands behind.
fn after_is(pieces: &[Piece<'_>], from: usize) -> (bool, usize) {
    let skip = |mut place: usize| {
        while matches!(pieces.get(place), Some(Piece::Blank(_))) {
            place += 1;
        }
        place
    };
    let next = skip(from);
    match pieces.get(next) {
        Some(Piece::Word(word)) if word.eq_ignore_ascii_case("not") => (true, skip(next + 1)),
        _ => (false, next),
    }
}

/// Whether the statement only reads, as far as its words say, so that it can be read by a cursor.
/// If that is wrong, the server refuses the cursor.
pub(super) fn seems_to_read(sql: &str) -> bool {
    let mut words = words(sql);
    let Some(first) = words.next() else { return false };
    match first.as_str() {
        "select" | "values" => true,
        "with" => {
            !words.any(|word| matches!(word.as_str(), "insert" | "update" | "delete" | "merge"))
        }
        _ => false,
    }
}

/// Whether a SELECT would make a table: `SELECT … INTO`, which the server's grammar lets through
/// where it takes statements on rows. INTO may stand only behind an INSERT or a MERGE that begins a
/// statement.
pub(super) fn selects_into(sql: &str) -> bool {
    let is_blank = |piece: &Piece<'_>| matches!(piece, Piece::Blank(_));
    let pieces: Vec<Piece<'_>> = Pieces(sql).filter(|piece| !is_blank(piece)).collect();
    let is_word = |place: Option<usize>, words: &[&str]| {
        let piece = place.and_then(|place| pieces.get(place));
        matches!(piece, Some(Piece::Word(word)) if words.iter().any(|known| word.eq_ignore_ascii_case(known)))
    };
    (0..pieces.len()).any(|place| {
        if !is_word(Some(place), &["into"]) {
            return false;
        }
        let verb = place.checked_sub(1);
        let before = place.checked_sub(2).and_then(|before| pieces.get(before));
        let begins = matches!(before, None | Some(Piece::Other("(" | ")")));
        !(begins && is_word(verb, &["insert", "merge"]))
    })
}

/// Whether there is nothing to do.
pub(super) fn is_empty(sql: &str) -> bool {
    Pieces(sql).all(|piece| matches!(piece, Piece::Blank(_) | Piece::Other(";")))
}

fn words(sql: &str) -> impl Iterator<Item = String> + '_ {
    Pieces(sql).filter_map(|piece| match piece {
        Piece::Word(word) => Some(word.to_ascii_lowercase()),
        _ => None,
    })
}

struct Pieces<'s>(&'s str);

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_parameters_are_translated() {
        for (sql, expected) in [
            ("SELECT ?1, ?2", "SELECT $1, $2"),
            ("SELECT ?, ?", "SELECT $1, $2"),
            ("SELECT '?1', \"?1\", ?1", "SELECT '?1', \"?1\", $1"),
            ("SELECT 'it''s ?1' || ?1", "SELECT 'it''s ?1' || $1"),
            ("SELECT ?1 -- ?2\n, ?3", "SELECT $1 -- ?2\n, $3"),
            ("SELECT /* ?1 /* ?2 */ ?3 */ ?4", "SELECT /* ?1 /* ?2 */ ?3 */ $4"),
            ("SELECT $tag$ ?1 $tag$, $$ ?2 $$, $3, ?4", "SELECT $tag$ ?1 $tag$, $$ ?2 $$, $3, $4"),
            (
                "WHERE a IS ?1 AND b IS NOT ?2",
                "WHERE a IS NOT DISTINCT FROM $1 AND b IS DISTINCT FROM $2",
            ),
            ("WHERE a IS  NOT\n NULL AND is_ IS NULL", "WHERE a IS  NOT\n NULL AND is_ IS NULL"),
            ("SELECT 'é?' , ?1 AS été", "SELECT 'é?' , $1 AS été"),
            ("SELECT 'open ?1", "SELECT 'open ?1"),
            ("SELECT E'\\'?1', ?1", "SELECT E'\\'?1', $1"),
            ("SELECT ?2, ?, ?1", "SELECT $2, $3, $1"),
            ("SELECT ?1 --\r ?2", "SELECT $1 --\r $2"),
        ] {
            assert_eq!(translated(sql), expected);
        }
    }

    #[test]
    fn what_a_statement_does_is_told_by_its_words() {
        assert!(seems_to_read("/* x */ SELECT 'insert'"));
        assert!(seems_to_read("WITH a AS (SELECT 1) SELECT * FROM a"));
        assert!(!seems_to_read("WITH a AS (DELETE FROM t RETURNING *) SELECT * FROM a"));
        assert!(!seems_to_read("INSERT INTO t VALUES (1) RETURNING id"));
        for sql in [
            "SELECT 1 INTO TEMP x",
            "SELECT 1 AS insert INTO TEMP x",
            "SELECT t.merge INTO x FROM t",
            "SELECT 1 --\r INTO TEMP x",
            "SELECT E'\\'' INTO TEMP x --'",
        ] {
            assert!(selects_into(sql), "{sql}");
        }
        assert!(!selects_into("WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a"));
        assert!(!selects_into("INSERT INTO t SELECT 'into'"));
        assert!(is_empty(" -- nothing\n ; /* at all */"));
        assert!(!is_empty("SELECT 1"));
    }
}
