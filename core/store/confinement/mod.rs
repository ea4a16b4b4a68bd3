//! Tenant confinement: a connection on which a worker sees, changes and counts the rows of one
//! tenant only, even with hostile SQL.
//!
//! Every granted table that has the tenant column is hidden by a virtual table of the same name in
//! `temp`, where SQLite looks first. The authorizer refuses `main.…`. The virtual table has only
//! the tenant's rows. So whatever the planner does with a worker's statement, no expression in it
//! is ever computed on a row of another tenant. The virtual table reads and writes the app's table
//! by statements of its own ([`inner`]). These contain the tenant, the values that an index of the
//! table is asked for ([`plan`]), the key of the row that is written ([`write`]), and nothing else.
//!
//! # What a worker may still learn of others, and how it differs from a plain table
//!
//! - That a unique key is taken, or that a referenced row exists, because a constraint of the app's
//!   covers all rows. A key that SQLite chooses tells how many were chosen before.
//! - How long a statement takes. Without an index that begins with the tenant, all rows are
//!   searched. The steps of the worker's own statement do not depend on other tenants.
//! - What the app's own triggers, cascades, views and generated columns tell or do, because they
//!   act with the app's rights.
//! - A column whose value is NULL in an INSERT takes its default. REPLACE, UPSERT and the columns
//!   of an INSERT ... RETURNING are refused. A constraint that itself says ON CONFLICT is enforced
//!   as ABORT. A foreign key is checked after each row, so a row that another row of the same
//!   statement would have to go before is refused.
//! - Rows of an app's view are read and inserted, not updated or deleted, because nothing tells one
//!   row from the next.
//! - UPDATE and DELETE with RETURNING take a slower way, see [`returning`].
//! - A computed column of a view that is compared with a text column counts as one without a type,
//!   so a number does not equal a text.
//! - A text column that is compared by `<` with a numeric column that holds text is compared as
//!   text.
//! - A generated column counts in an INSERT that names no columns: it takes NULL there.
//!
//! The tenant is compared as text, by the rules of its column. In a column of numbers `7` is the
//! tenant 7. In a column without a type only text counts. A row whose tenant is NULL or bytes
//! belongs to nobody.

mod inner;
mod key;
mod module;
mod plan;
mod returning;
mod sure;
mod table;
mod wall;
mod write;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use verger_worker::Verb;

use self::inner::Shared;
use self::table::{Table, quoted};
use self::wall::Walls;
use self::write::Shape;
use super::statement_context::Shadows;
use super::work_connection::WorkConnection;
use crate::grant::Effective;
use crate::mutex::lock;

/// The virtual tables of one connection.
pub(super) struct Confinement {
    /// The prefix of the names of our own module, tables and triggers. A worker cannot know it.
    token: String,
    walls: Arc<Walls>,
    /// The tables that were looked for, in lower case: by which column, and whether they have it.
    known: RefCell<BTreeMap<String, Known>>,
    schema_version: Cell<i64>,
    next: Cell<u64>,
    /// Views are before the virtual tables, or may be.
    has_views: Cell<bool>,
    /// The kinds of writes that were looked at, and whether each succeeds for every row.
    sure: RefCell<HashMap<(String, Shape), bool>>,
}

struct Known {
    column: String,
    table: Option<Arc<Table>>,
}

/// A count of what was changed so far, to compare with later.
#[derive(Clone, Copy)]
pub(crate) struct ChangeMark {
    pub(super) writes: u64,
    pub(super) changed: u64,
    pub(super) total: u64,
}

/// How many kinds of writes are remembered.
const SHAPES_MAX: usize = 256;

/// Whether the plan of a read of a virtual table is one of ours.
pub(super) fn is_plan(text: &str) -> bool {
    plan::Query::is_written(text)
}

impl Confinement {
    /// `inner` tells the authorizer that the statement being prepared is the engine's own.
    pub(super) fn install(
        connection: &WorkConnection,
        inner: Arc<AtomicBool>,
    ) -> rusqlite::Result<Self> {
        connection.engine(|connection| {
            let random: String =
                connection.query_row("SELECT lower(hex(randomblob(16)))", [], |row| row.get(0))?;
            let token = format!("verger_{random}_");
            let walls = Arc::new(Walls {
                shared: Shared::new(inner),
                tables: Mutex::new(HashMap::new()),
                hidden: format!("{token}key"),
                reads: Mutex::default(),
            });
            module::install(connection, &format!("{token}rows"), &walls)?;
            Ok(Self {
                token,
                walls,
                known: RefCell::default(),
                schema_version: Cell::new(-1),
                next: Cell::new(0),
                has_views: Cell::new(false),
                sure: RefCell::default(),
            })
        })
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) fn shadows(&self) -> Shadows {
        let known = self.known.borrow();
        let there = known.iter().filter(|(_, known)| known.table.is_some());
        Shadows { token: self.token.clone(), tables: there.map(|(name, _)| name.clone()).collect() }
    }

