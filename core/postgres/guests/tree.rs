//! What a component's statement calls and reads, by the server's own parse tree.
//!
//! The role of a worker touches what it was granted. But the server gives some functions to every
//! role, and on most servers nobody can take them back: to wait, to write large objects, to notify,
//! to lock, to change a setting, to look into the catalog. A function can be called in ways that no
//! list of words knows: `(1).lo_creat`. So the engine has the server parse each new text as the
//! body of a function, reads the tree that the catalog keeps of it, and undoes that. The tree names
//! every function, table and type by its number, however it was written. What makes a table, such
//! as `SELECT … INTO`, is no body of a function, so the server refuses it there.

use std::collections::HashMap;
use std::sync::Mutex;

use postgres::types::Type;
use sha2::{Digest, Sha256};

use super::roles::type_name;
use crate::mutex::lock;
use crate::postgres::failure::{is_cancelled, is_of_the_statement, store_error, words};
use crate::postgres::session::Session;
use crate::store::StoreError;
use crate::text::hex;

const CHECKING: &str = "look at the statement of a worker";

/// Verdicts that are kept. Workers send few texts, and some put values into them.
const KEPT_MAX: usize = 4_096;

/// The server's functions that compute although it does not call them immutable: most depend on
/// the time zone or on how a type is written. Of its other functions and of those of extensions the
/// immutable ones are allowed. The app's own are not: what they call is not in the tree.
const COMPUTES: &[&str] = &[
    "array_to_json",
    "array_to_string",
    "concat",
    "concat_ws",
    "date",
    "date_part",
    "date_trunc",
    "extract",
    "format",
    "generate_series",
    "json_agg",
    "json_build_array",
    "json_build_object",
    "json_object_agg",
    "jsonb_agg",
    "jsonb_build_array",
    "jsonb_build_object",
    "jsonb_object_agg",
    "make_timestamptz",
    "quote_literal",
    "quote_nullable",
    "random",
    "row_to_json",
    "time",
    "timestamp",
    "timestamptz",
    "timetz",
    "to_char",
    "to_date",
    "to_json",
    "to_jsonb",
    "to_number",
    "to_timestamp",
];

/// The functions behind LIKE.
const LIKE: &[&str] = &[
    "bpcharlike",
    "bpcharnlike",
    "bytealike",
    "byteanlike",
    "namelike",
    "namenlike",
    "textlike",
    "textnlike",
];

/// Immutable functions that look into the catalog, or open what they are told to.
const LOOKS_AROUND: &str =
    "^(pg_|acl|makeacl|xml|xpath|querytree|satisfies_hash_partition|postgresql_fdw_validator)";

/// The first thing that a component may not use: what kind of thing, and its name.
const LOOK: &str = "WITH body AS MATERIALIZED (SELECT prosqlbody::text AS tree FROM pg_proc WHERE proname = $1 AND pronamespace = 'verger'::regnamespace), \
     used AS MATERIALIZED (SELECT m[1] AS what, m[2]::oid AS oid FROM body CROSS JOIN LATERAL \
     regexp_matches(tree, ':(funcid|opfuncid|aggfnoid|winfnoid|tsmhandler|relid|\\w*type|\\w*typid) (\\d+)', 'g') AS m GROUP BY 1, 2), \
     types AS MATERIALIZED (SELECT oid FROM used WHERE what ~ 'typ(e|id)$' UNION SELECT each::oid FROM body CROSS JOIN LATERAL \
     regexp_matches(tree, '\\(o ([0-9 ]+)\\)', 'g') AS list CROSS JOIN LATERAL regexp_split_to_table(list[1], ' ') AS each), \
     known AS MATERIALIZED (SELECT p.oid, p.proname::text AS name, p.prosecdef, p.provolatile, p.pronamespace IN ('pg_catalog'::regnamespace, \
     'verger_sql'::regnamespace) OR p.prokind <> 'a' AND p.pronargdefaults = 0 AND EXISTS (SELECT 1 FROM pg_depend WHERE classid = 'pg_proc'::regclass \
     AND objid = p.oid AND deptype = 'e') AS is_shipped, p.pronamespace FROM pg_proc AS p WHERE p.oid IN (SELECT oid FROM used)) \
     SELECT 'function', name FROM used JOIN known AS p USING (oid) WHERE what IN ('funcid', 'aggfnoid', 'winfnoid', 'tsmhandler') \
     AND (p.prosecdef OR NOT is_shipped OR name ~ $5 OR NOT (p.provolatile = 'i' OR p.pronamespace = 'verger_sql'::regnamespace \
     OR p.pronamespace = 'pg_catalog'::regnamespace AND name = ANY ($2))) \
     UNION ALL SELECT 'operator', name FROM used JOIN known AS p USING (oid) WHERE what = 'opfuncid' \
     AND (p.prosecdef OR p.provolatile = 'v' OR NOT is_shipped) \
     UNION ALL SELECT 'catalog', c.relname::text FROM used JOIN pg_class AS c USING (oid) JOIN pg_namespace AS n ON n.oid = c.relnamespace \
     WHERE what = 'relid' AND (n.nspname IN ('pg_catalog', 'information_schema', 'verger') OR n.nspname ~ '^pg_toast') \
     UNION ALL SELECT 'type', t.typname::text FROM types JOIN pg_type AS t USING (oid) LEFT JOIN pg_type AS e ON e.oid = t.typelem \
     WHERE t.typnamespace = 'pg_catalog'::regnamespace AND (t.typname ~ '^_?(reg|xml|aclitem)' OR 'c' IN (t.typtype, e.typtype)) \
     UNION ALL SELECT 'value', '' FROM body WHERE tree LIKE '%{SQLVALUEFUNCTION %' \
     UNION ALL SELECT 'xml', '' FROM body WHERE tree LIKE '%{XMLEXPR %' OR tree LIKE '%{TABLEFUNC %' \
     UNION ALL SELECT 'like', '' FROM used JOIN pg_proc AS p USING (oid) WHERE NOT $4 AND what IN ('opfuncid', 'funcid') AND p.proname = ANY ($3) \
     AND p.pronamespace = 'pg_catalog'::regnamespace LIMIT 1";

