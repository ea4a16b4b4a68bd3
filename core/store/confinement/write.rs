//! A worker's writes through a wall: one row at a time, with the tenant in place.
#![allow(unsafe_code, reason = "the values are SQLite's own")]

use std::ffi::c_int;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::ffi;

use super::inner::{Failure, Inner};
use super::key;
use super::table::{Key, Table, quoted};
use super::wall::Wall;
use crate::mutex::lock;

/// What a write does and to which columns. Writes of one kind share a statement.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Shape {
    Insert { columns: Vec<usize>, rowid: bool },
    Update { columns: Vec<usize>, rowid: bool },
    Delete,
}

/// How many statements of writes are kept for each table.
const KEPT_MAX: usize = 16;

type Value = *mut ffi::sqlite3_value;

/// One thread uses a connection, so no addition in one step is needed.
fn add(count: &AtomicU64, more: u64) {
    count.store(count.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

fn is_null(value: Value) -> bool {
    // SAFETY: SQLite has given the value for the call at hand.
    unsafe { ffi::sqlite3_value_type(value) == ffi::SQLITE_NULL }
}

fn is_unchanged(value: Value) -> bool {
    // SAFETY: as above.
    unsafe { ffi::sqlite3_value_nochange(value) != 0 }
}

/// The statement of a write. It says ABORT if a constraint of the table's own says ON CONFLICT,
/// because REPLACE could delete another tenant's row. Elsewhere ABORT would only override what the
/// app's triggers say.
pub(super) fn sql(table: &Table, shape: &Shape) -> String {
    let name = |place: &usize| quoted(&table.columns[*place].name);
    let base = format!("main.{}", quoted(&table.name));
    let tenant = name(&table.tenant);
    let (rowid, keys) = match &table.key {
        Key::Rowid { name, .. } => (quoted(name), vec![format!("t.{}", quoted(name))]),
        Key::Columns(parts) => {
            (String::new(), parts.iter().map(|part| table.column(*part)).collect())
        }
        Key::None => (String::new(), Vec::new()),
    };
    let mut whose = table.is_the_tenants();
    for (place, key) in keys.iter().enumerate() {
        whose.push_str(&format!(" AND {key} = ?{}", place + 2));
    }
    let computed = table.tenant_is_computed();
    let or = if table.settles_conflicts { "OR ABORT " } else { "" };
    match shape {
        Shape::Delete => format!("DELETE FROM {base} AS t WHERE {whose}"),
        Shape::Insert { columns, rowid: has_rowid } => {
            let mut names = Vec::new();
            if *has_rowid {
                names.push(rowid);
            }
            names.extend(columns.iter().map(name));
            let mut values: Vec<String> =
                (0..names.len()).map(|place| format!("?{}", place + 2)).collect();
            if !computed {
                names.push(tenant.clone());
                values.push("?1".to_string());
            }
            let mut sql = match names.is_empty() {
                true => format!("INSERT {or}INTO {base} DEFAULT VALUES"),
                false => format!(
                    "INSERT {or}INTO {base} ({}) VALUES ({})",
                    names.join(", "),
                    values.join(", ")
                ),
            };
            if computed {
                sql.push_str(&format!(" RETURNING {tenant} IS ?1"));
            }
            sql
        }
        Shape::Update { columns, rowid: is_moved } => {
            let mut next = 2 + keys.len();
            let mut set = Vec::new();
            let mut take = |name: String| {
                set.push(format!("{name} = ?{next}"));
                next += 1;
            };
            if *is_moved {
                take(rowid);
            }
            for column in columns.iter().filter(|column| **column != table.tenant) {
                take(name(column));
            }
            // The tenant stays as it is, but triggers of the app's may wait for its update.
            if set.is_empty() || columns.contains(&table.tenant) {
                set.push(format!("{tenant} = {tenant}"));
            }
            let returning = match computed {
                true => format!(" RETURNING t.{tenant} IS ?1"),
                false => String::new(),
            };
            format!("UPDATE {or}{base} AS t SET {} WHERE {whose}{returning}", set.join(", "))
        }
    }
}

impl Wall {
    /// Does what SQLite asks of a virtual table that is written to: see xUpdate in its
    /// documentation. Returns the rowid of a new row.
    pub(super) fn write(&self, values: &[Value]) -> Result<i64, Failure> {
        let shared = &self.walls.shared;
        add(&shared.writes, 1);
        // SAFETY: SQLite is inside a write of this connection.
        if unsafe { ffi::sqlite3_vtab_on_conflict(self.db) } == ffi::SQLITE_REPLACE {
            let reason = format!(
                "REPLACE denied: on table {} it could delete a row of another organization; use UPDATE, or INSERT OR IGNORE",
                self.table.name
            );
            *lock(&shared.denied) = Some(reason.clone());
            return Err(Failure::new(ffi::SQLITE_AUTH, reason));
        }
        self.read_ahead()?;
        let (Some(old), new) = (values.first(), values.get(1..).unwrap_or_default()) else {
            return Ok(0);
        };
        if is_null(*old) {
            // An UPDATE whose SET is an aggregate over FROM has a row also where it found none, with
            // no key. SQLite then asks for what an INSERT does; a table of its own stays as it is.
            if !shared.inserts.load(Ordering::Relaxed) {
                return Ok(0);
            }
            self.insert(new)
        } else if self.table.key == Key::None {
            Err(Failure::new(
                ffi::SQLITE_ERROR,
                format!(
                    "rows of {} have no key of their own: a confined worker cannot update or delete them",
                    self.table.name
                ),
            ))
        } else if let Some((rowid, new)) = new.split_first() {
            self.update(*old, *rowid, new).map(|()| 0)
        } else {
            self.run(&Shape::Delete, |inner| self.bind_key(inner, *old)).map(|()| 0)
        }
    }

    fn insert(&self, values: &[Value]) -> Result<i64, Failure> {
        let Some((rowid, values)) = values.split_first() else { return Ok(0) };
        let mut columns = self.columns.take();
        columns.clear();
        for (place, column) in self.table.columns.iter().enumerate() {
            let Some(value) = values.get(place) else { break };
            if column.generated {
                if !is_null(*value) {
                    return Err(self.is_generated("INSERT into", place));
                }
            } else if place == self.table.tenant {
                if !is_null(*value) && !self.is_the_tenant(*value)? {
                    return Err(Failure::new(
                        ffi::SQLITE_CONSTRAINT_TRIGGER,
                        "a row of another organization cannot be inserted",
                    ));
                }
            // A column that was left out arrives as NULL.
            } else if !(column.has_default && is_null(*value)) {
                columns.push(place);
            }
        }
        let has_rowid = match &self.table.key {
            Key::Rowid { alias, .. } => {
                let alias = alias.and_then(|alias| values.get(alias));
                !is_null(*rowid) && alias.is_none_or(|alias| is_null(*alias))
            }
            Key::Columns(_) | Key::None => false,
        };
        if has_rowid && let Key::Rowid { alias: Some(alias), .. } = self.table.key {
            columns.retain(|column| *column != alias);
        }
        let shape = Shape::Insert { columns, rowid: has_rowid };
        let done = self.run(&shape, |inner| {
            let mut place = 2;
            if has_rowid {
                // SAFETY: SQLite has given the values for this call.
                unsafe { inner.bind(place, *rowid) };
                place += 1;
            }
            let Shape::Insert { columns, .. } = &shape else { return Ok(()) };
            for (number, column) in columns.iter().enumerate() {
                // SAFETY: as above.
                unsafe { inner.bind(place + number, values[*column]) };
            }
            Ok(())
        });
        self.keep(shape);
        done?;
        // SAFETY: the connection is open.
        Ok(unsafe { ffi::sqlite3_last_insert_rowid(self.db) })
    }

    fn update(&self, old: Value, rowid: Value, values: &[Value]) -> Result<(), Failure> {
        let mut columns = self.columns.take();
        columns.clear();
        for (place, column) in self.table.columns.iter().enumerate() {
            let Some(value) = values.get(place).filter(|value| !is_unchanged(**value)) else {
                continue;
            };
            if column.generated {
                return Err(self.is_generated("UPDATE", place));
            }
            if place == self.table.tenant && !self.is_the_tenant(*value)? {
                return Err(Failure::new(
                    ffi::SQLITE_CONSTRAINT_TRIGGER,
                    "a row cannot be moved to another organization",
                ));
            }
            columns.push(place);
        }
        let is_moved = match &self.table.key {
            // SAFETY: SQLite has given the values for this call; a rowid is a number.
            Key::Rowid { alias, .. } => unsafe {
                ffi::sqlite3_value_int64(old) != ffi::sqlite3_value_int64(rowid)
                    && alias.is_none_or(|alias| !columns.contains(&alias))
            },
            Key::Columns(_) | Key::None => false,
        };
        let shape = Shape::Update { columns, rowid: is_moved };
        let done = self.run(&shape, |inner| {
            self.bind_key(inner, old)?;
            let mut place = 2 + self.key_width();
            if is_moved {
                // SAFETY: as above.
                unsafe { inner.bind(place, rowid) };
                place += 1;
            }
            let Shape::Update { columns, .. } = &shape else { return Ok(()) };
            for column in columns.iter().filter(|column| **column != self.table.tenant) {
                // SAFETY: as above.
                unsafe { inner.bind(place, values[*column]) };
                place += 1;
            }
            Ok(())
        });
        self.keep(shape);
        done
    }

    /// Keeps the list of a kind of write for the next row.
    fn keep(&self, shape: Shape) {
        if let Shape::Insert { columns, .. } | Shape::Update { columns, .. } = shape {
            self.columns.set(columns);
        }
    }

    fn is_generated(&self, verb: &str, column: usize) -> Failure {
        let name = quoted(&self.table.columns[column].name);
        Failure::new(ffi::SQLITE_ERROR, format!("cannot {verb} generated column {name}"))
    }

    fn key_width(&self) -> usize {
        match &self.table.key {
            Key::Rowid { .. } => 1,
            Key::Columns(parts) => parts.len(),
            Key::None => 0,
        }
    }

    /// Binds the key of a row, from the second parameter on.
    fn bind_key(&self, inner: &mut Inner, key: Value) -> Result<(), Failure> {
        let Key::Columns(parts) = &self.table.key else {
            // SAFETY: SQLite has given the value for this call.
            unsafe { inner.bind(2, key) };
            return Ok(());
        };
        // SAFETY: as above; nothing is called before the bytes are copied.
        let bytes = unsafe {
            let start = ffi::sqlite3_value_blob(key).cast::<u8>();
            let length = usize::try_from(ffi::sqlite3_value_bytes(key)).unwrap_or_default();
            if start.is_null() { &[] } else { std::slice::from_raw_parts(start, length) }
        };
        if key::bind(inner, 2, parts.len(), bytes) {
            return Ok(());
        }
        Err(Failure::new(ffi::SQLITE_INTERNAL, "the key of a row is lost"))
    }

    /// Whether a value is the tenant, as the tenant's column compares text.
    fn is_the_tenant(&self, value: Value) -> Result<bool, Failure> {
        if is_null(value) {
            return Ok(false);
        }
        let shared = &self.walls.shared;
        let mut compare = self.compare.borrow_mut();
        let inner = match &mut *compare {
            Some(inner) => inner,
            none => {
                let collation = quoted(&self.table.columns[self.table.tenant].collation);
                let sql = format!("SELECT CAST(?2 AS TEXT) = ?1 COLLATE {collation}");
                none.insert(self.prepare(&sql)?)
            }
        };
        inner.bind_tenant(shared);
        // SAFETY: SQLite has given the value for the call at hand.
        unsafe { inner.bind(2, value) };
        let is_same = inner.step(shared).map(|row| row && inner.integer(0) != 0);
        inner.reset();
        is_same
    }

    /// Runs a write and counts what it changed.
    fn run(
        &self,
        shape: &Shape,
        bind: impl FnOnce(&mut Inner) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let shared = &self.walls.shared;
        let mut writes = self.writes.borrow_mut();
        let place = match writes.iter().position(|(known, _)| known == shape) {
            Some(place) => place,
            None => {
                let inner = self.prepare(&sql(&self.table, shape))?;
                if writes.len() >= KEPT_MAX {
                    writes.clear();
                }
                writes.push((shape.clone(), inner));
                writes.len() - 1
            }
        };
        let Some((_, inner)) = writes.get_mut(place) else { return Ok(()) };
        inner.bind_tenant(shared);
        bind(inner)?;
        // SAFETY: the connection is open.
        let before = unsafe { ffi::sqlite3_total_changes64(self.db) };
        let mut done = inner.step(shared);
        if let Ok(true) = done {
            // The tenant that the row has now, where it is computed from other columns.
            let is_the_tenants = inner.integer(0) != 0;
            done = inner.step(shared);
            if done.is_ok() && !is_the_tenants {
                done = Err(Failure::new(
                    ffi::SQLITE_CONSTRAINT_TRIGGER,
                    "a row of another organization cannot be made",
                ));
            }
        }
        inner.reset();
        done?;
        // SAFETY: as above.
        let changed = unsafe {
            match self.table.is_view {
                true => ffi::sqlite3_total_changes64(self.db) - before,
                false => ffi::sqlite3_changes64(self.db),
            }
        };
        add(&shared.changed, changed.unsigned_abs());
        Ok(())
    }

    /// What SQLite is told of a failed write. A worker's OR clause covers some constraints. Any
    /// other failure ends the statement.
    pub(super) fn conflict(&self, code: c_int) -> c_int {
        // SAFETY: SQLite is inside a write of this connection.
        let mode = unsafe { ffi::sqlite3_vtab_on_conflict(self.db) };
        let has_clause =
            [ffi::SQLITE_IGNORE, ffi::SQLITE_FAIL, ffi::SQLITE_ROLLBACK].contains(&mode);
        if !has_clause || code & 0xff != ffi::SQLITE_CONSTRAINT {
            return code;
        }
        match code {
            ffi::SQLITE_CONSTRAINT_UNIQUE
            | ffi::SQLITE_CONSTRAINT_PRIMARYKEY
            | ffi::SQLITE_CONSTRAINT_ROWID
            | ffi::SQLITE_CONSTRAINT_NOTNULL
            | ffi::SQLITE_CONSTRAINT_CHECK => {
                if mode == ffi::SQLITE_FAIL {
                    self.walls.shared.keeps.store(true, Ordering::Relaxed);
                }
                ffi::SQLITE_CONSTRAINT
            }
            _ => ffi::SQLITE_ERROR,
        }
    }
}
