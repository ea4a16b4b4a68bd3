//! How large a statement becomes when SQLite puts the queries of its WITH clauses where they are
//! named.
//!
//! SQLite copies such a query for each mention, and those that the copy mentions again, before it
//! asks anybody or looks at the time. Forty of them, each of which mentions the one before twice,
//! would be a trillion copies. So the copies are counted before SQLite is given the statement. The
//! count may be too high, because it does not tell which of two queries of one name is meant.

use std::collections::HashMap;
use std::ops::Range;

use super::tokens::{Kind, Tokens};

/// The most words that a statement may have with all copies. In a text of the greatest length there
/// are some 30,000. Each takes SQLite some hundred bytes.
const WORDS_MAX: u64 = 200_000;

/// How deep queries may mention each other. It is as deep as an expression may be.
const DEPTH_MAX: usize = 100;

/// The most steps of counting. A person's statement takes a few hundred.
const STEPS_MAX: u32 = 1_000_000;

/// A statement is too large, or it takes too long to tell.
struct TooLarge;

/// A query of a statement that has a name.
struct Query {
    body: Range<usize>,
    words: Words,
}

/// How large a query is with all copies.
#[derive(Clone, Copy)]
enum Words {
    Unknown,
    BeingCounted,
    Counted(u64),
}

struct Count<'t> {
    tokens: &'t Tokens,
    queries: Vec<Query>,
    /// Which queries have a name.
    named: HashMap<&'t str, Vec<usize>>,
    steps: u32,
}

impl Tokens {
    /// Whether the queries of its WITH clauses mention each other so often that the statement is
    /// too large.
    pub(super) fn unfold_too_far(&self) -> bool {
        if !self.has_keyword("with") {
            return false;
        }
        let mut count =
            Count { tokens: self, queries: Vec::new(), named: HashMap::new(), steps: 0 };
        for (name, body) in self.named_queries() {
            count.named.entry(name).or_default().push(count.queries.len());
            count.queries.push(Query { body, words: Words::Unknown });
        }
        !count.queries.is_empty() && count.words_of(0..self.list.len(), 0).is_err()
    }

    /// Where the queries stand: behind `name AS (`, `name (…) AS (`, `name AS MATERIALIZED (` and
    /// `name AS NOT MATERIALIZED (`. The windows of a statement look the same and do no harm.
    fn named_queries(&self) -> Vec<(&str, Range<usize>)> {
        let partners = self.partners();
        let mut queries = Vec::new();
        for place in (1..self.list.len()).filter(|place| self.word(*place) == Some("as")) {
            let mut open = place + 1;
            open += usize::from(self.word(open) == Some("not"));
            open += usize::from(self.word(open) == Some("materialized"));
            let before = match partners.get(&(place - 1)) {
                Some(columns) => columns.checked_sub(1),
                None => Some(place - 1),
            };
            let name = before.and_then(|before| self.list[before].name.as_deref());
            if let (Some(name), Some(close)) = (name, partners.get(&open))
                && *close > open
            {
                queries.push((name, open + 1..*close));
            }
        }
        queries
    }

    /// The other parenthesis of each. One that is not closed is closed by the end.
    fn partners(&self) -> HashMap<usize, usize> {
        let (mut partners, mut open) = (HashMap::new(), Vec::new());
        for (place, token) in self.list.iter().enumerate() {
            match token.kind {
                Kind::Open => open.push(place),
                Kind::Close => {
                    if let Some(partner) = open.pop() {
                        partners.extend([(partner, place), (place, partner)]);
                    }
                }
                _ => {}
            }
        }
        partners.extend(open.into_iter().map(|place| (place, self.list.len())));
        partners
    }

    /// Whether a name in this place may be that of a table.
    fn may_be_table(&self, place: usize) -> bool {
        let Some(before) = place.checked_sub(1) else { return false };
        matches!(self.list[before].kind, Kind::Comma | Kind::Open)
            || matches!(self.word(before), Some("from" | "join" | "in"))
    }
}

