//! A confined worker on a database of many tenants gets, for any SQL, what it would get if its
//! tenant were alone there, or a refusal.
//!
//! Statements are made at random from a grammar that knows the names worth shadowing, and
//! expressions that fail on some rows. Each runs confined among three tenants, confined where tenant
//! `a` is alone, and unconfined there. The first two have the same answers, changes, errors and
//! steps of SQLite's virtual machine; the third the same as far as it is not refused. 2,000
//! statements; `VERGER_LONG=1` makes it 100,000, `VERGER_LONG=20000` so many. A failure prints the
//! seed and the statement; `VERGER_SEED=…` replays a run.
#![allow(clippy::print_stdout, reason = "the figures are for people")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod grammar;

use std::collections::BTreeMap;

use grammar::{Grammar, Statement};
use serde_json::{Value as Json, json};
use verger::rusqlite::Connection;
use verger::testing::statement_steps;
use verger::verger_worker::prelude::*;
use verger::{Grant, Limits, PerformError, Verger};

/// Sends the SQL of its args; answers with the rows, or with the number of rows changed.
struct Sql;

const GRANTED: [&str; 8] =
    ["orders", "lines", "notes", "members", "open_orders", "by_state", "everything", "rates"];

impl Worker for Sql {
    fn manifest(&self) -> Manifest {
        let tables =
            GRANTED.iter().map(|table| TableAsk::named(*table).read().insert().update().delete());
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
        let mut rows: Vec<String> = rows.iter().map(|row| format!("{:?}", row.values())).collect();
        if sql.contains(" RETURNING ") {
            // Before a view there is no column to give a value its type.
            rows.iter_mut().for_each(|row| {
                *row = row.replace("Text", "").replace("Integer", "").replace('"', "")
            });
        }
        rows.sort();
        Ok(Outcome::DoneWith(json!(rows)))
    }
}

/// `{default}` is the tenant a row gets when nothing says which: among many, that is another one.
const SCHEMA: &str = "
    CREATE TABLE orders (id INTEGER PRIMARY KEY, organization_id TEXT NOT NULL DEFAULT '{default}', total INTEGER, state TEXT, gross AS (total * 2));
    CREATE INDEX orders_of ON orders (organization_id, state);
    CREATE TABLE lines (order_id INTEGER, place INTEGER, organization_id TEXT DEFAULT '{default}', what TEXT, PRIMARY KEY (order_id, place)) WITHOUT ROWID;
    CREATE TABLE notes (organization_id TEXT DEFAULT '{default}', id INTEGER, text TEXT);
    CREATE TABLE members (organization_id TEXT DEFAULT '{default}', id INTEGER, rank INTEGER, name TEXT COLLATE NOCASE, PRIMARY KEY (organization_id, id));
    CREATE TABLE rates (id INTEGER PRIMARY KEY, rate INTEGER, name TEXT);
    CREATE TABLE secrets (id INTEGER PRIMARY KEY, organization_id TEXT DEFAULT '{default}', total INTEGER, state TEXT);
    CREATE TABLE log (organization_id TEXT, id INTEGER, what TEXT);
    CREATE VIEW open_orders AS SELECT id, organization_id, total, state FROM orders WHERE state = 'open';
    CREATE VIEW by_state AS SELECT organization_id, state, count(*) AS id, sum(total) AS total FROM orders GROUP BY organization_id, state;
    CREATE VIEW everything AS SELECT id, total, state FROM orders UNION ALL SELECT id, total, state FROM secrets;
    CREATE TRIGGER orders_logged AFTER UPDATE ON orders BEGIN INSERT INTO log VALUES (OLD.organization_id, OLD.id, 'changed'); END;
    CREATE TRIGGER orders_gone AFTER DELETE ON orders BEGIN DELETE FROM lines WHERE order_id = OLD.id AND organization_id = OLD.organization_id; END;
";
/// The same view with columns that SQLite takes for columns of a table without a type, as it does
/// where a wall stands before the view: beside text a number of theirs is no text.
const BY_STATE: &str = "CREATE VIEW by_state AS SELECT organization_id, state, count(*) AS id, sum(total) AS total FROM orders GROUP BY organization_id, state;";
const BY_STATE_OF_COLUMNS: &str = "CREATE VIEW by_state AS SELECT g.organization_id, g.state, n.value AS id, t.value AS total
    FROM (SELECT organization_id, state, json_array(count(*)) AS n, json_array(sum(total)) AS t FROM orders GROUP BY organization_id, state) AS g,
    json_each(g.n) AS n, json_each(g.t) AS t;";

/// Tables, and what a dump of them is ordered by.
const TABLES: [&str; 7] = ["orders", "lines", "notes", "members", "rates", "secrets", "log"];

struct World {
    verger: Verger,
    app: Connection,
    organization: Json,
    tenants: &'static [&'static str],
}

