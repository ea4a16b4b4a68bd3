//! A database with one secret in all cells that the worker may not read, and the worker.

use serde_json::{Value as Json, json};
use verger::rusqlite::Connection;
use verger::verger_worker::prelude::*;
use verger::{PerformError, Verger};

use super::case::{Case, TABLES};
use super::rows::{Row, Rows};

/// Sends the SQL of its args; answers with the rows, or with the number of rows changed.
struct Sql;

const ASKED: [&str; 11] = [
    "whole", "narrow", "ledger", "sink", "keyed", "seen", "found", "notes", "closed", "extra",
    "doors",
];

impl Worker for Sql {
    fn manifest(&self) -> Manifest {
        let tables =
            ASKED.iter().map(|table| TableAsk::named(*table).read().insert().update().delete());
        tables.fold(Manifest::new("sql", "1.0.0").tenant_aware(), Manifest::table)
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let sql: String = args.get("sql")?;
        if args.get::<bool>("execute")? {
            return Ok(Outcome::DoneWith(json!(job.execute(&sql, params![])?)));
        }
        let rows = job.query(&sql, params![])?.rows().collect::<Result<Vec<_>, _>>()?;
        let rows: Vec<String> = rows.iter().map(|row| format!("{:?}", row.values())).collect();
        Ok(Outcome::DoneWith(json!(rows)))
    }
}

pub(super) struct World<'c> {
    case: &'c Case,
    verger: Verger,
    app: Connection,
    secret: i64,
}

impl<'c> World<'c> {
    pub(super) fn open(case: &'c Case, secret: i64) -> Self {
        let verger = Verger::in_memory()
            .without_built_ins()
            .worker(Sql)
            .grant("sql", case.grant())
            .open()
            .unwrap();
        let app = verger.connect().unwrap();
        app.execute_batch(&case.schema()).unwrap();
        let world = Self { case, verger, app, secret };
        world.fill();
        world
    }

    pub(super) fn fill(&self) {
        let mut sql = String::from("BEGIN; PRAGMA defer_foreign_keys = ON; ");
        for table in TABLES {
            sql.push_str(&format!("DELETE FROM {table}; "));
        }
        let others = if self.case.confined { 101..104 } else { 0..0 };
        for n in (1..5).chain(others) {
            let (mine, tenant) = (n < 100, if n < 100 { "a" } else { "b" });
            let hidden = |table: &str, column| !mine || !self.case.reads(table, column);
            for table in &TABLES[..8] {
                let pin = if hidden(table, 2) { self.secret + n } else { 4_710 + n };
                let c = match hidden(table, 3) {
                    true => format!("{tenant}canary{}", self.secret + n),
                    false => format!("{tenant}c{n}"),
                };
                let (org, its) = match self.case.shape {
                    6 => ("", String::new()),
                    _ => (", org", format!(", '{tenant}'")),
                };
                sql.push_str(&format!(
                    "INSERT INTO {table} (id, a, pin, c{org}) VALUES ({n}, 'a{n}', {pin}, '{c}'{its}); "
                ));
                // The keys of some rows are not known.
                if self.case.shape == 1 && n % 2 == 0 && *table != "keyed" {
                    sql.push_str(&format!("UPDATE {table} SET id = NULL WHERE a = 'a{n}'; "));
                }
            }
            for (table, is_read) in [("found", self.case.reads("found", 1)), ("lost", false)] {
                let c = match mine && is_read {
                    true => format!("c{n}"),
                    false => format!("canary{}", self.secret + n),
                };
                sql.push_str(&format!(
                    "INSERT INTO {table} (rowid, a, c, org) VALUES ({n}, 'a{n}', '{c}', '{tenant}'); "
                ));
            }
        }
        sql.push_str("DELETE FROM log; INSERT INTO log (id, a, pin) VALUES (1, 'a1', 7), (2, 'x', 7); COMMIT");
        self.app.execute_batch(&sql).unwrap();
    }

    pub(super) fn run(&self, sql: &str, execute: bool) -> Result<Json, String> {
        let organization = if self.case.confined { json!("a") } else { Json::Null };
        let args = json!({
            "sql": sql, "execute": execute, "organization_id": organization, "actor_id": null
        });
        match self.verger.perform_now("sql", args) {
            Ok(performed) => Ok(performed.result().cloned().unwrap_or_default()),
            Err(PerformError::Failed { source, .. }) => {
                Err(format!("{}: {}", source.code, source.message))
            }
            Err(other) => panic!("{other}"),
        }
    }

    pub(super) fn rows(&self) -> Rows {
        let confined = self.case.confined;
        TABLES
            .iter()
            .map(|table| {
                let columns = match *table {
                    "found" | "lost" => "rowid, a, 0, c, org",
                    "log" => "id, a, pin, c, 'a'",
                    _ => "id, a, pin, c, org",
                };
                let sql = format!("SELECT {columns} FROM {table}");
                let mut statement = self.app.prepare_cached(&sql).unwrap();
                let rows = statement.query_map([], |row| {
                    let cells = (0..4).map(|at| format!("{:?}", row.get_ref(at).unwrap()));
                    // A column of full text takes any value: a number is nobody's.
                    let org = row.get_ref(4)?.as_str_or_null().ok().flatten();
                    Ok(Row {
                        is_the_tenants: !confined || org == Some("a"),
                        cells: cells.collect(),
                    })
                });
                (*table, rows.unwrap().collect::<Result<_, _>>().unwrap())
            })
            .collect()
    }
}
