//! How the rows of a tenant are found for a worker's statement: which of its terms an index of the
//! app's table answers.
//!
//! Only those are sent on. A term that no index answers is left to SQLite, which computes it on
//! what the walls let through: on rows of the tenant. So whatever a worker sends, what is computed
//! on rows of others is a look into an index, for a value that was computed before.

use super::table::{Direction, Index, Key, Table, quoted};

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

/// The statement of a read, in the parts it is sent from plan to read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Query {
    /// Bit n is column n; the last is it and all after.
    pub(super) used: u64,
    select: String,
    hint: String,
    terms: String,
    order: String,
    /// `t` for a value that has to be text, `.` for any.
    kinds: String,
}

/// Set among the columns that a read uses where it will not go through all rows: they are not
/// counted then. To a table with so many columns it is one that nobody asks for.
pub(super) const STOPS_EARLY: u64 = 1 << 63;

/// Between the parts. With it in the name of a column or an index the statement cannot be read: the
/// read fails.
const BETWEEN: char = '\u{1}';

impl Query {
    /// The statement for these values. A number that is compared with text is converted by rules
    /// that depend on where it comes from: then SQLite compares, on all rows of the tenant.
    pub(super) fn sql(&self, is_text: impl Fn(usize) -> bool) -> String {
        let answers =
            self.kinds.chars().enumerate().all(|(place, kind)| kind == '.' || is_text(place));
        let (columns, rows) = self.parts(answers);
        format!("SELECT {columns} {rows}{}", self.order)
    }

    /// The statement that counts the same rows.
    pub(super) fn count(&self, answers: bool) -> String {
        format!("SELECT count(*) {}", self.parts(answers).1)
    }

    /// The columns it selects, and from which rows.
    fn parts(&self, answers: bool) -> (&str, String) {
        let (hint, terms) =
            if answers { (self.hint.as_str(), self.terms.as_str()) } else { ("", "") };
        let mut parts = self.select.splitn(3, BETWEEN);
        let mut next = || parts.next().unwrap_or_default();
        let (columns, base, whose) = (next(), next(), next());
        (columns, format!("FROM {base}{hint} WHERE {whose}{terms}"))
    }

    pub(super) fn write(&self) -> String {
        let Self { used, select, hint, terms, order, kinds } = self;
        format!(
            "{kinds}{BETWEEN}{used}{BETWEEN}{hint}{BETWEEN}{terms}{BETWEEN}{order}{BETWEEN}{select}"
        )
    }

    pub(super) fn read(text: &str) -> Option<Self> {
        let mut parts = text.splitn(6, BETWEEN).map(str::to_string);
        Some(Self {
            kinds: parts.next()?,
            used: parts.next()?.parse().ok()?,
            hint: parts.next()?,
            terms: parts.next()?,
            order: parts.next()?,
            select: parts.next()?,
        })
    }

    /// Whether a text is one that was written.
    pub(super) fn is_written(text: &str) -> bool {
        text.contains(BETWEEN)
    }

    /// The kinds of the values a written one takes.
    pub(super) fn kinds(text: &[u8]) -> &[u8] {
        text.split(|byte| *byte == 1).next().unwrap_or_default()
    }
}

/// One way to the rows.
struct Way<'t> {
    /// The terms it answers.
    takes: Vec<(usize, &'t Term)>,
    hint: String,
    /// Rows it looks at, and rows that come.
    visits: f64,
    rows: f64,
    is_one: bool,
    /// The order the rows come in, after what is the same for all.
    order: Vec<(Option<usize>, Direction)>,
    /// Columns that are the same for all.
    fixed: Vec<Option<usize>>,
}

/// Rows of a table and of a tenant in it, as long as nobody tells better.
const ROWS: f64 = 1e6;
const TENANTS_ROWS: f64 = 1e3;

pub(super) fn plan(table: &Table, terms: &[Term], order: &[Order], used: u64) -> Plan {
    let (name, alias) = match &table.key {
        Key::Rowid { name, alias } => (Some(name.as_str()), *alias),
        Key::Columns(_) | Key::None => (None, None),
    };
    // The column that is the rowid is called by that.
    let place = |column: Option<usize>| column.filter(|_| column != alias);
    let mut ways = vec![scan(table)];
    if !table.is_view {
        if name.is_some() {
            let parts = [(None, Direction::Ascending)];
            ways.extend(way(table, terms, &place, &parts, true, " NOT INDEXED".to_string()));
        }
        for index in &table.indexes {
            ways.extend(by_index(table, terms, &place, index, name.is_some()));
        }
    }
    let sorts = |way: &Way<'_>| {
        if order.is_empty() || is_ordered(way, order, &place) {
            0.0
        } else {
            way.rows * way.rows.max(2.0).log2()
        }
    };
    let cost = |way: &Way<'_>| way.visits * 1.5 + sorts(way);
    let mut best: Option<Way<'_>> = None;
    for way in ways {
        if best.as_ref().is_none_or(|best| cost(&way) < cost(best)) {
            best = Some(way);
        }
    }
    let best = best.unwrap_or_else(|| scan(table));
    written(table, &best, order, &place, used)
}

