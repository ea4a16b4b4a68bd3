//! Verger on either store, for the verbs that work on both.

use anyhow::Result;
use verger::{
    AuditFilter, AuditRow, ChainError, Enqueued, Error, EventItem, EventPosition, FireRow, Job,
    JobFilter, JobId, JobLog, NewJob, QueueRow, Schedule, ScheduleRow, TickReport, Timestamp,
    Verger, Verified,
};

pub(crate) enum Books {
    File(Verger),
    #[cfg(feature = "postgres")]
    Server(verger::postgres::Verger),
}

/// What both do under the same name.
macro_rules! both {
    ($books:expr, $verger:ident => $call:expr) => {
        match $books {
            Books::File($verger) => $call,
            #[cfg(feature = "postgres")]
            Books::Server($verger) => $call,
        }
    };
}

impl Books {
    pub(crate) fn jobs(&self, filter: &JobFilter, limit: u32) -> Result<Vec<Job>, Error> {
        both!(self, verger => verger.jobs(filter, limit))
    }

    pub(crate) fn job(&self, id: JobId) -> Result<Option<Job>, Error> {
        both!(self, verger => verger.job(id))
    }

    pub(crate) fn job_log(&self, id: JobId) -> Result<Vec<JobLog>, Error> {
        both!(self, verger => verger.job_log(id))
    }

    pub(crate) fn retry(&self, id: JobId) -> Result<bool, Error> {
        both!(self, verger => verger.retry(id))
    }

    pub(crate) fn cancel(&self, id: JobId) -> Result<bool, Error> {
        both!(self, verger => verger.cancel(id))
    }

    /// Enqueues a job. A server's workers are with its nodes: one that none of them ever had is
    /// refused, and the args are checked where the job is performed.
    #[cfg_attr(not(feature = "postgres"), allow(unused_variables, reason = "there are only files"))]
    pub(crate) fn enqueue(&self, job: NewJob, worker: &str) -> Result<Enqueued> {
        match self {
            Self::File(verger) => Ok(verger.enqueue(job)?),
            #[cfg(feature = "postgres")]
            Self::Server(verger) => {
                let known = verger.known_workers()?;
                if !known.iter().any(|known| known == worker) {
                    let known =
                        if known.is_empty() { "none".to_string() } else { known.join(", ") };
                    anyhow::bail!("no node has ever had a worker `{worker}`: known are {known}");
                }
                Ok(verger.enqueue_unchecked(job)?)
            }
        }
    }

    pub(crate) fn queues(&self) -> Result<Vec<QueueRow>, Error> {
        both!(self, verger => verger.queues())
    }

    pub(crate) fn pause_queue(&self, name: &str) -> Result<(), Error> {
        both!(self, verger => verger.pause_queue(name))
    }

    pub(crate) fn resume_queue(&self, name: &str) -> Result<(), Error> {
        both!(self, verger => verger.resume_queue(name))
    }

    pub(crate) fn schedules(&self) -> Result<Vec<ScheduleRow>, Error> {
        both!(self, verger => verger.schedules())
    }

    pub(crate) fn fires(&self, schedule: &str, limit: u32) -> Result<Vec<FireRow>, Error> {
        both!(self, verger => verger.fires(schedule, limit))
    }

    /// Stores a schedule for a worker that is known.
    pub(crate) fn add_schedule(&self, schedule: &Schedule) -> Result<()> {
        match self {
            Self::File(verger) => Ok(verger.add_schedule(schedule)?),
            #[cfg(feature = "postgres")]
            Self::Server(_) => anyhow::bail!(
                "a schedule on PostgreSQL is made where its worker is: by the app's code, in a node"
            ),
        }
    }

    pub(crate) fn remove_schedule(&self, name: &str) -> Result<bool, Error> {
        both!(self, verger => verger.remove_schedule(name))
    }

    pub(crate) fn pause_schedule(&self, name: &str) -> Result<bool, Error> {
        both!(self, verger => verger.pause_schedule(name))
    }

    pub(crate) fn resume_schedule(&self, name: &str) -> Result<bool, Error> {
        both!(self, verger => verger.resume_schedule(name))
    }

    pub(crate) fn audit_log(
        &self,
        filter: &AuditFilter,
        limit: u32,
    ) -> Result<Vec<AuditRow>, Error> {
        both!(self, verger => verger.audit_log(filter, limit))
    }

    pub(crate) fn verify_audit(&self) -> Result<Verified, ChainError> {
        both!(self, verger => verger.verify_audit())
    }

    pub(crate) fn events_since(
        &self,
        position: EventPosition,
        limit: u32,
    ) -> Result<Vec<EventItem>, Error> {
        match self {
            Self::File(verger) => verger.events_since(position, limit),
            #[cfg(feature = "postgres")]
            Self::Server(verger) => {
                let events = verger.events_since(position, limit as usize)?;
                Ok(events.into_iter().map(EventItem::Event).collect())
            }
        }
    }

    pub(crate) fn tick(&self, now: Timestamp) -> Result<TickReport, Error> {
        both!(self, verger => verger.tick(now))
    }

    pub(crate) fn now(&self) -> Timestamp {
        both!(self, verger => verger.now())
    }
}
