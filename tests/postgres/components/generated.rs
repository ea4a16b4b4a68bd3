//! Whatever a component sends, what it reaches is what its grant allows.
//!
//! Statements are made at random: joins, subqueries, upserts, RETURNING, MERGE, casts and divisions
//! that fail on some rows, functions that look around. They run in two databases that differ only
//! in cells the component may not read: in columns that it is not granted, and in rows of another
//! tenant. It must be told the same in both, and no cell that it may not change is another one
//! afterwards. 600 statements; `VERGER_LONG=1` makes it 100,000, `VERGER_LONG=20000` so many. A
//! failure prints the seed and the statement; `VERGER_SEED=…` replays a run.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use verger::postgres::Verger;
use verger::{AttemptOutcome, Grant};

use super::{attempt, open, under};
use crate::clock;
use crate::cluster::{Database, database};
use crate::random::Random;

/// Statements of one job.
const OF_EACH: usize = 20;

/// What a row of each table has. Of `narrow` the component may read `id` and `a`, and change `a`.
const TABLES: [&str; 3] = ["whole", "narrow", "closed"];

struct World {
    database: Database,
    verger: Verger,
    secret: i64,
}

fn all_verbs(table: &str) -> Json {
    json!({"table": table, "verbs": ["read", "insert", "update", "delete"]})
}

impl World {
    fn open(database: Database, secret: i64, organization: &Json) -> Self {
        let tables: String = TABLES
            .iter()
            .map(|table| {
                format!(
                    "CREATE TABLE {table} (id bigint PRIMARY KEY, a text, pin bigint, c text, org text);"
                )
            })
            .collect();
        database.client().batch_execute(&tables).unwrap();
        let grant = Grant::new().write("whole").read_columns("narrow", ["id", "a"]);
        let grant = grant.update_columns("narrow", ["a"]).delete("narrow");
        let grant = if organization.is_null() { grant } else { grant.tenant_column("org") };
        let manifest = json!({
            "name": "puppet", "version": "1", "tenant_aware": true, "sql": ["common"],
            "args": {"do": {"default": []}}, "tables": [all_verbs("whole"), all_verbs("narrow")],
        });
        let builder = Verger::builder(database.url())
            .component("puppet", under(&manifest))
            .grant("puppet", grant)
            .clock(clock());
        let verger = open(&database, builder);
        let world = Self { database, verger, secret };
        world.fill(organization);
        world
    }

    fn fill(&self, organization: &Json) {
        let mut sql = "BEGIN; TRUNCATE whole, narrow, closed;".to_string();
        // Without a tenant, all rows of `whole` may be read.
        let others = if organization.is_null() { 0..0 } else { 101..104 };
        for n in (1..5).chain(others) {
            for table in TABLES {
                let is_hidden = n > 100 || table != "whole";
                let (pin, c) = match is_hidden {
                    true => (self.secret + n, format!("canary{}", self.secret + n)),
                    false => (4_710 + n, format!("c{n}")),
                };
                let org = if n > 100 { "b" } else { "a" };
                sql.push_str(&format!(
                    "INSERT INTO {table} VALUES ({n}, 'a{n}', {pin}, '{c}', '{org}');"
                ));
            }
        }
        sql.push_str("COMMIT");
        self.database.client().batch_execute(&sql).unwrap();
    }

    /// What each statement was told, in one job, which ends well.
    fn run(&self, statements: &[Json], organization: &Json) -> Vec<String> {
        let args = json!({"organization_id": organization, "actor_id": null});
        match attempt(&self.verger, args, json!(statements)).1 {
            AttemptOutcome::Completed(Some(Json::Array(answers))) => {
                // The names of roles and policies have that of the database in them.
                let name = format!("verger_{}_", self.database.name);
                // Rows have no order, but where a statement says one, and not all of one then.
                let told = |mut answer: Json| {
                    if let Some(Json::Array(rows)) = answer.get_mut("ok") {
                        rows.sort_by_key(ToString::to_string);
                    }
                    answer.to_string().replace(&name, "")
                };
                answers.into_iter().map(told).collect()
            }
            other => vec![format!("{other:?}")],
        }
    }

