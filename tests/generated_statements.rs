//! Whatever a worker sends, what it reaches is what its grant allows.
//!
//! Statements are made at random: odd white space and quotes, joins that name no columns, REPLACE in
//! every form, commands to virtual tables, upserts, RETURNING. They run on schemas of every shape
//! (keys that are composite, NULL, typeless or in no rowid, columns that take the rowid's name, a
//! tenant that is computed, cascades, full text, views and triggers of the app) under grants that
//! are made at random too, half of them confined to a tenant.
//!
//! Each statement runs in two worlds that differ only in cells the worker may not read: in columns
//! that it is not granted, and in rows of other tenants. It must be told the same in both: rows,
//! errors and changes. And afterwards every table is compared with a copy of before, cell by cell:
//! no row is gone, new or changed in a way that no verb of the grant covers. 2,000 statements;
//! `VERGER_LONG=1` makes it 1,000,000, `VERGER_LONG=200000` so many. A failure prints the seed and
//! the statement; `VERGER_SEED=…` replays a run.
#![allow(clippy::print_stdout, reason = "the figures are for people")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};
use verger::rusqlite::Connection;
use verger::verger_worker::prelude::*;
use verger::{Grant, Limits, PerformError, Verger};

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

/// The columns of each table, in this order, and what they are called.
const COLUMNS: [&str; 4] = ["id", "a", "pin", "c"];

/// The tables, those that are not asked for too; the last ones are full text.
const TABLES: [&str; 11] = [
    "whole", "narrow", "ledger", "sink", "keyed", "closed", "extra", "notes", "log", "found",
    "lost",
];

/// What a worker may do with one table.
#[derive(Debug, Clone, Default)]
struct Verbs {
    read: BTreeSet<usize>,
    insert: bool,
    update: BTreeSet<usize>,
    delete: bool,
}

/// A schema and a grant.
#[derive(Debug)]
struct Case {
    shape: usize,
    confined: bool,
    verbs: BTreeMap<&'static str, Verbs>,
    /// The views that may be read, and written through the app's triggers.
    seen: bool,
    doors: bool,
}

/// What the schemas are, in words.
const SHAPES: [&str; 9] = [
    "plain",
    "composite keys, NULLs in them",
    "composite keys without a rowid",
    "typeless keys",
    "typeless keys without a rowid",
    "a column called rowid",
    "a computed tenant",
    "cascades",
    "constraints that replace",
];

impl Case {
    /// The grant that was written by hand, on the plain schema.
    fn first() -> Self {
        let all: BTreeSet<usize> = (0..4).collect();
        let verbs = |read: &[usize], insert, update: &[usize], delete| Verbs {
            read: read.iter().copied().collect(),
            insert,
            update: update.iter().copied().collect(),
            delete,
        };
        let whole = Verbs { read: all.clone(), insert: true, update: all, delete: true };
        let verbs = BTreeMap::from([
            ("whole", whole.clone()),
            ("keyed", whole.clone()),
            ("found", whole),
            ("narrow", verbs(&[0, 1], false, &[], false)),
            ("ledger", verbs(&[0], true, &[], false)),
            ("sink", verbs(&[0, 1, 2, 3], true, &[0, 1, 2, 3], false)),
            ("notes", verbs(&[0, 1, 2, 3], false, &[1], false)),
        ]);
        Self { shape: 8, confined: false, verbs, seen: true, doors: false }
    }

    fn at_random(random: &mut Random) -> Self {
        let mut verbs = BTreeMap::new();
        for table in &TABLES[..8] {
            let mut some = |of_100| -> BTreeSet<usize> {
                match random.chance(of_100) {
                    true if random.chance(60) => (0..4).collect(),
                    true => (0..4).filter(|_| random.chance(50)).collect(),
                    false => BTreeSet::new(),
                }
            };
            let (read, update) = (some(75), some(45));
            let (insert, delete) = (random.chance(50), random.chance(35));
            verbs.insert(*table, Verbs { read, insert, update, delete });
        }
        if random.chance(50) {
            let all: BTreeSet<usize> = (0..4).collect();
            let whole = Verbs { read: all.clone(), insert: true, update: all, delete: true };
            verbs.insert("found", whole);
        }
        Self {
            shape: random.below(SHAPES.len()),
            confined: random.chance(50),
            verbs,
            seen: random.chance(50),
            doors: random.chance(50),
        }
    }

