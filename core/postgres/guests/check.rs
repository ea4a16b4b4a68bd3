//! Whether the roles of components have what they are to have, and no more.

use std::collections::BTreeSet;

use super::expected::{Expected, Privilege};
use super::roles::{Roles, Wanted};
use crate::postgres::session::Session;
use crate::store::StoreError;

const CHECKING: &str = "check the roles of components";

/// How many privileges a sentence names.
const NAMED: usize = 5;

/// What is wrong with the roles, a sentence each.
pub(in crate::postgres) fn check(
    session: &mut Session,
    roles: &Roles,
    wanted: &[Wanted],
) -> Result<Vec<String>, StoreError> {
    let mut wrong = Vec::new();
    let server = session.first(
        CHECKING,
        "SELECT current_setting('server_version_num')::int4 >= 150004, (SELECT count(DISTINCT nspowner) = 1 FROM pg_namespace \
         WHERE nspname IN ('verger', 'verger_run', 'verger_sql'))",
        &[],
    )?;
    let (is_new_enough, is_one_owner) = server.map_or((true, true), |row| (row.get(0), row.get(1)));
    if !is_new_enough {
        // CVE-2023-39418: MERGE did not ask the policies.
        wrong.push("components need PostgreSQL 15.4 or newer".to_string());
    }
    if !is_one_owner {
        wrong.push(
            "the schemas verger, verger_run and verger_sql have different owners".to_string(),
        );
    }
    for wanted in wanted {
        let (expected, not) = Expected::of(session, roles, wanted)?;
        wrong.extend(not);
        for expected in &expected {
            wrong.extend(wrong_with(session, expected)?);
        }
    }
    Ok(wrong)
}

fn wrong_with(session: &mut Session, expected: &Expected) -> Result<Vec<String>, StoreError> {
    let role = &expected.role;
    let Some(powers) = powers(session, role)? else {
        return Ok(vec![format!("the role {role} of worker `{}` is not there", expected.worker)]);
    };
    let mut wrong: Vec<String> =
        powers.into_iter().map(|power| format!("the role {role} {power}")).collect();
    let (wanted, found) = (expected.privileges(), found(session, role)?);
    for (which, names) in [
        ("has more than its worker was granted", found.difference(&wanted)),
        ("lacks what its worker was granted", wanted.difference(&found)),
    ]
    .map(|(which, names)| (which, names.map(named).collect::<Vec<_>>()))
    {
        if !names.is_empty() {
            let more = names.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let names: Vec<&str> = names.iter().take(NAMED).map(String::as_str).collect();
            wrong.push(format!("the role {role} {which}: {}{more}", names.join(", ")));
        }
    }
    for granted in &expected.tables {
        if let Some(tenant) = &granted.tenant
            && !is_confined(session, role, &granted.relation.quoted(), tenant)?
        {
            wrong.push(format!(
                "the table {} does not confine the role {role} to one tenant",
                granted.relation.quoted()
            ));
        }
    }
    Ok(wrong)
}

fn named((schema, relation, word, column): &Privilege) -> String {
    match column {
        Some(column) => format!("{word} on {schema}.{relation}.{column}"),
        None => format!("{word} on {schema}.{relation}"),
    }
}

/// What a role may that no grant of Verger's gives: powers that no policy stops, other roles,
/// things of its own. `None` when there is no such role.
fn powers(session: &mut Session, role: &str) -> Result<Option<Vec<&'static str>>, StoreError> {
    let row = session.first(
        CHECKING,
        "SELECT rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication, \
         EXISTS (SELECT 1 FROM pg_auth_members WHERE member = r.oid), \
         EXISTS (SELECT 1 FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = r.oid AND deptype = 'o'), \
         has_database_privilege(r.oid, current_database(), 'CREATE') \
         OR EXISTS (SELECT 1 FROM pg_namespace AS n WHERE has_schema_privilege(r.oid, n.oid, 'CREATE')) \
         FROM pg_roles AS r WHERE rolname = $1",
        &[&role],
    )?;
    let Some(row) = row else { return Ok(None) };
    let all = [
        "has powers of its own (SUPERUSER, BYPASSRLS, CREATEROLE, CREATEDB or REPLICATION)",
        "is a member of another role",
        "owns something",
        "may create schemas or tables",
    ];
    let has = |(place, power): (usize, &'static str)| row.get::<_, bool>(place).then_some(power);
    Ok(Some(all.into_iter().enumerate().filter_map(has).collect()))
}

/// What a role may do with the relations of the database, whoever it has that from.
fn found(session: &mut Session, role: &str) -> Result<BTreeSet<Privilege>, StoreError> {
    const WORDS: [&str; 7] =
        ["SELECT", "INSERT", "UPDATE", "REFERENCES", "DELETE", "TRUNCATE", "TRIGGER"];
    let rows = session.query(
        CHECKING,
        "WITH relations AS (SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name FROM pg_class AS c \
         JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') \
         AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)') \
         SELECT schema, name, place, attname::text FROM relations JOIN pg_attribute ON attrelid = oid AND attnum > 0 AND NOT attisdropped \
         CROSS JOIN unnest($2::text[]) WITH ORDINALITY AS word (word, place) WHERE place <= 4 AND has_column_privilege($1, oid, attname, word) \
         UNION ALL SELECT schema, name, place, NULL FROM relations CROSS JOIN unnest($2::text[]) WITH ORDINALITY AS word (word, place) \
         WHERE place > 4 AND has_table_privilege($1, oid, word)",
        &[&role, &WORDS.as_slice()],
    )?;
    let word = |place: i64| usize::try_from(place - 1).ok().and_then(|place| WORDS.get(place));
    let of = |row: &postgres::Row| {
        (row.get(0), row.get(1), word(row.get(2)).copied().unwrap_or_default(), row.get(3))
    };
    Ok(rows.iter().map(of).collect())
}

/// Whether a policy shows the role the rows of the transaction's tenant and no others, and its view
/// of the table has the role's own rights.
fn is_confined(
    session: &mut Session,
    role: &str,
    table: &str,
    tenant: &str,
) -> Result<bool, StoreError> {
    let sql = "SELECT c.relrowsecurity AND EXISTS (SELECT 1 FROM pg_policy AS p WHERE p.polrelid = c.oid AND NOT p.polpermissive AND p.polcmd = '*' \
         AND p.polroles = ARRAY[(SELECT oid FROM pg_roles WHERE rolname = $2)] \
         AND (SELECT bool_and(starts_with(expression, '((' || quote_ident($3) || ')::text = ( SELECT verger_run.tenant() AS tenant)') \
         OR starts_with(expression, '(' || quote_ident($3) || ' = ( SELECT verger_run.tenant() AS tenant)') \
         OR starts_with(expression, '(' || quote_ident($3) || ' = (( SELECT verger_run.tenant() AS tenant))::')) \
         FROM unnest(ARRAY[pg_get_expr(p.polqual, c.oid), pg_get_expr(p.polwithcheck, c.oid)]) AS expression)) \
         AND EXISTS (SELECT 1 FROM pg_class AS v JOIN pg_namespace AS n ON n.oid = v.relnamespace WHERE n.nspname = $2 AND v.relname = c.relname \
         AND v.relkind = 'v' AND 'security_invoker=true' = ANY (v.reloptions)) \
         FROM pg_class AS c WHERE c.oid = to_regclass($1)";
    let row = session.first(CHECKING, sql, &[&table, &role, &tenant])?;
    Ok(row.and_then(|row| row.get::<_, Option<bool>>(0)).unwrap_or(false))
}
