//! Jobs whose executor is gone.
//!
//! An executor claims a job when it is about to begin it, so it holds one at a time, and that
//! attempt counts as crashed. If one name holds several, somebody wrote that by hand. Then the
//! first is taken for the one that was being performed, and the others go back as they were.

use std::collections::HashSet;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};

use super::backoff::Backoff;
use super::read::{count, opt_text, text};
use super::transition::{Transition, recorded};
use crate::event::EventKind;
use crate::ids::JobId;
use crate::store::is_of_the_row;
use crate::time::Timestamp;

/// Whose jobs to take back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost<'a> {
    /// All jobs that are held. This process is alone, so whoever held them is dead.
    All,
    /// Jobs whose claims name this lock, which this process holds alone.
    Under(&'a str),
    /// Jobs whose lease is over.
    Expired,
}

/// When the next lease runs out.
pub(super) fn next_expiry(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    connection
        .prepare_cached(
            "SELECT lease_until FROM verger_jobs WHERE lease_until IS NOT NULL AND state = 'executing' ORDER BY lease_until LIMIT 1",
        )?
        .query_row([], |row| Ok(Timestamp::from_millis(row.get(0)?)))
        .optional()
}

/// What was taken back.
#[derive(Default)]
pub(crate) struct Rescued {
    pub(crate) jobs: usize,
    /// The events to tell, once it is committed.
    pub(crate) events: Vec<EventKind>,
}

/// What becomes of a job whose executor died at it.
pub(crate) fn after_crash(
    (id, attempt, max_attempts): (JobId, u32, u32),
    now: Timestamp,
    backoff: Backoff,
) -> Transition {
    // At once after a first crash, because most often the app was just killed. With backoff after
    // that, because the job may be what kills it.
    let wait = if attempt <= 1 { Duration::ZERO } else { backoff.after(id, attempt) };
    let message = "the process ended, or the lease ran out, while the job was being performed";
    let retry_at = (attempt < max_attempts).then(|| now + wait);
    Transition::Fail("crashed".to_string(), message.to_string(), retry_at)
}

/// Takes jobs back, inside a write transaction.
pub(super) fn rescue(
    connection: &Connection,
    lost: Lost<'_>,
    now: Timestamp,
    backoff: &dyn Fn(&str) -> Backoff,
) -> rusqlite::Result<Rescued> {
    let before = match lost {
        Lost::All | Lost::Under(_) => i64::MAX,
        Lost::Expired => now.as_millis(),
    };
    let mut held: Vec<(JobId, Option<String>, i64, u32, u32, String)> = connection
        .prepare_cached(
            "SELECT id, claimed_by, token, attempt, max_attempts, worker FROM verger_jobs WHERE state = 'executing' AND lease_until < ?1 \
             ORDER BY claimed_by, attempted_at, priority, due_at, id",
        )?
        .query_map([before], |row| Ok((JobId(row.get(0)?), opt_text(row, 1)?, row.get(2)?, count(row, 3)?, count(row, 4)?, text(row, 5)?)))?
        .collect::<Result<_, _>>()?;
    if let Lost::Under(lock) = lost {
        held.retain(|(_, holder, ..)| {
            let named = holder.as_deref().and_then(|holder| holder.split_once('@'));
            named.is_some_and(|(_, named)| named == lock)
        });
    }
    let (mut begun, mut rescued) = (HashSet::new(), Rescued::default());
    for (id, holder, token, attempt, max_attempts, worker) in &held {
        let to = if begun.insert(holder) {
            after_crash((*id, *attempt, *max_attempts), now, backoff(worker))
        } else {
            Transition::Release
        };
        let moved = recorded(
            connection,
            (*id, *token, *attempt),
            Timestamp::from_millis(i64::MIN),
            now,
            &to,
            None,
        );
        match moved {
            Ok((_, event)) => {
                rescued.jobs += 1;
                rescued.events.extend(event);
            }
            // A row that cannot be changed does not keep others from being taken back.
            Err(error) if is_of_the_row(&error) && !connection.is_autocommit() => {
                tracing::error!(job = id.number(), %error, "a lost job cannot be taken back");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(rescued)
}
