//! Jobs whose executor is gone: its lease is over, or nobody holds the lock of its node any more.

use super::presence::ALIVE;
use super::session::Session;
use super::transition::leave_held;
use crate::event::EventKind;
use crate::ids::JobId;
use crate::postgres::claim::count;
use crate::queue::{Backoff, Left, after_crash};
use crate::store::StoreError;
use crate::time::Timestamp;

/// The most jobs taken back at one look.
const BATCH: i64 = 1_000;

const RESCUING: &str = "take a lost job back";

/// Takes jobs back, each in a transaction of its own, and returns the events to tell. Two nodes
/// never take the same one back, and one that cannot be changed keeps no other from it.
pub(super) fn rescue(
    session: &mut Session,
    now: Timestamp,
    backoff: &dyn Fn(&str) -> Backoff,
) -> Result<Vec<EventKind>, StoreError> {
    let lost = format!(
        "SELECT id, token, attempt, max_attempts, worker FROM verger.jobs WHERE state = 'executing' \
         AND (lease_until < $1 OR claimed_by IS NULL OR claimed_by NOT IN ({ALIVE}))"
    );
    let found = format!("{lost} ORDER BY id LIMIT {BATCH}");
    let mut events = Vec::new();
    for row in session.query(RESCUING, &found, &[&now.as_millis()])? {
        let id: i64 = row.get(0);
        let taken = session.transaction(RESCUING, |session| {
            let again = format!("{lost} AND id = $2 FOR UPDATE SKIP LOCKED");
            let Some(row) = session.first(RESCUING, &again, &[&now.as_millis(), &id])? else {
                return Ok(None);
            };
            let (id, attempt) = (JobId(id), count(row.get(2)));
            let worker: String = row.get(4);
            let to = after_crash((id, attempt, count(row.get(3))), now, backoff(&worker));
            let Some(left) = Left::of(&to, attempt, now) else { return Ok(None) };
            let claim = (id, row.get(1), attempt);
            let (_, event) = leave_held(session, claim, now, (&to, &left), None, i64::MIN)?;
            Ok(event)
        });
        match taken {
            Ok(event) => events.extend(event),
            Err(error) if error.is_of_the_row() => {
                tracing::error!(job = id, %error, "a lost job cannot be taken back");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(events)
}