fn written(
    table: &Table,
    way: &Way<'_>,
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
    for (number, (term, asked)) in way.takes.iter().enumerate() {
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
    let is_ordered = !order.is_empty() && is_ordered(way, order, place);
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
    let select = format!(
        "{}{BETWEEN}{}{BETWEEN}{}",
        selected.join(", "),
        table.base(),
        table.is_the_tenants()
    );
    let is_exact = takes.iter().all(|(_, is_exact)| *is_exact);
    let query = Query { used, select, hint: way.hint.clone(), terms, order: order_by, kinds };
    Plan {
        query,
        takes,
        is_ordered,
        is_one: way.is_one && is_exact,
        cost: way.visits * 1.5 + 3.0,
        rows: way.rows as i64,
    }
}

/// The columns that a mask stands for.
pub(super) fn columns_of(table: &Table, used: u64) -> impl Iterator<Item = usize> {
    (0..table.columns.len()).filter(move |column| used >> (*column).min(63) & 1 == 1)
}

fn scan(table: &Table) -> Way<'static> {
    Way {
        takes: Vec::new(),
        hint: String::new(),
        visits: if table.is_view { TENANTS_ROWS } else { ROWS },
        rows: TENANTS_ROWS,
        is_one: false,
        order: Vec::new(),
        fixed: Vec::new(),
    }
}

fn by_index<'t>(
    table: &Table,
    terms: &'t [Term],
    place: &impl Fn(Option<usize>) -> Option<usize>,
    index: &Index,
    has_rowid: bool,
) -> Option<Way<'t>> {
    let mut parts: Vec<(Option<usize>, Direction)> = index
        .columns
        .iter()
        .map(|(column, direction)| (place(Some(*column)), *direction))
        .collect();
    let unique = index.unique && index.is_whole;
    let whole = parts.len();
    if index.is_whole && has_rowid {
        parts.push((None, Direction::Ascending));
    }
    let hint = format!(" INDEXED BY {}", quoted(&index.name));
    let mut way = way(table, terms, place, &parts, false, hint)?;
    let equal = |part: &(Option<usize>, Direction)| {
        part.0 == Some(table.tenant)
            || way
                .takes
                .iter()
                .any(|(_, term)| term.op == Op::Equal && place(term.column) == part.0)
    };
    if unique && parts[..whole].iter().all(equal) {
        (way.visits, way.rows, way.is_one) = (1.0, 1.0, true);
    }
    Some(way)
}

/// The way through something sorted by these columns, if it leads anywhere.
fn way<'t>(
    table: &Table,
    terms: &'t [Term],
    place: &impl Fn(Option<usize>) -> Option<usize>,
    parts: &[(Option<usize>, Direction)],
    is_rowid: bool,
    hint: String,
) -> Option<Way<'t>> {
    let mut takes = Vec::new();
    let (mut fixed, mut equal, mut by_tenant, mut ranges) = (Vec::new(), 0, false, 0);
    let mut order = parts;
    let on = |part: Option<usize>, ops: &[Op]| {
        terms.iter().enumerate().find(|(_, term)| {
            place(term.column) == part
                && ops.contains(&term.op)
                && (part.is_none() || term.collates)
        })
    };
    while let Some(((part, _), rest)) = order.split_first() {
        if *part == Some(table.tenant) {
            by_tenant = true;
        } else if let Some(term) = on(*part, &[Op::Equal, Op::Is, Op::IsNull]) {
            takes.push(term);
            equal += 1;
        } else {
            for ops in [[Op::Greater, Op::GreaterEqual], [Op::Less, Op::LessEqual]] {
                if let Some(term) = on(*part, &ops) {
                    takes.push(term);
                    ranges += 1;
                }
            }
            break;
        }
        fixed.push(*part);
        order = rest;
    }
    if takes.is_empty() && !by_tenant {
        // In the order of the rowid all rows can be gone through.
        return is_rowid.then(|| Way {
            takes,
            hint,
            visits: ROWS,
            rows: TENANTS_ROWS,
            is_one: false,
            order: order.to_vec(),
            fixed,
        });
    }
    let is_one = is_rowid && equal > 0;
    let mut visits = if is_one {
        1.0
    } else if by_tenant {
        TENANTS_ROWS / 10_f64.powi(equal)
    } else if equal > 0 {
        50.0 / 5_f64.powi(equal - 1)
    } else {
        ROWS
    };
    visits = (visits / 3_f64.powi(ranges)).max(1.0);
    let rows = visits.min(TENANTS_ROWS);
    Some(Way { takes, hint, visits, rows, is_one, order: order.to_vec(), fixed })
}

/// Whether the rows come in this order, one way or the other.
fn is_ordered(
    way: &Way<'_>,
    order: &[Order],
    place: &impl Fn(Option<usize>) -> Option<usize>,
) -> bool {
    let mut parts = way.order.iter();
    let mut backwards = None;
    order.iter().all(|term| {
        let column = place(term.column);
        if way.is_one || way.fixed.contains(&column) {
            return true;
        }
        let Some((part, direction)) = parts.next() else { return false };
        let is_back = *direction != term.direction;
        *part == column && *backwards.get_or_insert(is_back) == is_back
    })
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
