//! How the rows of a tenant are found for a worker's statement: which of its terms an index of the
//! app's table answers.
//!
//! Only those are sent on. A term that no index answers is left to SQLite, which computes it on
//! what the walls let through: on rows of the tenant. So whatever a worker sends, what is computed
//! on rows of others is a look into an index, for a value that was computed before.

mod access_path;
mod query;

use self::access_path::AccessPath;
pub(super) use self::query::{Query, STOPS_EARLY, columns_of};
use super::table::{Direction, Key, Table, quoted};

/// A term `column op value` that SQLite offers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Term {
    /// None is the rowid.
    pub(super) column: Option<usize>,
    pub(super) op: Op,
    /// The value is written in the statement: it comes from no column that has a type.
    pub(super) is_literal: bool,
    /// The comparison is by the column's own rule.
    pub(super) collates: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Equal,
    Is,
    IsNull,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

/// A term `ORDER BY column`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    pub(super) column: Option<usize>,
    pub(super) direction: Direction,
}

/// What one read will do.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) query: Query,
    /// The terms whose values it takes, in the order of its parameters from the second on; and
    /// whether SQLite need not look at them again.
    pub(super) takes: Vec<(usize, bool)>,
    pub(super) is_ordered: bool,
    /// At most one row comes.
    pub(super) is_one: bool,
    pub(super) cost: f64,
    pub(super) rows: i64,
}

/// Chooses the cheapest path to the rows, and writes the statement that takes it.
pub(super) fn plan(table: &Table, terms: &[Term], order: &[Order], used: u64) -> Plan {
    let alias = match &table.key {
        Key::Rowid { alias, .. } => *alias,
        Key::Columns(_) | Key::None => None,
    };
    // The column that is the rowid is called by that.
    let place = |column: Option<usize>| column.filter(|_| column != alias);
    let cost = |path: &AccessPath<'_>| {
        let sort = if order.is_empty() || path.is_ordered(order, &place) {
            0.0
        } else {
            path.rows * path.rows.max(2.0).log2()
        };
        path.visits * 1.5 + sort
    };
    let mut best = AccessPath::scan(table);
    for path in AccessPath::by_keys(table, terms, &place) {
        if cost(&path) < cost(&best) {
            best = path;
        }
    }
    written(table, &best, order, &place, used)
}