    fn grant(&self) -> Grant {
        let time = std::time::Duration::from_secs(10);
        let mut grant = Grant::new().limits(Limits::new().time(time).write_lock(time));
        for (table, verbs) in &self.verbs {
            let named = |columns: &BTreeSet<usize>| -> Vec<&str> {
                columns.iter().map(|at| COLUMNS[*at]).collect()
            };
            grant = match verbs.read.len() {
                0 => grant,
                4 => grant.read(*table),
                _ => grant.read_columns(*table, named(&verbs.read)),
            };
            grant = match verbs.update.len() {
                0 => grant,
                4 => grant.update(*table),
                _ => grant.update_columns(*table, named(&verbs.update)),
            };
            grant = if verbs.insert { grant.insert(*table) } else { grant };
            grant = if verbs.delete { grant.delete(*table) } else { grant };
        }
        grant = if self.seen { grant.read("seen") } else { grant };
        grant = if self.doors { grant.write("doors") } else { grant };
        if self.confined { grant.tenant_column("org") } else { grant }
    }

    fn schema(&self) -> String {
        let rest = match self.shape {
            6 => "org TEXT AS (substr(c, 1, 1))",
            _ => "org TEXT DEFAULT 'a'",
        };
        let table = |name: &str, unique: &str| match self.shape {
            1 => format!(
                "CREATE TABLE {name} (id INTEGER, a TEXT{unique}, pin INTEGER, c TEXT, {rest}, PRIMARY KEY (a, id));"
            ),
            2 => format!(
                "CREATE TABLE {name} (id INTEGER, a TEXT{unique}, pin INTEGER, c TEXT, {rest}, PRIMARY KEY (id, a)) WITHOUT ROWID;"
            ),
            3 => format!("CREATE TABLE {name} (id PRIMARY KEY, a{unique}, pin, c, {rest});"),
            4 => format!(
                "CREATE TABLE {name} (id PRIMARY KEY, a{unique}, pin, c, {rest}) WITHOUT ROWID;"
            ),
            5 => format!(
                "CREATE TABLE {name} (id INTEGER PRIMARY KEY, a TEXT{unique}, pin INTEGER, c TEXT, {rest}, rowid TEXT);"
            ),
            7 if name == "extra" => format!(
                "CREATE TABLE {name} (id INTEGER PRIMARY KEY REFERENCES whole (id) ON DELETE CASCADE ON UPDATE CASCADE, a TEXT, pin INTEGER, c TEXT, {rest});"
            ),
            _ => format!(
                "CREATE TABLE {name} (id INTEGER PRIMARY KEY, a TEXT{unique}, pin INTEGER, c TEXT, {rest});"
            ),
        };
        let replaces = if self.shape == 8 { " UNIQUE ON CONFLICT REPLACE" } else { " UNIQUE" };
        let narrow = table("narrow", "");
        let narrow = match self.shape {
            0 | 8 => narrow.replace(");", ", twice AS (pin * 2));"),
            _ => narrow,
        };
        let tables: String = [
            table("whole", ""),
            narrow,
            table("ledger", " UNIQUE"),
            table("sink", replaces),
            table("closed", ""),
            table("extra", ""),
            table("notes", ""),
        ]
        .concat();
        format!(
            "{tables}
            CREATE TABLE keyed (a TEXT, id INTEGER, pin INTEGER, c TEXT, {rest}, PRIMARY KEY (a, id)) WITHOUT ROWID;
            CREATE INDEX whole_pin ON whole (pin, a);
            CREATE INDEX whole_org ON whole (org, a);
            CREATE INDEX narrow_pin ON narrow (pin, c);
            CREATE INDEX narrow_part ON narrow (a) WHERE pin > 4711;
            CREATE INDEX closed_pin ON closed (pin);
            CREATE TABLE log (id INTEGER PRIMARY KEY, a TEXT UNIQUE, pin INTEGER, c TEXT);
            CREATE VIEW seen AS SELECT id, a, org FROM closed;
            CREATE VIEW unseen AS SELECT * FROM closed;
            CREATE VIEW doors AS SELECT id, a, org FROM notes;
            CREATE VIRTUAL TABLE found USING fts5(a, c, org UNINDEXED);
            CREATE VIRTUAL TABLE lost USING fts5(a, c, org UNINDEXED);
            CREATE TRIGGER whole_logged AFTER INSERT ON whole BEGIN INSERT OR IGNORE INTO log (a) VALUES (NEW.a); END;
            CREATE TRIGGER whole_changed AFTER UPDATE OF c ON whole BEGIN UPDATE log SET pin = 1 WHERE a = NEW.a; END;
            CREATE TRIGGER doors_open INSTEAD OF INSERT ON doors BEGIN INSERT OR IGNORE INTO log (a) VALUES ('door'); END;"
        )
    }

