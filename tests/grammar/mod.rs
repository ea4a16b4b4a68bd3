//! Random SQL for the property test of the tenant's walls: what a worker could send, including
//! names that shadow others.

mod query;
#[path = "../common/random.rs"]
mod random;
mod write;

use random::Random;

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
    random: Random,
    /// Common table expressions in reach, outermost first.
    with: Vec<Source>,
    comparable: bool,
    loose: bool,
}

impl Grammar {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: Random(seed), with: Vec::new(), comparable: true, loose: false }
    }

    fn below(&mut self, most: usize) -> usize {
        self.random.below(most)
    }

    /// True in so many of a hundred cases.
    fn chance(&mut self, of_100: usize) -> bool {
        self.random.chance(of_100)
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        self.random.pick(from)
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
}
