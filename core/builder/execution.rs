//! How jobs are performed: queues, threads, leases, and what is tried again.

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

    /// How many jobs of this queue may be performed at a time. See [`Queue`]; while Verger is open,
    /// [`Verger::set_queue`](crate::Verger::set_queue) changes it.
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

    /// How many threads may perform jobs while the loop runs, of all queues together, 1 to 32.
    /// Default 8. They are started when there is work and end when there is none for some seconds.
    /// With fewer than there are queues with due jobs, the queues take turns.
    pub fn threads(mut self, most: usize) -> Self {
        self.settings.threads = most;
        self
    }

    /// Whether short jobs share transactions. Default true.
    ///
    /// Jobs of one queue that take less than a millisecond are committed together, some hundred at
    /// a time, each in a savepoint of its own: that is several times as fast as a commit for each.
    /// A worker takes part once its last attempt was that short, and made no checkpoint and no call
    /// of a capability. Each job has its effects, its audit rows and its end together, once or not
    /// at all, as it has by itself; events are delivered after the commit.
    ///
    /// When a process dies in the midst of such jobs, all of them are performed again, and the
    /// attempt that counts as crashed is the first one's; after that each is performed by itself for
    /// a while. A native worker that does something outside the database by means of its own, as
    /// sending a mail, may do so again for all of them: where that matters, let it call a
    /// [capability](Self::capability), or turn this off.
    pub fn group_commit(mut self, on: bool) -> Self {
        self.settings.group_commit = if on { GroupCommit::On } else { GroupCommit::Off };
        self
    }

    /// Has all jobs share transactions that can, also those of workers nothing is known of, and also
    /// after a crash.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub fn group_commit_always(mut self) -> Self {
        self.settings.group_commit = GroupCommit::Always;
        self
    }

    /// How long to wait before a failed job of this worker is tried again. Refused at
    /// [`open`](Self::open) as a [`grant`](Self::grant) is, when there is no such worker.
    pub fn backoff_of(mut self, worker: impl Into<String>, backoff: Backoff) -> Self {
        self.settings.backoffs.insert(worker.into(), backoff);
        self
    }

    /// How long finished jobs are kept.
    pub fn retention(mut self, retention: Retention) -> Self {
        self.settings.retention = retention;
        self
    }

    /// How long a claim holds when nothing renews it: after this long, another process takes the
    /// jobs of one that died. Default 2 min. A worker that may run longer by its grant has a longer
    /// lease.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }
}
