//! The life-cycle events of jobs, schedules, queues and plugins, as the app receives them.

use super::Verger;
use crate::error::Error;
use crate::event::{EventItem, EventPosition, Events};
use crate::metrics::Metrics;
use crate::queue::counted;
use crate::store::StoreContext;

impl Verger {
    /// Receives what happens to jobs, schedules, queues and plugins from now on. Each event comes
    /// after its commit, in the order of the commits.
    ///
    /// It is for one reader; each call makes another. If a reader is too slow,
    /// [`EventItem::Lagged`] replaces the oldest events. Nothing ever waits for a reader.
    /// [`events_since`](Self::events_since) has what happened while the app was closed.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use verger::{EventItem, NewJob, Verger};
    /// let verger = Verger::in_memory().open()?;
    /// let events = verger.events()?;
    /// verger.enqueue_unchecked(NewJob::new("send-report", serde_json::json!({})))?;
    /// let Some(EventItem::Event(event)) = events.try_next() else { panic!("nothing happened") };
    /// assert_eq!(event.kind.as_str(), "enqueued");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn events(&self) -> Result<Events, Error> {
        let events = self.inner.services.hub.listen(self.inner.front().books());
        Ok(events.doing("read the events")?)
    }

    /// The events after a position that are kept in the file, oldest first, at most `limit`,
    /// whatever process wrote them. They are completed, retried, discarded and cancelled jobs,
    /// slots that made no job or stand for several, and queues paused and resumed. They are written
    /// in the transaction they tell of, so a crash loses none.
    ///
    /// Keep the [position](crate::LifecycleEvent::position) of the last event that was dealt with,
    /// and go on after it. Events are kept for 7 days, or as
    /// [`Retention::events`](crate::Retention::events) says. If some after the position were
    /// deleted by then, the first item says how many rows. One row stands for all jobs that one
    /// transaction completed.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn events_since(
        &self,
        position: EventPosition,
        limit: u32,
    ) -> Result<Vec<EventItem>, Error> {
        let kept = self.inner.reader().books().events_after(position, limit as usize)?;
        let lagged = (kept.missed > 0).then_some(EventItem::Lagged { lagged: kept.missed });
        Ok(lagged.into_iter().chain(kept.events.into_iter().map(EventItem::Event)).collect())
    }

    /// Numbers about what this process did since Verger was opened, by worker, and about what waits
    /// in the file now. [`Metrics::to_prometheus`] is what a Prometheus server reads. With the
    /// feature `metrics` the same numbers also go to the recorder of the `metrics` crate as they
    /// happen.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn metrics(&self) -> Result<Metrics, Error> {
        Ok(counted(self.inner.services.counters.read(), self.queues()?))
    }

    /// The position of the newest event that is kept. [`events_since`](Self::events_since) from
    /// here on returns what happens from now on.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn newest_event(&self) -> Result<EventPosition, Error> {
        Ok(self.inner.reader().books().newest_event()?)
    }
}
