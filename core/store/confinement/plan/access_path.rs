//! The ways to the rows of a tenant: through all of them, by the rowid, or by an index of the app's
//! table. Each knows which of the statement's terms it answers, what it costs, and in which order
//! the rows come. The costs are estimates from fixed numbers: no statistics of the app's are read.

use super::{Op, Order, Term};
use crate::store::confinement::table::{Direction, Index, Key, Table, quoted};

/// One way to the rows.
pub(super) struct AccessPath<'t> {
    /// The terms it answers.
    pub(super) takes: Vec<(usize, &'t Term)>,
    pub(super) hint: String,
    /// Rows it looks at, and rows that come.
    pub(super) visits: f64,
    pub(super) rows: f64,
    pub(super) is_one: bool,
    /// The order the rows come in, after what is the same for all.
    order: Vec<(Option<usize>, Direction)>,
    /// Columns that are the same for all.
    fixed: Vec<Option<usize>>,
}

/// Rows of a table and of a tenant in it, as long as nobody tells better.
const ROWS: f64 = 1e6;
const TENANTS_ROWS: f64 = 1e3;

impl<'t> AccessPath<'t> {
    /// All rows, one by one.
    pub(super) fn scan(table: &Table) -> Self {
        Self {
            takes: Vec::new(),
            hint: String::new(),
            visits: if table.is_view { TENANTS_ROWS } else { ROWS },
            rows: TENANTS_ROWS,
            is_one: false,
            order: Vec::new(),
            fixed: Vec::new(),
        }
    }

    /// The ways through the rowid and through the indexes of the table.
    pub(super) fn by_keys(
        table: &Table,
        terms: &'t [Term],
        place: &impl Fn(Option<usize>) -> Option<usize>,
    ) -> Vec<Self> {
        let mut paths = Vec::new();
        if table.is_view {
            return paths;
        }
        let has_rowid = matches!(table.key, Key::Rowid { .. });
        if has_rowid {
            let parts = [(None, Direction::Ascending)];
            paths.extend(Self::through(
                table,
                terms,
                place,
                &parts,
                true,
                " NOT INDEXED".to_string(),
            ));
        }
        for index in &table.indexes {
            paths.extend(Self::by_index(table, terms, place, index, has_rowid));
        }
        paths
    }

    fn by_index(
        table: &Table,
        terms: &'t [Term],
        place: &impl Fn(Option<usize>) -> Option<usize>,
        index: &Index,
        has_rowid: bool,
    ) -> Option<Self> {
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
        let mut path = Self::through(table, terms, place, &parts, false, hint)?;
        let equal = |part: &(Option<usize>, Direction)| {
            part.0 == Some(table.tenant)
                || path
                    .takes
                    .iter()
                    .any(|(_, term)| term.op == Op::Equal && place(term.column) == part.0)
        };
        if unique && parts[..whole].iter().all(equal) {
            (path.visits, path.rows, path.is_one) = (1.0, 1.0, true);
        }
        Some(path)
    }

    /// The way through something sorted by these columns, if it leads anywhere.
    fn through(
        table: &Table,
        terms: &'t [Term],
        place: &impl Fn(Option<usize>) -> Option<usize>,
        parts: &[(Option<usize>, Direction)],
        is_rowid: bool,
        hint: String,
    ) -> Option<Self> {
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
            return is_rowid.then(|| Self {
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
        Some(Self { takes, hint, visits, rows, is_one, order: order.to_vec(), fixed })
    }

    /// Whether the rows come in this order, one way or the other.
    pub(super) fn is_ordered(
        &self,
        order: &[Order],
        place: &impl Fn(Option<usize>) -> Option<usize>,
    ) -> bool {
        let mut parts = self.order.iter();
        let mut backwards = None;
        order.iter().all(|term| {
            let column = place(term.column);
            if self.is_one || self.fixed.contains(&column) {
                return true;
            }
            let Some((part, direction)) = parts.next() else { return false };
            let is_back = *direction != term.direction;
            *part == column && *backwards.get_or_insert(is_back) == is_back
        })
    }
}
