//! A schedule as the app defines it.

mod policy;

use std::time::Duration;

use serde_json::{Value as Json, json};
use verger_worker::ManifestError;

pub use self::policy::{Missed, Overlap};
use super::expression::{Expression, ExpressionError, Zone, ZoneError, parse_zone};
use crate::plugin_error::PluginError;
use crate::queue::{EnqueueError, NewJob};
use crate::store::StoreError;

/// A named recurring rule that enqueues jobs. Nothing is scheduled by default.
///
/// ```
/// use std::time::Duration;
/// use serde_json::json;
/// use verger::{Missed, Schedule};
///
/// let nightly = Schedule::cron("nightly-invitations", "0 3 * * *")?
///     .time_zone("Europe/Berlin")?
///     .worker("cleanup-expired-invitations")
///     .args(json!({"organization_id": null, "actor_id": null, "retention_days": 30}));
/// let often = Schedule::every("memberships", Duration::from_secs(300))?
///     .worker("reconcile-memberships")
///     .args(json!({"organization_id": null, "actor_id": null}))
///     .missed(Missed::Skip);
/// # Ok::<(), verger::ScheduleError>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "a schedule does nothing until it is given to the builder"]
pub struct Schedule {
    pub(crate) name: String,
    pub(crate) expression: Expression,
    pub(crate) zone: Zone,
    pub(crate) job: NewJob,
    pub(crate) missed: Missed,
    pub(crate) overlap: Overlap,
    pub(crate) deadline: Option<Duration>,
    pub(crate) jitter: Duration,
    /// If somebody else stored a schedule under its name, that one stays.
    pub(crate) yields: bool,
}

impl Schedule {
    /// A schedule by a crontab(5) expression: five fields, six with seconds first, or a nickname
    /// like `@daily`.
    ///
    /// ```
    /// use verger::Schedule;
    ///
    /// let weekdays_at_nine = Schedule::cron("digest", "0 9 * * mon-fri")?.worker("send-mail");
    /// assert!(Schedule::cron("digest", "0 25 * * *").is_err());
    /// # Ok::<(), verger::ScheduleError>(())
    /// ```
    ///
    /// # Errors
    /// [`ScheduleError::Expression`] with the field, the place and the reason;
    /// [`ScheduleError::Invalid`] for a bad name.
    pub fn cron(name: impl Into<String>, expression: &str) -> Result<Self, ScheduleError> {
        let name = name.into();
        let expression = Expression::cron(expression)
            .map_err(|source| ScheduleError::Expression { name: name.clone(), source })?;
        Self::new(name, expression)
    }

    /// A schedule by an interval, counted from the moment it is first registered.
    ///
    /// ```
    /// use std::time::Duration;
    /// use verger::Schedule;
    ///
    /// let often = Schedule::every("poll", Duration::from_secs(90))?.worker("send-mail");
    /// # Ok::<(), verger::ScheduleError>(())
    /// ```
    ///
    /// # Errors
    /// [`ScheduleError::Expression`] for an interval out of bounds; [`ScheduleError::Invalid`] for
    /// a bad name.
    pub fn every(name: impl Into<String>, interval: Duration) -> Result<Self, ScheduleError> {
        let name = name.into();
        let expression = Expression::every(interval)
            .map_err(|source| ScheduleError::Expression { name: name.clone(), source })?;
        Self::new(name, expression)
    }

    fn new(name: String, expression: Expression) -> Result<Self, ScheduleError> {
        if name.is_empty() || name.len() > 128 {
            return Err(ScheduleError::Invalid {
                name,
                reason: "the name must have 1 to 128 bytes".to_string(),
            });
        }
        Ok(Self {
            name,
            expression,
            zone: Zone::UTC,
            job: NewJob::new("", json!({})),
            missed: Missed::default(),
            overlap: Overlap::default(),
            deadline: None,
            jitter: Duration::ZERO,
            yields: false,
        })
    }