    /// The cells that the component may not change.
    fn out_of_reach(&self, organization: &Json) -> Vec<String> {
        let others = if organization.is_null() { "false" } else { "org = 'b'" };
        let sql = format!(
            "SELECT concat_ws('|', 'whole', id, a, pin, c, org) FROM whole WHERE {others} UNION ALL \
             SELECT concat_ws('|', 'narrow', id, a, pin, c, org) FROM narrow WHERE {others} UNION ALL \
             SELECT concat_ws('|', 'closed', id, a, pin, c, org) FROM closed UNION ALL \
             SELECT concat_ws('|', 'changed', id, pin, c, org) FROM narrow \
             WHERE pin IS DISTINCT FROM {0} + id OR c IS DISTINCT FROM 'canary' || {0} + id ORDER BY 1",
            self.secret
        );
        let rows = self.database.client().query(&sql, &[]).unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }
}

/// Statements as this server knows them.
struct Grammar(Random);

impl Grammar {
    fn table(&mut self) -> &'static str {
        self.0.pick(&[
            "whole",
            "whole",
            "narrow",
            "narrow",
            "public.whole",
            "public.narrow",
            "closed",
            "verger.jobs",
            "pg_class",
            "\"whole\"",
            "WHOLE",
            "ONLY whole",
        ])
    }

    fn column(&mut self) -> &'static str {
        self.0.pick(&[
            "id", "a", "id", "a", "pin", "c", "org", "x.pin", "x.c", "x.*", "whole", "narrow", "x",
        ])
    }

    fn value(&mut self, depth: usize) -> String {
        match self.0.below(14) {
            0..=3 => self.column().to_string(),
            4 => self
                .0
                .pick(&["1", "102", "4711", "8001", "9001", "NULL", "'a1'", "'canary8101'"])
                .into(),
            5 => format!("max({})", self.column()),
            6 => format!("coalesce({}, 7)", self.column()),
            7 => format!("count({})", self.0.pick(&["*", "pin", "DISTINCT c"])),
            8 if depth > 0 => format!("({})", self.select(depth - 1, 1)),
            9 => format!("1 / ({} - 8101)", self.column()),
            10 => format!("CAST({} AS bigint)", self.column()),
            11 => format!("{} || 'z'", self.column()),
            12 => self
                .0
                .pick(&[
                    "row_to_json(x)",
                    "to_jsonb(x)",
                    "pg_sleep(1)",
                    "current_user",
                    "x::text",
                    "now()",
                    "pg_typeof(x)",
                    "string_agg(x.c, ',' ORDER BY x.c)",
                    "row_number() OVER (ORDER BY x.pin)",
                    "lo_creat(1)",
                ])
                .into(),
            _ => format!("length({}::text)", self.column()),
        }
    }

    fn condition(&mut self, depth: usize) -> String {
        match self.0.below(8) {
            0..=2 => format!("{} = {}", self.value(depth), self.value(depth)),
            3 => format!("{} > 8000", self.column()),
            4 => format!("{}::text LIKE 'c%'", self.column()),
            5 if depth > 0 => format!("EXISTS ({})", self.select(depth - 1, 1)),
            6 => format!("{} IN (1, 102, 8101, 9101)", self.column()),
            _ => format!("({} = 1 OR {} IS NULL)", self.column(), self.column()),
        }
    }

    fn source(&mut self, depth: usize) -> String {
        match self.0.below(5) {
            0 if depth > 0 => format!("({}) AS x", self.select(depth - 1, 2)),
            1 => format!("{} AS x JOIN {} AS y USING (id)", self.table(), self.table()),
            2 => format!("{} AS x NATURAL JOIN {}", self.table(), self.table()),
            3 => format!("{} AS x, LATERAL (SELECT x.pin AS p) AS l", self.table()),
            _ => format!("{} AS x", self.table()),
        }
    }

    fn select(&mut self, depth: usize, width: usize) -> String {
        let values: Vec<String> = (0..width).map(|_| self.value(depth)).collect();
        let mut sql = format!("SELECT {} FROM {}", values.join(", "), self.source(depth));
        if self.0.chance(50) {
            sql.push_str(&format!(" WHERE {}", self.condition(depth)));
        }
        if self.0.chance(20) {
            sql.push_str(&format!(" GROUP BY {}", self.column()));
        }
        if self.0.chance(40) {
            sql.push_str(&format!(" ORDER BY {} NULLS FIRST", self.column()));
        }
        sql
    }

    fn returning(&mut self) -> String {
        match self.0.chance(50) {
            true => format!(" RETURNING {}", self.value(0)),
            false => String::new(),
        }
    }

    /// A step of the puppet.
    fn step(&mut self) -> Json {
        let sql = match self.0.below(10) {
            0..=4 => {
                let width = 1 + self.0.below(2);
                self.select(2, width)
            }
            5 => {
                let (table, set) = (self.table(), self.0.pick(&["a", "pin", "c", "org", "id"]));
                let (value, condition) = (self.value(1), self.condition(1));
                format!(
                    "UPDATE {table} AS x SET {set} = {value} WHERE {condition}{}",
                    self.returning()
                )
            }
            6 => {
                let (table, condition) = (self.table(), self.condition(1));
                format!("DELETE FROM {table} AS x WHERE {condition}{}", self.returning())
            }
            7 => {
                let (table, id) = (self.table(), self.0.pick(&["1", "7", "102", "103"]));
                let (set, value) = (self.0.pick(&["a", "pin", "org"]), self.value(0));
                let conflict = match self.0.below(3) {
                    0 => "DO NOTHING".to_string(),
                    1 => format!("(id) DO UPDATE SET {set} = {value}"),
                    _ => format!("(id) DO UPDATE SET {set} = excluded.{set} WHERE x.pin > 8000"),
                };
                format!(
                    "INSERT INTO {table} AS x (id, a) VALUES ({id}, 'new') ON CONFLICT {conflict}{}",
                    self.returning()
                )
            }
            8 => {
                let (table, select) = (self.table(), self.select(1, 2));
                format!("INSERT INTO {table} AS x (id, a) {select}{}", self.returning())
            }
            _ => {
                let (into, from, value) = (self.table(), self.table(), self.value(0));
                format!(
                    "MERGE INTO {into} AS x USING {from} AS y ON x.id = y.id WHEN MATCHED AND y.pin > 8000 THEN DELETE WHEN MATCHED THEN UPDATE SET a = {value}"
                )
            }
        };
        let returns = sql.starts_with("SELECT") || sql.contains(" RETURNING ");
        json!([if returns { "query" } else { "execute" }, sql, []])
    }
}

