//! The schedules of the app's code: checked, stored all or none, retired when the code drops them.

use std::collections::HashSet;

use super::Verger;
use crate::builder::Retires;
use crate::schedule::{Schedule, ScheduleError, ScheduleRow};

impl Verger {
    /// Stores a schedule that belongs to no set of the app's code.
    pub(crate) fn store_schedule(&self, schedule: &Schedule) -> Result<(), ScheduleError> {
        let (args, version) = self.check_schedule(schedule)?;
        let now = self.inner.clock.now();
        self.inner.write("store the schedule", |books| {
            books.put_schedule(schedule, (&args, version), None, now)
        })?;
        Ok(())
    }

    /// Stores the schedules the app's code registers, all or none, and retires those that its set
    /// has no more.
    pub(crate) fn register_set(
        &self,
        schedules: &[Schedule],
        set: &str,
        retires: Retires,
    ) -> Result<(), ScheduleError> {
        let mut names = HashSet::new();
        let mut checked = Vec::new();
        for schedule in schedules {
            if !names.insert(schedule.name.as_str()) {
                return Err(ScheduleError::Invalid {
                    name: schedule.name.clone(),
                    reason: "another schedule has the same name".to_string(),
                });
            }
            checked.push((schedule, self.check_schedule(schedule)?));
        }
        let _doing = "store the schedules";
        let dropped = match retires {
            Retires::Dropped => self.inner.front().books().dropped_schedules(set, &names)?,
            Retires::None => Vec::new(),
        };
        if checked.is_empty() && dropped.is_empty() {
            return Ok(());
        }
        let now = self.inner.clock.now();
        let mut executor = self.inner.executor();
        executor.transaction(|books| {
            let stored = checked.iter().try_for_each(|(schedule, (args, version))| {
                books.put_schedule(schedule, (args, *version), Some(set), now)
            });
            let retired = || dropped.iter().try_for_each(|name| books.retire_schedule(name, now));
            stored.and_then(|()| retired())
        })?;
        self.inner.put_back(executor);
        for name in dropped {
            tracing::info!(
                schedule = name,
                "the app registers this schedule no more: it is retired"
            );
        }
        Ok(())
    }

    /// Checks a schedule and its job: the text of its args, and their version.
    fn check_schedule(&self, schedule: &Schedule) -> Result<(String, u32), ScheduleError> {
        schedule.check()?;
        let mut job = schedule.job.clone();
        job.args_version = job.args_version.or(self.stored_version(schedule)?);
        let ready = self.inner.registry.ready(job).map_err(|error| schedule.refused(error))?;
        Ok(ready.into_args())
    }

    /// The version of the args of a schedule that stays as it is stored. Code that registers it at
    /// each start does not know that its worker was replaced meanwhile.
    fn stored_version(&self, schedule: &Schedule) -> Result<Option<u32>, ScheduleError> {
        let stored = self.inner.front().books().schedule(&schedule.name)?;
        let is_the_same = |row: &ScheduleRow| {
            let args = serde_json::from_str::<serde_json::Value>(&row.args);
            row.worker == schedule.job.worker && args.is_ok_and(|args| args == schedule.job.args)
        };
        Ok(stored.filter(is_the_same).map(|row| row.args_version))
    }
}
