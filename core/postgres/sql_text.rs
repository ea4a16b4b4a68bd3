//! A worker's SQL in the words of this server: `?1` is `$1`, and `IS ?1` compares NULLs too.
//!
//! The text is split where quotes and comments begin and end, so that nothing inside them is
//! touched. Everything else stays as it is. What the server thinks of it is the server's word, not
//! this file's.

use super::sql_pieces::{Piece, Pieces};

/// The statement with parameters as the server names them. `is_null` says which of them are NULL.
///
/// The server uses no index for `IS NOT DISTINCT FROM`. Where a condition of a WHERE must hold and
/// its value is not NULL, `=` says the same: what would be NULL is not true either.
pub(super) fn translated(sql: &str, is_null: &dyn Fn(u32) -> bool) -> String {
    let mut out = String::with_capacity(sql.len() + 16);
    let mut greatest = 0_u32;
    let pieces: Vec<Piece<'_>> = Pieces(sql).collect();
    let mut conditions = Conditions::default();
    let mut before = None;
    let mut place = 0;
    while let Some(piece) = pieces.get(place) {
        place += 1;
        if !matches!(piece, Piece::Blank(_)) {
            conditions.take(piece, before.replace(piece));
        }
        match piece {
            Piece::Mark(mark) => {
                let number = number(mark, greatest);
                greatest = greatest.max(number);
                out.push_str(&format!("${number}"));
            }
            Piece::Word(word) if word.eq_ignore_ascii_case("is") => {
                let (is_not, next) = after_is(&pieces, place);
                let Some(Piece::Mark(mark)) = pieces.get(next) else {
                    out.push_str(word);
                    continue;
                };
                let must_hold =
                    conditions.must_hold(&pieces[..place - 1]) && ends_there(&pieces[next + 1..]);
                out.push_str(match is_not {
                    true => "IS DISTINCT FROM ",
                    false if must_hold && !is_null(number(mark, greatest)) => "= ",
                    false => "IS NOT DISTINCT FROM ",
                });
                place = next;
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

/// The number of a mark. As SQLite counts, one without a number has one more than the greatest
/// before.
fn number(mark: &str, greatest: u32) -> u32 {
    mark[1..].parse().unwrap_or_else(|_| greatest.saturating_add(1))
}

fn is_one_of(word: &str, known: &[&str]) -> bool {
    known.iter().any(|known| word.eq_ignore_ascii_case(known))
}

/// What may follow a condition.
const AFTER_CONDITION: [&str; 12] = [
    "and",
    "or",
    "order",
    "group",
    "having",
    "limit",
    "offset",
    "returning",
    "union",
    "intersect",
    "except",
    "for",
];

/// What ends a WHERE, and what begins something else than one.
const NO_WHERE: [&str; 14] = [
    "select",
    "from",
    "set",
    "on",
    "group",
    "having",
    "order",
    "limit",
    "offset",
    "returning",
    "union",
    "intersect",
    "except",
    "window",
];

/// Whether a condition ends where these pieces begin.
fn ends_there(after: &[Piece<'_>]) -> bool {
    match after.iter().find(|piece| !matches!(piece, Piece::Blank(_))) {
        None | Some(Piece::Other(")" | ";")) => true,
        Some(Piece::Word(word)) => is_one_of(word, &AFTER_CONDITION),
        Some(_) => false,
    }
}

/// Where in a statement one is: a level for each open parenthesis and CASE.
struct Conditions(Vec<Level>);

#[derive(Clone, Copy, Default)]
struct Level {
    is_case: bool,
    /// Directly in a WHERE.
    is_where: bool,
    /// A BETWEEN waits for its AND.
    is_between: bool,
    /// Behind a NOT or a BETWEEN, up to the next condition.
    is_unsure: bool,
}

impl Default for Conditions {
    fn default() -> Self {
        Self(vec![Level::default()])
    }
}

impl Conditions {
    fn take(&mut self, piece: &Piece<'_>, before: Option<&Piece<'_>>) {
        // The name of a column, or one that is given.
        let is_name = match before {
            Some(Piece::Other(".")) => true,
            Some(Piece::Word(word)) => word.eq_ignore_ascii_case("as"),
            _ => false,
        };
        match piece {
            Piece::Other("(") => self.0.push(Level::default()),
            Piece::Other(")") => {
                while self.0.len() > 1 && self.0.pop().is_some_and(|level| level.is_case) {}
            }
            Piece::Word(word) if !is_name => self.word(&word.to_ascii_lowercase()),
            _ => {}
        }
    }

    fn word(&mut self, word: &str) {
        let is_case = self.0.last().is_some_and(|level| level.is_case);
        match word {
            "case" => self.0.push(Level { is_case: true, ..Level::default() }),
            "end" if is_case => drop(self.0.pop()),
            word => {
                let Some(level) = self.0.last_mut() else { return };
                match word {
                    "where" => *level = Level { is_where: true, ..*level },
                    "not" => level.is_unsure = true,
                    "between" => level.is_between = true,
                    "and" => {
                        level.is_unsure = level.is_between;
                        level.is_between = false;
                    }
                    "or" => (level.is_unsure, level.is_between) = (false, false),
                    word if NO_WHERE.contains(&word) => {
                        *level = Level { is_case, ..Level::default() }
                    }
                    _ => {}
                }
            }
        }
    }

    /// Whether a condition that begins with these last pieces, a column's name, must hold for a row
    /// to be taken.
    fn must_hold(&self, before: &[Piece<'_>]) -> bool {
        let mut before = before.iter().rev().filter(|piece| !matches!(piece, Piece::Blank(_)));
        let is_name =
            |piece: Option<&Piece<'_>>| matches!(piece, Some(Piece::Word(_) | Piece::Quoted(_)));
        let is_sure = self.0.last().is_some_and(|level| level.is_where && !level.is_unsure);
        if !is_sure || !is_name(before.next()) {
            return false;
        }
        let mut piece = before.next();
        while piece == Some(&Piece::Other(".")) {
            if !is_name(before.next()) {
                return false;
            }
            piece = before.next();
        }
        matches!(piece, Some(Piece::Word(word)) if is_one_of(word, &["where", "and"]))
    }
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
        matches!(piece, Some(Piece::Word(word)) if is_one_of(word, words))
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
            assert_eq!(translated(sql, &|_| true), expected);
        }
    }

    #[test]
    fn a_condition_that_must_hold_is_an_equality() {
        for (sql, expected) in [
            ("DELETE FROM t WHERE id IS ?1", "DELETE FROM t WHERE id = $1"),
            (
                "UPDATE t SET a = 1 WHERE x = 2 AND t.\"id\" IS ?1 AND b IS ?",
                "UPDATE t SET a = 1 WHERE x = 2 AND t.\"id\" = $1 AND b = $2",
            ),
            (
                "SELECT (SELECT 1 FROM u WHERE u.id IS ?1)",
                "SELECT (SELECT 1 FROM u WHERE u.id = $1)",
            ),
            (
                "SELECT 1 FROM t WHERE a OR b AND id IS ?1",
                "SELECT 1 FROM t WHERE a OR b AND id = $1",
            ),
            // Where NULL and false differ, or it is not known.
            ("SELECT id IS ?1 FROM t", "SELECT id IS NOT DISTINCT FROM $1 FROM t"),
            (
                "SELECT 1 FROM t WHERE NOT id IS ?1",
                "SELECT 1 FROM t WHERE NOT id IS NOT DISTINCT FROM $1",
            ),
            (
                "SELECT 1 FROM t WHERE NOT (a AND id IS ?1)",
                "SELECT 1 FROM t WHERE NOT (a AND id IS NOT DISTINCT FROM $1)",
            ),
            (
                "SELECT 1 FROM t WHERE (id IS ?1) = 0",
                "SELECT 1 FROM t WHERE (id IS NOT DISTINCT FROM $1) = 0",
            ),
            (
                "SELECT 1 FROM t WHERE CASE WHEN a AND id IS ?1 THEN 1 END",
                "SELECT 1 FROM t WHERE CASE WHEN a AND id IS NOT DISTINCT FROM $1 THEN 1 END",
            ),
            (
                "SELECT 1 FROM t WHERE a ORDER BY b AND id IS ?1",
                "SELECT 1 FROM t WHERE a ORDER BY b AND id IS NOT DISTINCT FROM $1",
            ),
            (
                "SELECT 1 FROM t WHERE a + id IS ?1",
                "SELECT 1 FROM t WHERE a + id IS NOT DISTINCT FROM $1",
            ),
            (
                "SELECT 1 FROM t WHERE a BETWEEN 1 AND 2 AND id IS ?1",
                "SELECT 1 FROM t WHERE a BETWEEN 1 AND 2 AND id = $1",
            ),
            (
                "SELECT 1 FROM t WHERE NOT a AND t.end > 1 AND id IS ?1",
                "SELECT 1 FROM t WHERE NOT a AND t.end > 1 AND id = $1",
            ),
            (
                "SELECT 1 FROM t WHERE NOT (t.end IS NULL AND id IS ?1)",
                "SELECT 1 FROM t WHERE NOT (t.end IS NULL AND id IS NOT DISTINCT FROM $1)",
            ),
            (
                "SELECT 1 FROM t WHERE NOT id BETWEEN 1 AND id IS ?1",
                "SELECT 1 FROM t WHERE NOT id BETWEEN 1 AND id IS NOT DISTINCT FROM $1",
            ),
            (
                "SELECT 1 FROM t WHERE NOT (t . /* x */ where AND id IS ?1)",
                "SELECT 1 FROM t WHERE NOT (t . /* x */ where AND id IS NOT DISTINCT FROM $1)",
            ),
            (
                "SELECT 1 FROM t WHERE id IS ?1 IS NULL",
                "SELECT 1 FROM t WHERE id IS NOT DISTINCT FROM $1 IS NULL",
            ),
            (
                "SELECT 1 FROM t WHERE id IS ?1 + 1",
                "SELECT 1 FROM t WHERE id IS NOT DISTINCT FROM $1 + 1",
            ),
            ("SELECT 1 FROM t WHERE id IS NOT ?1", "SELECT 1 FROM t WHERE id IS DISTINCT FROM $1"),
            ("SELECT 1 FROM t WHERE id IS ?2", "SELECT 1 FROM t WHERE id IS NOT DISTINCT FROM $2"),
        ] {
            assert_eq!(translated(sql, &|number| number == 2 && sql.contains("?2")), expected);
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
