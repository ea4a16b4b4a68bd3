//! Where a statement orders its rows otherwise than on SQLite, although both take it.

use std::collections::{BTreeMap, BTreeSet};

use super::CHECKING;
use super::keys::{Key, keys};
use super::node_tree::Value;
use crate::postgres::session::Session;
use crate::postgres::sql_pieces::{Piece, Pieces};
use crate::store::StoreError;

/// A column by which a statement orders its rows otherwise than on SQLite.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum OtherOrder {
    /// It may be NULL, and the statement does not say where NULLs come. SQLite puts them before all
    /// values, and PostgreSQL behind them.
    Nulls {
        /// The table.
        table: String,
        /// Its column.
        column: String,
    },
    /// Its texts are compared by a collation, and on SQLite by their bytes.
    Collation {
        /// The table.
        table: String,
        /// Its column.
        column: String,
        /// The name of the collation: `default` for the database's own.
        collation: String,
    },
}

/// What a column is called, whether it is NOT NULL, and the name of its collation if that does not
/// compare bytes. The server's own is asked by an example, because its providers differ.
const COLUMNS: &str = "SELECT c.relname::text, a.attname::text, a.attnotnull, CASE WHEN CASE l.collprovider WHEN 'd' THEN 'a' < 'B' \
     ELSE coalesce(l.collcollate, to_jsonb(l) ->> 'colllocale', '') NOT IN ('C', 'POSIX', 'C.UTF-8', 'C.utf8') END THEN l.collname::text END \
     FROM unnest($1::oid[], $2::int2[]) WITH ORDINALITY AS wanted (oid, number, place) JOIN pg_class AS c USING (oid) \
     JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = wanted.number LEFT JOIN pg_collation AS l ON l.oid = a.attcollation ORDER BY place";

/// Whether an operator sorts from the greatest on.
const OPERATORS: &str = "SELECT amopopr, bool_and(amopstrategy = 5) FROM pg_amop AS o JOIN pg_am AS m ON m.oid = o.amopmethod \
     WHERE amname = 'btree' AND amopstrategy IN (1, 5) AND amopopr = ANY ($1) GROUP BY amopopr";

/// The body of the function that a statement was made.
const BODY: &str = "SELECT prosqlbody::text FROM pg_proc WHERE proname = $1 AND pronamespace = 'verger'::regnamespace";

/// By which columns a statement orders otherwise. It is the body of the function of this name.
pub(super) fn other_orders(
    session: &mut Session,
    function: &str,
    sql: &str,
) -> Result<BTreeSet<OtherOrder>, StoreError> {
    let mut others = BTreeSet::new();
    let body = session.first(CHECKING, BODY, &[&function])?;
    let body = body.and_then(|row| row.get::<_, Option<String>>(0)).unwrap_or_default();
    let Some(tree) = Value::read(&body) else { return Ok(others) };
    let keys = keys(&tree);
    let with_columns = || keys.iter().filter_map(|key| Some((key, key.column.as_ref()?)));
    let (tables, numbers): (Vec<u32>, Vec<i16>) =
        with_columns().map(|(_, column)| (column.table, column.number)).unzip();
    if tables.is_empty() {
        return Ok(others);
    }
    let rows = session.query(CHECKING, COLUMNS, &[&tables, &numbers])?;
    let strict = strict(session, &keys)?;
    let silent = silent(session, &keys, sql)?;
    for (row, (key, of)) in rows.iter().zip(with_columns()) {
        let (table, column, is_not_null, collation): (String, String, bool, Option<String>) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        let has_nulls = !(of.is_not_null
            || (is_not_null && !of.may_be_missing)
            || of.conditions.iter().any(|function| strict.contains(function)));
        if has_nulls && silent.contains(&(key.operator, key.nulls_first)) {
            others.insert(OtherOrder::Nulls { table: table.clone(), column: column.clone() });
        }
        if let Some(collation) = collation {
            others.insert(OtherOrder::Collation { table, column, collation });
        }
    }
    Ok(others)
}

/// Which functions of conditions let no NULL through.
fn strict(session: &mut Session, keys: &[Key]) -> Result<BTreeSet<u32>, StoreError> {
    let columns = keys.iter().filter_map(|key| key.column.as_ref());
    let functions: Vec<u32> =
        columns.flat_map(|column| column.conditions.iter().copied()).collect();
    let sql = "SELECT oid FROM pg_proc WHERE proisstrict AND oid = ANY ($1)";
    let rows = session.query(CHECKING, sql, &[&functions])?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The ways to sort, by operator and whether NULLs come first, of which the statement does not say
/// where NULLs come. The tree has the same for `a` and `a NULLS LAST`. So if the text says it more
/// often than the tree shows, nobody knows of which, and none is named.
fn silent(
    session: &mut Session,
    keys: &[Key],
    sql: &str,
) -> Result<BTreeSet<(u32, bool)>, StoreError> {
    let operators: Vec<u32> = keys.iter().map(|key| key.operator).collect();
    let rows = session.query(CHECKING, OPERATORS, &[&operators])?;
    let falls: BTreeMap<u32, bool> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let ways = keys.iter().map(|key| (key.operator, key.nulls_first));
    // The server puts NULLs behind all values.
    let (usual, said): (Vec<_>, Vec<_>) = ways.partition(|(operator, nulls_first)| {
        *nulls_first == falls.get(operator).copied().unwrap_or_default()
    });
    Ok(match said.len() == times_it_says_nulls(sql) {
        true => usual.into_iter().collect(),
        false => BTreeSet::new(),
    })
}

/// How often a text has NULLS FIRST or NULLS LAST.
fn times_it_says_nulls(sql: &str) -> usize {
    let words: Vec<Option<&str>> = Pieces(sql)
        .filter(|piece| !matches!(piece, Piece::Blank(_)))
        .map(|piece| match piece {
            Piece::Word(word) => Some(word),
            _ => None,
        })
        .collect();
    let is = |word: Option<&str>, known: &[&str]| {
        word.is_some_and(|word| known.iter().any(|known| word.eq_ignore_ascii_case(known)))
    };
    words.windows(2).filter(|two| is(two[0], &["nulls"]) && is(two[1], &["first", "last"])).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_text_says_of_nulls_is_counted() {
        for (sql, times) in [
            ("SELECT 1 FROM t ORDER BY a", 0),
            ("SELECT 1 FROM t ORDER BY a NULLS FIRST, b DESC nulls /* x */ Last", 2),
            ("SELECT 'NULLS FIRST', \"nulls\" first FROM t -- NULLS LAST", 0),
        ] {
            assert_eq!(times_it_says_nulls(sql), times, "{sql}");
        }
    }
}