    /// Rows changed through the walls so far, and how many writes were asked for.
    pub(super) fn changed(&self) -> (u64, u64) {
        let shared = &self.walls.shared;
        (shared.changed.load(Ordering::Relaxed), shared.writes.load(Ordering::Relaxed))
    }

    /// Notes that a worker's statement is stepped, and whether it inserts.
    pub(super) fn begin_step(&self, inserts: bool) {
        let shared = &self.walls.shared;
        shared.inserts.store(inserts, Ordering::Relaxed);
        shared.turn.fetch_add(1, Ordering::Relaxed);
        shared.keeps.store(false, Ordering::Relaxed);
        lock(&shared.denied).take();
    }

    /// Whether a failed statement keeps the rows it wrote before, because it says OR FAIL.
    pub(super) fn keeps(&self) -> bool {
        self.walls.shared.keeps.load(Ordering::Relaxed)
    }

    /// Whether a write of one row may have to be undone.
    pub(super) fn computes_tenants(&self) -> bool {
        let computed = |known: &Known| known.table.as_ref().is_some_and(|t| t.tenant_is_computed());
        self.known.borrow().values().any(computed)
    }

    /// Whether a statement that updates these columns of a table, or deletes rows of it, cannot
    /// fail at one row after it has written others.
    pub(super) fn is_sure(
        &self,
        connection: &Connection,
        verb: Verb,
        table: &str,
        columns: &[String],
    ) -> rusqlite::Result<bool> {
        let known = self.known.borrow();
        let name = table.to_ascii_lowercase();
        let table = known.get(&name).and_then(|known| known.table.as_deref());
        let (Some(table), false) = (table, self.has_views.get()) else { return Ok(false) };
        let place = |name: &String| {
            table.columns.iter().position(|column| column.name.eq_ignore_ascii_case(name))
        };
        let shape = match verb {
            Verb::Delete => Shape::Delete,
            Verb::Update => {
                let Some(mut columns) = columns.iter().map(place).collect::<Option<Vec<_>>>()
                else {
                    return Ok(false);
                };
                columns.sort_unstable();
                columns.dedup();
                Shape::Update { columns, rowid: false }
            }
            _ => return Ok(false),
        };
        let key = (name, shape);
        if let Some(sure) = self.sure.borrow().get(&key) {
            return Ok(*sure);
        }
        let sure = sure::is_sure(connection, table, &key.1)?;
        let mut all = self.sure.borrow_mut();
        if all.len() >= SHAPES_MAX {
            all.clear();
        }
        all.insert(key, sure);
        Ok(sure)
    }

    pub(super) fn take_denied(&self) -> Option<String> {
        lock(&self.walls.shared.denied).take()
    }

    /// Makes the walls that this grant needs and that are not there yet, and sets the tenant.
    pub(super) fn confine(
        &self,
        connection: &WorkConnection,
        grant: &Effective,
        tenant: &str,
    ) -> rusqlite::Result<()> {
        let shared = &self.walls.shared;
        *shared.tenant() = tenant.into();
        shared.run.fetch_add(1, Ordering::Relaxed);
        connection.engine(|connection| {
            let version = schema_version(connection)?;
            if version != self.schema_version.get() || self.has_views.get() {
                self.forget(connection)?;
                self.schema_version.set(version);
            }
            for table in grant.tables() {
                let column = grant.tenant_column().filter(|_| !grant.is_shared(table));
                let is_as_known = match self.known.borrow().get(table) {
                    Some(known) => Some(known.column.as_str()) == column,
                    None => column.is_none(),
                };
                if !is_as_known {
                    self.take_down(connection, table)?;
                    if let Some(column) = column {
                        self.put_up(connection, table, column)?;
                    }
                }
            }
            Ok(())
        })
    }

    /// Whether the walls were made for this version of the schema.
    pub(super) fn is_for(&self, version: i64) -> bool {
        self.schema_version.get() == version
    }

    /// Makes the walls anew if the app changed the schema since they were made, and returns whether
    /// it had. Call it outside a transaction.
    pub(super) fn follow_schema(&self, connection: &WorkConnection) -> rusqlite::Result<bool> {
        connection.engine(|connection| {
            let version = schema_version(connection)?;
            if self.is_for(version) {
                return Ok(false);
            }
            let tables: Vec<(String, String)> = self
                .known
                .borrow()
                .iter()
                .map(|(table, known)| (table.clone(), known.column.clone()))
                .collect();
            self.forget(connection)?;
            for (table, column) in &tables {
                self.put_up(connection, table, column)?;
            }
            self.schema_version.set(version);
            Ok(true)
        })
    }

