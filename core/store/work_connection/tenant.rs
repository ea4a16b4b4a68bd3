//! The walls around a tenant, and the schema they are built from.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{WorkConnection, has_log};
use crate::grant::Effective;
use crate::store::confinement::{ChangeMark, Confinement};
use crate::store::late_checks;
use crate::store::unasked::{self};

impl WorkConnection {
    /// Looks at the schema if it changed, and returns whether it had. It is called in each
    /// transaction before a worker's first statement, because the schema then stays the same until
    /// the transaction ends.
    pub(crate) fn learn(&self) -> rusqlite::Result<bool> {
        self.engine(|connection| {
            let version = connection.prepare_cached("PRAGMA main.schema_version")?.query_row([], |row| row.get(0))?;
            if version == self.schema.get() {
                return Ok(false);
            }
            self.has_log.set(has_log(connection)?);
            self.has_late_checks.set(late_checks::are_in_schema(connection)?);
            let names = |sql: &str| -> rusqlite::Result<BTreeSet<String>> {
                connection.prepare(sql)?.query_map([], |row| row.get::<_, String>(0).map(|name| name.to_ascii_lowercase()))?.collect()
            };
            let views = names("SELECT name FROM main.sqlite_schema WHERE type = 'view'")?;
            let tables = names("SELECT name FROM main.sqlite_schema WHERE type = 'table' UNION ALL SELECT name FROM pragma_module_list")?;
            let virtual_tables = unasked::virtual_tables(connection)?;
            let mut state = self.handlers.state();
            (state.around.views, state.around.tables) = (views, tables);
            state.around.virtual_tables = virtual_tables;
            drop(state);
            self.programs.forget();
            self.unasked.forget();
            self.schema.set(version);
            Ok(true)
        })
    }

    /// The version of the schema that was last looked at.
    pub(crate) fn schema(&self) -> i64 {
        self.schema.get()
    }

    /// Whether the schema has failures that a statement's own result does not show.
    pub(crate) fn has_late_checks(&self) -> bool {
        self.has_late_checks.get()
    }

    /// Whether a commit would be refused now, because a foreign key does not hold yet.
    pub(crate) fn is_key_owed(&self) -> bool {
        self.has_late_checks.get() && late_checks::is_key_owed(&self.connection)
    }

    /// Makes this a connection whose workers see one tenant only; see [`confine`](Self::confine).
    pub(crate) fn confinable(mut self) -> rusqlite::Result<Self> {
        self.confinement = Some(Confinement::install(&self, Arc::clone(&self.handlers.inner))?);
        Ok(self)
    }

    pub(crate) fn is_confinable(&self) -> bool {
        self.confinement.is_some()
    }

    /// Makes workers see only the rows of this tenant in the tables of this grant, until the next
    /// call.
    pub(crate) fn confine(&self, grant: &Effective, tenant: &str) -> rusqlite::Result<()> {
        let Some(confinement) = &self.confinement else { return Ok(()) };
        let confined = confinement.confine(self, grant, tenant);
        self.handlers.state().around.confined = Some(confinement.shadows());
        confined
    }

    pub(super) fn schema_version(&self) -> rusqlite::Result<i64> {
        self.engine(|connection| {
            connection.prepare_cached("PRAGMA main.schema_version")?.query_row([], |row| row.get(0))
        })
    }

    /// A mark, to ask [later](Self::changed_since) what was changed after it.
    pub(crate) fn change_mark(&self) -> ChangeMark {
        let (changed, writes) =
            self.confinement.as_ref().map(Confinement::changed).unwrap_or_default();
        ChangeMark { writes, changed, total: self.connection.total_changes() }
    }

    /// The rows that a worker's statement changed, given how many SQLite counts for it. Rows
    /// changed through the tenant's walls are counted there. Rows that INSTEAD OF triggers of a
    /// view changed are not in SQLite's own count.
    pub(crate) fn changed_since(&self, mark: ChangeMark, counted: u64) -> u64 {
        let now = self.change_mark();
        match () {
            () if now.writes != mark.writes => now.changed - mark.changed,
            () if counted == 0 => now.total - mark.total,
            () => counted,
        }
    }

    /// As [`changed_since`](Self::changed_since), with the count of the statement that ended last.
    pub(crate) fn changed_by_last_statement(&self, mark: ChangeMark) -> u64 {
        self.changed_since(mark, self.connection.changes())
    }

    /// Rows that were changed since the connection was opened, also by triggers.
    pub(crate) fn total_changes(&self) -> u64 {
        self.connection.total_changes()
    }

    /// A text without the names a worker must not learn.
    pub(crate) fn redact(&self, text: String) -> String {
        match &self.confinement {
            Some(confinement) => text.replace(confinement.token(), ""),
            None => text,
        }
    }
}
