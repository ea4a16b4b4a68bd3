//! Tenant confinement: a connection on which a worker sees, changes and counts the rows of one
//! tenant only, even with hostile SQL.
//!
//! Before every granted table that has the tenant column stands a TEMP view of the same name,
//! filtered on a function that returns the tenant of the run. SQLite looks into `temp` first, so
//! the plain name is the view; `main.…` is refused by the authorizer. The filter is in an inner
//! view whose name nobody can guess, and writes go through INSTEAD OF triggers with such names: the
//! authorizer allows the table itself only by way of these (see `judge.rs` for why a name that can
//! be guessed would not do).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;

use super::statement_context::Shadows;
use super::work_connection::WorkConnection;
use crate::grant::Effective;

/// The views and triggers of one connection.
pub(super) struct Confinement {
    token: String,
    /// In lower case.
    tables: BTreeSet<String>,
    /// The tables that were looked for, there or not, and the column.
    looked_for: BTreeSet<(String, String)>,
    schema_version: i64,
    tenant: Arc<Mutex<String>>,
    changed: Arc<AtomicU64>,
}

/// A column of a table that is to be shadowed.
struct Column {
    name: String,
    default: Option<String>,
    key: bool,
    generated: bool,
}

impl Confinement {
    pub(super) fn install(connection: &WorkConnection) -> rusqlite::Result<Self> {
        let tenant = Arc::new(Mutex::new(String::new()));
        let changed = Arc::new(AtomicU64::new(0));
        let token = connection.engine(|connection| -> rusqlite::Result<String> {
            let random: String =
                connection.query_row("SELECT lower(hex(randomblob(16)))", [], |row| row.get(0))?;
            // Deterministic within a statement, so that an index serves it; a statement is never
            // kept from one run to the next.
            let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_INNOCUOUS;
            let current = Arc::clone(&tenant);
            connection.create_scalar_function(
                "verger_tenant",
                0,
                flags | FunctionFlags::SQLITE_DETERMINISTIC,
                move |_| Ok(current.lock().unwrap_or_else(PoisonError::into_inner).clone()),
            )?;
            let counter = Arc::clone(&changed);
            connection.create_scalar_function("verger_changed", 1, flags, move |context| {
                counter.fetch_add(context.get::<i64>(0)?.unsigned_abs(), Ordering::Relaxed);
                Ok(0)
            })?;
            Ok(format!("verger_{random}_"))
        })?;
        Ok(Self {
            token,
            tables: BTreeSet::new(),
            looked_for: BTreeSet::new(),
            schema_version: -1,
            tenant,
            changed,
        })
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) fn changed(&self) -> u64 {
        self.changed.load(Ordering::Relaxed)
    }

    pub(super) fn shadows(&self) -> Shadows {
        Shadows { token: self.token.clone(), tables: self.tables.clone() }
    }

    /// Makes the views this grant needs, where they are not there yet, and sets the tenant.
    pub(super) fn confine(
        &mut self,
        connection: &WorkConnection,
        grant: &Effective,
        tenant: &str,
    ) -> rusqlite::Result<()> {
        tenant.clone_into(&mut self.tenant.lock().unwrap_or_else(PoisonError::into_inner));
        let Some(column) = grant.tenant_column() else { return Ok(()) };
        connection.engine(|connection| {
            let version = connection
                .prepare_cached("PRAGMA schema_version")?
                .query_row([], |row| row.get(0))?;
            if version != self.schema_version {
                self.forget(connection)?;
                self.schema_version = version;
            }
            for table in grant.tables().filter(|table| !grant.is_shared(table)) {
                if self.looked_for.insert((table.to_string(), column.to_string())) {
                    self.shadow(connection, table, column)?;
                }
            }
            Ok(())
        })
    }

    /// The schema changed: what was made for the old one goes.
    fn forget(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let names: Vec<String> = connection
            .prepare("SELECT name FROM sqlite_temp_schema WHERE type = 'view'")?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for name in names {
            // Its triggers go with it.
            connection.execute_batch(&format!("DROP VIEW temp.{}", quoted(&name)))?;
        }
        self.tables.clear();
        self.looked_for.clear();
        Ok(())
    }

