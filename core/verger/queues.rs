//! The queues: what they hold, their settings, pausing them.

use super::Verger;
use crate::error::Error;
use crate::event;
use crate::queue::{Queue, QueueRow};

impl Verger {
    /// The queues in which a job waits or is being performed, and those that were ever paused, by
    /// name.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn queues(&self) -> Result<Vec<QueueRow>, Error> {
        Ok(self.inner.reader().books().queues()?)
    }

    /// Changes how many jobs of a queue may be performed at a time, in this process, from the next
    /// claim on. What is being performed goes on.
    ///
    /// ```
    /// use verger::Queue;
    ///
    /// let verger = verger::testing::example();
    /// verger.set_queue(Queue::new("downloads").concurrency(4))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Queue`] when a number is out of bounds; nothing is changed then.
    pub fn set_queue(&self, queue: Queue) -> Result<(), Error> {
        queue.check()?;
        self.inner.settings.queues.set(queue);
        self.inner.notifier.ring();
        Ok(())
    }

    /// Pauses a queue, in every process: nothing is claimed from it until it is resumed. A job that
    /// is being performed goes on.
    ///
    /// ```
    /// let verger = verger::testing::example();
    /// verger.pause_queue("downloads")?;
    /// assert_eq!(verger.paused_queues()?, ["downloads"]);
    /// verger.resume_queue("downloads")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be written.
    pub fn pause_queue(&self, name: &str) -> Result<(), Error> {
        let now = self.inner.clock.now();
        let event =
            self.inner.write("pause the queue", |books| books.pause_queue(name, true, now))?;
        event.iter().for_each(event::say);
        Ok(())
    }

    /// Resumes a paused queue.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be written.
    pub fn resume_queue(&self, name: &str) -> Result<(), Error> {
        let now = self.inner.clock.now();
        let event =
            self.inner.write("resume the queue", |books| books.pause_queue(name, false, now))?;
        event.iter().for_each(event::say);
        self.inner.notifier.ring();
        Ok(())
    }

    /// The names of the queues that are paused.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn paused_queues(&self) -> Result<Vec<String>, Error> {
        Ok(self.inner.reader().books().paused_queues()?)
    }
}
