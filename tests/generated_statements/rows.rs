//! What is in the tables, and what became of it in a way that the grant does not cover.

use std::collections::{BTreeMap, BTreeSet};

use super::case::{Case, TABLES};

/// The rows of each table.
pub(super) type Rows = BTreeMap<&'static str, Vec<Row>>;

#[derive(Debug, PartialEq)]
pub(super) struct Row {
    /// It is the tenant's, or there is none: not another's.
    pub(super) is_the_tenants: bool,
    pub(super) cells: Vec<String>,
}

/// What changed in a way that no verb covers.
pub(super) fn beyond_the_grant(case: &Case, before: &Rows, after: &Rows) -> Option<String> {
    for table in TABLES {
        let (old, new) = (&before[table], &after[table]);
        if old == new {
            continue;
        }
        let others = |rows: &[Row]| -> Vec<Vec<String>> {
            let mut rows: Vec<_> = rows
                .iter()
                .filter(|row| !row.is_the_tenants)
                .map(|row| row.cells.clone())
                .collect();
            rows.sort();
            rows
        };
        if others(old) != others(new) {
            return Some(format!("{table}: rows of another tenant changed: {old:?} {new:?}"));
        }
        // What may be updated tells nothing of which row it is: rows are alike by the rest.
        let may = case.may(table);
        let mut counts: BTreeMap<Vec<&String>, i64> = BTreeMap::new();
        let unchanged: BTreeSet<&Vec<String>> =
            old.iter().filter(|row| new.contains(row)).map(|row| &row.cells).collect();
        for (rows, step) in [(old, -1), (new, 1)] {
            for row in rows.iter().filter(|row| !unchanged.contains(&row.cells)) {
                let rest = (0..4).filter(|at| !may.update.contains(at)).map(|at| &row.cells[at]);
                *counts.entry(rest.collect()).or_default() += step;
            }
        }
        if let Some((row, _)) = counts.iter().find(|(_, count)| **count < 0).filter(|_| !may.delete)
        {
            return Some(format!("{table}: a row with {row:?} is gone\n{old:?}\n{new:?}"));
        }
        if let Some((row, _)) = counts.iter().find(|(_, count)| **count > 0).filter(|_| !may.insert)
        {
            return Some(format!("{table}: a row with {row:?} is new\n{old:?}\n{new:?}"));
        }
    }
    None
}
