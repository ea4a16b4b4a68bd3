//! Queues as an operator asks for them.

use super::events;
use super::session::Session;
use crate::event::EventKind;
use crate::queue::QueueRow;
use crate::store::StoreError;
use crate::time::Timestamp;

/// The queues in which a job waits or is being performed, and those with a row, by name.
pub(super) fn list(session: &mut Session) -> Result<Vec<QueueRow>, StoreError> {
    let rows = session.query(
        "read the queues",
        "SELECT name, bool_or(paused), sum(waiting)::bigint, sum(executing)::bigint, min(next_due_at) FROM ( \
         SELECT name, paused, 0 AS waiting, 0 AS executing, NULL::bigint AS next_due_at FROM verger.queues UNION ALL \
         SELECT queue, false, count(*), 0, min(due_at) FROM verger.jobs WHERE state IN ('scheduled', 'available', 'retryable') GROUP BY queue UNION ALL \
         SELECT queue, false, 0, count(*), NULL FROM verger.jobs WHERE state = 'executing' GROUP BY queue) AS each \
         GROUP BY name ORDER BY name",
        &[],
    )?;
    Ok(rows
        .iter()
        .map(|row| QueueRow {
            name: row.get(0),
            paused: row.get(1),
            waiting: row.get::<_, i64>(2).unsigned_abs(),
            executing: row.get::<_, i64>(3).unsigned_abs(),
            next_due_at: row.get::<_, Option<i64>>(4).map(Timestamp::from_millis),
            unreadable: Vec::new(),
        })
        .collect())
}

/// Pauses or resumes a queue for all nodes. Returns the event to tell, if that changed anything.
pub(super) fn pause(
    session: &mut Session,
    name: &str,
    paused: bool,
    now: Timestamp,
) -> Result<Option<EventKind>, StoreError> {
    const PAUSING: &str = "pause the queue";
    session.transaction(PAUSING, |session| {
        session.execute(
            PAUSING,
            "INSERT INTO verger.queues (name, paused, updated_at) VALUES ($1, false, $2) ON CONFLICT (name) DO NOTHING",
            &[&name, &now.as_millis()],
        )?;
        let changed = session.execute(
            PAUSING,
            "UPDATE verger.queues SET paused = $2, updated_at = $3 WHERE name = $1 AND paused <> $2",
            &[&name, &paused, &now.as_millis()],
        )?;
        let queue = name.to_string();
        let event = (changed > 0).then_some(match paused {
            true => EventKind::QueuePaused { queue },
            false => EventKind::QueueResumed { queue },
        });
        if let Some(event) = &event {
            events::record(session, now, event)?;
        }
        Ok(event)
    })
}
