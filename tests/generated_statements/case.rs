//! What a world is made by: a schema of some kind, and a grant that says which cells of it may be
//! read and changed.

use std::collections::{BTreeMap, BTreeSet};

use verger::{Grant, Limits};

use super::random::Random;

/// The columns of each table, in this order, and what they are called.
pub(super) const COLUMNS: [&str; 4] = ["id", "a", "pin", "c"];

/// The tables, those that are not asked for too; the last ones are full text.
pub(super) const TABLES: [&str; 11] = [
    "whole", "narrow", "ledger", "sink", "keyed", "closed", "extra", "notes", "log", "found",
    "lost",
];

/// What a worker may do with one table.
#[derive(Debug, Clone, Default)]
pub(super) struct Verbs {
    read: BTreeSet<usize>,
    pub(super) insert: bool,
    pub(super) update: BTreeSet<usize>,
    pub(super) delete: bool,
}

impl Verbs {
    fn all() -> Self {
        let all: BTreeSet<usize> = (0..COLUMNS.len()).collect();
        Self { read: all.clone(), insert: true, update: all, delete: true }
    }
}

/// A schema and a grant.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) shape: usize,
    pub(super) confined: bool,
    verbs: BTreeMap<&'static str, Verbs>,
    /// The views that may be read, and written through the app's triggers.
    seen: bool,
    doors: bool,
}

/// What the schemas are, in words.
pub(super) const SHAPES: [&str; 9] = [
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
    pub(super) fn first() -> Self {
        let verbs = |read: &[usize], insert, update: &[usize], delete| Verbs {
            read: read.iter().copied().collect(),
            insert,
            update: update.iter().copied().collect(),
            delete,
        };
        let whole = Verbs::all();
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

    pub(super) fn at_random(random: &mut Random) -> Self {
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
            verbs.insert("found", Verbs::all());
        }
        Self {
            shape: random.below(SHAPES.len()),
            confined: random.chance(50),
            verbs,
            seen: random.chance(50),
            doors: random.chance(50),
        }
    }

    pub(super) fn grant(&self) -> Grant {
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

    pub(super) fn schema(&self) -> String {
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
    pub(super) fn reads(&self, table: &str, column: usize) -> bool {
        let by_view = match (table, column) {
            ("closed", 0 | 1) => self.seen,
            ("notes", 0 | 1) => self.doors,
            _ => false,
        };
        by_view || self.verbs.get(table).is_some_and(|verbs| verbs.read.contains(&column))
    }

    /// What may happen to the rows of a table; what the app's triggers and cascades do included.
    pub(super) fn may(&self, table: &str) -> Verbs {
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
