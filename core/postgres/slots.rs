//! The rows that deciding a slot reads and writes, in one transaction.

use std::cell::RefCell;

use super::events;
use super::jobs;
use super::session::Session;
use crate::ids::JobId;
use crate::queue::Ready;
use crate::schedule::{Line, Reason, SlotBooks, SlotOutcome};
use crate::store::{StoreError, StoreErrorKind};
use crate::time::Timestamp;

const FIRING: &str = "fire the schedule";

/// The books of schedules, in an open transaction.
pub(super) struct Slots<'s>(RefCell<&'s mut Session>);

impl<'s> Slots<'s> {
    pub(super) fn on(session: &'s mut Session) -> Self {
        Self(RefCell::new(session))
    }
}

impl SlotBooks for Slots<'_> {
    type Error = StoreError;

    fn is_decided(&self, schedule: &str, slot: Timestamp) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM verger.fires WHERE schedule = $1 AND slot = $2)";
        let row = self.0.borrow_mut().first(FIRING, sql, &[&schedule, &slot.as_millis()])?;
        Ok(row.is_some_and(|row| row.get(0)))
    }

    fn job_under_way(&self, schedule: &str) -> Result<Option<JobId>, StoreError> {
        let sql = "SELECT id FROM verger.jobs WHERE schedule = $1 AND finished_at IS NULL LIMIT 1";
        let row = self.0.borrow_mut().first(FIRING, sql, &[&schedule])?;
        Ok(row.map(|row| JobId(row.get(0))))
    }

    fn insert_slot_job(&self, job: &Ready, now: Timestamp) -> Result<Option<JobId>, StoreError> {
        let mut session = self.0.borrow_mut();
        // A refused row ends a transaction on this server, but for a savepoint.
        session.batch(FIRING, "SAVEPOINT verger_slot")?;
        match jobs::insert(&mut session, job, now) {
            Ok(enqueued) => {
                session.batch(FIRING, "RELEASE SAVEPOINT verger_slot")?;
                Ok(Some(enqueued.id))
            }
            Err(error) if error.kind() == StoreErrorKind::Constraint => {
                session.batch(FIRING, "ROLLBACK TO SAVEPOINT verger_slot")?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn write_line(
        &self,
        schedule: &str,
        line: &Line,
        (outcome, reason): (SlotOutcome, Option<&Reason>),
        job: Option<JobId>,
    ) -> Result<(), StoreError> {
        let mut session = self.0.borrow_mut();
        let written = session.execute(
            FIRING,
            "INSERT INTO verger.fires (schedule, slot, fired_at, outcome, reason, missed, job) VALUES ($1, $2, $3, $4, $5, $6, $7) \
             ON CONFLICT (schedule, slot) DO NOTHING",
            &[
                &schedule,
                &line.slot.as_millis(),
                &line.now.as_millis(),
                &outcome.as_str(),
                &reason.map(ToString::to_string),
                &i64::from(line.missed),
                &job.map(JobId::number),
            ],
        )?;
        match line.event(schedule, outcome, reason, job).filter(|_| written > 0) {
            Some(event) => events::record(&mut session, line.now, &event),
            None => Ok(()),
        }
    }

    fn advance(
        &self,
        schedule: &str,
        last: Timestamp,
        next: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.0
            .borrow_mut()
            .execute(
                FIRING,
                "UPDATE verger.schedules SET last_slot = $2, next_fire_at = $3, updated_at = $4 WHERE name = $1",
                &[&schedule, &last.as_millis(), &next.map(Timestamp::as_millis), &now.as_millis()],
            )
            .map(drop)
    }
}
