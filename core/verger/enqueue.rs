//! Putting jobs into the queue.

use rusqlite::Connection;

use super::Verger;
use crate::queue::{EnqueueError, Enqueued, NewJob, Ready};
use crate::store::{Books, StoreContext};
use crate::time::Timestamp;

impl Verger {
    /// Enqueues a job, in a transaction of its own, and wakes the loop.
    ///
    /// ```
    /// use verger::NewJob;
    ///
    /// let verger = verger::testing::example();
    /// let enqueued = verger.enqueue(NewJob::new("send-mail", serde_json::json!({"to": "ann@example.org"})))?;
    /// println!("job {}", enqueued.id);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// [`EnqueueError`] for an unknown worker, for args that are no object or lack keys (all are
    /// named), for a setting out of bounds, or when the database cannot be written. Nothing is
    /// written then.
    pub fn enqueue(&self, job: NewJob) -> Result<Enqueued, EnqueueError> {
        self.put(&self.inner.registry.ready(job)?)
    }

    /// Enqueues a job that was checked.
    fn put(&self, ready: &Ready) -> Result<Enqueued, EnqueueError> {
        self.inner.file_identity.check()?;
        let (front, now) = (self.inner.front(), self.inner.clock.now());
        let books = front.books();
        self.inner.note_reading(books, now)?;
        let enqueued = books.insert_job(ready, now)?;
        drop(front);
        self.inner.notifier.ring();
        self.tell_enqueued(ready, enqueued, now);
        Ok(enqueued)
    }

    /// Tells of a job after its commit.
    fn tell_enqueued(&self, ready: &Ready, enqueued: Enqueued, now: Timestamp) {
        if !enqueued.existing {
            self.inner.services.hub.tell(now, || ready.event(enqueued.id, now));
        }
    }

    /// Enqueues a job for a worker that only another process has. Nothing is known of that worker
    /// here, so only the job's own settings are checked, and that its args are an object. The job
    /// is parked until a process that has the worker claims it. That process checks the args again.
    ///
    /// [`EnqueueError`] for args that are no object, for a setting out of bounds, or when the
    /// database cannot be written.
    pub fn enqueue_unchecked(&self, job: NewJob) -> Result<Enqueued, EnqueueError> {
        self.put(&Ready::unchecked(job)?)
    }

    /// Enqueues many jobs in one transaction: all or none.
    ///
    /// The transaction holds the write lock for some 10 µs a job. An app that writes meanwhile waits
    /// less if tens of thousands are enqueued by several calls.
    ///
    /// ```
    /// use verger::NewJob;
    ///
    /// let verger = verger::testing::example();
    /// let everyone = ["ann@example.org", "ben@example.org"];
    /// let jobs = everyone.map(|to| NewJob::new("send-mail", serde_json::json!({"to": to})));
    /// assert_eq!(verger.enqueue_all(jobs)?.len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue), for the first job that is refused.
    pub fn enqueue_all(
        &self,
        jobs: impl IntoIterator<Item = NewJob>,
    ) -> Result<Vec<Enqueued>, EnqueueError> {
        let ready = jobs
            .into_iter()
            .map(|job| self.inner.registry.ready(job))
            .collect::<Result<Vec<_>, _>>()?;
        self.inner.file_identity.check()?;
        let now = self.inner.clock.now();
        let enqueued = self.inner.front().books().write("enqueue the jobs", |books| {
            self.inner.note_reading(books, now)?;
            let mut inserting = books.inserting()?;
            ready.iter().map(|job| inserting.insert(job, now)).collect::<Result<Vec<_>, _>>()
        });
        let enqueued = enqueued.doing("enqueue the jobs")?;
        self.inner.notifier.ring();
        for (ready, enqueued) in ready.iter().zip(&enqueued) {
            self.tell_enqueued(ready, *enqueued, now);
        }
        Ok(enqueued)
    }

    /// Enqueues a job inside the app's own transaction, on the app's own connection to the same
    /// file. The job exists if that transaction commits, and only then. The loop notices the commit
    /// within milliseconds.
    ///
    /// ```
    /// use verger::NewJob;
    ///
    /// let verger = verger::testing::example();
    /// let mut connection = verger.connect()?;
    /// connection.execute_batch("CREATE TABLE orders (id INTEGER PRIMARY KEY, mail TEXT)")?;
    /// let transaction = connection.transaction()?;
    /// transaction.execute("INSERT INTO orders (mail) VALUES ('ann@example.org')", [])?;
    /// verger.enqueue_in(&transaction, NewJob::new("send-mail", serde_json::json!({"to": "ann@example.org"})))?;
    /// transaction.commit()?; // the order and its mail, or neither
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue), and [`EnqueueError::OtherFile`] when the connection has
    /// another file open.
    pub fn enqueue_in(
        &self,
        transaction: &rusqlite::Transaction<'_>,
        job: NewJob,
    ) -> Result<Enqueued, EnqueueError> {
        self.enqueue_on(transaction, job)
    }

    /// As [`enqueue_in`](Self::enqueue_in), on the raw handle of a connection that another crate
    /// opened: sqlx's `lock_handle().await?.as_raw_handle()`, diesel's `with_raw_connection`. The
    /// job is part of the transaction that this connection has open. If it has none, the job is
    /// committed at once.
    ///
    /// # Safety
    /// `connection` is an open `sqlite3*` of the copy of SQLite that this program's rusqlite links,
    /// and nothing else uses it until this returns.
    ///
    /// # Errors
    /// As [`enqueue_in`](Self::enqueue_in).
    #[allow(unsafe_code, reason = "a raw handle is what other crates share their connection by")]
    pub unsafe fn enqueue_raw(
        &self,
        connection: *mut rusqlite::ffi::sqlite3,
        job: NewJob,
    ) -> Result<Enqueued, EnqueueError> {
        // SAFETY: the caller promises that it is open and idle. It stays open, because dropping a
        // connection made from a handle does not close it.
        let borrowed = unsafe { Connection::from_handle(connection) };
        self.enqueue_on(&borrowed.doing("use the app's connection")?, job)
    }

    fn enqueue_on(&self, connection: &Connection, job: NewJob) -> Result<Enqueued, EnqueueError> {
        let ready = self.inner.registry.ready(job)?;
        if let Some((expected, found)) = self.inner.file_identity.differs_from(connection) {
            return Err(EnqueueError::OtherFile { expected, found });
        }
        let now = self.inner.clock.now();
        let books = Books::on(connection);
        self.inner.note_reading(books, now)?;
        let enqueued = books.insert_job(&ready, now)?;
        if !enqueued.existing && self.inner.services.hub.is_heard() {
            // Only the file will show when, and whether, it commits.
            books.record_event(now, &ready.event(enqueued.id, now))?;
        }
        self.inner.notifier.expect();
        Ok(enqueued)
    }
}