fn written(
    table: &Table,
    path: &AccessPath<'_>,
    order: &[Order],
    place: &impl Fn(Option<usize>) -> Option<usize>,
    used: u64,
) -> Plan {
    let called = |column: Option<usize>| match (column, &table.key) {
        (Some(column), _) => table.column(column),
        (None, Key::Rowid { name, .. }) => format!("t.{}", quoted(name)),
        (None, _) => "NULL".to_string(),
    };
    let mut terms = String::new();
    let (mut kinds, mut takes) = (String::new(), Vec::new());
    for (number, (term, asked)) in path.takes.iter().enumerate() {
        let column = place(asked.column);
        let op = match asked.op {
            Op::Equal => "=",
            Op::Is | Op::IsNull => "IS",
            Op::Less => "<",
            Op::LessEqual => "<=",
            Op::Greater => ">",
            Op::GreaterEqual => ">=",
        };
        terms.push_str(&format!(" AND {} {op} ?{}", called(column), number + 2));
        let is_exact = asked.is_literal
            || column.is_none_or(|column| table.columns[column].affinity.is_numeric());
        kinds.push(if is_exact { '.' } else { 't' });
        takes.push((*term, is_exact));
    }
    let is_ordered = !order.is_empty() && path.is_ordered(order, place);
    let order_by = if is_ordered {
        let by: Vec<String> = order
            .iter()
            .map(|term| {
                let down = if term.direction == Direction::Descending { " DESC" } else { "" };
                format!("{}{down}", called(place(term.column)))
            })
            .collect();
        format!(" ORDER BY {}", by.join(", "))
    } else {
        String::new()
    };
    let mut selected = match &table.key {
        Key::Rowid { .. } => vec![called(None)],
        Key::Columns(parts) => parts.iter().map(|part| table.column(*part)).collect(),
        Key::None => Vec::new(),
    };
    selected.extend(columns_of(table, used).map(|column| table.column(column)));
    if selected.is_empty() {
        selected.push("NULL".to_string());
    }
    let select = Query::select(&selected.join(", "), &table.base(), &table.is_the_tenants());
    let is_exact = takes.iter().all(|(_, is_exact)| *is_exact);
    let query = Query { used, select, hint: path.hint.clone(), terms, order: order_by, kinds };
    Plan {
        query,
        takes,
        is_ordered,
        is_one: path.is_one && is_exact,
        cost: path.visits * 1.5 + 3.0,
        rows: path.rows as i64,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use rusqlite::Connection;

    use super::*;

    fn table() -> Table {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE orders (id INTEGER PRIMARY KEY, org TEXT, state TEXT, code TEXT COLLATE NOCASE UNIQUE, n INTEGER);
                 CREATE INDEX of_org ON orders (org, state, n DESC);",
            )
            .unwrap();
        Table::read(&connection, "orders", "org").unwrap().unwrap()
    }

    fn term(column: usize, op: Op) -> Term {
        Term { column: Some(column), op, is_literal: false, collates: true }
    }

    fn sql(terms: &[Term], order: &[Order]) -> String {
        plan(&table(), terms, order, 0b10000).query.sql(|_| true)
    }

    #[test]
    fn a_term_goes_on_only_where_an_index_answers_it() {
        let read = "SELECT t.\"id\", t.\"n\" FROM main.\"orders\" AS t";
        for (terms, expected) in [
            (vec![], " INDEXED BY \"of_org\" WHERE t.\"org\" = ?1"),
            (vec![term(0, Op::Equal)], " NOT INDEXED WHERE t.\"org\" = ?1 AND t.\"id\" = ?2"),
            (vec![term(4, Op::Equal)], " INDEXED BY \"of_org\" WHERE t.\"org\" = ?1"),
            (
                vec![term(4, Op::Less), term(2, Op::Equal)],
                " INDEXED BY \"of_org\" WHERE t.\"org\" = ?1 AND t.\"state\" = ?2 AND t.\"n\" < ?3",
            ),
            (
                vec![term(3, Op::Equal)],
                " INDEXED BY \"sqlite_autoindex_orders_1\" WHERE t.\"org\" = ?1 AND t.\"code\" = ?2",
            ),
        ] {
            assert_eq!(sql(&terms, &[]), format!("{read}{expected}"));
        }
    }

    #[test]
    fn a_number_is_looked_up_in_text_by_sqlite_alone() {
        let plan = plan(&table(), &[term(2, Op::Equal)], &[], 0);
        assert!(plan.query.sql(|_| true).contains("\"state\" = ?2"));
        assert!(!plan.query.sql(|_| false).contains("?2"));
        assert!(!plan.takes[0].1, "SQLite looks again");
        let read = Query::read(&plan.query.write()).unwrap();
        assert_eq!(read, plan.query);
        assert_eq!(Query::kinds(plan.query.write().as_bytes()), b"t");
    }

    #[test]
    fn an_order_is_kept_where_an_index_has_it() {
        let by = |column, direction| Order { column: Some(column), direction };
        let state = [by(2, Direction::Ascending), by(4, Direction::Descending)];
        assert!(sql(&[], &state).ends_with(" ORDER BY t.\"state\", t.\"n\" DESC"));
        let back = [by(2, Direction::Descending), by(4, Direction::Ascending)];
        assert!(sql(&[], &back).ends_with(" ORDER BY t.\"state\" DESC, t.\"n\""));
        let mixed = [by(2, Direction::Ascending), by(4, Direction::Ascending)];
        assert!(!sql(&[], &mixed).contains("ORDER BY"));
        assert!(sql(&[term(2, Op::Equal)], &[by(4, Direction::Ascending)]).ends_with("\"n\""));
    }
}
