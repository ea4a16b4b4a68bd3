//! Whatever a worker sends, what it reaches is what its grant allows.
//!
//! Statements are made at random: odd white space and quotes, joins that name no columns, REPLACE in
//! every form, commands to virtual tables, upserts, RETURNING. Each runs in two worlds that differ
//! only in cells the worker may not read. It must be told the same in both: rows, errors and
//! changes. And afterwards no row is gone, new or changed in a way that no verb of the grant covers:
//! every table is compared with a copy of before. 2,000 statements; `VERGER_LONG=1` makes it
//! 1,000,000, `VERGER_LONG=200000` so many. A failure prints the seed and the statement;
//! `VERGER_SEED=…` replays a run.
#![allow(clippy::print_stdout, reason = "the figures are for people")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use verger::rusqlite::Connection;
use verger::verger_worker::prelude::*;
use verger::{Grant, PerformError, Verger};

/// Sends the SQL of its args; answers with the rows, or with the number of rows changed.
struct Sql;

const ASKED: [&str; 10] =
    ["whole", "narrow", "ledger", "sink", "keyed", "seen", "found", "notes", "closed", "extra"];

impl Worker for Sql {
    fn manifest(&self) -> Manifest {
        let tables =
            ASKED.iter().map(|table| TableAsk::named(*table).read().insert().update().delete());
        tables.fold(Manifest::new("sql", "1.0.0"), Manifest::table)
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

fn grant() -> Grant {
    Grant::new()
        .write("whole")
        .write("keyed")
        .read_columns("narrow", ["id", "a"])
        .insert("ledger")
        .read_columns("ledger", ["id"])
        .insert("sink")
        .update("sink")
        .read("sink")
        .read("seen")
        .write("found")
        .read("notes")
        .update_columns("notes", ["a"])
        .time_limit(std::time::Duration::from_secs(5))
}

/// `{secret}` is what differs between the two worlds.
const SCHEMA: &str = "
    CREATE TABLE whole (id INTEGER PRIMARY KEY, a TEXT, pin INTEGER, c TEXT);
    CREATE INDEX whole_pin ON whole (pin, a);
    CREATE TABLE narrow (id INTEGER PRIMARY KEY, a TEXT, pin INTEGER, c TEXT, twice AS (pin * 2));
    CREATE INDEX narrow_pin ON narrow (pin, c);
    CREATE INDEX narrow_part ON narrow (a) WHERE pin > 4711;
    CREATE TABLE ledger (id INTEGER PRIMARY KEY, a TEXT UNIQUE, pin INTEGER, c TEXT);
    CREATE TABLE sink (id INTEGER PRIMARY KEY, a TEXT UNIQUE ON CONFLICT REPLACE, pin INTEGER, c TEXT);
    CREATE TABLE keyed (a TEXT, id INTEGER, pin INTEGER, c TEXT, PRIMARY KEY (a, id)) WITHOUT ROWID;
    CREATE TABLE closed (id INTEGER PRIMARY KEY, a TEXT, pin INTEGER, c TEXT);
    CREATE INDEX closed_pin ON closed (pin);
    CREATE TABLE extra (id INTEGER PRIMARY KEY, a TEXT, pin INTEGER, c TEXT);
    CREATE TABLE notes (id INTEGER PRIMARY KEY, a TEXT, pin INTEGER, c TEXT);
    CREATE TABLE log (id INTEGER PRIMARY KEY, a TEXT UNIQUE, pin INTEGER);
    CREATE VIEW seen AS SELECT id, a FROM closed;
    CREATE VIEW unseen AS SELECT * FROM closed;
    CREATE VIRTUAL TABLE found USING fts5(a, c);
    CREATE VIRTUAL TABLE lost USING fts5(a, c);
    CREATE TRIGGER whole_logged AFTER INSERT ON whole BEGIN INSERT OR IGNORE INTO log (a) VALUES (NEW.a); END;
    CREATE TRIGGER whole_changed AFTER UPDATE OF c ON whole BEGIN UPDATE log SET pin = 1 WHERE a = NEW.a; END;
";

/// Tables with their columns, and the verbs that may change their rows: insert, update of these
/// columns, delete. What triggers change is the app's.
const TABLES: [(&str, &str, bool, &[usize], bool); 9] = [
    ("whole", "id, a, pin, c", true, &[0, 1, 2, 3], true),
    ("narrow", "id, a, pin, c", false, &[], false),
    ("ledger", "id, a, pin, c", true, &[], false),
    ("sink", "id, a, pin, c", true, &[0, 1, 2, 3], false),
    ("keyed", "a, id, pin, c", true, &[0, 1, 2, 3], true),
    ("closed", "id, a, pin, c", false, &[], false),
    ("extra", "id, a, pin, c", false, &[], false),
    ("notes", "id, a, pin, c", false, &[1], false),
    ("lost", "rowid, a, c", false, &[], false),
];

type Rows = BTreeMap<&'static str, Vec<Vec<String>>>;

struct World {
    verger: Verger,
    app: Connection,
    secret: i64,
}

impl World {
    fn open(secret: i64) -> Self {
        let verger = Verger::in_memory()
            .without_built_ins()
            .worker(Sql)
            .grant("sql", grant())
            .open()
            .unwrap();
        let app = verger.connect().unwrap();
        app.execute_batch(SCHEMA).unwrap();
        let world = Self { verger, app, secret };
        world.fill();
        world
    }

    fn fill(&self) {
        let mut sql = String::from("BEGIN; DELETE FROM log; DELETE FROM found; DELETE FROM lost; ");
        for (table, ..) in &TABLES[..8] {
            sql.push_str(&format!("DELETE FROM {table}; "));
        }
        for n in 1..=4 {
            let (open, secret) = (format!("{n}, 'a{n}', {}, 'c{n}'", 4710 + n), self.secret + n);
            let hidden = format!("{n}, 'a{n}', {secret}, 'canary{secret}'");
            for table in ["whole", "notes", "sink"] {
                sql.push_str(&format!("INSERT INTO {table} VALUES ({open}); "));
            }
            sql.push_str(&format!(
                "INSERT INTO keyed VALUES ('a{n}', {n}, {}, 'c{n}'); ",
                4710 + n
            ));
            for table in ["ledger", "closed", "extra"] {
                sql.push_str(&format!("INSERT INTO {table} VALUES ({hidden}); "));
            }
            sql.push_str(&format!("INSERT INTO narrow (id, a, pin, c) VALUES ({hidden}); "));
            sql.push_str(&format!(
                "INSERT INTO found (rowid, a, c) VALUES ({n}, 'a{n}', 'c{n}'); "
            ));
            sql.push_str(&format!(
                "INSERT INTO lost (rowid, a, c) VALUES ({n}, 'a{n}', 'canary{secret}'); "
            ));
        }
        sql.push_str("DELETE FROM log; INSERT INTO log VALUES (1, 'a1', 7), (2, 'x', 7); COMMIT");
        self.app.execute_batch(&sql).unwrap();
    }

    fn run(&self, sql: &str, execute: bool) -> Result<Json, String> {
        match self.verger.perform_now("sql", json!({"sql": sql, "execute": execute})) {
            Ok(performed) => Ok(performed.result().cloned().unwrap_or_default()),
            Err(PerformError::Failed { source, .. }) => {
                Err(format!("{}: {}", source.code, source.message))
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn rows(&self) -> Rows {
        TABLES
            .iter()
            .map(|(table, columns, ..)| {
                let sql = format!("SELECT {columns} FROM {table}");
                let mut statement = self.app.prepare_cached(&sql).unwrap();
                let width = statement.column_count();
                let rows = statement.query_map([], |row| {
                    Ok((0..width).map(|at| format!("{:?}", row.get_ref(at).unwrap())).collect())
                });
                (*table, rows.unwrap().collect::<Result<_, _>>().unwrap())
            })
            .collect()
    }

    fn log(&self) -> i64 {
        let sql = "SELECT count(*) FROM log WHERE (id, a) IN (VALUES (1, 'a1'), (2, 'x'))";
        self.app.query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

/// What changed in a way that no verb covers. Rows are told apart by their first column.
fn beyond_the_grant(before: &Rows, after: &Rows) -> Option<String> {
    for (table, _, insert, update, delete) in TABLES {
        let (old, new) = (&before[table], &after[table]);
        if old == new {
            continue;
        }
        if new.len() < old.len() && !delete {
            return Some(format!("{table}: {} rows less", old.len() - new.len()));
        }
        if new.len() > old.len() && !insert {
            return Some(format!("{table}: {} rows more", new.len() - old.len()));
        }
        // A key that may be updated tells nothing.
        if update.contains(&0) {
            if !delete && new.len() < old.len() {
                return Some(format!("{table}: rows are gone"));
            }
            continue;
        }
        for row in old {
            let Some(now) = new.iter().find(|now| now[0] == row[0]) else {
                if delete {
                    continue;
                }
                return Some(format!("{table}: row {row:?} is gone"));
            };
            let changed = (0..row.len()).find(|at| row[*at] != now[*at] && !update.contains(at));
            if let Some(at) = changed.filter(|_| !delete || !insert) {
                return Some(format!("{table}: column {at} of {row:?} is {now:?}"));
            }
        }
    }
    None
}

/// Deterministic, so that a failure can be replayed.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % most as u64) as usize
    }

    fn chance(&mut self, of_100: usize) -> bool {
        self.below(100) < of_100
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

/// A statement as words; `~` stands before those that are names and may be quoted.
struct Grammar(Random);

impl Grammar {
    /// White space of every kind between the words, and names in every form.
    fn written(&mut self, words: &str) -> String {
        let mut sql = String::new();
        let odd = self.0.chance(50);
        for word in words.split(' ') {
            let gap = match self.0.below(100) {
                // To SQLite these are letters, not white space.
                0 if odd => self.0.pick(&["\u{feff}", " \u{a0}", "\u{2003}"]),
                1..=60 if odd => self.0.pick(&[
                    "\n",
                    "\t",
                    "/**/",
                    " \u{feff}",
                    "\n\u{feff}\u{feff} ",
                    " --x\n",
                    "/*' \" [*/",
                    "\r\x0b",
                    "/* \u{feff} */\u{feff}",
                ]),
                _ => " ",
            };
            sql.push_str(gap);
            match word.strip_prefix('~') {
                None => sql.push_str(word),
                Some(name) => {
                    let name = if odd && self.0.chance(10) {
                        name.to_uppercase()
                    } else {
                        name.to_string()
                    };
                    sql.push_str(&match self.0.below(if odd { 9 } else { 40 }) {
                        0 => format!("\"{name}\""),
                        1 => format!("[{name}]"),
                        2 => format!("`{name}`"),
                        3 => format!("'{name}'"),
                        4 if odd => format!("\u{feff}{name}"),
                        5 if odd => format!("/**/{name}/**/"),
                        _ => name,
                    });
                }
            }
        }
        if self.0.chance(3) {
            sql.push_str(self.0.pick(&["\0", ";", " -- ", "\u{feff}", "/*"]))
        }
        sql
    }

    fn table(&mut self) -> String {
        if self.0.chance(60) {
            let table =
                self.0.pick(&["whole", "whole", "narrow", "keyed", "notes", "seen", "sink"]);
            return format!("~{table}");
        }
        let table = self.0.pick(&[
            "whole",
            "whole",
            "narrow",
            "narrow",
            "ledger",
            "sink",
            "keyed",
            "closed",
            "extra",
            "notes",
            "seen",
            "unseen",
            "found",
            "lost",
            "log",
            "verger_jobs",
            "sqlite_schema",
            "json_each('[4712,8001]')",
            "found('a1')",
            "lost('a1')",
            "lost_content",
        ]);
        let schema = if self.0.chance(10) { "~main . " } else { "" };
        if table.contains('(') { table.to_string() } else { format!("{schema}~{table}") }
    }

    fn column(&mut self) -> String {
        if self.0.chance(50) {
            return format!("~{}", self.0.pick(&["id", "a"]));
        }
        let column = self.0.pick(&["id", "a", "pin", "c", "pin", "twice", "rowid", "a"]);
        let prefix = match self.0.below(4) {
            0 => self.0.pick(&["~narrow . ", "~x . ", "~whole . ", "~closed . "]),
            _ => "",
        };
        format!("{prefix}~{column}")
    }

    fn value(&mut self, depth: usize) -> String {
        match self.0.below(12) {
            0..=3 => self.column(),
            4 => self.0.pick(&["4711", "4712", "8001", "9001", "NULL", "1"]).to_string(),
            5 => self.0.pick(&["'a1'", "'canary8001'", "'x'", "'canary9001'"]).to_string(),
            6 => format!("max ( {} )", self.column()),
            7 => format!("coalesce ( {} , 'z' )", self.column()),
            8 => format!("count ( {} )", self.0.pick(&["*", "~pin", "DISTINCT ~c"])),
            9 if depth > 0 => format!("( {} )", self.select(depth - 1, 1)),
            10 => format!("{} || 'z'", self.column()),
            _ => format!("hex ( {} )", self.column()),
        }
    }

    fn condition(&mut self, depth: usize) -> String {
        match self.0.below(9) {
            0..=2 => format!("{} = {}", self.value(depth), self.value(depth)),
            3 => format!("{} > 8000", self.column()),
            4 => format!("{} LIKE 'c%'", self.column()),
            5 if depth > 0 => format!("EXISTS ( {} )", self.select(depth - 1, 1)),
            6 => format!("{} IN ( 4712 , 8001 , 9001 )", self.column()),
            7 => format!("( {} = 1 OR {} IS NULL )", self.column(), self.column()),
            _ => format!("~{} MATCH 'a1'", self.0.pick(&["found", "lost", "a", "rank"])),
        }
    }

    fn from(&mut self, depth: usize) -> String {
        let mut from = self.source(depth);
        for _ in 0..self.0.below(6) / 4 {
            let other = self.source(depth);
            from = match self.0.below(8) {
                0 | 1 => format!("{from} NATURAL JOIN {other}"),
                2 => format!("{from} NATURAL LEFT JOIN {other}"),
                3 | 4 => {
                    let by = self.0.pick(&["~pin", "~id", "~c", "~a , ~pin", "~twice"]);
                    format!("{from} JOIN {other} USING ( {by} )")
                }
                5 => format!("{from} , {other}"),
                6 => format!("{from} FULL JOIN {other} USING ( ~pin )"),
                _ => format!("{from} JOIN {other} ON {}", self.condition(0)),
            };
        }
        from
    }

    fn source(&mut self, depth: usize) -> String {
        if depth > 0 && self.0.chance(12) {
            let alias = self.0.pick(&["x", "seen", "closed", "narrow"]);
            return format!("( {} ) AS ~{alias}", self.select(depth - 1, 4));
        }
        if self.0.chance(12) {
            return "( SELECT 4712 AS pin UNION SELECT 8001 UNION SELECT 9001 )".to_string();
        }
        let table = self.table();
        let alias = self.0.pick(&["", "", "", " AS ~x", " ~narrow", " AS ~closed", " AS ~seen"]);
        let hint = self.0.pick(&["", "", "", "", "", " NOT INDEXED", " INDEXED BY narrow_pin"]);
        format!("{table}{alias}{hint}")
    }

    fn select(&mut self, depth: usize, width: usize) -> String {
        let columns = if width == 4 && self.0.chance(60) || self.0.chance(15) {
            self.0.pick(&["*", "~x . *", "~narrow . *"]).to_string()
        } else {
            (0..width).map(|_| self.value(depth.saturating_sub(1))).collect::<Vec<_>>().join(" , ")
        };
        let mut sql = format!("SELECT {columns} FROM {}", self.from(depth));
        if self.0.chance(50) {
            sql = format!("{sql} WHERE {}", self.condition(depth));
        }
        let tail = [
            "",
            "",
            "",
            "",
            " ORDER BY ~pin",
            " GROUP BY ~c",
            " GROUP BY 1 ORDER BY 1",
            " LIMIT 3",
        ];
        sql.push_str(self.0.pick(&tail));
        if depth > 0 && self.0.chance(10) {
            let with = self.0.pick(&["UNION ALL", "EXCEPT", "INTERSECT"]);
            sql = format!("{sql} {with} {}", self.select(depth - 1, width));
        }
        sql
    }

    fn statement(&mut self) -> (String, bool) {
        let with = if self.0.chance(15) {
            let name = self.0.pick(&["x", "seen", "closed", "narrow", "unseen", "whole_logged"]);
            format!("WITH ~{name} AS ( {} ) ", self.select(1, 4))
        } else {
            String::new()
        };
        let (sql, mut execute) = match self.0.below(10) {
            0..=4 => (self.select(2, 2), false),
            5..=7 => (self.insert(), true),
            8 => {
                let or = self.0.pick(&["", "", "OR REPLACE ", "OR IGNORE ", "OR ROLLBACK "]);
                let (table, column) =
                    (self.table(), self.0.pick(&["a", "pin", "id", "c", "rowid"]));
                let from = if self.0.chance(20) {
                    format!(" FROM {}", self.from(0))
                } else {
                    String::new()
                };
                let (value, condition) = (self.value(1), self.condition(1));
                (
                    format!("UPDATE {or}{table} SET ~{column} = {value}{from} WHERE {condition}"),
                    true,
                )
            }
            _ => (format!("DELETE FROM {} WHERE {}", self.table(), self.condition(1)), true),
        };
        let mut sql = format!("{with}{sql}");
        if execute && self.0.chance(20) {
            sql = format!(
                "{sql} RETURNING {}",
                self.0.pick(&["*", "~pin", "~c", "~rowid", "~twice"])
            );
            execute = false;
        }
        (self.written(&sql), execute)
    }

    fn insert(&mut self) -> String {
        let verb = self.0.pick(&[
            "INSERT INTO",
            "INSERT OR REPLACE INTO",
            "REPLACE INTO",
            "INSERT OR IGNORE INTO",
            "INSERT OR FAIL INTO",
            "INSERT OR ABORT INTO",
        ]);
        let table = self.table();
        if self.0.chance(15) {
            return format!("{verb} {table} SELECT * FROM {}", self.table());
        }
        if self.0.chance(12) {
            let command =
                self.0.pick(&["'delete-all'", "'rebuild'", "'optimize'", "'integrity-check'"]);
            return format!("{verb} ~found ( ~found ) VALUES ( {command} )");
        }
        let id = self.0.pick(&["1", "2", "9", "NULL"]);
        let a = self.0.pick(&["'a1'", "'a3'", "'new'", "'x'", "( SELECT ~c FROM ~closed )"]);
        let rows = if self.0.chance(20) {
            format!("SELECT 9 , {} FROM {}", self.value(1), self.from(1))
        } else {
            format!("VALUES ( {id} , {a} )")
        };
        let upsert = self.0.pick(&[
            "",
            "",
            "",
            " ON CONFLICT DO NOTHING",
            " ON CONFLICT ( ~id ) DO UPDATE SET ~c = ~pin",
            " ON CONFLICT ( ~a ) DO UPDATE SET ~pin = excluded . ~pin WHERE ~pin > 8000",
        ]);
        format!("{verb} {table} ( ~id , ~a ) {rows}{upsert}")
    }
}

#[test]
fn no_statement_reaches_more_than_the_grant_allows() {
    let statements = match std::env::var("VERGER_LONG").map(|long| long.parse::<u32>()) {
        Ok(Ok(count)) if count > 1 => count,
        Ok(_) => 1_000_000,
        Err(_) => 2_000,
    };
    let seed = std::env::var("VERGER_SEED").map_or(20_261_125, |seed| seed.parse().unwrap());
    let mut grammar = Grammar(Random(seed));
    let (one, other) = (World::open(8_000), World::open(9_000));
    let mut before = [one.rows(), other.rows()];
    let begun = std::time::Instant::now();
    let mut tally: BTreeMap<String, u32> = BTreeMap::new();
    for number in 0..statements {
        let (sql, execute) = grammar.statement();
        let answers = [one.run(&sql, execute), other.run(&sql, execute)];
        let about = || format!("seed {seed}, statement {number}: {sql:?}\n{answers:#?}");
        assert_eq!(answers[0], answers[1], "what it may not read shows\n{}", about());
        let upper = sql.to_ascii_uppercase();
        let changed = ["INTO", "UPDATE", "DELETE"].iter().any(|word| upper.contains(word));
        if changed {
            for (world, before) in [&one, &other].into_iter().zip(&before) {
                let after = world.rows();
                if let Some(what) = beyond_the_grant(before, &after) {
                    panic!("{what}\n{}", about());
                }
                assert_eq!(world.log(), 2, "a trigger's rows were replaced\n{}", about());
            }
            if answers[0].is_ok() {
                one.fill();
                other.fill();
                before = [one.rows(), other.rows()];
            }
        }
        let kind = match &answers[0] {
            Ok(_) if execute => "changed".to_string(),
            Ok(_) => "answered".to_string(),
            Err(reason) if reason.contains("denied") => "denied".to_string(),
            Err(_) => "no statement".to_string(),
        };
        *tally.entry(kind).or_default() += 1;
    }
    println!("{statements} statements, seed {seed}, in {:?}: {tally:?}", begun.elapsed());
    let worked = tally.get("answered").unwrap_or(&0) + tally.get("changed").unwrap_or(&0);
    assert!(worked * 20 > statements, "some statements do something: {tally:?}");
}
