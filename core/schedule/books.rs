//! What the engine and the façade ask of the schedules. The SQL stands in the file of its noun.

use super::definition::Schedule;
use super::fire::{Fired, Prepared};
use super::ledger::FireRow;
use super::rows::{Due, ScheduleRow};
use super::{correction, explain, fire, ledger, registration, rows};
use crate::queue::{Enqueued, Ready};
use crate::store::{Books, StoreContext, StoreError};
use crate::time::Timestamp;
use std::collections::HashSet;

impl Books<'_> {
    /// The schedules that were written after this instant.
    pub(crate) fn misled_schedules(
        &self,
        after: Timestamp,
    ) -> Result<Vec<ScheduleRow>, StoreError> {
        correction::misled(self.connection(), after).doing("read the schedules")
    }

    /// Brings such a schedule back to its first slot after this instant that has no line in the
    /// ledger.
    pub(crate) fn bring_schedule_back(
        &self,
        row: &ScheduleRow,
        since: Timestamp,
    ) -> Result<(), StoreError> {
        correction::bring_back(self.connection(), row, since).doing("bring a schedule back")
    }

    /// The schedules that make a job at each start.
    pub(crate) fn schedules_at_start(&self) -> Result<Vec<ScheduleRow>, StoreError> {
        rows::at_start(self.connection()).doing("read the schedules")
    }

    /// The schedules whose next slot has come.
    pub(crate) fn due_schedules(&self, now: Timestamp) -> Result<Vec<Due>, StoreError> {
        rows::due(self.connection(), now).doing("read the schedules")
    }

    /// One schedule.
    pub(crate) fn schedule(&self, name: &str) -> Result<Option<ScheduleRow>, StoreError> {
        rows::get(self.connection(), name).doing("read the schedule")
    }

    /// All schedules, by name.
    pub(crate) fn schedules(&self) -> Result<Vec<ScheduleRow>, StoreError> {
        rows::list(self.connection())
    }

    /// When the next slot of any schedule comes.
    pub(crate) fn next_fire(&self) -> Result<Option<Timestamp>, StoreError> {
        rows::next_fire(self.connection()).doing("read what is due next")
    }

    /// Decides the slots of a schedule that are due, and moves it to its next slot, inside a write
    /// transaction: the job, the ledger and the next slot commit together.
    pub(crate) fn fire_schedule(
        &self,
        due: &Due,
        prepared: &Prepared,
        now: Timestamp,
    ) -> Result<Vec<Fired>, StoreError> {
        fire::fire(self.connection(), due, prepared, now)
    }

    /// Makes the job of an `@reboot` schedule, once for each start.
    pub(crate) fn fire_schedule_at_start(
        &self,
        row: &ScheduleRow,
        prepared: &Prepared,
        now: Timestamp,
    ) -> Result<Fired, StoreError> {
        fire::fire_at_start(self.connection(), row, prepared, now)
    }

    /// Makes a job outside the slots, because someone asked for it. The next slot stays.
    pub(crate) fn run_schedule_now(
        &self,
        row: &ScheduleRow,
        ready: Ready,
        now: Timestamp,
    ) -> Result<Enqueued, StoreError> {
        fire::run_now(self.connection(), row, ready, now).doing("run the schedule now")
    }

    /// The ledger of a schedule, newest slot first.
    pub(crate) fn fires(&self, schedule: &str, limit: u32) -> Result<Vec<FireRow>, StoreError> {
        ledger::fires(self.connection(), schedule, limit)
    }

    /// The schedules of a set of the app's code that are not among these any more.
    pub(crate) fn dropped_schedules(
        &self,
        set: &str,
        names: &HashSet<&str>,
    ) -> Result<Vec<String>, StoreError> {
        registration::dropped(self.connection(), set, names).doing("store the schedules")
    }

    /// Removes a schedule; its ledger and its jobs stay.
    pub(crate) fn remove_schedule(&self, name: &str, now: Timestamp) -> Result<bool, StoreError> {
        registration::remove(self.connection(), name, now).doing("remove the schedule")
    }

    /// Retires a schedule that the app's code does not register any more. Its ledger says so, and
    /// its jobs stay.
    pub(crate) fn retire_schedule(&self, name: &str, now: Timestamp) -> Result<(), StoreError> {
        registration::retire(self.connection(), name, now).doing("store the schedules")
    }

    /// Pauses or resumes a schedule: false when there is none of that name.
    pub(crate) fn set_schedule_paused(
        &self,
        name: &str,
        paused: bool,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        registration::set_paused(self.connection(), name, paused, now).doing("pause the schedule")
    }

    /// Stores a schedule, inside a write transaction.
    pub(crate) fn put_schedule(
        &self,
        schedule: &Schedule,
        args: (&str, u32),
        set: Option<&str>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        registration::upsert(self.connection(), schedule, args, set, now)
            .doing("store the schedule")
    }

    /// Says what became, or becomes, of this instant in this schedule.
    pub(crate) fn explain_slot(
        &self,
        name: &str,
        at: Timestamp,
        now: Timestamp,
    ) -> Result<String, StoreError> {
        explain::explain(self.connection(), name, at, now)
    }
}
