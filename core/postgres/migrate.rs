//! The tables, made and brought up to date.

use std::cmp::Ordering;

use super::session::Session;
use crate::error::OpenError;
use crate::store::{MigrationError, StoreError};
use crate::time::Timestamp;

/// Name and SQL of each step. Its number is its position, from 1.
const STEPS: &[(&str, &str)] = &[
    ("init", include_str!("../../migrations/postgres/0001_init.sql")),
    ("components", include_str!("../../migrations/postgres/0002_components.sql")),
];

/// A number that only migrations of Verger lock.
pub(super) const LOCK: &str = "SELECT pg_advisory_xact_lock(6219034186)";

const MIGRATING: &str = "make the tables";

/// Makes what is missing, in one transaction. Nodes that open at the same time take turns.
pub(super) fn migrate(session: &mut Session, now: Timestamp) -> Result<(), OpenError> {
    let newest = i32::try_from(STEPS.len()).unwrap_or(i32::MAX);
    let applied = session.transaction(MIGRATING, |session| {
        let applied = applied(session)?;
        if applied >= newest {
            return Ok(applied);
        }
        session.batch(MIGRATING, LOCK)?;
        // Another node may have made them meanwhile.
        let applied = self::applied(session)?;
        let missing = STEPS.iter().enumerate().skip(usize::try_from(applied).unwrap_or(0));
        for (place, (name, sql)) in missing {
            session.batch(MIGRATING, sql)?;
            let number = i32::try_from(place + 1).unwrap_or(i32::MAX);
            session.execute(
                MIGRATING,
                "INSERT INTO verger.migrations (number, name, applied_at) VALUES ($1, $2, $3)",
                &[&number, name, &now.as_millis()],
            )?;
        }
        Ok(applied)
    });
    if applied.map_err(open_error)? > newest {
        return check(session);
    }
    Ok(())
}

/// Whether the tables are those that this build needs. Nothing is made.
pub(super) fn check(session: &mut Session) -> Result<(), OpenError> {
    let newest = i32::try_from(STEPS.len()).unwrap_or(i32::MAX);
    let (set, known) = ("engine", i64::from(newest));
    let found = i64::from(applied(session).map_err(open_error)?);
    let source = match found.cmp(&known) {
        Ordering::Less => MigrationError::Older { set, found, known },
        Ordering::Greater => MigrationError::Newer { set, found, known },
        Ordering::Equal => return Ok(()),
    };
    Err(OpenError::Migration { path: "the database".into(), source })
}

/// The number of the last step that was applied, 0 for none.
fn applied(session: &mut Session) -> Result<i32, StoreError> {
    // By the catalog's rows: what the server remembers of a name may be older than the lock.
    let sql = "SELECT EXISTS (SELECT 1 FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace \
         WHERE nspname = 'verger' AND relname = 'migrations')";
    let exists = session.first(MIGRATING, sql, &[])?.is_some_and(|row| row.get(0));
    if !exists {
        return Ok(0);
    }
    let sql = "SELECT coalesce(max(number), 0) FROM verger.migrations";
    Ok(session.first(MIGRATING, sql, &[])?.map_or(0, |row| row.get(0)))
}

/// The database could not be opened.
pub(super) fn open_error(source: StoreError) -> OpenError {
    OpenError::Database { path: "the database".into(), source }
}
