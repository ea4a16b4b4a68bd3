//! The schedules, by their names.

use super::Verger;
use crate::error::Error;
use crate::postgres::builder::check_schedule;
use crate::postgres::schedules;
use crate::queue::Enqueued;
use crate::schedule::{FireRow, Schedule, ScheduleError, ScheduleRow};

impl Verger {
    /// All schedules, by name.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn schedules(&self) -> Result<Vec<ScheduleRow>, Error> {
        Ok(self.front(schedules::list)?)
    }

    /// The ledger of a schedule, newest slot first, at most `limit` rows.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn fires(&self, schedule: &str, limit: u32) -> Result<Vec<FireRow>, Error> {
        Ok(self.front(|session| schedules::fires(session, schedule, limit))?)
    }

    /// Adds a schedule, or changes the one of its name.
    ///
    /// # Errors
    /// [`Error::Schedule`] for an unknown worker, args that do not fit, or a setting that cannot be
    /// used here.
    pub fn add_schedule(&self, schedule: &Schedule) -> Result<(), Error> {
        Ok(self.register(std::slice::from_ref(schedule), None)?)
    }

    /// Stores schedules that are checked first, all or none. Those of the app's code belong to a
    /// set.
    pub(in crate::postgres) fn register(
        &self,
        schedules: &[Schedule],
        set: Option<&str>,
    ) -> Result<(), ScheduleError> {
        let mut checked = Vec::with_capacity(schedules.len());
        for schedule in schedules {
            check_schedule(schedule)?;
            let ready = self.node.registry.ready(schedule.job.clone());
            let ready = ready.map_err(|error| schedule.refused(error))?;
            checked.push((schedule, ready.into_args()));
        }
        let now = self.now();
        self.front(|session| {
            schedules::put_all(session, &checked, set, now)?;
            self.node.notify(session);
            Ok(())
        })?;
        Ok(())
    }

    /// Removes a schedule; its ledger and its jobs stay. False when there is none of that name.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be written.
    pub fn remove_schedule(&self, name: &str) -> Result<bool, Error> {
        let now = self.now();
        Ok(self.front(|session| schedules::remove(session, name, now))?)
    }

    /// Pauses a schedule. False when there is none of that name.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be written.
    pub fn pause_schedule(&self, name: &str) -> Result<bool, Error> {
        let now = self.now();
        Ok(self.front(|session| schedules::set_paused(session, name, true, now))?)
    }

    /// Resumes a schedule. False when there is none of that name.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be written.
    pub fn resume_schedule(&self, name: &str) -> Result<bool, Error> {
        let now = self.now();
        Ok(self.front(|session| schedules::set_paused(session, name, false, now))?)
    }

    /// Makes a job of a schedule now, outside its slots. `None` when there is none of that name.
    ///
    /// # Errors
    /// [`Error::Schedule`] when no job can be made of it; [`Error::Store`] when the database cannot
    /// be written.
    pub fn run_schedule_now(&self, name: &str) -> Result<Option<Enqueued>, Error> {
        let now = self.now();
        let prepare = |job| self.node.registry.ready(job).map_err(|error| error.to_string());
        let made = self.front(|session| {
            let made = schedules::run_now(session, name, now, &prepare)?;
            self.node.notify(session);
            Ok(made)
        })?;
        match made {
            None => Ok(None),
            Some(Ok(enqueued)) => Ok(Some(enqueued)),
            Some(Err(reason)) => {
                Err(ScheduleError::Invalid { name: name.to_string(), reason }.into())
            }
        }
    }
}