impl World {
    fn open(organization: Json, tenants: &'static [&'static str], default: &str) -> Self {
        Self::with(organization, tenants, &SCHEMA.replace("{default}", default))
    }

    fn with(organization: Json, tenants: &'static [&'static str], schema: &str) -> Self {
        let grant = GRANTED[..7]
            .iter()
            .copied()
            .fold(Grant::new(), Grant::write)
            .read("rates")
            .shared("rates")
            .tenant_column("organization_id");
        let time = std::time::Duration::from_secs(10);
        let grant = grant.limits(Limits::new().time(time).write_lock(time));
        let verger =
            Verger::in_memory().without_built_ins().worker(Sql).grant("sql", grant).open().unwrap();
        let app = verger.connect().unwrap();
        app.execute_batch(schema).unwrap();
        let world = Self { verger, app, organization, tenants };
        world.fill();
        world
    }

    fn fill(&self) {
        let mut sql = String::from("BEGIN; ");
        for table in TABLES {
            sql.push_str(&format!("DELETE FROM {table}; "));
        }
        sql.push_str("DELETE FROM log; INSERT INTO rates VALUES (1, 5, 'low'), (2, 19, 'std'); ");
        for tenant in self.tenants {
            // The keys of the others lie elsewhere; all that is not a key looks the same.
            let base = match *tenant {
                "a" => 0,
                "b" => 1_000,
                _ => 2_000,
            };
            for n in 1..=7 {
                let (id, state) = (base + n, ["open", "paid", "void"][n % 3]);
                sql.push_str(&format!(
                    "INSERT INTO orders (id, organization_id, total, state) VALUES ({id}, '{tenant}', {}, '{state}'); ",
                    n * 10
                ));
                sql.push_str(&format!("INSERT INTO lines VALUES ({id}, 1, '{tenant}', '{state}'), ({id}, 2, '{tenant}', NULL); "));
                sql.push_str(&format!(
                    "INSERT INTO members VALUES ('{tenant}', {n}, {}, '{}'); ",
                    n % 4,
                    ["Open", "PAID", "void"][n % 3]
                ));
                sql.push_str(&format!("INSERT INTO notes VALUES ('{tenant}', {n}, '{state}'); "));
                sql.push_str(&format!(
                    "INSERT INTO secrets VALUES ({id}, '{tenant}', {}, 'secret'); ",
                    n * 10
                ));
            }
        }
        sql.push_str("COMMIT");
        self.app.execute_batch(&sql).unwrap();
    }

    /// What came of it, and in how many steps.
    fn run(&self, statement: &Statement, temp: &str) -> (Result<Json, String>, u64) {
        let _ = statement_steps();
        let done = self.perform(statement, temp);
        (done, statement_steps())
    }

    fn perform(&self, statement: &Statement, temp: &str) -> Result<Json, String> {
        let sql = statement.sql.replace("{temp}", temp);
        let args = json!({"organization_id": self.organization, "actor_id": null, "sql": sql, "execute": statement.changes});
        match self.verger.perform_now("sql", args) {
            Ok(performed) => Ok(performed.result().cloned().unwrap_or_default()),
            Err(PerformError::Failed { source, .. }) => {
                Err(format!("{}: {}", source.code, source.message))
            }
            Err(other) => panic!("{other}"),
        }
    }

    /// The rows of `a`, or those of the others.
    fn rows(&self, of_a: bool) -> String {
        let mut dump = String::new();
        for table in TABLES {
            let columns =
                if table == "orders" { "id, organization_id, total, state, gross" } else { "*" };
            let condition = match (table, of_a) {
                ("rates", true) => "0",
                ("rates", false) => "1",
                (_, true) => "organization_id = 'a'",
                (_, false) => "organization_id IS NOT 'a'",
            };
            let mut statement = self
                .app
                .prepare_cached(&format!("SELECT {columns} FROM {table} WHERE {condition}"))
                .unwrap();
            let width = statement.column_count();
            let mut rows: Vec<String> = statement
                .query_map([], |row| {
                    Ok((0..width)
                        .map(|place| format!("{:?} ", row.get_ref(place).unwrap()))
                        .collect())
                })
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            rows.sort();
            dump.push_str(&format!("{table}: {}\n", rows.join("\n  ")));
        }
        dump
    }
}

