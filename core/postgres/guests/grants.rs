//! The statements that give the roles of components what they are to have: for whoever may.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::expected::{Expected, Granted};
use super::relation::FOR_ALL;
use super::roles::{Roles, Wanted, privilege, quoted, text};
use crate::postgres::session::Session;
use crate::store::StoreError;
use crate::text::hex;

/// To a text, which takes everything.
macro_rules! line {
    ($sql:expr, $($word:tt)*) => {
        let _ = writeln!($sql, $($word)*);
    };
}

/// SQL that makes the roles, and brings what each has to what its grant says. It can be run again.
/// The second list says what cannot be granted, and why.
pub(in crate::postgres) fn grants(
    session: &mut Session,
    roles: &Roles,
    wanted: &[Wanted],
) -> Result<(String, Vec<String>), StoreError> {
    let (mut sql, mut wrong) = (String::new(), Vec::new());
    // In one transaction nobody sees a table whose policies are half made.
    line!(sql, "BEGIN;\n");
    for wanted in wanted {
        let (expected, not) = Expected::of(session, roles, wanted)?;
        wrong.extend(not);
        for expected in &expected {
            role(&mut sql, roles, expected);
        }
        if wanted.tenant_column.is_none() {
            no_more(&mut sql, &roles.name(&wanted.worker, true));
        }
    }
    line!(sql, "COMMIT;");
    Ok((sql, wrong))
}

fn role(sql: &mut String, roles: &Roles, expected: &Expected) {
    let (name, password) = (&expected.role, roles.password(&expected.role));
    let role = quoted(name);
    let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
    line!(sql, "-- The worker {}.", expected.worker);
    line!(
        sql,
        "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {}) THEN CREATE ROLE {role} NOINHERIT; END IF; END $$;",
        text(name)
    );
    line!(sql, "ALTER ROLE {role} LOGIN PASSWORD {};", text(&verifier));
    line!(sql, "SELECT verger.take_back({});", text(name));
    let schemas: BTreeSet<&str> =
        expected.tables.iter().map(|granted| granted.relation.schema.as_str()).collect();
    for schema in schemas {
        let schema = quoted(schema);
        line!(sql, "GRANT USAGE ON SCHEMA {schema} TO {role};");
    }
    if expected.is_confined {
        // The views of a tenant, made anew.
        line!(sql, "DROP SCHEMA IF EXISTS {role} CASCADE;");
        line!(sql, "CREATE SCHEMA {role};");
        line!(sql, "GRANT USAGE ON SCHEMA {role} TO {role};");
    }
    for granted in &expected.tables {
        if let Some(tenant) = &granted.tenant {
            confine(sql, &role, granted, tenant);
        }
        verbs(sql, &granted.relation.quoted(), &role, granted);
        sequences(sql, &role, granted);
    }
    line!(sql, "");
}

/// A role whose worker has no tenants any more can do nothing.
fn no_more(sql: &mut String, name: &str) {
    let (role, name) = (quoted(name), text(name));
    line!(
        sql,
        "DO $$ BEGIN IF EXISTS (SELECT FROM pg_roles WHERE rolname = {name}) THEN \
         PERFORM verger.take_back({name}); DROP SCHEMA IF EXISTS {role} CASCADE; ALTER ROLE {role} NOLOGIN; END IF; END $$;\n"
    );
}

/// What may be done with a relation: the table, or the tenant's view of it.
fn verbs(sql: &mut String, relation: &str, role: &str, granted: &Granted) {
    for (verb, only) in &granted.verbs {
        let columns = granted.columns(*verb, only.as_ref());
        let columns: Vec<String> = columns.into_iter().map(quoted).collect();
        let columns = match only {
            Some(_) if !columns.is_empty() => format!(" ({})", columns.join(", ")),
            _ => String::new(),
        };
        line!(sql, "GRANT {}{columns} ON {relation} TO {role};", privilege(*verb));
    }
}

/// The sequences that the defaults of its columns take numbers from.
fn sequences(sql: &mut String, role: &str, granted: &Granted) {
    if granted.verbs.contains_key(&verger_worker::Verb::Insert) {
        for sequence in
            granted.relation.columns.iter().filter_map(|column| column.sequence.as_ref())
        {
            line!(sql, "GRANT USAGE ON SEQUENCE {sequence} TO {role};");
        }
    }
}

/// A name that fits beside others, whatever the length of the role's.
fn short(role: &str) -> String {
    hex(&Sha256::digest(role)[..8])
}

/// The rows of one tenant: a policy that shows no others, and a view that fills the tenant in.
fn confine(sql: &mut String, role: &str, granted: &Granted, tenant: &str) {
    let relation = &granted.relation;
    let Some(value) = relation.column(tenant).and_then(super::relation::Column::tenant) else {
        return;
    };
    let (table, column) = (relation.quoted(), quoted(tenant));
    line!(sql, "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;");
    if !relation.has_row_security || relation.is_open_to_others {
        // Nobody else is to see less than before.
        line!(sql, "DROP POLICY IF EXISTS {FOR_ALL} ON {table};");
        line!(sql, "CREATE POLICY {FOR_ALL} ON {table} TO PUBLIC USING (true) WITH CHECK (true);");
    } else {
        let rows = "verger_rows_of_".to_string() + &short(role);
        line!(sql, "CREATE POLICY {rows} ON {table} TO {role} USING (true) WITH CHECK (true);");
    }
    // As a query of its own it is asked once a statement, and an index on the column serves.
    let condition = match value.split_once("::") {
        Some((call, cast)) => format!("{column} = (SELECT {call})::{cast}"),
        None => format!("{column} = (SELECT {value})"),
    };
    line!(
        sql,
        "CREATE POLICY {role} ON {table} AS RESTRICTIVE TO {role} USING ({condition}) WITH CHECK ({condition});"
    );
    let view = format!("{role}.{}", quoted(&relation.name));
    let viewed: Vec<String> = granted.viewed().into_iter().map(quoted).collect();
    line!(
        sql,
        "CREATE VIEW {view} WITH (security_invoker = true) AS SELECT {} FROM {table};",
        viewed.join(", ")
    );
    if viewed.contains(&column) {
        line!(sql, "ALTER VIEW {view} ALTER COLUMN {column} SET DEFAULT {value};");
    }
    verbs(sql, &view, role, granted);
}