    /// Removes what was made for an older schema.
    fn forget(&self, connection: &Connection) -> rusqlite::Result<()> {
        // Views first, because they depend on the tables. Their triggers go with them.
        let names: Vec<(String, String)> = connection
            .prepare(
                "SELECT type, name FROM sqlite_temp_schema \
                 WHERE type IN ('table', 'view') AND instr(sql, ?1) ORDER BY type DESC",
            )?
            .query_map([&self.token], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        for (kind, name) in names {
            connection.execute_batch(&format!("DROP {kind} temp.{}", quoted(&name)))?;
        }
        self.known.borrow_mut().clear();
        self.sure.borrow_mut().clear();
        self.has_views.set(false);
        lock(&self.walls.tables).clear();
        Ok(())
    }

    fn take_down(&self, connection: &Connection, table: &str) -> rusqlite::Result<()> {
        let known = self.known.borrow_mut().remove(table);
        self.sure.borrow_mut().clear();
        if let Some(Known { table: Some(_), .. }) = known {
            connection.execute_batch(&format!("DROP TABLE temp.{}", quoted(table)))?;
        }
        Ok(())
    }

    fn put_up(&self, connection: &Connection, table: &str, column: &str) -> rusqlite::Result<()> {
        let found = Table::read(connection, table, column)?.map(Arc::new);
        if let Some(found) = &found {
            let number = self.next.get() + 1;
            self.next.set(number);
            let mut tables = lock(&self.walls.tables);
            tables.insert(number, Arc::clone(found));
            drop(tables);
            connection.execute_batch(&format!(
                "CREATE VIRTUAL TABLE temp.{} USING {}rows({})",
                quoted(table),
                self.token,
                number
            ))?;
        }
        let known = Known { column: column.to_string(), table: found };
        self.known.borrow_mut().insert(table.to_string(), known);
        Ok(())
    }
}

/// The version of the app's schema, as of now or as of the transaction.
fn schema_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA main.schema_version")?.query_row([], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use verger_worker::{Args, Manifest, TableAsk};

    use crate::grant::{Effective, Grant};
    use crate::store::{Durability, Location, WorkConnection};

    #[test]
    fn a_confined_read_and_write_go_by_keys_and_by_indexes_of_the_tenant() {
        let location = Location::memory();
        let app = location.connect(Durability::Normal).unwrap();
        app.execute_batch(
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, organization_id TEXT, state TEXT, total INTEGER);
             CREATE INDEX orders_of ON orders (organization_id, state);
             CREATE TABLE members (organization_id TEXT, id INTEGER, PRIMARY KEY (organization_id, id)) WITHOUT ROWID;",
        )
        .unwrap();
        let grant = Grant::new().write("orders").write("members").tenant_column("organization_id");
        let ask = |table: &str| TableAsk::named(table).read().insert().update().delete();
        let effective = Arc::new(Effective::of(
            &Manifest::new("w", "1").table(ask("orders")).table(ask("members")),
            &grant,
            &Args::default(),
        ));
        let connection = WorkConnection::open(&location, Durability::Normal, None)
            .unwrap()
            .confinable()
            .unwrap();
        connection.confine(&effective, "a").unwrap();
        for (sql, way) in [
            ("SELECT total FROM orders", "orders_of"),
            ("SELECT count(*) FROM orders WHERE state = 'open'", "t.\"state\" = ?2"),
            ("SELECT id FROM orders WHERE state IN ('open', 'paid')", "t.\"state\" = ?2"),
            ("SELECT * FROM members WHERE id = 3", "t.\"id\" = ?2"),
            ("SELECT * FROM orders WHERE id = 3", "NOT INDEXED"),
            ("SELECT * FROM orders ORDER BY state LIMIT 1", "ORDER BY t.\"state\""),
            ("UPDATE orders SET total = 1 WHERE state = 'open'", "t.\"state\" = ?2"),
            ("DELETE FROM members WHERE id > 3", "t.\"id\" > ?2"),
        ] {
            let chosen: Vec<String> = connection.engine(|connection| {
                let mut statement = connection.prepare(&format!("EXPLAIN {sql}")).unwrap();
                statement
                    .query_map([], |row| row.get::<_, Option<String>>("p4"))
                    .unwrap()
                    .map(|part| part.unwrap().unwrap_or_default())
                    .collect()
            });
            assert!(chosen.iter().any(|part| part.contains(way)), "{sql}: {chosen:#?}");
        }
    }
}
