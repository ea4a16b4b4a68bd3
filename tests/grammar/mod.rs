//! SQL at random, for the property test of the tenant's walls: what a worker could send, with an
//! eye for names that shadow.

/// Deterministic, so that a failure can be replayed.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// One statement.
pub(crate) struct Statement {
    /// `{temp}` stands before names that are to be those of the views.
    pub(crate) sql: String,
    /// It is executed, not queried.
    pub(crate) changes: bool,
    /// Alone and among others it should do the same: it takes no key that is another tenant's.
    pub(crate) comparable: bool,
    /// What it does depends on the plan, or on an order that nothing says: only another confined
    /// worker has to have the same.
    pub(crate) loose: bool,
}

/// Tables and views with the columns they have in common with what may shadow them.
const TABLES: [(&str, &[&str]); 8] = [
    ("orders", &["id", "total", "state", "organization_id", "gross"]),
    ("lines", &["order_id", "place", "what", "organization_id"]),
    ("notes", &["id", "text", "organization_id"]),
    ("members", &["id", "rank", "name", "organization_id"]),
    ("open_orders", &["id", "total", "state", "organization_id"]),
    ("by_state", &["id", "total", "state", "organization_id"]),
    ("rates", &["id", "rate", "name"]),
    ("everything", &["id", "total", "state"]),
];

/// Names for aliases and common table expressions: most are those of something else.
const NAMES: [&str; 14] = [
    "x",
    "y",
    "orders",
    "ORDERS",
    "lines",
    "open_orders",
    "secrets",
    "rates",
    "log",
    "by_state",
    "orders_logged",
    "members",
    "sqlite_schema",
    "everything",
];

/// Something rows come from: its name in the statement, and its columns.
#[derive(Clone)]
struct Source {
    name: String,
    columns: Vec<String>,
}

pub(crate) struct Grammar {
    random: SplitMix64,
    /// Common table expressions in reach, outermost first.
    with: Vec<Source>,
    comparable: bool,
    loose: bool,
}

