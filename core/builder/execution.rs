//! How jobs are performed: queues, threads, leases and backoff.

use std::time::Duration;

use super::Builder;
use crate::engine::GroupCommit;
use crate::queue::{Backoff, Queue, Retention};

impl Builder {
    /// How long to wait before a failed job is tried again.
    ///
    /// ```
    /// use std::time::Duration;
    /// use verger::{Backoff, Verger};
    ///
    /// let verger = Verger::in_memory()
    ///     .backoff(Backoff { base: Duration::from_secs(5), max: Duration::from_secs(3600) })
    ///     .open()?;
    /// # Ok::<(), verger::Error>(())
    /// ```
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.settings.backoff = backoff;
        self
    }

    /// How many jobs of this queue may be performed at a time. See [`Queue`].
    /// [`Verger::set_queue`](crate::Verger::set_queue) changes it while Verger is open.
    ///
    /// ```
    /// use verger::{Queue, Verger};
    ///
    /// let verger = Verger::in_memory().queue(Queue::new("downloads").concurrency(3)).open()?;
    /// # Ok::<(), verger::Error>(())
    /// ```
    pub fn queue(mut self, queue: Queue) -> Self {
        self.queues.push(queue);
        self
    }

    /// How many threads may perform jobs while the loop runs, for all queues together: 1 to 32,
    /// default 8. A number outside is refused at [`open`](Self::open). They are started when there
    /// is work, and end when there has been none for some seconds. If more queues than threads have
    /// due jobs, the queues take turns.
    pub fn threads(mut self, most: usize) -> Self {
        self.settings.threads = most;
        self
    }

    /// Whether short jobs share transactions. Default true. Jobs of one queue that take less than a
    /// millisecond are committed together, some hundred at a time, each in a savepoint of its own.
    /// That is several times as fast as a commit for each. A worker takes part once its last
    /// attempt was that short, made no checkpoint and called no capability. After a long attempt,
    /// several in a row must have been short. Each job still has its effects, its audit rows and
    /// its end together, once or not at all. Events are delivered after the commit.
    ///
    /// If a process dies in the midst of such jobs, all of them are performed again. The attempt
    /// that counts as crashed is the first job's. After that each job is performed by itself for a
    /// while. A native worker that acts outside the database by its own means, as by sending a
    /// mail, may then do so twice for each of these jobs. Where that matters, let it call a
    /// [capability](Self::capability), or turn this off.
    pub fn group_commit(mut self, on: bool) -> Self {
        self.settings.group_commit = if on { GroupCommit::On } else { GroupCommit::Off };
        self
    }

    /// Lets jobs share transactions wherever they can: also those of workers that have not run yet,
    /// and also after a crash.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub fn group_commit_always(mut self) -> Self {
        self.settings.group_commit = GroupCommit::Always;
        self
    }

    /// How long to wait before a failed job of this worker is tried again. When there is no such
    /// worker, it is refused at [`open`](Self::open) as a [`grant`](Self::grant) is.
    pub fn backoff_of(mut self, worker: impl Into<String>, backoff: Backoff) -> Self {
        self.settings.backoffs.insert(worker.into(), backoff);
        self
    }

    /// How long finished jobs are kept.
    pub fn retention(mut self, retention: Retention) -> Self {
        self.settings.retention = retention;
        self
    }

    /// How long a claim holds when nothing renews it. After that time another process takes over
    /// the jobs of a process that died. Default 2 min. A worker whose grant lets it run longer has
    /// a longer lease.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }
}
