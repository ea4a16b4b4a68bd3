//! For a dry run: the rows its worker would have changed, as they were and as they would be.
//!
//! What is shown is bounded: 200 rows, a mebibyte of values, a kibibyte of each. For a worker that
//! is confined to a tenant, only that tenant's rows are shown, whatever else the app's triggers
//! did.

use std::sync::{Arc, Mutex};

use serde::Serialize;
use serde_json::Value as Json;

use super::Run;
use crate::mutex::lock;
use crate::store::Touched;

const ROWS_MAX: usize = 200;
const BYTES_MAX: usize = 1 << 20;

/// A row that a dry run would have changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RowChange {
    /// Its table.
    pub table: String,
    /// Its rowid.
    pub rowid: i64,
    /// The row as it is: an object with its columns. `None` when it would have been inserted.
    pub before: Option<Json>,
    /// The row as it would be. `None` when it would have been deleted.
    pub after: Option<Json>,
}

/// What a dry run watches, and what it found.
#[derive(Default)]
pub(super) struct Watched {
    touched: Option<Arc<Mutex<Touched>>>,
    rows: Vec<RowChange>,
}

impl Run {
    /// Begins to watch, if this is a dry run.
    pub(super) fn watch(&self) {
        if self.dry {
            // If there is no memory for it, nothing is shown.
            self.watched.borrow_mut().touched = self.connection.watch_rows();
        }
    }

    pub(super) fn unwatch(&self) {
        if self.watched.borrow_mut().touched.take().is_some() {
            self.connection.unwatch_rows();
        }
    }

    /// Reads the changed rows, as they would be, before everything is rolled back.
    pub(super) fn see_after(&self) {
        let mut watched = self.watched.borrow_mut();
        let Some(touched) = &watched.touched else { return };
        let touched = std::mem::take(&mut *lock(touched));
        let grant = &self.task.grant;
        let is_the_workers =
            |table: &str| grant.tables().any(|granted| granted.eq_ignore_ascii_case(table));
        let rows = touched.rows.into_iter().filter(|(table, _)| is_the_workers(table));
        watched.rows = rows
            .take(ROWS_MAX)
            .map(|(table, rowid)| RowChange {
                after: self.connection.row(&table, rowid),
                table,
                rowid,
                before: None,
            })
            .collect();
    }

    /// Reads them as they are, after everything was rolled back.
    pub(super) fn see_before(&self) {
        self.unwatch();
        let mut rows = std::mem::take(&mut self.watched.borrow_mut().rows);
        for row in &mut rows {
            row.before = self.connection.row(&row.table, row.rowid);
        }
        let mut bytes = 0;
        rows.retain(|row| {
            let is_seen = row.before != row.after && self.may_be_shown(row);
            if is_seen {
                let size = |row: &Option<Json>| row.as_ref().map_or(0, |row| row.to_string().len());
                bytes += size(&row.before) + size(&row.after);
            }
            is_seen && bytes <= BYTES_MAX
        });
        self.watched.borrow_mut().rows = rows;
    }

    /// The rows that are shown.
    pub(crate) fn take_rows(&self) -> Vec<RowChange> {
        std::mem::take(&mut self.watched.borrow_mut().rows)
    }

    /// Whether a row may be shown. It must be the tenant's if the worker is confined to one.
    fn may_be_shown(&self, row: &RowChange) -> bool {
        let grant = &self.task.grant;
        let tenant = self.scope().and_then(|scope| scope.organization_id());
        let (Some(tenant), Some(column)) = (tenant, grant.tenant_column()) else { return true };
        if grant.is_shared(&row.table) {
            return true;
        }
        row.before.iter().chain(&row.after).all(|row| {
            let column = row.as_object().and_then(|row| {
                row.iter().find(|(name, _)| name.eq_ignore_ascii_case(column)).map(|(_, id)| id)
            });
            match column {
                Some(Json::String(id)) => id == tenant,
                Some(Json::Number(id)) => id.to_string() == tenant,
                _ => false,
            }
        })
    }
}
