//! Queries, and the sources of their rows.

use super::{Grammar, NAMES, Source, TABLES};

impl Grammar {
    /// A whole query with its WITH.
    pub(super) fn query(&mut self, depth: usize) -> String {
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

    pub(super) fn with_clause(&mut self, depth: usize) -> String {
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

    pub(super) fn quoted(&mut self, name: &str) -> String {
        match self.below(10) {
            0 => format!("\"{name}\""),
            1 => format!("[{name}]"),
            2 => format!("`{name}`"),
            _ => name.to_string(),
        }
    }

    /// A SELECT of so many columns, perhaps one of several put together.
    pub(super) fn body(&mut self, depth: usize, width: usize, outer: &[Source]) -> String {
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
    pub(super) fn source(&mut self, depth: usize) -> (String, Source) {
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

    pub(super) fn column_of(&mut self, scope: &[Source]) -> String {
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

    pub(super) fn aggregate(&mut self, scope: &[Source]) -> String {
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
    pub(super) fn trap(&mut self, scope: &[Source]) -> String {
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
    pub(super) fn oracle(&mut self, scope: &[Source]) -> String {
        let (one, other) = (self.column_of(scope), self.column_of(scope));
        let (trap, key) = (self.trap(scope), self.pick(&[0, 1_000, 2_000]) + 1 + self.below(7));
        match self.below(4) {
            0 | 1 => format!("(({one} = {key} AND {trap} >= 0) OR {other} = -1)"),
            2 => format!("({trap} IS NULL OR {one} = {key})"),
            _ => format!("({one} = {key} AND {trap} >= 0)"),
        }
    }
}
