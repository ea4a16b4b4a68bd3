//! What an operator does to one job.

use super::claim::count;
use super::events;
use super::session::Session;
use crate::event::{EventJob, EventKind};
use crate::ids::JobId;
use crate::queue::{Cancelled, ON_REQUEST, Retried, error_json};
use crate::store::StoreError;
use crate::time::Timestamp;

const CANCEL_WAITING: &str = "UPDATE verger.jobs SET state = 'cancelled', finished_at = $2, unique_until = CASE WHEN unique_until > $2 THEN unique_until END, \
     errors = errors || jsonb_set($3::text::jsonb, '{attempt}', to_jsonb(attempt)) \
     WHERE id = $1 AND state IN ('scheduled', 'available', 'retryable') RETURNING attempt, worker, queue, schedule";

const ASK: &str = "INSERT INTO verger.cancels (job, token, asked_at) SELECT id, token, $2 FROM verger.jobs WHERE id = $1 AND state = 'executing' \
     ON CONFLICT DO NOTHING";

const IS_ASKED: &str = "SELECT 1 FROM verger.cancels AS asked JOIN verger.jobs AS job ON job.id = asked.job AND job.token = asked.token \
     WHERE job.id = $1 AND job.state = 'executing'";

const WAS_ASKED: &str = "SELECT 1 FROM verger.cancels WHERE job = $1 AND token = $2";

/// What a run sends when someone may have asked to cancel its job.
pub(super) const OF_A_RUN: [&str; 4] = [CANCEL_WAITING, ASK, IS_ASKED, WAS_ASKED];

/// Cancels a job that waits, and asks one that is being performed to end.
pub(super) fn cancel(
    session: &mut Session,
    id: JobId,
    now: Timestamp,
) -> Result<Cancelled, StoreError> {
    const CANCELLING: &str = "cancel the job";
    session.transaction(CANCELLING, |session| {
        let waiting = session.first(
            CANCELLING,
            CANCEL_WAITING,
            &[&id.number(), &now.as_millis(), &error_json(0, now, "cancelled", ON_REQUEST)],
        )?;
        if let Some(row) = waiting {
            let event =
                EventKind::Cancelled { job: event_job(id, &row), reason: ON_REQUEST.to_string() };
            events::record(session, now, &event)?;
            return Ok(Cancelled::AtOnce(event));
        }
        let asked = session.execute(CANCELLING, ASK, &[&id.number(), &now.as_millis()])?;
        let is_asked = asked > 0 || session.first(CANCELLING, IS_ASKED, &[&id.number()])?.is_some();
        Ok(if is_asked { Cancelled::Asked } else { Cancelled::Nothing })
    })
}

/// Cancels a job that was put off, if someone asked for that during the claim of this token.
pub(super) fn settle(
    session: &mut Session,
    (id, token): (JobId, i64),
    now: Timestamp,
) -> Result<bool, StoreError> {
    const SETTLING: &str = "cancel the job";
    if session.first(SETTLING, WAS_ASKED, &[&id.number(), &token])?.is_none() {
        return Ok(false);
    }
    Ok(matches!(cancel(session, id, now)?, Cancelled::AtOnce(_)))
}

/// The jobs of a node that someone asked to cancel.
pub(super) fn asked(session: &mut Session, node: i64) -> Result<Vec<JobId>, StoreError> {
    let rows = session.query(
        "look for cancelled jobs",
        "SELECT job.id FROM verger.cancels AS asked JOIN verger.jobs AS job ON job.id = asked.job AND job.token = asked.token \
         WHERE job.state = 'executing' AND job.claimed_by = $1",
        &[&node],
    )?;
    Ok(rows.iter().map(|row| JobId(row.get(0))).collect())
}

/// Makes a job that failed or ended due now, with at least one attempt left.
pub(super) fn retry(
    session: &mut Session,
    id: JobId,
    now: Timestamp,
) -> Result<Retried, StoreError> {
    const RETRYING: &str = "retry the job";
    session.transaction(RETRYING, |session| {
        let (number, at) = (id.number(), now.as_millis());
        let other = session.first(
            RETRYING,
            "SELECT other.id FROM verger.jobs AS job JOIN verger.jobs AS other ON other.unique_key = job.unique_key \
             AND (other.finished_at IS NULL OR other.unique_until IS NOT NULL) WHERE job.id = $1 AND other.id <> $1 \
             AND job.finished_at IS NOT NULL AND (other.finished_at IS NULL OR other.unique_until > $2)",
            &[&number, &at],
        )?;
        if let Some(other) = other {
            return Ok(Retried::StandsFor(JobId(other.get(0))));
        }
        session.execute(RETRYING, "DELETE FROM verger.cancels WHERE job = $1", &[&number])?;
        // A key whose period is over.
        session.execute(
            RETRYING,
            "UPDATE verger.jobs SET unique_until = NULL WHERE unique_key = (SELECT unique_key FROM verger.jobs WHERE id = $1) \
             AND finished_at IS NOT NULL AND unique_until <= $2",
            &[&number, &at],
        )?;
        let retried = session.first(
            RETRYING,
            "UPDATE verger.jobs SET state = 'available', due_at = $2, finished_at = NULL, result = NULL, lease_until = NULL, claimed_by = NULL, \
             max_attempts = greatest(max_attempts, attempt + 1) WHERE id = $1 AND state IN ('retryable', 'completed', 'discarded', 'cancelled') \
             RETURNING attempt, worker, queue, schedule",
            &[&number, &at],
        )?;
        Ok(match retried {
            Some(row) => {
                Retried::DueNow(EventKind::Rescheduled { job: event_job(id, &row), due_at: now })
            }
            None => Retried::Nothing,
        })
    })
}

fn event_job(id: JobId, row: &postgres::Row) -> EventJob {
    EventJob {
        id,
        worker: row.get(1),
        queue: row.get(2),
        attempt: count(row.get(0)),
        schedule: row.get(3),
    }
}