    /// Gives it another crontab(5) expression: see [`cron`](Self::cron).
    ///
    /// # Errors
    /// [`ScheduleError::Expression`] with the field, the place and the reason.
    pub fn set_cron(mut self, expression: &str) -> Result<Self, ScheduleError> {
        self.expression = Self::cron(&*self.name, expression)?.expression;
        Ok(self)
    }

    /// Gives it an interval: see [`every`](Self::every).
    ///
    /// # Errors
    /// [`ScheduleError::Expression`] for an interval out of bounds.
    pub fn set_interval(mut self, interval: Duration) -> Result<Self, ScheduleError> {
        self.expression = Self::every(&*self.name, interval)?.expression;
        Ok(self)
    }

    /// Leaves the schedule to the user of the app. It is what the code says until
    /// [`Verger::add_schedule`](crate::Verger::add_schedule), or the command, stores another one of
    /// its name. That one stays, however often the app is opened, until it is removed. Then the
    /// code's schedule comes back at the next open.
    pub fn user_may_change(mut self) -> Self {
        self.yields = true;
        self
    }

    /// The worker that performs its jobs.
    pub fn worker(mut self, name: impl Into<String>) -> Self {
        self.job.worker = name.into();
        self
    }

    /// The args of its jobs: a JSON object, in the form of the worker's present version unless
    /// [`args_version`](Self::args_version) says otherwise.
    pub fn args(mut self, args: Json) -> Self {
        self.job.args = args;
        // What they replace may have been written for another version.
        self.job.args_version = None;
        self
    }

    /// For which version of its worker's args they were written: see
    /// [`NewJob::args_version`](crate::NewJob::args_version). Call it after [`args`](Self::args).
    /// By default that is the version the worker has when the schedule is first stored. Later
    /// opens keep it as long as the args stay the same. So it is needed where an app may meet a
    /// later version of the worker in a new database.
    ///
    /// ```
    /// use verger::Schedule;
    ///
    /// let report = Schedule::cron("report", "0 9 * * *")?
    ///     .worker("acme-report")
    ///     .args(serde_json::json!({"days": 1}))
    ///     .args_version(1);
    /// # Ok::<(), verger::ScheduleError>(())
    /// ```
    pub fn args_version(mut self, version: u32) -> Self {
        self.job = self.job.args_version(version);
        self
    }

    /// Sets the args `organization_id` and `actor_id` of its jobs: see
    /// [`NewJob::for_organization`](crate::NewJob::for_organization). Call it after
    /// [`args`](Self::args), which sets all args.
    pub fn for_organization(mut self, organization_id: &str, actor_id: Option<&str>) -> Self {
        self.job = self.job.for_organization(organization_id, actor_id);
        self
    }

    /// Sets the args `organization_id` and `actor_id` of its jobs to null: they are for all
    /// organizations, on behalf of no one. Call it after [`args`](Self::args), which sets all args.
    pub fn for_all_organizations(mut self) -> Self {
        self.job = self.job.for_all_organizations();
        self
    }

    /// The time zone of its expression, by its IANA name. Default UTC.
    ///
    /// # Errors
    /// [`ScheduleError::Zone`] for an unknown name, with the nearest ones there are.
    pub fn time_zone(mut self, zone: &str) -> Result<Self, ScheduleError> {
        self.zone = parse_zone(zone)
            .map_err(|source| ScheduleError::Zone { name: self.name.clone(), source })?;
        Ok(self)
    }

    /// The queue of its jobs.
    pub fn queue(mut self, name: impl Into<String>) -> Self {
        self.job = self.job.queue(name);
        self
    }

    /// The priority of its jobs, from 0 (first) to 9 (last).
    pub fn priority(mut self, priority: u8) -> Self {
        self.job = self.job.priority(priority);
        self
    }

