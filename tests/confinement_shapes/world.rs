//! A database with the rows of some tenants, and a run confined to one of them or to none.

use std::path::Path;

use serde_json::{Value as Json, json};
use verger::rusqlite::Connection;
use verger::{Grant, PerformError, Verger};

use super::worker::{Steps, TABLES};

pub(super) struct World {
    verger: Verger,
    app: Connection,
    organization: Json,
    _folder: tempfile::TempDir,
}

impl World {
    /// `{t}` in `fill` stands for the tenant, `{n}` for a number that is another for each.
    pub(super) fn open(
        schema: &str,
        fill: &str,
        tenants: &[(&str, i64)],
        organization: Json,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let grant = TABLES.into_iter().fold(Grant::new(), Grant::write);
        let grant = grant.tenant_column("org").capability("app");
        let file = path.clone();
        let verger = Verger::builder(&path)
            .without_built_ins()
            .worker(Steps)
            .grant("steps", grant)
            .slow_capability("app", move |call| {
                let sql = call.request.as_str().unwrap_or_default();
                run_as_app(&file, sql).map(|()| json!(null)).map_err(|error| error.to_string())
            })
            .open()
            .unwrap();
        let app = verger.connect().unwrap();
        app.execute_batch(schema).unwrap();
        for (tenant, number) in tenants {
            let sql = fill.replace("{t}", tenant).replace("{n}", &number.to_string());
            app.execute_batch(&sql).unwrap();
        }
        Self { verger, app, organization, _folder: folder }
    }

    pub(super) fn many(schema: &str, fill: &str) -> Self {
        Self::open(schema, fill, &[("b", 100), ("a", 0), ("c", 200)], json!("a"))
    }

    pub(super) fn run(&self, steps: &[&str]) -> Vec<Json> {
        let args = json!({"organization_id": self.organization, "actor_id": null, "steps": steps});
        match self.verger.perform_now("steps", args) {
            Ok(performed) => performed.result().unwrap().as_array().unwrap().clone(),
            Err(PerformError::Failed { source, .. }) => {
                vec![json!({ "error": format!("{}: {}", source.code, source.message) })]
            }
            Err(other) => panic!("{other}"),
        }
    }

    pub(super) fn rows(&self, sql: &str) -> Vec<String> {
        let mut statement = self.app.prepare(sql).unwrap();
        let width = statement.column_count();
        let row = |row: &verger::rusqlite::Row<'_>| {
            Ok((0..width).map(|at| format!("{:?} ", row.get_ref(at).unwrap())).collect())
        };
        statement.query_map([], row).unwrap().collect::<Result<_, _>>().unwrap()
    }
}

fn run_as_app(path: &Path, sql: &str) -> verger::rusqlite::Result<()> {
    Connection::open(path)?.execute_batch(sql)
}