/// Why a component may not send a statement, or `None` if it may.
pub(in crate::postgres) type Verdict = Option<String>;

/// The wall, with a session of the engine's own that is used for nothing else. It waits for nobody
/// long: what it waits for may wait for the component.
pub(in crate::postgres) struct Tree {
    session: Mutex<Session>,
    /// What the function is called, here and nowhere else.
    name: String,
    known: Mutex<HashMap<[u8; 32], Verdict>>,
}

/// What a statement is looked at with.
pub(in crate::postgres) struct Statement<'s> {
    pub(in crate::postgres) sql: &'s str,
    pub(in crate::postgres) params: &'s [Type],
    /// Where its names are looked for.
    pub(in crate::postgres) path: &'s str,
    /// The worker was written for this server too.
    pub(in crate::postgres) knows_both: bool,
}

impl Tree {
    /// `name` is another one for each.
    pub(in crate::postgres) fn new(session: Session, name: &[u8]) -> Self {
        Self { session: Mutex::new(session), name: hex(name), known: Mutex::default() }
    }

    pub(in crate::postgres) fn verdict(
        &self,
        statement: &Statement<'_>,
    ) -> Result<Verdict, StoreError> {
        let mut digest = Sha256::new();
        for part in [statement.path, "\0", statement.sql] {
            digest.update(part);
        }
        digest.update([u8::from(statement.knows_both)]);
        let key: [u8; 32] = digest.finalize().into();
        if let Some(known) = lock(&self.known).get(&key) {
            return Ok(known.clone());
        }
        let seen = self
            .read(statement, |session, function| look(session, function, statement.knows_both))?;
        let verdict = seen.unwrap_or_else(Some);
        let mut known = lock(&self.known);
        if known.len() >= KEPT_MAX {
            known.clear();
        }
        known.insert(key, verdict.clone());
        Ok(verdict)
    }

    /// Does this with the function whose body the statement is, by its name, and undoes it. `Err`
    /// says why the statement is no body of a function.
    pub(in crate::postgres) fn read<T>(
        &self,
        statement: &Statement<'_>,
        work: impl FnOnce(&mut Session, &str) -> Result<T, StoreError>,
    ) -> Result<Result<T, String>, StoreError> {
        let (session, function) = (&mut *lock(&self.session), format!("looked_at_{}", self.name));
        let begin = format!(
            "BEGIN; SET LOCAL search_path = {}; SET LOCAL lock_timeout = 2000; SET LOCAL statement_timeout = 2000",
            statement.path
        );
        session.begin(CHECKING, &begin)?;
        let done = match make(session, &function, statement) {
            Ok(Ok(())) => work(session, &function).map(Ok),
            Ok(Err(why)) => Ok(Err(why)),
            Err(error) => Err(error),
        };
        session.roll_back();
        done
    }
}

/// Makes a function of this name, whose body is the statement. `Err` says why it is none.
fn make(
    session: &mut Session,
    function: &str,
    statement: &Statement<'_>,
) -> Result<Result<(), String>, StoreError> {
    let params: Vec<String> = statement.params.iter().map(type_name).collect();
    // The text was taken as one statement before. It may end in a comment.
    let create = format!(
        "CREATE FUNCTION verger.{function} ({}) RETURNS void LANGUAGE sql BEGIN ATOMIC {}\n; END",
        params.join(", "),
        statement.sql
    );
    // By the protocol that takes one statement only.
    match session.noticing(|client| client.execute(&create, &[]))? {
        Ok(_) => Ok(Ok(())),
        Err(error) if is_cancelled(&error) => {
            let why = "the statement takes too long to be understood: write a simpler one";
            Ok(Err(why.to_string()))
        }
        Err(error) if is_refusal(&error) => {
            Ok(Err(format!("a component may not send this: {}", words(&error))))
        }
        Err(error) => Err(store_error(CHECKING, &error)),
    }
}

/// What is wrong with the body of a function.
fn look(session: &mut Session, function: &str, knows_both: bool) -> Result<Verdict, StoreError> {
    let row = session.first(
        CHECKING,
        LOOK,
        &[&function, &COMPUTES, &LIKE, &knows_both, &LOOKS_AROUND],
    )?;
    let Some(row) = row else { return Ok(None) };
    let (kind, name): (&str, &str) = (row.get(0), row.get(1));
    Ok(Some(match kind {
        "function" => format!("the function {name} is not for components: they call those that only compute"),
        "operator" => format!("the operator of {name} is not for components: it does more than compute"),
        "catalog" => format!("{name} is not for components: it belongs to the server, or to Verger"),
        "type" => format!("the type {name} is not for components: it looks into the catalog"),
        "like" => "LIKE ignores case on SQLite and does not on PostgreSQL: a worker whose manifest says that its SQL is for both may use it".to_string(),
        "xml" => "XML is not for components".to_string(),
        _ => "the server's clock and names of users are not for components: bind the time of the clock interface".to_string(),
    }))
}

/// The statement is no body of a function. That the engine lacks a right is not its fault.
fn is_refusal(error: &postgres::Error) -> bool {
    use postgres::error::SqlState;
    let is_denied = error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE);
    let is_unsupported = error.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED);
    (is_of_the_statement(error) && !is_denied) || is_unsupported
}