#[test]
fn no_statement_reaches_more_than_the_grant_allows() {
    let Some(first) = database() else { return };
    let statements = match std::env::var("VERGER_LONG").map(|long| long.parse::<usize>()) {
        Ok(Ok(count)) if count > 1 => count,
        Ok(_) => 100_000,
        Err(_) => 600,
    };
    let seed = std::env::var("VERGER_SEED").map_or(20_261_201, |seed| seed.parse().unwrap());
    let mut grammar = Grammar(Random(seed));
    let mut tally: BTreeMap<&str, u32> = BTreeMap::new();
    for organization in [json!("a"), Json::Null] {
        let worlds = [8_000, 9_000]
            .map(|secret| World::open(first.cluster.database(""), secret, &organization));
        let before = [0, 1].map(|at: usize| worlds[at].out_of_reach(&organization));
        for job in 0..statements / OF_EACH / 2 {
            let steps: Vec<Json> = (0..OF_EACH).map(|_| grammar.step()).collect();
            let told = [0, 1].map(|at: usize| worlds[at].run(&steps, &organization));
            let about = || format!("seed {seed}, job {job}, {organization}: {steps:#?}");
            let same = told[0].iter().zip(&told[1]).position(|(one, other)| one != other);
            if let Some(step) = same {
                let (one, other) = (&told[0][step], &told[1][step]);
                panic!("what it may not read shows: {one} {other}\n{}\n{}", steps[step], about());
            }
            assert_eq!(told[0].len(), told[1].len(), "{}", about());
            for at in 0..2 {
                assert_eq!(worlds[at].out_of_reach(&organization), before[at], "{}", about());
                worlds[at].fill(&organization);
            }
            for told in &told[0] {
                let kind = match told {
                    told if told.contains("\"ok\"") => "answered",
                    told if told.contains("denied") => "denied",
                    _ => "no statement",
                };
                *tally.entry(kind).or_default() += 1;
            }
        }
    }
    println!("{statements} statements, seed {seed}: {tally:?}");
    assert!(tally["answered"] as usize * 20 > statements, "some do something: {tally:?}");
    assert!(tally["denied"] as usize * 20 > statements, "some are denied: {tally:?}");
}
