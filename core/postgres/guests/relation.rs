//! A table or view as the server's catalog has it.

use super::roles::quoted;
use crate::postgres::session::Session;
use crate::store::StoreError;

/// What `pg_class` calls a table, plain or partitioned.
const TABLES: [&str; 2] = ["r", "p"];

/// The policy that leaves everybody else as they were.
pub(super) const FOR_ALL: &str = "verger_all";

#[derive(Clone)]
pub(super) struct Relation {
    pub(super) schema: String,
    pub(super) name: String,
    kind: String,
    pub(super) columns: Vec<Column>,
    pub(super) has_row_security: bool,
    /// Row security was switched on for a component, and hides nothing from others.
    pub(super) is_open_to_others: bool,
    /// It has policies that are the app's own.
    pub(super) has_own_policies: bool,
}

#[derive(Clone)]
pub(super) struct Column {
    pub(super) name: String,
    kind: String,
    /// The sequence its default takes a number from.
    pub(super) sequence: Option<String>,
}

impl Relation {
    /// The relation of this name, where the engine's session looks for names.
    pub(super) fn find(session: &mut Session, table: &str) -> Result<Option<Self>, StoreError> {
        const FINDING: &str = "look for the tables of a component";
        let name = quoted(table);
        let found = session.first(
            FINDING,
            "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relrowsecurity, \
             EXISTS (SELECT 1 FROM pg_policy WHERE polrelid = c.oid AND polname = $2 AND 0::oid = ANY (polroles)), \
             EXISTS (SELECT 1 FROM pg_policy WHERE polrelid = c.oid AND NOT starts_with(polname::text, 'verger_')) \
             FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)",
            &[&name, &FOR_ALL],
        )?;
        let Some(found) = found else { return Ok(None) };
        let oid: u32 = found.get(0);
        let columns = session.query(
            FINDING,
            "SELECT a.attname::text, t.typname::text, CASE WHEN a.attidentity = '' THEN pg_get_serial_sequence($2, a.attname) END \
             FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped \
             ORDER BY a.attnum",
            &[&oid, &name],
        )?;
        let column = |row: &postgres::Row| Column {
            name: row.get(0),
            kind: row.get(1),
            sequence: row.get(2),
        };
        Ok(Some(Self {
            schema: found.get(1),
            name: found.get(2),
            kind: found.get(3),
            has_row_security: found.get(4),
            is_open_to_others: found.get(5),
            has_own_policies: found.get(6),
            columns: columns.iter().map(column).collect(),
        }))
    }

    pub(super) fn is_table(&self) -> bool {
        TABLES.contains(&self.kind.as_str())
    }

    /// Its name as SQL has it.
    pub(super) fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }

    /// The column that a grant names, in whatever case.
    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// Two columns that a grant cannot tell apart.
    pub(super) fn ambiguous_column(&self) -> Option<&str> {
        let mut names = std::collections::BTreeSet::new();
        let again = self.columns.iter().find(|column| !names.insert(column.name.to_lowercase()));
        again.map(|column| column.name.as_str())
    }
}

impl Column {
    /// SQL for the tenant of the transaction, as this column has tenants. `None` for a type that a
    /// text cannot be compared with.
    ///
    /// Without a length: a cast to a type with one cuts the text, to that of another tenant.
    pub(super) fn tenant(&self) -> Option<String> {
        let cast = match self.kind.as_str() {
            "text" | "varchar" => "text",
            "int2" | "int4" | "int8" => "bigint",
            "bpchar" => "pg_catalog.bpchar",
            "uuid" => "uuid",
            "numeric" => "numeric",
            _ => return None,
        };
        Some(format!("verger_run.tenant()::{cast}"))
    }
}
