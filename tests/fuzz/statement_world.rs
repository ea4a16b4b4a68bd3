//! The world that a stranger's statement runs in: tables it may use, tables it may not, rows of
//! other tenants. Whatever its text, it ends with an answer or with a known code, tells nothing of
//! what is closed, and changes nothing of it.
//!
//! For the surface `statements` of `cargo test --test fuzz`, and for libFuzzer (`libfuzzer/`).

use std::time::Duration;

use serde_json::{Value as Json, json};
use verger::rusqlite::Connection;
use verger::verger_worker::prelude::*;
use verger::{Grant, PerformError, Verger};

/// Sends the statements of its args as they are.
struct Sends;

impl Worker for Sends {
    fn manifest(&self) -> Manifest {
        let all = |table: &str| TableAsk::named(table).read().insert().update().delete();
        let tables = ["things", "keyed", "found", "other", "seen"].into_iter().map(all);
        tables.fold(Manifest::new("sends", "1.0.0").tenant_aware(), Manifest::table)
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let sql: String = args.get("sql")?;
        let params = || vec![Value::Integer(1), Value::Text("x".to_string())];
        let mut told = Vec::new();
        // As a query and as a statement, with parameters and without.
        for params in [params(), params()[..1].to_vec(), Vec::new()] {
            match job.query(&sql, params.clone()).and_then(|mut rows| rows.next_chunk(64)) {
                Ok(rows) => told.push(json!(
                    rows.iter().map(|row| format!("{:?}", row.values())).collect::<Vec<_>>()
                )),
                Err(error) => told.push(json!([error.code, error.message])),
            }
            match job.execute(&sql, params) {
                Ok(changed) => told.push(json!(changed)),
                Err(error) => told.push(json!([error.code, error.message])),
            }
        }
        Ok(Outcome::DoneWith(json!(told)))
    }
}

/// `things` and `keyed` belong to tenants; of `other` one column is granted, `seen` is a view on what
/// is closed.
const SCHEMA: &str = "
    CREATE TABLE things (id INTEGER PRIMARY KEY, org TEXT, name TEXT, value, twice AS (value * 2));
    CREATE INDEX things_of ON things (org, name);
    CREATE TABLE keyed (a TEXT, b, org TEXT, n INTEGER, PRIMARY KEY (a, b)) WITHOUT ROWID;
    CREATE TABLE other (id INTEGER PRIMARY KEY, org TEXT, secret TEXT);
    CREATE TABLE closed (id INTEGER PRIMARY KEY, org TEXT, secret TEXT);
    CREATE VIRTUAL TABLE found USING fts5(name, org UNINDEXED);
    CREATE VIEW seen AS SELECT id, org FROM closed;
    CREATE TRIGGER things_told AFTER INSERT ON things BEGIN INSERT INTO closed (org, secret) SELECT 'z', 'told' WHERE 0; END;
    INSERT INTO things (id, org, name, value) VALUES (1, 'a', 'x', 1), (2, 'a', 'y', 'two'), (101, 'b', 'canary', 'canary');
    INSERT INTO keyed VALUES ('k', 1, 'a', 1), ('k', 'canary', 'b', 2);
    INSERT INTO other VALUES (1, 'a', 'hushed'), (2, 'b', 'hushed');
    INSERT INTO closed VALUES (1, 'a', 'hushed'), (2, 'b', 'hushed');
    INSERT INTO found VALUES ('x', 'a'), ('canary', 'b');
";

/// What nobody may have changed: for a job of one tenant, and for a job of none.
const CLOSED: [&str; 2] = [
    "SELECT id, org, secret, '' FROM closed UNION ALL SELECT id, org, secret, '' FROM other
     UNION ALL SELECT id, org, name, value FROM things WHERE org IS NOT 'a'
     UNION ALL SELECT b, org, a, n FROM keyed WHERE org IS NOT 'a'
     UNION ALL SELECT rowid, org, name, '' FROM found WHERE org IS NOT 'a' ORDER BY 1, 2, 3",
    "SELECT id, org, secret, '' FROM closed UNION ALL SELECT id, org, secret, '' FROM other ORDER BY 1, 2, 3",
];

/// The codes that a statement may end with.
const CODES: [&str; 9] =
    ["sql", "row", "denied", "limit", "constraint", "deadline", "invalid", "lock-held", "store"];

pub(crate) struct World {
    verger: Verger,
    app: Connection,
    closed: [Vec<String>; 2],
}

impl World {
    pub(crate) fn new() -> Self {
        let grant = ["things", "keyed", "found"].into_iter().fold(Grant::new(), Grant::write);
        let grant = grant.read_columns("other", ["id"]).read("seen").tenant_column("org");
        let grant = grant.time_limit(Duration::from_secs(2));
        let verger = Verger::in_memory()
            .without_built_ins()
            .worker(Sends)
            .grant("sends", grant)
            .open()
            .unwrap();
        let app = verger.connect().unwrap();
        app.execute_batch(SCHEMA).unwrap();
        let closed = CLOSED.map(|sql| rows(&app, sql));
        Self { verger, app, closed }
    }

    /// What a text came to, in a word; or what is wrong.
    pub(crate) fn check(&self, text: &[u8]) -> Result<String, String> {
        let sql = String::from_utf8_lossy(text);
        let mut kind = String::new();
        for (organization, closed) in [(json!("a"), 0), (Json::Null, 1)] {
            let args = json!({"organization_id": organization, "actor_id": null, "sql": sql});
            // What it does is undone.
            let told = match self.verger.dry_run("sends", args) {
                Ok(performed) => performed.result().cloned().unwrap_or_default(),
                Err(PerformError::Failed { source, .. })
                    if CODES.contains(&source.code.as_str()) =>
                {
                    json!([[source.code, source.message]])
                }
                Err(PerformError::Failed { source, .. }) => {
                    return Err(format!("{}: {}", source.code, source.message));
                }
                Err(other) => return Err(other.to_string()),
            };
            let said = told.to_string();
            // The statement's own words come back in what it selects, and in errors.
            for (word, is_closed) in [("canary", closed == 0), ("hushed", true)] {
                if is_closed && said.contains(word) && !sql.to_ascii_lowercase().contains(word) {
                    return Err(format!("it was told of what is closed: {said}"));
                }
            }
            if said.contains("verger_") && !sql.to_ascii_lowercase().contains("verger") {
                return Err(format!("it was told of the walls: {said}"));
            }
            if rows(&self.app, CLOSED[closed]) != self.closed[closed] {
                return Err("what is closed was changed".to_string());
            }
            // A row begins with a bracket.
            let codes = told.as_array().into_iter().flatten().filter_map(|told| told[0].as_str());
            for code in codes.filter(|code| !code.starts_with('[')) {
                if !CODES.contains(&code) {
                    return Err(format!("it ended with {code}"));
                }
            }
            kind = match told.as_array().and_then(|told| told.last()) {
                Some(Json::Number(_)) => "executed".to_string(),
                Some(Json::Array(told)) => {
                    told.first().and_then(Json::as_str).unwrap_or("queried").to_string()
                }
                _ => "queried".to_string(),
            };
        }
        Ok(kind)
    }
}

fn rows(app: &Connection, sql: &str) -> Vec<String> {
    let mut statement = app.prepare_cached(sql).unwrap();
    let row = |row: &verger::rusqlite::Row<'_>| {
        (0..4).map(|at| row.get_ref(at).map(|cell| format!("{cell:?} "))).collect()
    };
    let rows = statement.query_map([], row).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}
