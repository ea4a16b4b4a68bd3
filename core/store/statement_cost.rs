//! What a worker's statement costs, read from SQLite's program before it is stepped: whether it
//! sorts, and on how many values it works between two looks at the deadline.
//!
//! SQLite looks at the deadline when a program jumps, which is at least once a row. Within a row it
//! computes all of the statement's expressions, and each may take a time that grows with the values
//! it is given.

use std::cell::RefCell;
use std::collections::HashMap;

use std::sync::Arc;

use rusqlite::Connection;

use super::confinement;
use super::functions;
use super::tokens::Tokens;
use super::unasked::Reached;

/// The longest text or blob on a connection of workers, in bytes.
pub(super) const VALUE_MAX_BYTES: i32 = 8 << 20;

/// How many bytes one pass through a statement's expressions may work on.
const PASS_MAX_BYTES: i32 = 8 * VALUE_MAX_BYTES;

/// The opcodes that compute with values without making long ones. See sqlite.org/opcode.html.
const COMPUTES: [&str; 20] = [
    "Add",
    "Subtract",
    "Multiply",
    "Divide",
    "Remainder",
    "BitAnd",
    "BitOr",
    "ShiftLeft",
    "ShiftRight",
    "Eq",
    "Ne",
    "Lt",
    "Le",
    "Gt",
    "Ge",
    "Compare",
    "AggStep",
    "AggInverse",
    "AggValue",
    "AggFinal",
];

/// The opcodes that end a loop, or may return to one.
const LOOPS: [&str; 9] =
    ["Next", "Prev", "VNext", "SorterNext", "RowSetRead", "Yield", "Program", "Return", "Gosub"];

/// How many statements are remembered.
const KNOWN_MAX: usize = 256;

/// What is known of a statement's cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StatementCost {
    /// It sorts, or may sort.
    pub(super) sorts: bool,
    /// It calls functions, which may take long for each row.
    pub(super) calls: bool,
    /// It writes to virtual tables, and may do so more than once.
    pub(super) writes_rows: bool,
    pub(super) loops: bool,
    pub(super) returns: bool,
    /// Its own verb is INSERT.
    pub(super) inserts: bool,
    /// It writes in one place and has no triggers of its own. Behind the tenant's walls it also
    /// means that no row can be refused after others were written.
    pub(super) is_sure: bool,
    /// Steps that compute with values, and further arguments of the functions called.
    expressions: i32,
}

/// What is known of a statement's program.
pub(super) struct Program {
    pub(super) cost: StatementCost,
    pub(super) reached: Reached,
}

impl StatementCost {
    /// The longest value it may work on, in bytes.
    pub(super) fn value_max_bytes(self) -> i32 {
        (PASS_MAX_BYTES / self.expressions.max(1)).min(VALUE_MAX_BYTES)
    }

    /// Why it may not work on longer values, unless that bound is every statement's.
    pub(crate) fn why_not_longer(self) -> Option<String> {
        (self.value_max_bytes() < VALUE_MAX_BYTES).then(|| {
            format!(
                "a statement with {} computed expressions works on values of at most {} bytes; compute less in one statement",
                self.expressions,
                self.value_max_bytes()
            )
        })
    }
}

