//! Statements at random: first as words, then written with odd white space and quotes.

use super::random::Random;

/// A statement as words; `~` stands before those that are names and may be quoted.
pub(super) struct Grammar(Random);

impl Grammar {
    pub(super) fn new(seed: u64) -> Self {
        Self(Random(seed))
    }

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
                6 => {
                    let join = self.0.pick(&["FULL", "RIGHT"]);
                    format!("{from} {join} JOIN {other} USING ( ~pin )")
                }
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

    pub(super) fn statement(&mut self) -> (String, bool) {
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
                let from = if self.0.chance(40) {
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
