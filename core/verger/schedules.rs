//! The schedules: registered, paused, run by hand, explained.

use super::Verger;
use crate::error::Error;
use crate::queue::{EnqueueError, Enqueued};
use crate::schedule::{self, FireRow, Schedule, ScheduleRow};
use crate::time::Timestamp;

impl Verger {
    /// All stored schedules, by name.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn schedules(&self) -> Result<Vec<ScheduleRow>, Error> {
        Ok(self.inner.reader().books().schedules()?)
    }

    /// The fire ledger of a schedule, newest slot first, at most `limit` rows: what became of each
    /// slot, and why.
    ///
    /// ```
    /// let verger = verger::testing::example();
    /// for fire in verger.fires("greeting", 20)? {
    ///     println!("{}: {}", fire.slot, fire.outcome);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn fires(&self, schedule: &str, limit: u32) -> Result<Vec<FireRow>, Error> {
        Ok(self.inner.reader().books().fires(schedule, limit)?)
    }

    /// Adds a schedule, or changes the one of its name. An unchanged expression keeps its next
    /// slot. A new or a changed one starts from now. The schedule stays until someone removes it,
    /// whatever the app's code registers when it opens the file again.
    ///
    /// ```
    /// use verger::Schedule;
    ///
    /// let verger = verger::testing::example();
    /// let daily = Schedule::cron("greeting", "@daily")?
    ///     .worker("send-mail")
    ///     .args(serde_json::json!({"to": "ann@example.org"}));
    /// verger.add_schedule(&daily)?;
    /// assert_eq!(verger.schedules()?.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Schedule`] when its worker or its args are not usable.
    pub fn add_schedule(&self, schedule: &Schedule) -> Result<(), Error> {
        self.store_schedule(schedule)?;
        self.inner.notifier.ring();
        Ok(())
    }

    /// Removes a schedule. Its ledger and its jobs stay. False when there is none of that name.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be written.
    pub fn remove_schedule(&self, name: &str) -> Result<bool, Error> {
        let now = self.inner.clock.now();
        Ok(self.inner.write("remove the schedule", |books| books.remove_schedule(name, now))?)
    }

    /// Pauses a schedule: the slots that fall due meanwhile make no job, and the ledger says so.
    /// False when there is none of that name.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be written.
    pub fn pause_schedule(&self, name: &str) -> Result<bool, Error> {
        let now = self.inner.clock.now();
        Ok(self
            .inner
            .write("pause the schedule", |books| books.set_schedule_paused(name, true, now))?)
    }

    /// Resumes a paused schedule with its next slot. Slots that fell due while it was paused stay
    /// skipped. False when there is none of that name.
    /// # Errors
    /// [`Error::Store`] when the database cannot be written.
    pub fn resume_schedule(&self, name: &str) -> Result<bool, Error> {
        let now = self.inner.clock.now();
        let resumed = self
            .inner
            .write("resume the schedule", |books| books.set_schedule_paused(name, false, now))?;
        self.inner.notifier.ring();
        Ok(resumed)
    }

    /// Makes a job of a schedule now, outside its slots, even if it is paused. Its next slot stays.
    /// If the schedule forbids overlap and has an unfinished job, that job is returned instead. The
    /// ledger has a line of it, with the reason `run-now`. `None` when there is no schedule of that
    /// name.
    ///
    /// ```
    /// use verger::Schedule;
    ///
    /// let verger = verger::testing::example();
    /// let daily = Schedule::cron("greeting", "@daily")?
    ///     .worker("send-mail")
    ///     .args(serde_json::json!({"to": "ann@example.org"}));
    /// verger.add_schedule(&daily)?;
    /// assert!(verger.run_schedule_now("greeting")?.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Enqueue`] when its worker or its args are not usable any more; [`Error::Store`]
    /// when the database cannot be written.
    pub fn run_schedule_now(&self, name: &str) -> Result<Option<Enqueued>, Error> {
        let Some(row) = self.inner.reader().books().schedule(name)? else {
            return Ok(None);
        };
        let job = schedule::new_job(&row)
            .map_err(|reason| EnqueueError::Invalid { worker: row.worker.clone(), reason })?;
        let ready = self.inner.registry.ready(job)?;
        let now = self.inner.clock.now();
        let enqueued = self
            .inner
            .write("run the schedule now", |books| books.run_schedule_now(&row, ready, now))?;
        self.inner.notifier.ring();
        Ok(Some(enqueued))
    }

    /// Why a schedule ran or did not run at this instant, or whether it will: one sentence for a
    /// person, for any instant.
    ///
    /// ```
    /// # use verger::{Timestamp, Verger};
    /// # let verger = Verger::in_memory().open()?;
    /// let three_in_the_morning = Timestamp::from_millis(1_767_236_400_000);
    /// println!("{}", verger.explain("nightly-invitations", three_in_the_morning)?);
    /// # Ok::<(), verger::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn explain(&self, schedule: &str, at: impl Into<Timestamp>) -> Result<String, Error> {
        Ok(self.inner.reader().books().explain_slot(schedule, at.into(), self.inner.clock.now())?)
    }
}