impl Count<'_> {
    /// How many words this part has with all copies.
    fn words_of(&mut self, part: Range<usize>, depth: usize) -> Result<u64, TooLarge> {
        if depth > DEPTH_MAX {
            return Err(TooLarge);
        }
        let tokens = self.tokens;
        let mut words = part.len() as u64;
        for place in part {
            self.step()?;
            let name = tokens.list[place].name.as_deref().filter(|_| tokens.may_be_table(place));
            for which in name.and_then(|name| self.named.get(name)).cloned().unwrap_or_default() {
                words += self.words_behind(which, place, depth)?;
                if words > WORDS_MAX {
                    return Err(TooLarge);
                }
            }
        }
        Ok(words)
    }

    /// How many words a mention in this place adds, if it means that query.
    fn words_behind(&mut self, which: usize, place: usize, depth: usize) -> Result<u64, TooLarge> {
        self.step()?;
        let query = &mut self.queries[which];
        if query.body.contains(&place) {
            // A recursive query is not copied into itself.
            return Ok(0);
        }
        match query.words {
            Words::Counted(words) => Ok(words),
            // SQLite takes no circle. With names that mean two queries it may be none, but then
            // what is behind it cannot be counted.
            Words::BeingCounted => Err(TooLarge),
            Words::Unknown => {
                query.words = Words::BeingCounted;
                let body = query.body.clone();
                let words = self.words_of(body, depth + 1)?;
                self.queries[which].words = Words::Counted(words);
                Ok(words)
            }
        }
    }

    fn step(&mut self) -> Result<(), TooLarge> {
        self.steps += 1;
        if self.steps > STEPS_MAX { Err(TooLarge) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unfolds_too_far(sql: &str) -> bool {
        Tokens::of(sql).unfold_too_far()
    }

    /// `levels` queries, each of which mentions the one before so often.
    fn tower(levels: usize, times: usize, mention: impl Fn(usize, usize) -> String) -> String {
        let queries: Vec<String> = (1..=levels)
            .map(|n| {
                let from: Vec<String> = (0..times).map(|time| mention(n - 1, time)).collect();
                format!("w{n} AS (SELECT 1 AS x FROM {})", from.join(", "))
            })
            .collect();
        format!("WITH w0 AS (SELECT 1 AS x), {} SELECT * FROM w{levels}", queries.join(", "))
    }

    #[test]
    fn what_multiplies_is_told_from_what_only_follows_each_other() {
        let plain = |n, time| format!("w{n} AS a{time}");
        assert!(!unfolds_too_far(&tower(90, 1, plain)));
        assert!(!unfolds_too_far(&tower(10, 2, plain)));
        assert!(unfolds_too_far(&tower(40, 2, plain)));
        assert!(unfolds_too_far(&tower(9, 6, plain)));
        assert!(unfolds_too_far(&tower(300, 1, plain)));
        assert!(unfolds_too_far(&tower(40, 2, |n, time| format!("\"W{n}\" a{time}"))));
        assert!(unfolds_too_far(&tower(40, 2, |n, time| format!("(/**/[w{n}]) a{time}"))));
        let inside = |n, _: usize| format!("(SELECT 1 WHERE 1 IN w{n} OR 2 IN (w{n}))");
        assert!(unfolds_too_far(&tower(40, 1, inside)));
        for (from, to) in [
            ("AS (SELECT", "(x) AS (SELECT"),
            ("AS (SELECT", "AS NOT MATERIALIZED (SELECT"),
            ("AS (SELECT", "AS MATERIALIZED (SELECT"),
        ] {
            assert!(unfolds_too_far(&tower(40, 2, plain).replace(from, to)), "{to}");
        }
    }

    #[test]
    fn names_that_mean_two_queries_hide_nothing() {
        let level = |n: usize| {
            format!("y{n} AS (WITH x AS (SELECT 1 FROM y{}) SELECT 1 FROM x a, x b)", n - 1)
        };
        let levels: Vec<String> = (1..=40).map(level).collect();
        let all = levels.join(", ");
        for sql in [
            format!("WITH y0 AS (SELECT 1), {all} SELECT * FROM y40"),
            format!("WITH x AS (SELECT * FROM y40), y0 AS (SELECT 1), {all} SELECT * FROM x"),
        ] {
            assert!(unfolds_too_far(&sql));
        }
    }

    #[test]
    fn what_a_person_writes_is_not_too_large() {
        for sql in [
            "SELECT 1",
            "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 9) SELECT n FROM n",
            "WITH a AS (WITH b AS (SELECT 1) SELECT * FROM b), c AS (WITH b AS (SELECT 2) SELECT * FROM b) SELECT * FROM a, c",
            "SELECT sum(x) OVER w, avg(x) OVER w FROM t WINDOW w AS (ORDER BY y)",
            "WITH w AS (SELECT 1",
        ] {
            assert!(!unfolds_too_far(sql), "{sql}");
        }
    }
}
