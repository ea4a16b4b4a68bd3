//! A worker's statements, as SQLite itself reads them: what they touch, and what they miss.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use verger::rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use verger::rusqlite::{self, Connection};
use verger::verger_worker::Verb;

/// The most columns that are learned at a time.
const COLUMNS_MAX: usize = 500;

/// What statements do, learned in a database they were not sent to.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// The tables, in lower case, and what is done with them.
    pub(super) touched: BTreeSet<(String, Verb)>,
    /// The statements SQLite refuses, and why.
    pub(super) broken: Vec<(String, String)>,
}

/// Prepares each statement and runs none.
pub(super) fn survey(
    connection: &mut Connection,
    statements: &BTreeSet<String>,
) -> rusqlite::Result<Survey> {
    let touched = Arc::new(Mutex::new(BTreeSet::new()));
    let shared = Arc::clone(&touched);
    connection.authorizer(Some(move |context: AuthContext<'_>| {
        let (table, verb) = match context.action {
            AuthAction::Read { table_name, .. } => (table_name, Verb::Read),
            AuthAction::Insert { table_name } => (table_name, Verb::Insert),
            AuthAction::Update { table_name, .. } => (table_name, Verb::Update),
            AuthAction::Delete { table_name } => (table_name, Verb::Delete),
            AuthAction::Select | AuthAction::Recursive | AuthAction::Function { .. } => {
                return Authorization::Allow;
            }
            // Some statements act when they are prepared. A worker may send none of these.
            _ => return Authorization::Deny,
        };
        shared.lock().unwrap_or_else(PoisonError::into_inner).insert((table.to_lowercase(), verb));
        Authorization::Allow
    }))?;
    let mut broken = Vec::new();
    for sql in statements {
        match connection.prepare(sql).map(drop) {
            // What is denied here was denied to the worker too, and reported there.
            Err(error)
                if error.sqlite_error_code()
                    == Some(rusqlite::ErrorCode::AuthorizationForStatementDenied) => {}
            Err(error) => broken.push((sql.clone(), message(&error))),
            Ok(()) => {}
        }
    }
    connection.authorizer(None::<fn(AuthContext<'_>) -> Authorization>)?;
    let touched = std::mem::take(&mut *touched.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Survey { touched, broken })
}

/// What SQLite says, in its own words.
pub(super) fn message(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(message))
        | rusqlite::Error::SqlInputError { msg: message, .. } => message.clone(),
        other => other.to_string(),
    }
}

/// The columns that broken statements miss, by table. Each is tried on the tables that may have it,
/// and kept where it helps.
pub(super) fn missing_columns(
    connection: &Connection,
    broken: &[(String, String)],
    tables: &BTreeSet<String>,
) -> rusqlite::Result<BTreeMap<String, BTreeSet<String>>> {
    let mut learned: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (sql, _) in broken {
        while learned.values().map(BTreeSet::len).sum::<usize>() < COLUMNS_MAX {
            // Asked anew, because a column learned from another statement may be the one.
            let Some(told) = refusal(connection, sql) else { break };
            let Some(column) = missing(&told) else { break };
            let Some(table) = table_of(connection, sql, &told, &column, tables)? else { break };
            learned.entry(table.to_string()).or_default().insert(column);
        }
    }
    Ok(learned)
}

/// Gives the column to the first table with which the statement gets further.
fn table_of<'t>(
    connection: &Connection,
    sql: &str,
    told: &str,
    column: &str,
    tables: &'t BTreeSet<String>,
) -> rusqlite::Result<Option<&'t str>> {
    let text = sql.to_lowercase();
    for table in tables.iter().filter(|table| text.contains(table.as_str())) {
        connection.execute_batch("SAVEPOINT learning")?;
        // It may have it already.
        let added = connection
            .execute_batch(&format!("ALTER TABLE {} ADD COLUMN {}", quoted(table), quoted(column)))
            .is_ok();
        if added && refusal(connection, sql).as_deref() != Some(told) {
            connection.execute_batch("RELEASE learning")?;
            return Ok(Some(table));
        }
        connection.execute_batch("ROLLBACK TO learning; RELEASE learning")?;
    }
    Ok(None)
}

/// Why SQLite does not take a statement.
fn refusal(connection: &Connection, sql: &str) -> Option<String> {
    connection.prepare(sql).err().map(|error| message(&error))
}

/// The column that SQLite says is not there, without the table or alias before it.
fn missing(message: &str) -> Option<String> {
    let name = match message.strip_prefix("no such column: ") {
        Some(name) => name.split(" - should").next().unwrap_or(name),
        None => message.strip_prefix("table ")?.split_once(" has no column named ")?.1,
    };
    let column = name.rsplit('.').next().unwrap_or(name).trim_matches('"');
    (!column.is_empty()).then(|| column.to_string())
}

/// The table that SQLite says is not there.
pub(super) fn missing_table(message: &str) -> Option<&str> {
    let name = message.strip_prefix("no such table: ")?;
    Some(name.strip_prefix("main.").unwrap_or(name))
}

/// A name as SQL takes it, whatever is in it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    fn set(words: &[&str]) -> BTreeSet<String> {
        words.iter().map(|word| (*word).to_string()).collect()
    }

    fn database() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE orders (id); CREATE TABLE totals (id); CREATE TABLE plain (a, b)",
            )
            .unwrap();
        connection
    }

    #[test]
    fn statements_tell_what_they_touch_and_none_is_run() {
        let mut connection = database();
        let statements = [
            "INSERT INTO plain (a) SELECT id FROM orders",
            "DELETE FROM Totals",
            "PRAGMA user_version = 7",
            "DROP TABLE plain",
        ];
        let survey = survey(&mut connection, &set(&statements)).unwrap();
        let touched: Vec<(&str, Verb)> =
            survey.touched.iter().map(|(table, verb)| (table.as_str(), *verb)).collect();
        assert!(
            touched.starts_with(&[("orders", Verb::Read), ("plain", Verb::Insert)]),
            "{touched:?}"
        );
        assert!(touched.contains(&("totals", Verb::Delete)), "{touched:?}");
        assert!(survey.broken.is_empty(), "{survey:?}");
        let version: i64 = connection
            .query_row("SELECT user_version FROM pragma_user_version", [], |row| row.get(0))
            .unwrap();
        assert_eq!(version, 0);
        assert_eq!(
            connection.query_row("SELECT count(*) FROM plain", [], |row| row.get::<_, i64>(0)),
            Ok(0)
        );
    }

    #[test]
    fn columns_are_learned_for_the_table_that_misses_them() {
        let mut connection = database();
        let statements = [
            "SELECT o.state, t.total FROM orders o JOIN totals t ON t.\"order\" = o.id WHERE o.opened_at < ?1",
            "INSERT INTO totals (id, note) VALUES (?1, ?2)",
            "UPDATE orders SET closed_at = ?1 WHERE state = 'open'",
            "SELECT c FROM plain",
            "SELEC 1",
            "SELECT name FROM users",
        ];
        let survey = survey(&mut connection, &set(&statements)).unwrap();
        assert_eq!(survey.broken.len(), statements.len());
        let learned =
            missing_columns(&connection, &survey.broken, &set(&["orders", "totals"])).unwrap();
        assert_eq!(learned["orders"], set(&["state", "opened_at", "closed_at"]));
        assert_eq!(learned["totals"], set(&["total", "note", "order"]));
        assert!(!learned.contains_key("plain"));
        let messages: Vec<Option<&str>> =
            survey.broken.iter().map(|(_, message)| missing_table(message)).collect();
        assert!(messages.contains(&Some("users")), "{survey:?}");
    }
}
