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

/// The most jobs taken back in one transaction.
const BATCH: i64 = 1_000;

/// Takes jobs back, and returns the events to tell. Two nodes never take the same one back.
pub(super) fn rescue(
    session: &mut Session,
    now: Timestamp,
    backoff: &dyn Fn(&str) -> Backoff,
) -> Result<Vec<EventKind>, StoreError> {
    const RESCUING: &str = "take lost jobs back";
    let lost = format!(
        "SELECT id, token, attempt, max_attempts, worker FROM verger.jobs WHERE state = 'executing' \
         AND (lease_until < $1 OR claimed_by IS NULL OR claimed_by NOT IN ({ALIVE})) ORDER BY id LIMIT {BATCH}"
    );
    if session.first(RESCUING, &lost, &[&now.as_millis()])?.is_none() {
        return Ok(Vec::new());
    }
    session.transaction(RESCUING, |session| {
        let lost = format!("{lost} FOR UPDATE SKIP LOCKED");
        let mut events = Vec::new();
        for row in session.query(RESCUING, &lost, &[&now.as_millis()])? {
            let (id, attempt) = (JobId(row.get(0)), count(row.get(2)));
            let worker: String = row.get(4);
            let to = after_crash((id, attempt, count(row.get(3))), now, backoff(&worker));
            let Some(left) = Left::of(&to, attempt, now) else { continue };
            let claim = (id, row.get(1), attempt);
            let (_, event) = leave_held(session, claim, now, (&to, &left), None, i64::MIN)?;
            events.extend(event);
        }
        Ok(events)
    })
}