    fn shadow(
        &mut self,
        connection: &Connection,
        table: &str,
        tenant: &str,
    ) -> rusqlite::Result<()> {
        let columns: Vec<Column> = connection
            .prepare("SELECT name, dflt_value, pk > 0, hidden IN (2, 3) FROM pragma_table_xinfo(?1, 'main') WHERE hidden <> 1")?
            .query_map([table], |row| Ok(Column { name: row.get(0)?, default: row.get(1)?, key: row.get(2)?, generated: row.get(3)? }))?
            .collect::<Result<_, _>>()?;
        let Some(tenant) = columns
            .iter()
            .find(|column| column.name.eq_ignore_ascii_case(tenant))
            .map(|column| quoted(&column.name))
        else {
            return Ok(());
        };
        if self.tables.contains(table) {
            return Ok(());
        }
        let (base, outer) = (format!("main.{}", quoted(table)), format!("temp.{}", quoted(table)));
        let inner = format!("temp.{}", quoted(&format!("{}{table}", self.token)));
        let all = list(columns.iter().map(|column| quoted(&column.name)));
        let mut sql = format!(
            "CREATE TEMP VIEW {inner} AS SELECT {all} FROM {base} WHERE {tenant} = verger_tenant();\n\
             CREATE TEMP VIEW {outer} AS SELECT {all} FROM {inner};\n"
        );
        let trigger = |verb: &str| quoted(&format!("{}{table}_{verb}", self.token));
        let stored: Vec<&Column> = columns
            .iter()
            .filter(|column| !column.generated && quoted(&column.name) != tenant)
            .collect();
        let names = list(stored.iter().map(|column| quoted(&column.name)));
        // A column that was left out arrives as NULL: its default has to be put in here.
        let values = list(stored.iter().map(|column| match &column.default {
            Some(default) => format!("coalesce(NEW.{}, {default})", quoted(&column.name)),
            None => format!("NEW.{}", quoted(&column.name)),
        }));
        let more = |list: &str| if list.is_empty() { String::new() } else { format!(", {list}") };
        sql.push_str(&format!(
            "CREATE TEMP TRIGGER {} INSTEAD OF INSERT ON {outer} BEGIN \
             SELECT RAISE(ABORT, 'verger_tenant: a row of another organization cannot be inserted') \
             WHERE NEW.{tenant} IS NOT NULL AND NEW.{tenant} IS NOT verger_tenant(); \
             INSERT OR ABORT INTO {base} ({tenant}{}) VALUES (verger_tenant(){}); SELECT verger_changed(changes()); END;\n",
            trigger("insert"),
            more(&names),
            more(&values),
        ));
        // OR ABORT, above and below: a constraint of the table that says ON CONFLICT REPLACE could
        // delete another tenant's row.
        let keys: Vec<String> =
            columns.iter().filter(|column| column.key).map(|column| quoted(&column.name)).collect();
        if keys.is_empty() {
            // A row cannot be told from its equals. Not left to SQLite, which returns rows for a
            // RETURNING and changes nothing.
            for verb in ["update", "delete"] {
                sql.push_str(&format!(
                    "CREATE TEMP TRIGGER {} INSTEAD OF {verb} ON {outer} BEGIN \
                     SELECT RAISE(ABORT, 'verger_tenant: without a primary key, rows cannot be updated or deleted by a confined worker'); END;\n",
                    trigger(verb),
                ));
            }
        } else {
            let same = keys
                .iter()
                .map(|key| format!("{key} IS OLD.{key}"))
                .collect::<Vec<_>>()
                .join(" AND ");
            let set =
                list(stored.iter().map(|column| format!("{0} = NEW.{0}", quoted(&column.name))));
            let set = if set.is_empty() { format!("{tenant} = verger_tenant()") } else { set };
            sql.push_str(&format!(
                "CREATE TEMP TRIGGER {} INSTEAD OF UPDATE ON {outer} BEGIN \
                 SELECT RAISE(ABORT, 'verger_tenant: a row cannot be moved to another organization') WHERE NEW.{tenant} IS NOT OLD.{tenant}; \
                 UPDATE OR ABORT {base} SET {set} WHERE {same} AND {tenant} = verger_tenant(); SELECT verger_changed(changes()); END;\n",
                trigger("update"),
            ));
            sql.push_str(&format!(
                "CREATE TEMP TRIGGER {} INSTEAD OF DELETE ON {outer} BEGIN \
                 DELETE FROM {base} WHERE {same} AND {tenant} = verger_tenant(); SELECT verger_changed(changes()); END;\n",
                trigger("delete"),
            ));
        }
        connection.execute_batch(&sql)?;
        self.tables.insert(table.to_string());
        Ok(())
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use verger_worker::{Args, Manifest, TableAsk};

    use crate::grant::{Effective, Grant};
    use crate::store::{Durability, Location, WorkConnection};

    #[test]
    fn a_confined_read_and_write_use_the_index_of_the_tenant() {
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
        let mut connection = WorkConnection::open(&location, Durability::Normal, None)
            .unwrap()
            .confinable()
            .unwrap();
        connection.confine(&effective, "a").unwrap();
        for (sql, uses) in [
            ("SELECT total FROM orders", "orders USING INDEX orders_of (organization_id=?)"),
            (
                "SELECT count(*) FROM orders WHERE state = 'open'",
                "orders USING COVERING INDEX orders_of (organization_id=? AND state=?)",
            ),
            (
                "SELECT o.id FROM orders o WHERE o.state IN ('open', 'paid')",
                "orders_of (organization_id=? AND state=?)",
            ),
            (
                "SELECT * FROM members WHERE id = 3",
                "members USING PRIMARY KEY (organization_id=? AND id=?)",
            ),
            ("SELECT * FROM orders WHERE id = 3", "orders USING INTEGER PRIMARY KEY (rowid=?)"),
            (
                "UPDATE orders SET total = 1 WHERE state = 'open'",
                "orders_of (organization_id=? AND state=?)",
            ),
            (
                "DELETE FROM members WHERE id > 3",
                "members USING PRIMARY KEY (organization_id=? AND id>?)",
            ),
        ] {
            let plan: Vec<String> = connection.engine(|connection| {
                let mut statement =
                    connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
                statement
                    .query_map([], |row| row.get(3))
                    .unwrap()
                    .collect::<Result<_, _>>()
                    .unwrap()
            });
            assert!(plan.iter().any(|line| line.contains(uses)), "{sql}: {plan:#?}");
        }
    }
}