impl Grammar {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: SplitMix64(seed), with: Vec::new(), comparable: true, loose: false }
    }

    fn below(&mut self, most: usize) -> usize {
        (self.random.next() % most as u64) as usize
    }

    /// True in so many of a hundred cases.
    fn chance(&mut self, of_100: usize) -> bool {
        self.below(100) < of_100
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        let place = self.below(from.len());
        from[place].clone()
    }

    pub(crate) fn statement(&mut self) -> Statement {
        self.with.clear();
        self.comparable = true;
        self.loose = false;
        let (sql, changes) = match self.below(10) {
            0..=5 => (self.query(3), false),
            6 | 7 => self.update(),
            8 => self.insert(),
            _ => self.delete(),
        };
        Statement { sql, changes, comparable: self.comparable, loose: self.loose }
    }

    /// A whole query with its WITH.
    fn query(&mut self, depth: usize) -> String {
        let reach = self.with.len();
        let with = self.with_clause(depth);
        let width = 1 + self.below(3);
        let body = self.body(depth, width, &[]);
        self.with.truncate(reach);
        // The first rows of some order, or of none.
        let tail = match self.below(12) {
            0 => {
                self.loose = true;
                let most = 1 + self.below(5);
                format!("{}LIMIT {most}", self.pick(&[" ", " ORDER BY 1 ", " ORDER BY 1 DESC "]))
            }
            _ => String::new(),
        };
        format!("{with}{body}{tail}")
    }

    fn with_clause(&mut self, depth: usize) -> String {
        if depth == 0 || !self.chance(35) {
            return String::new();
        }
        let mut parts = Vec::new();
        let mut recursive = false;
        for _ in 0..=self.below(2) {
            let name = self.pick(&NAMES);
            if self.with.iter().any(|known| known.name.eq_ignore_ascii_case(name))
                || parts.iter().any(|part: &String| part.starts_with(name))
            {
                continue;
            }
            let columns = vec!["id".to_string(), "total".to_string(), "state".to_string()];
            let hint = self.pick(&["", "", "MATERIALIZED ", "NOT MATERIALIZED "]);
            let written = self.quoted(name);
            if self.chance(20) {
                recursive = true;
                let first = self.body(depth - 1, 3, &[]);
                let first = if first.contains(" UNION")
                    || first.contains(" EXCEPT")
                    || first.contains(" INTERSECT")
                    || first.contains("ORDER BY")
                {
                    format!("SELECT * FROM ({first})")
                } else {
                    first
                };
                parts.push(format!(
                    "{written}(id, total, state) AS ({first} UNION SELECT {0}.id + 1, {0}.total, {0}.state FROM {0} WHERE {0}.id < 9)",
                    self.quoted(name)
                ));
            } else {
                let body = self.body(depth - 1, 3, &[]);
                parts.push(format!("{written}(id, total, state) AS {hint}({body})"));
            }
            self.with.push(Source { name: name.to_string(), columns });
        }
        if parts.is_empty() {
            return String::new();
        }
        format!(
            "{} {}{} ",
            self.pick(&["WITH", "with", "With/**/"]),
            if recursive { "RECURSIVE " } else { "" },
            parts.join(", ")
        )
    }

    fn quoted(&mut self, name: &str) -> String {
        match self.below(10) {
            0 => format!("\"{name}\""),
            1 => format!("[{name}]"),
            2 => format!("`{name}`"),
            _ => name.to_string(),
        }
    }

    /// A SELECT of so many columns, perhaps one of several put together.
    fn body(&mut self, depth: usize, width: usize, outer: &[Source]) -> String {
        let mut sql = self.select(depth, width, outer);
        if depth > 0 && self.chance(15) {
            let with = self.pick(&["UNION", "UNION ALL", "EXCEPT", "INTERSECT"]);
            let other = self.select(depth - 1, width, outer);
            sql = format!("{sql} {with} {other}");
        }
        sql
    }

    fn select(&mut self, depth: usize, width: usize, outer: &[Source]) -> String {
        let mut from = vec![self.source(depth)];
        let mut sql = format!("FROM {}", from[0].0);
        if depth > 0 && self.chance(35) {
            let (text, source) = self.source(depth - 1);
            if !source.name.eq_ignore_ascii_case(&from[0].1.name) {
                let join =
                    self.pick(&["JOIN", "LEFT JOIN", "CROSS JOIN", ",", "RIGHT JOIN", "FULL JOIN"]);
                sql.push_str(&format!(" {join} {text}"));
                from.push((text, source));
                if join != "," && join != "CROSS JOIN" {
                    let scope: Vec<Source> =
                        from.iter().map(|(_, source)| source.clone()).collect();
                    let (one, other) = (self.column_of(&scope[..1]), self.column_of(&scope[1..]));
                    sql.push_str(&format!(" ON {one} = {other}"));
                }
            }
        }
        let mut scope: Vec<Source> = from.into_iter().map(|(_, source)| source).collect();
        let own = scope.len();
        // Names of an outer query that are hidden here would mean something else.
        scope.extend(
            outer
                .iter()
                .filter(|source| {
                    !scope.iter().any(|own| own.name.eq_ignore_ascii_case(&source.name))
                })
                .cloned()
                .collect::<Vec<_>>(),
        );
        if self.chance(60) {
            let condition = self.condition(depth, &scope);
            sql.push_str(&format!(" WHERE {condition}"));
        }
        let own = &scope[..own];
        match self.below(10) {
            0 | 1 => {
                let columns: Vec<String> = (0..width).map(|_| self.aggregate(own)).collect();
                format!("SELECT {} {sql}", columns.join(", "))
            }
            2 => {
                let by = self.column_of(own);
                let columns: Vec<String> = (0..width)
                    .map(|place| if place == 0 { by.clone() } else { self.aggregate(own) })
                    .collect();
                let having = if self.chance(30) { " HAVING count(*) > 1" } else { "" };
                format!("SELECT {} {sql} GROUP BY {by}{having}", columns.join(", "))
            }
            3 => {
                let by = self.column_of(own);
                let columns: Vec<String> = (0..width).map(|_| self.window(own, &by)).collect();
                format!("SELECT {} {sql}", columns.join(", "))
            }
            4 => {
                let columns: Vec<String> = (0..width).map(|_| self.value(depth, &scope)).collect();
                format!("SELECT DISTINCT {} {sql}", columns.join(", "))
            }
            _ => {
                let columns: Vec<String> = (0..width).map(|_| self.value(depth, &scope)).collect();
                format!("SELECT {} {sql}", columns.join(", "))
            }
        }
    }

    /// Something to select from, as it is written, and what it is called.
    fn source(&mut self, depth: usize) -> (String, Source) {
        if depth > 0 && self.chance(15) {
            let alias = self.pick(&NAMES);
            let body = self.query_inside(depth - 1);
            return (
                format!("({body}) AS {alias}"),
                Source { name: alias.to_string(), columns: Vec::new() },
            );
        }
        if !self.with.is_empty() && self.chance(50) {
            let known = self.with.clone();
            let cte = self.pick(&known);
            return self.aliased(cte.name.clone(), cte.columns);
        }
        let place = match self.below(20) {
            0..=6 => 0,
            7..=9 => 1,
            10 | 11 => 2,
            12 | 13 => 3,
            14 | 15 => 4,
            16 | 17 => 5,
            18 => 6,
            _ => 6 + self.below(2),
        };
        let (name, columns) = TABLES[place];
        if self.chance(1) {
            return (
                "main.secrets".to_string(),
                Source { name: "secrets".to_string(), columns: vec!["total".to_string()] },
            );
        }
        let columns: Vec<String> = columns.iter().map(ToString::to_string).collect();
        // A common table expression of that name has other columns; it takes them.
        let hidden =
            self.with.iter().find(|source| source.name.eq_ignore_ascii_case(name)).cloned();
        let schema = match self.below(100) {
            0..=2 => "main.",
            3..=9 if name != "rates" => "{temp}",
            _ => "",
        };
        let columns = match hidden {
            Some(hidden) if schema.is_empty() => hidden.columns,
            _ => columns,
        };
        let name = self.quoted(name);
        self.aliased(format!("{schema}{name}"), columns)
    }

    fn aliased(&mut self, written: String, columns: Vec<String>) -> (String, Source) {
        if self.chance(40) {
            let alias = self.pick(&NAMES);
            return (format!("{written} AS {alias}"), Source { name: alias.to_string(), columns });
        }
        let name = written
            .trim_start_matches("main.")
            .trim_start_matches("{temp}")
            .trim_matches(['"', '[', ']', '`'])
            .to_string();
        (written, Source { name, columns })
    }

    /// A query whose columns are called id, total and state.
    fn query_inside(&mut self, depth: usize) -> String {
        let body = self.body(depth, 3, &[]);
        format!("WITH q(id, total, state) AS ({body}) SELECT * FROM q")
    }

    fn column_of(&mut self, scope: &[Source]) -> String {
        let place = self.below(scope.len());
        let source = &scope[place];
        let columns: &[String] = &source.columns;
        let column = if columns.is_empty() {
            self.pick(&["id", "total", "state"]).to_string()
        } else {
            self.pick(columns)
        };
        format!("{}.{column}", scope[place].name)
    }

    fn aggregate(&mut self, scope: &[Source]) -> String {
        let column = self.column_of(scope);
        match self.below(7) {
            0 | 1 => "count(*)".to_string(),
            2 => format!("count(DISTINCT {column})"),
            3 => format!("min({column})"),
            4 => format!("max({column})"),
            5 if self.chance(15) => {
                self.loose = true;
                format!("sum(9223372036854775800 + length({column}))")
            }
            5 => format!("count({column}) FILTER (WHERE {column} IS NOT 'open')"),
            _ => format!("sum(length({column}))"),
        }
    }

    fn window(&mut self, scope: &[Source], by: &str) -> String {
        let column = self.column_of(scope);
        let over = match self.below(3) {
            0 => format!("(PARTITION BY {by})"),
            1 => format!("(ORDER BY {by})"),
            _ => "()".to_string(),
        };
        match self.below(4) {
            0 => format!("count(*) OVER {over}"),
            1 => format!("max({column}) OVER {over}"),
            2 => format!("rank() OVER (ORDER BY {by})"),
            _ => format!("sum(length({column})) OVER {over}"),
        }
    }

    /// An expression that fails for some rows and not for others: whether it did is an answer.
    fn trap(&mut self, scope: &[Source]) -> String {
        self.loose = true;
        let column = self.column_of(scope);
        let bit = self.below(8);
        let set = match self.below(4) {
            0 => format!("{column} > {}", self.below(60)),
            1 => format!("{column} = 'b'"),
            2 => format!("length({column}) > {}", self.below(4)),
            _ => format!("unicode(substr({column}, {}, 1)) >> {bit} & 1", 1 + self.below(3)),
        };
        match self.below(9) {
            0 | 1 => format!("abs(iif({set}, -9223372036854775807 - 1, 0))"),
            2 => format!("json_extract(iif({set}, '[', '[3]'), '$[0]')"),
            3 => format!("length(zeroblob(iif({set}, 2000000000, 1)))"),
            4 => format!("({column} LIKE iif({set}, hex(zeroblob(30000)), 'o%'))"),
            5 => format!("json(iif({set}, {column}, '1'))"),
            6 => format!("(1 / ({column} - {}))", self.below(40)),
            7 => format!("(9223372036854775807 + iif({set}, {column}, 0))"),
            _ => format!("json_array(iif({set}, x'00', 1))"),
        }
    }

    /// A row of any tenant is named, by its key or not, and something fails on it.
    fn oracle(&mut self, scope: &[Source]) -> String {
        let (one, other) = (self.column_of(scope), self.column_of(scope));
        let (trap, key) = (self.trap(scope), self.pick(&[0, 1_000, 2_000]) + 1 + self.below(7));
        match self.below(4) {
            0 | 1 => format!("(({one} = {key} AND {trap} >= 0) OR {other} = -1)"),
            2 => format!("({trap} IS NULL OR {one} = {key})"),
            _ => format!("({one} = {key} AND {trap} >= 0)"),
        }
    }

    fn value(&mut self, depth: usize, scope: &[Source]) -> String {
        if self.chance(2) {
            return self.trap(scope);
        }
        let column = self.column_of(scope);
        match self.below(16) {
            0 => self.below(80).to_string(),
            1 => self.pick(&["'open'", "'a'", "'b'", "NULL", "'void'"]).to_string(),
            2 => format!("coalesce({column}, 'none')"),
            3 => format!("upper({column})"),
            4 => format!("({column} + 1)"),
            5 => format!("replace({column}, 'o', '0')"),
            6 => format!("CASE WHEN {column} > 3 THEN 1 ELSE 'no' END"),
            7 if depth > 0 => {
                let inside = self.scalar(depth - 1, scope);
                format!("({inside})")
            }
            8 if depth > 0 => {
                let condition = self.condition(depth - 1, scope);
                format!("({condition})")
            }
            _ => column,
        }
    }

    /// A query of one row and one column, that may look at the outer one.
    fn scalar(&mut self, depth: usize, outer: &[Source]) -> String {
        let (text, source) = self.source(depth);
        let mut scope = vec![source];
        let aggregate = self.aggregate(&scope);
        scope.extend(
            outer
                .iter()
                .filter(|source| !scope[0].name.eq_ignore_ascii_case(&source.name))
                .cloned()
                .collect::<Vec<_>>(),
        );
        let condition = self.condition(depth, &scope);
        format!("SELECT {aggregate} FROM {text} WHERE {condition}")
    }

    fn condition(&mut self, depth: usize, scope: &[Source]) -> String {
        if self.chance(8) {
            return self.oracle(scope);
        }
        let column = self.column_of(scope);
        match self.below(18) {
            0 | 1 => format!("{column} = {}", self.below(8)),
            2 => format!("{column} = 'open'"),
            3 => format!("{column} IS NOT NULL"),
            4 => format!("{column} LIKE '%o%'"),
            5 => format!("{column} BETWEEN 2 AND 50"),
            6 if self.chance(30) => format!("{column} < {}", self.trap(scope)),
            6 => format!("{column} <> {}", self.column_of(scope)),
            7 => format!("{column} > {}", self.below(60)),
            8 => format!("{column} IN (1, 2, 'open', 'a', 'b', 30)"),
            9 => "1".to_string(),
            10 if depth > 0 => {
                let inside = self.body(depth - 1, 1, scope);
                format!("{column} IN ({inside})")
            }
            11 if depth > 0 => {
                let inside = self.body(depth - 1, 1, scope);
                format!("EXISTS ({inside})")
            }
            12 if depth > 0 => {
                let inside = self.body(depth - 1, 1, scope);
                format!("NOT EXISTS ({inside})")
            }
            13 if depth > 0 => {
                let inside = self.scalar(depth - 1, scope);
                format!("{column} >= ({inside})")
            }
            14 if depth > 0 => {
                let (one, other) =
                    (self.condition(depth - 1, scope), self.condition(depth - 1, scope));
                let with = self.pick(&["AND", "OR"]);
                format!("({one} {with} {other})")
            }
            15 if depth > 0 => format!("NOT ({})", self.condition(depth - 1, scope)),
            16 => format!("{column} = 'b' OR {column} = 1003"),
            _ => format!("{column} >= 1"),
        }
    }

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

    fn columns(table: &str) -> Vec<String> {
        let columns = TABLES
            .iter()
            .find(|(name, _)| *name == table)
            .map_or(&["id"] as &[&str], |(_, columns)| columns);
        columns.iter().map(ToString::to_string).collect()
    }

    fn update(&mut self) -> (String, bool) {
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

    fn delete(&mut self) -> (String, bool) {
        let with = self.with_clause(2);
        let (written, table, columns) = self.target();
        let own = Source { name: table.to_string(), columns: Self::columns(table) };
        let condition = self.condition(2, &[own]);
        self.with.clear();
        self.returning(format!("{with}DELETE FROM {written} WHERE {condition}"), columns)
    }

    fn insert(&mut self) -> (String, bool) {
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
        (format!("{sql} RETURNING {returned}"), false)
    }
}