impl Program {
    /// Looks at a statement. Its plan does not depend on what is bound, because the connection is
    /// set so.
    fn of(connection: &Connection, tokens: &Tokens, sql: &str) -> rusqlite::Result<Self> {
        let mut cost = StatementCost {
            sorts: false,
            calls: false,
            writes_rows: false,
            loops: false,
            returns: false,
            inserts: false,
            is_sure: false,
            expressions: 0,
        };
        let mut reached = Reached::default();
        let mut explained = connection.prepare(&format!("EXPLAIN {sql}"))?;
        let mut steps = explained.raw_query();
        let mut writes = 0;
        while let Some(step) = steps.next()? {
            let opcode = step.get_ref("opcode")?.as_str()?;
            writes += match opcode {
                "VUpdate" => 1,
                "Program" => 2,
                _ => 0,
            };
            // The engine's own functions take no time, and workers cannot call them.
            let engines = step
                .get_ref("p4")?
                .as_str_or_null()?
                .is_some_and(|called| called.starts_with("verger_"));
            let calls = ["Function", "PureFunc", "Concat", "Cast"].contains(&opcode) && !engines;
            let is_wall = opcode == "VFilter"
                && step.get_ref("p4")?.as_str_or_null()?.is_some_and(confinement::is_plan);
            cost.sorts |= opcode == "SorterOpen";
            // A second write of a virtual table counts as a loop.
            cost.loops |= LOOPS.contains(&opcode) || opcode == "VUpdate" && cost.writes_rows;
            cost.writes_rows |= opcode == "VUpdate";
            cost.returns |= opcode == "ResultRow";
            // A search may take as long as a function.
            cost.calls |= calls || opcode == "VFilter" && !is_wall;
            cost.expressions += i32::from(calls || COMPUTES.contains(&opcode));
            reached.note(opcode, step)?;
        }
        cost.is_sure = writes == 1;
        // The program does not say how many arguments a function gets that takes any number.
        let further = tokens.further_arguments(functions::is_allowed);
        cost.expressions = cost.expressions.saturating_add(i32::try_from(further).unwrap_or(0));
        Ok(Self { cost, reached })
    }
}

/// What is known of a connection's statements.
#[derive(Default)]
pub(super) struct StatementCosts(RefCell<HashMap<Box<str>, Arc<Program>>>);

impl StatementCosts {
    pub(super) fn of(
        &self,
        connection: &Connection,
        tokens: &Tokens,
        sql: &str,
    ) -> rusqlite::Result<Arc<Program>> {
        if let Some(program) = self.0.borrow().get(sql) {
            return Ok(Arc::clone(program));
        }
        let program = Arc::new(Program::of(connection, tokens, sql)?);
        let mut known = self.0.borrow_mut();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(sql.into(), Arc::clone(&program));
        Ok(program)
    }

    /// Forgets the programs, because the schema changed.
    pub(super) fn forget(&self) {
        self.0.borrow_mut().clear();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    fn program(sql: &str) -> StatementCost {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch("CREATE TABLE t (a INTEGER PRIMARY KEY, b, c); CREATE INDEX i ON t (b)")
            .unwrap();
        StatementCosts::default().of(&connection, &Tokens::of(sql), sql).unwrap().cost
    }

    #[test]
    fn what_sorts_is_told_from_what_an_index_serves() {
        for sql in [
            "SELECT a FROM t ORDER BY b",
            "UPDATE t SET b = 1 WHERE a = ?1",
            "INSERT INTO t (b) VALUES (?1), (?2)",
        ] {
            assert!(!program(sql).sorts, "{sql}");
        }
        for sql in [
            "SELECT a FROM t ORDER BY c",
            "DELETE FROM t WHERE a IN (SELECT max(a) FROM t GROUP BY c)",
            "SELECT a, row_number() OVER (ORDER BY c) FROM t",
        ] {
            assert!(program(sql).sorts, "{sql}");
        }
    }

    #[test]
    fn the_more_a_statement_computes_the_shorter_its_values() {
        assert_eq!(
            program("INSERT INTO t (b, c) VALUES (?1, ?2)").value_max_bytes(),
            VALUE_MAX_BYTES
        );
        assert_eq!(
            program("SELECT upper(b), json_extract(c, '$.x') FROM t WHERE b > ?1")
                .value_max_bytes(),
            VALUE_MAX_BYTES
        );
        let many = vec!["hex(?1)"; 1_000].join(", ");
        let program = program(&format!("SELECT {many}"));
        assert_eq!(program.value_max_bytes(), PASS_MAX_BYTES / 1_000);
        assert!(
            program
                .why_not_longer()
                .unwrap()
                .contains("1000 computed expressions works on values of at most 67108 bytes")
        );
    }
}
