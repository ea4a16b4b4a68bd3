//! A worker that takes steps: statements of its own, and changes that the app makes between them.

use serde_json::{Value as Json, json};
use verger::verger_worker::prelude::*;

/// Does what its args list: a statement, `checkpoint`, or `app: …` for SQL that the app runs then.
/// Answers with what came of each.
pub(super) struct Steps;

pub(super) const TABLES: [&str; 4] = ["t", "u", "orders", "lines"];

impl Worker for Steps {
    fn manifest(&self) -> Manifest {
        let all = |table: &str| TableAsk::named(table).read().insert().update().delete();
        let manifest = Manifest::new("steps", "1.0.0").tenant_aware().capability("app");
        TABLES.into_iter().map(all).fold(manifest, Manifest::table)
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let steps: Vec<String> = args.get("steps")?;
        let mut came = Vec::new();
        for step in &steps {
            let done = if step == "checkpoint" {
                job.checkpoint().map(|()| json!(null))
            } else if let Some(sql) = step.strip_prefix("app: ") {
                job.call("app", &json!(sql))
            } else if let Some(sql) = step.strip_prefix("half: ") {
                half(job, sql)
            } else {
                one(job, step)
            };
            came.push(match done {
                Ok(done) => json!({ "ok": done }),
                Err(error) => json!({ "error": format!("{}: {}", error.code, error.message) }),
            });
        }
        Ok(Outcome::DoneWith(json!(came)))
    }
}

fn one(job: &Context<'_>, sql: &str) -> Result<Json, HostError> {
    if !sql.starts_with("SELECT") && !sql.contains("RETURNING") {
        return job.execute(sql, params![]).map(|changed| json!(changed));
    }
    let rows = job.query(sql, params![])?.rows().collect::<Result<Vec<_>, _>>()?;
    Ok(shown(&rows))
}

/// A query, of which one row is read, then something the app does, then the rest.
fn half(job: &Context<'_>, sql: &str) -> Result<Json, HostError> {
    let (query, change) = sql.split_once(" THEN ").unwrap();
    let mut cursor = job.query(query, params![])?;
    let mut rows = cursor.next_chunk(1)?;
    job.call("app", &json!(change))?;
    rows.extend(cursor.next_chunk(100)?);
    Ok(shown(&rows))
}

fn shown(rows: &[Row]) -> Json {
    let json = |value: &Value| match value {
        Value::Null => Json::Null,
        Value::Integer(number) => json!(number),
        Value::Real(number) => json!(format!("{number:?}")),
        Value::Text(text) => json!(text),
        Value::Blob(bytes) => json!(bytes),
    };
    rows.iter().map(|row| Json::Array(row.values().iter().map(json).collect())).collect()
}