#[test]
fn random_sql_confined_among_many_tenants_answers_as_if_its_tenant_were_alone() {
    let statements = match std::env::var("VERGER_LONG").map(|long| long.parse::<u32>()) {
        Ok(Ok(count)) if count > 1 => count,
        Ok(_) => 100_000,
        Err(_) => 2_000,
    };
    let seed = match std::env::var("VERGER_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => 20_261_122,
    };
    let mut grammar = Grammar::new(seed);
    let many = World::open(json!("a"), &["a", "b", "c"], "b");
    let lone = World::open(json!("a"), &["a"], "b");
    let alone = World::open(json!(null), &["a"], "a");
    assert!(SCHEMA.contains(BY_STATE));
    let of_columns = SCHEMA.replace("{default}", "a").replace(BY_STATE, BY_STATE_OF_COLUMNS);
    let of_columns = World::with(json!(null), &["a"], &of_columns);
    let others = many.rows(false);
    let begun = std::time::Instant::now();
    let mut tally: BTreeMap<&str, u32> = BTreeMap::new();
    for number in 0..statements {
        let statement = grammar.statement();
        let (confined, steps) = many.run(&statement, "temp.");
        let (quiet, quiet_steps) = lone.run(&statement, "temp.");
        let (free, _) = alone.run(&statement, "main.");
        let about = || {
            format!(
                "seed {seed}, statement {number}:\n{}\nconfined: {confined:?}\nalone:    {free:?}",
                statement.sql
            )
        };
        assert_eq!(many.rows(false), others, "rows of others changed\n{}", about());
        // One that never ends is ended by the clock; on a busy machine that may be any.
        let by_clock = |done: &Result<Json, String>| {
            done.as_ref()
                .is_err_and(|said| said.starts_with("deadline") || said.starts_with("lock-held"))
        };
        if [&confined, &quiet, &free].into_iter().any(by_clock) {
            *tally.entry("ended by the clock").or_default() += 1;
            alone.fill();
            lone.fill();
            many.fill();
            continue;
        }
        if statement.comparable {
            assert_eq!(confined, quiet, "others show\n{}", about());
            assert_eq!(steps, quiet_steps, "the steps tell of others\n{}", about());
            assert_eq!(many.rows(true), lone.rows(true), "another change\n{}", about());
        }
        if let Ok(said) = &confined {
            assert!(
                !said.to_string().contains("secret"),
                "a table that is not granted was read\n{}",
                about()
            );
        }
        if let Err(said) = &confined {
            assert!(
                !said.contains("verger_") || said.contains("verger_tenant: "),
                "an error names the walls\n{}",
                about()
            );
            assert!(!said.starts_with("panic") && !said.starts_with("store"), "{}", about());
        }
        if number % 10_000 == 9_999 {
            println!("{} statements, in {:?}", number + 1, begun.elapsed());
        }
        let kind = match (&confined, &free) {
            _ if !statement.comparable => "another tenant's key, or one that SQLite chooses",
            (Ok(_), Ok(_)) if statement.loose => "an answer that depends on the plan",
            (Ok(one), Ok(other))
                if one != other && statement.sql.to_ascii_lowercase().contains("by_state") =>
            {
                // The one difference that is documented is all that there is.
                many.fill();
                of_columns.fill();
                let (confined, _) = many.run(&statement, "temp.");
                let (typeless, _) = of_columns.run(&statement, "main.");
                assert_eq!(confined, typeless, "another answer\n{}", about());
                assert_eq!(many.rows(true), of_columns.rows(true), "another change\n{}", about());
                "a view's computed number beside text"
            }
            (Err(_), Ok(_)) | (Ok(_), Err(_)) if statement.loose => "a failure that does",
            (Ok(one), Ok(other)) => {
                assert_eq!(one, other, "another answer\n{}", about());
                if statement.changes { "same change" } else { "same answer" }
            }
            (Err(_), Err(_)) => "an error either way",
            (Err(reason), Ok(_)) => {
                // Only for what it is told a confined worker cannot have, never by a fault. SQLite
                // forgets an alias, or a WITH inside, in an UPDATE of a view. No view stands before
                // one without a tenant.
                let known = [
                    "denied: ",
                    "no such column",
                    "no such table",
                    "another organization",
                    "have a primary key",
                    "no key of their own",
                    "UPSERT",
                    "UNIQUE",
                    "because it is a view",
                ];
                assert!(
                    known.iter().any(|known| reason.contains(known)),
                    "refused for no good reason\n{}",
                    about()
                );
                "refused confined"
            }
            // A name in the statement that is one of a table the app's trigger writes to.
            (Ok(_), Err(reason)) if reason.contains("does not count where") => "refused alone",
            // With a trigger in place SQLite asks only of a row whether it can be changed.
            (Ok(changed), Err(reason))
                if reason.contains("because it is a view")
                    && (*changed == json!(0) || *changed == json!([])) =>
            {
                "an error either way"
            }
            (Ok(_), Err(_)) => panic!("refused alone only\n{}", about()),
        };
        *tally.entry(kind).or_default() += 1;
        if kind == "same change" || kind == "same answer" {
            // A statement that returns rows may write too.
            assert_eq!(many.rows(true), alone.rows(true), "another change\n{}", about());
        } else {
            alone.fill();
            lone.fill();
            many.fill();
        }
        if number % 40 == 0 {
            alone.fill();
            lone.fill();
            many.fill();
        }
    }
    println!("{statements} statements, seed {seed}, in {:?}: {tally:#?}", begun.elapsed());
    let same = tally.get("same answer").unwrap_or(&0) + tally.get("same change").unwrap_or(&0);
    assert!(same * 3 > statements, "most statements mean something: {tally:?}");
}