    /// How often one of its jobs may be tried.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.job = self.job.max_attempts(attempts);
        self
    }

    /// What happens to slots that were missed while nothing ticked.
    ///
    /// ```
    /// use verger::{Missed, Schedule};
    ///
    /// // A laptop that slept for a week sends one digest for each of the last three mornings.
    /// let digest = Schedule::cron("digest", "0 9 * * *")?.worker("send-mail").missed(Missed::Replay(3));
    /// # Ok::<(), verger::ScheduleError>(())
    /// ```
    pub fn missed(mut self, policy: Missed) -> Self {
        self.missed = policy;
        self
    }

    /// What happens to a slot while a job of an earlier one is unfinished.
    ///
    /// ```
    /// use verger::{Overlap, Schedule};
    ///
    /// let reports = Schedule::cron("reports", "*/5 * * * *")?.worker("send-mail").overlap(Overlap::Allow);
    /// # Ok::<(), verger::ScheduleError>(())
    /// ```
    pub fn overlap(mut self, policy: Overlap) -> Self {
        self.overlap = policy;
        self
    }

    /// Skips a slot that is found due later than this.
    ///
    /// ```
    /// use std::time::Duration;
    /// use verger::Schedule;
    ///
    /// let standup = Schedule::cron("standup", "0 9 * * *")?
    ///     .worker("send-mail")
    ///     .start_deadline(Duration::from_secs(1800));
    /// # Ok::<(), verger::ScheduleError>(())
    /// ```
    pub fn start_deadline(mut self, after: Duration) -> Self {
        self.deadline = Some(after);
        self
    }

    /// Delays its jobs by up to this long. One schedule name always has the same delay; other names
    /// have other delays.
    ///
    /// ```
    /// use std::time::Duration;
    /// use verger::Schedule;
    ///
    /// let fetch = Schedule::cron("fetch", "@hourly")?.worker("send-mail").jitter(Duration::from_secs(300));
    /// # Ok::<(), verger::ScheduleError>(())
    /// ```
    pub fn jitter(mut self, most: Duration) -> Self {
        self.jitter = most;
        self
    }

    /// Checks what the types do not ensure.
    pub(crate) fn check(&self) -> Result<(), ScheduleError> {
        match self.missed {
            Missed::Replay(most) if most == 0 || most > Missed::REPLAY_MAX => {
                Err(ScheduleError::Invalid {
                    name: self.name.clone(),
                    reason: format!(
                        "it wants to replay {most} missed slots: it can be 1 to {}; use `Missed::Skip` for none",
                        Missed::REPLAY_MAX
                    ),
                })
            }
            _ => Ok(()),
        }
    }

    /// Why it is refused, if its job is.
    pub(crate) fn refused(&self, error: EnqueueError) -> ScheduleError {
        let name = self.name.clone();
        match error {
            EnqueueError::UnknownWorker { name: worker, known } => {
                ScheduleError::UnknownWorker { name, worker, known }
            }
            EnqueueError::Manifest(source) => ScheduleError::Args { name, source },
            EnqueueError::Plugin(source) => ScheduleError::Plugin { name, source },
            EnqueueError::Store(source) => ScheduleError::Store(source),
            other => ScheduleError::Invalid { name, reason: other.to_string() },
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A schedule was refused. Nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// The expression or the interval cannot be used.
    #[error("schedule `{name}`: {source}")]
    Expression {
        /// The schedule.
        name: String,
        /// Where and why.
        r#source: ExpressionError,
    },
    /// The time zone is unknown.
    #[error("schedule `{name}`: {source}")]
    Zone {
        /// The schedule.
        name: String,
        /// The name asked for, and those near it.
        r#source: ZoneError,
    },
    /// A setting is not usable.
    #[error("schedule `{name}`: {reason}")]
    Invalid {
        /// The schedule.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// No worker has the name it asks for.
    #[error("schedule `{name}` wants worker `{worker}`, which is not there: known are {known}")]
    UnknownWorker {
        /// The schedule.
        name: String,
        /// The worker asked for.
        worker: String,
        /// The names there are.
        known: String,
    },
    /// Its args lack keys that the worker requires, or are not usable.
    #[error("schedule `{name}`: {source}")]
    Args {
        /// The schedule.
        name: String,
        /// What is missing.
        r#source: ManifestError,
    },
    /// Its worker cannot be loaded.
    #[error("schedule `{name}`: {source}")]
    Plugin {
        /// The schedule.
        name: String,
        /// Why.
        r#source: PluginError,
    },
    /// It could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}