    /// Whether a cell of a row of its own, or of a granted table, may be read.
    fn reads(&self, table: &str, column: usize) -> bool {
        let by_view = match (table, column) {
            ("closed", 0 | 1) => self.seen,
            ("notes", 0 | 1) => self.doors,
            _ => false,
        };
        by_view || self.verbs.get(table).is_some_and(|verbs| verbs.read.contains(&column))
    }

    /// What may happen to the rows of a table; what the app's triggers and cascades do included.
    fn may(&self, table: &str) -> Verbs {
        let granted = self.verbs.get(table).cloned().unwrap_or_default();
        let whole = self.verbs.get("whole").cloned().unwrap_or_default();
        match table {
            // Triggers add rows, and set `pin`.
            "log" => Verbs { insert: true, update: BTreeSet::from([2]), ..Verbs::default() },
            "extra" if self.shape == 7 => Verbs {
                delete: granted.delete || whole.delete,
                update: match whole.update.contains(&0) {
                    true => granted.update.iter().copied().chain([0]).collect(),
                    false => granted.update,
                },
                ..granted
            },
            _ => granted,
        }
    }
}

/// The rows of each table: whether they are of the tenant or of nobody else, and what is in them.
type Rows = BTreeMap<&'static str, Vec<(bool, Vec<String>)>>;

struct World<'c> {
    case: &'c Case,
    verger: Verger,
    app: Connection,
    secret: i64,
}

impl<'c> World<'c> {
    fn open(case: &'c Case, secret: i64) -> Self {
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

    fn fill(&self) {
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

    fn run(&self, sql: &str, execute: bool) -> Result<Json, String> {
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

    fn rows(&self) -> Rows {
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
                    Ok((!confined || org == Some("a"), cells.collect()))
                });
                (*table, rows.unwrap().collect::<Result<_, _>>().unwrap())
            })
            .collect()
    }
}

