//! Statements that change rows.

use super::{Grammar, Source, TABLES};

impl Grammar {
    /// A table that is written to: as it is written, its name, and the columns that may be set.
    fn target(&mut self) -> (String, &'static str, &'static [&'static str]) {
        let (name, columns): (&'static str, &'static [&'static str]) = match self.below(12) {
            0..=5 => ("orders", &["total", "state"]),
            6 | 7 => ("lines", &["what"]),
            8 | 9 => ("members", &["rank", "name"]),
            10 => ("notes", &["text"]),
            _ => self.pick(&[
                ("open_orders", &["total", "state"] as &'static [&'static str]),
                ("rates", &["rate"]),
                ("secrets", &["total"]),
            ]),
        };
        let schema = match self.below(100) {
            0..=3 => "main.",
            4..=9 if name != "rates" && name != "secrets" => "{temp}",
            _ => "",
        };
        (format!("{schema}{}", self.quoted(name)), name, columns)
    }

    pub(super) fn columns(table: &str) -> Vec<String> {
        let columns = TABLES
            .iter()
            .find(|(name, _)| *name == table)
            .map_or(&["id"] as &[&str], |(_, columns)| columns);
        columns.iter().map(ToString::to_string).collect()
    }

    pub(super) fn update(&mut self) -> (String, bool) {
        let with = self.with_clause(2);
        let (written, table, columns) = self.target();
        let alias =
            if self.chance(20) { Some(self.pick(&["x", "lines", "secrets", "q"])) } else { None };
        let own =
            Source { name: alias.unwrap_or(table).to_string(), columns: Self::columns(table) };
        let verb = self.pick(&[
            "UPDATE",
            "UPDATE",
            "UPDATE",
            "UPDATE OR ABORT",
            "UPDATE OR FAIL",
            "UPDATE OR ROLLBACK",
            "UPDATE OR REPLACE",
            "UPDATE OR IGNORE",
        ]);
        let column = self.pick(columns);
        let value = match self.below(6) {
            0 if column == "total" || column == "rank" || column == "rate" => {
                format!("{column} + 1")
            }
            // From another table than the one that is changed: otherwise the order of the rows
            // counts.
            1 => format!(
                "(SELECT {} FROM rates WHERE rates.id < {})",
                self.pick(&["count(*)", "max(rates.rate)", "min(rates.name)"]),
                self.below(4)
            ),
            2 => format!("'{}'", self.pick(&["open", "paid", "b"])),
            3 => "NULL".to_string(),
            _ => self.below(90).to_string(),
        };
        let mut set = format!("{column} = {value}");
        if self.chance(8) {
            set.push_str(&format!(
                ", organization_id = {}",
                self.pick(&["'a'", "'b'", "NULL", "'A'"])
            ));
        }
        if self.chance(6) && table == "orders" {
            set.push_str(&format!(", id = {}", self.pick(&["id + 100", "id", "1003"])));
            self.comparable &= !set.contains("1003");
        }
        let mut sql = format!(
            "{verb} {written}{} SET {set}",
            alias.map(|alias| format!(" AS {alias}")).unwrap_or_default()
        );
        let mut scope = vec![own.clone()];
        if self.chance(10)
            && !self.with.iter().any(|source| source.name == "rates")
            && own.name != "rates"
        {
            sql.push_str(" FROM rates");
            let column = self.column_of(&scope);
            sql.push_str(&format!(" WHERE rates.id = 1 AND {column} = 1"));
            scope.push(Source { name: "rates".to_string(), columns: Self::columns("rates") });
        } else if self.chance(80) {
            let condition = self.condition(2, &scope);
            sql.push_str(&format!(" WHERE {condition}"));
        }
        self.with.clear();
        self.returning(format!("{with}{sql}"), &["organization_id", column])
    }

    pub(super) fn delete(&mut self) -> (String, bool) {
        let with = self.with_clause(2);
        let (written, table, columns) = self.target();
        let own = Source { name: table.to_string(), columns: Self::columns(table) };
        let condition = self.condition(2, &[own]);
        self.with.clear();
        self.returning(format!("{with}DELETE FROM {written} WHERE {condition}"), columns)
    }

    pub(super) fn insert(&mut self) -> (String, bool) {
        let with = self.with_clause(2);
        let (written, table, columns) = self.target();
        let verb = self.pick(&[
            "INSERT",
            "INSERT",
            "INSERT",
            "INSERT OR IGNORE",
            "INSERT OR REPLACE",
            "REPLACE",
            "INSERT OR FAIL",
            "INSERT OR ROLLBACK",
        ]);
        let mut names = vec![if table == "lines" { "order_id" } else { "id" }, columns[0]];
        if table == "lines" {
            names.push("place");
        }
        let key = match self.below(10) {
            0 => {
                self.comparable = false;
                (1_000 + self.below(9)).to_string()
            }
            1 => {
                self.comparable = false;
                "NULL".to_string()
            }
            2 => "3".to_string(),
            _ => (10 + self.below(80)).to_string(),
        };
        let mut values = vec![key, self.pick(&["'open'", "5", "'new'"]).to_string()];
        if table == "lines" {
            values.push("1".to_string());
        }
        if self.chance(40) {
            names.push("organization_id");
            values.push(self.pick(&["'a'", "'a'", "'b'", "'A'"]).to_string());
        }
        let rows = match self.below(4) {
            0 => {
                let source = Source { name: "o".to_string(), columns: Self::columns("orders") };
                let condition = self.condition(1, &[source]);
                let mut values = values.clone();
                values[0] = format!("o.id + {}", values[0]);
                if self.with.iter().any(|known| known.name.eq_ignore_ascii_case("orders")) {
                    format!("VALUES ({})", values.join(", "))
                } else {
                    format!("SELECT {} FROM orders AS o WHERE {condition}", values.join(", "))
                }
            }
            _ => format!("VALUES ({})", values.join(", ")),
        };
        let upsert = match self.below(12) {
            0 => " ON CONFLICT DO NOTHING".to_string(),
            1 => format!(" ON CONFLICT DO UPDATE SET {} = 1", columns[0]),
            _ => String::new(),
        };
        self.with.clear();
        let returned: Vec<&str> = names.clone();
        self.returning(
            format!("{with}{verb} INTO {written} ({}) {rows}{upsert}", names.join(", ")),
            &returned,
        )
    }

    /// Perhaps with RETURNING; whether it is then still executed, not queried.
    fn returning(&mut self, sql: String, columns: &[&str]) -> (String, bool) {
        if !self.chance(20) {
            return (sql, true);
        }
        let returned = match self.below(6) {
            0 => "(SELECT count(*) FROM main.orders)".to_string(),
            1 => "(SELECT max(total) FROM secrets)".to_string(),
            2 => "(SELECT count(*) FROM rates)".to_string(),
            _ => self.pick(columns).to_string(),
        };
        // What a query finds once a row is changed depends on which row came first.
        self.loose |= returned.starts_with('(');
        (format!("{sql} RETURNING {returned}"), false)
    }
}