/// What changed in a way that no verb covers.
fn beyond_the_grant(case: &Case, before: &Rows, after: &Rows) -> Option<String> {
    for table in TABLES {
        let (old, new) = (&before[table], &after[table]);
        if old == new {
            continue;
        }
        let others = |rows: &[(bool, Vec<String>)]| -> Vec<Vec<String>> {
            let mut rows: Vec<_> =
                rows.iter().filter(|(mine, _)| !mine).map(|(_, row)| row.clone()).collect();
            rows.sort();
            rows
        };
        if others(old) != others(new) {
            return Some(format!("{table}: rows of another tenant changed: {old:?} {new:?}"));
        }
        // What may be updated tells nothing of which row it is: rows are alike by the rest.
        let may = case.may(table);
        let mut counts: BTreeMap<Vec<&String>, i64> = BTreeMap::new();
        let unchanged: BTreeSet<&Vec<String>> =
            old.iter().filter(|row| new.contains(row)).map(|(_, row)| row).collect();
        for (rows, step) in [(old, -1), (new, 1)] {
            for (_, row) in rows.iter().filter(|(_, row)| !unchanged.contains(row)) {
                let rest = (0..4).filter(|at| !may.update.contains(at)).map(|at| &row[at]);
                *counts.entry(rest.collect()).or_default() += step;
            }
        }
        if let Some((row, _)) = counts.iter().find(|(_, count)| **count < 0).filter(|_| !may.delete)
        {
            return Some(format!("{table}: a row with {row:?} is gone\n{old:?}\n{new:?}"));
        }
        if let Some((row, _)) = counts.iter().find(|(_, count)| **count > 0).filter(|_| !may.insert)
        {
            return Some(format!("{table}: a row with {row:?} is new\n{old:?}\n{new:?}"));
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
            "doors",
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
        let column =
            self.0.pick(&["id", "a", "pin", "c", "pin", "twice", "rowid", "a", "org", "_rowid_"]);
        let prefix = match self.0.below(4) {
            0 => self.0.pick(&["~narrow . ", "~x . ", "~whole . ", "~closed . "]),
            _ => "",
        };
        format!("{prefix}~{column}")
    }

    fn value(&mut self, depth: usize) -> String {
        match self.0.below(12) {
            0..=3 => self.column(),
            4 => self.0.pick(&["4711", "4712", "8001", "9001", "NULL", "1", "102"]).to_string(),
            5 => self
                .0
                .pick(&["'a1'", "'acanary8001'", "'x'", "'acanary9001'", "'b'", "'a102'"])
                .to_string(),
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
        let hint = self.0.pick(&[
            "",
            "",
            "",
            "",
            "",
            " NOT INDEXED",
            " INDEXED BY narrow_pin",
            " INDEXED BY whole_org",
        ]);
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
                    (self.table(), self.0.pick(&["a", "pin", "id", "c", "rowid", "org"]));
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
        let id = self.0.pick(&["1", "2", "9", "NULL", "102"]);
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

/// Statements for one schema and one grant.
const OF_EACH: u32 = 100;

#[test]
fn no_statement_reaches_more_than_the_grant_allows() {
    let statements = match std::env::var("VERGER_LONG").map(|long| long.parse::<u32>()) {
        Ok(Ok(count)) if count > 1 => count,
        Ok(_) => 1_000_000,
        Err(_) => 2_000,
    };
    let seed = std::env::var("VERGER_SEED").map_or(20_261_125, |seed| seed.parse().unwrap());
    let mut grammar = Grammar(Random(seed));
    let mut grants = Random(seed ^ 0x5eed);
    let begun = std::time::Instant::now();
    let mut tally: BTreeMap<String, u32> = BTreeMap::new();
    let mut number = 0;
    while number < statements {
        let case = if number == 0 { Case::first() } else { Case::at_random(&mut grants) };
        let (one, other) = (World::open(&case, 8_000), World::open(&case, 9_000));
        let mut before = [one.rows(), other.rows()];
        for _ in 0..OF_EACH.min(statements - number) {
            number += 1;
            let (sql, execute) = grammar.statement();
            let answers = [one.run(&sql, execute), other.run(&sql, execute)];
            let about = || {
                format!(
                    "seed {seed}, statement {number}, {}: {sql:?}\n{answers:#?}\n{case:?}",
                    SHAPES[case.shape]
                )
            };
            // On a busy machine the clock ends one of them: it tells nothing.
            let by_clock = |said: &Result<Json, String>| {
                said.as_ref()
                    .is_err_and(|why| why.starts_with("deadline") || why.starts_with("lock-held"))
            };
            if !answers.iter().any(by_clock) {
                assert_eq!(answers[0], answers[1], "what it may not read shows\n{}", about());
            }
            let after = [one.rows(), other.rows()];
            for (before, after) in before.iter().zip(&after) {
                if let Some(what) = beyond_the_grant(&case, before, after) {
                    panic!("{what}\n{}", about());
                }
                let kept = |row: &&(bool, Vec<String>)| {
                    row.1[0] == "Integer(1)" || row.1[0] == "Integer(2)"
                };
                assert_eq!(after["log"].iter().filter(kept).count(), 2, "{}", about());
            }
            if after[0] != before[0] || after[1] != before[1] {
                let is_undone = answers.iter().all(Result::is_err);
                assert!(!is_undone, "an error left something\n{}", about());
                one.fill();
                other.fill();
                before = [one.rows(), other.rows()];
            }
            if number % 50_000 == 0 {
                println!("{number} statements, in {:?}", begun.elapsed());
            }
            let kind = match &answers[0] {
                Ok(_) if execute => "changed".to_string(),
                Ok(_) => "answered".to_string(),
                Err(reason) if reason.contains("denied") => "denied".to_string(),
                Err(_) => "no statement".to_string(),
            };
            *tally.entry(kind).or_default() += 1;
            *tally.entry(SHAPES[case.shape].to_string()).or_default() += 1;
            *tally.entry(format!("confined: {}", case.confined)).or_default() += 1;
        }
    }
    println!("{statements} statements, seed {seed}, in {:?}: {tally:#?}", begun.elapsed());
    let worked = tally.get("answered").unwrap_or(&0) + tally.get("changed").unwrap_or(&0);
    assert!(worked * 25 > statements, "some statements do something: {tally:?}");
}
