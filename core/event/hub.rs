//! Who listens to life-cycle events, and how they are told.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::lifecycle::{EventKind, LifecycleEvent};
use super::position::EventPosition;
use crate::ids::JobId;
use crate::mutex::lock;
use crate::store::{Books, StoreError};
use crate::time::Timestamp;

/// Events that may wait for one listener, and for the callbacks.
const WAITING_MAX: usize = 4_096;

/// Rows read at once.
const BATCH: usize = 256;

/// The step of a wait without a bound, because the clock of a condition variable may not count
/// further.
const WAIT_STEP: Duration = Duration::from_secs(3_600);

/// A function of the app's that is told of events.
pub(crate) struct Callback {
    /// It is told only of failures, and only of those that this process met.
    pub(crate) failures_only: bool,
    pub(crate) call: Box<dyn Fn(&LifecycleEvent) + Send + Sync>,
}

/// Tells whoever listens. Dropping it closes their channels.
pub(crate) struct Hub(Arc<Shared>);

struct Shared {
    /// The number of channels and callbacks. If it is 0, telling costs a look at it.
    listeners: AtomicUsize,
    callbacks: Vec<Callback>,
    state: Mutex<State>,
    /// How far the table was handed on. It is locked while more is read, so that the order is kept.
    handed_on: Mutex<EventPosition>,
}

#[derive(Default)]
struct State {
    channels: Vec<Arc<Channel>>,
    /// Events for the callbacks.
    waiting: VecDeque<Arc<LifecycleEvent>>,
    /// A thread is calling them. It also takes what comes meanwhile, the events of its own calls
    /// included.
    is_calling: bool,
    /// They are so slow that events were dropped, and the log says so.
    is_behind: bool,
    /// The position of the last event that is kept.
    last: EventPosition,
}

/// What waits for one listener.
#[derive(Default)]
struct Channel {
    state: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    items: VecDeque<Waits>,
    /// The newest progress of each job that has a slot among the items. So a worker that reports
    /// its progress a million times takes one slot.
    progress: HashMap<JobId, Arc<LifecycleEvent>>,
    lagged: u64,
    is_closed: bool,
}

enum Waits {
    Event(Arc<LifecycleEvent>),
    ProgressOf(JobId),
}

/// What a listener receives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum EventItem {
    /// Something happened.
    Event(LifecycleEvent),
    /// This many events were dropped here. The listener was too slow, or retention deleted them
    /// before they were asked for. Those that are kept can be read with
    /// [`events_since`](crate::Verger::events_since).
    Lagged {
        /// How many.
        lagged: u64,
    },
}

impl EventItem {
    /// The event, if it is one.
    #[must_use]
    pub const fn event(&self) -> Option<&LifecycleEvent> {
        match self {
            Self::Event(event) => Some(event),
            Self::Lagged { .. } => None,
        }
    }
}

/// Receives life-cycle events from the moment it was made, each after its commit and in order.
///
/// It holds up to 4,096 events that were not taken yet. Of a job's progress only the newest waits.
/// For a slower reader the oldest are dropped, and [`EventItem::Lagged`] says how many: the engine
/// never waits for a reader. What other processes wrote comes with the next thing this process
/// does, which is a second later at most while the loop runs.
///
/// As an iterator it waits for the next event, and ends when Verger is closed, that is, when its
/// last clone is dropped.
pub struct Events {
    shared: Arc<Shared>,
    channel: Arc<Channel>,
}

impl Hub {
    pub(crate) fn new(callbacks: Vec<Callback>) -> Self {
        Self(Arc::new(Shared {
            listeners: AtomicUsize::new(callbacks.len()),
            callbacks,
            state: Mutex::default(),
            handed_on: Mutex::default(),
        }))
    }

    /// Whether anybody listens.
    pub(crate) fn is_heard(&self) -> bool {
        self.0.listeners.load(Ordering::Relaxed) > 0
    }

    /// Begins after what the file holds now.
    pub(crate) fn begin(&self, books: Books<'_>) -> Result<(), StoreError> {
        let mut handed_on = lock(&self.0.handed_on);
        *handed_on = books.newest_event()?;
        lock(&self.0.state).last = *handed_on;
        Ok(())
    }

    /// A new listener, who hears what happens from now on.
    pub(crate) fn listen(&self, books: Books<'_>) -> Result<Events, StoreError> {
        if self.is_heard() {
            self.hand_on(books)?;
        } else {
            self.begin(books)?;
        }
        let channel = Arc::new(Channel::default());
        lock(&self.0.state).channels.push(Arc::clone(&channel));
        self.0.listeners.fetch_add(1, Ordering::Relaxed);
        Ok(Events { shared: Arc::clone(&self.0), channel })
    }

    /// Tells of something that is not kept. Nothing is built when nobody listens.
    pub(crate) fn tell(&self, at: Timestamp, kind: impl FnOnce() -> EventKind) {
        if !self.is_heard() {
            return;
        }
        let kind = kind();
        let mut state = lock(&self.0.state);
        let event = LifecycleEvent { position: state.last, at, here: true, kind };
        self.0.push(&mut state, Arc::new(event));
        drop(state);
        self.0.call_back();
    }

    /// Tells the channels what was committed since the last time, by any process, and leaves it for
    /// the callbacks until the next [`call_back`](Self::call_back). Call it outside a transaction,
    /// because inside one a connection sees what may yet be rolled back.
    pub(crate) fn hand_on(&self, books: Books<'_>) -> Result<(), StoreError> {
        if !self.is_heard() || books.is_in_transaction() {
            return Ok(());
        }
        loop {
            let mut handed_on = lock(&self.0.handed_on);
            let kept = books.events_after(*handed_on, BATCH)?;
            let is_all = kept.events.len() < BATCH;
            let mut state = lock(&self.0.state);
            state.channels.iter().for_each(|channel| channel.lag(kept.missed));
            for event in kept.events {
                *handed_on = event.position;
                state.last = event.position;
                self.0.push(&mut state, Arc::new(event));
            }
            drop((state, handed_on));
            if is_all {
                return Ok(());
            }
        }
    }
}

impl Hub {
    /// Calls the app's functions with what waits for them. They may use Verger, so nothing of it
    /// may be locked.
    pub(crate) fn call_back(&self) {
        self.0.call_back();
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        for channel in &lock(&self.0.state).channels {
            lock(&channel.state).is_closed = true;
            channel.changed.notify_all();
        }
    }
}

impl Shared {
    fn push(&self, state: &mut State, event: Arc<LifecycleEvent>) {
        state.channels.iter().for_each(|channel| channel.push(&event));
        if self.callbacks.is_empty() {
            return;
        }
        if state.waiting.len() >= WAITING_MAX {
            state.waiting.pop_front();
            if !std::mem::replace(&mut state.is_behind, true) {
                tracing::warn!(
                    "a callback for events takes too long: events are dropped for it, move its work to a thread"
                );
            }
        }
        state.waiting.push_back(event);
    }

    /// Calls the app's functions with what waits for them. No lock is held, because they may use
    /// Verger.
    fn call_back(&self) {
        if self.callbacks.is_empty() {
            return;
        }
        let mut state = lock(&self.state);
        if state.is_calling {
            return;
        }
        state.is_calling = true;
        while let Some(event) = state.waiting.pop_front() {
            drop(state);
            for Callback { failures_only, call } in &self.callbacks {
                if *failures_only && !(event.here && event.kind.error().is_some()) {
                    continue;
                }
                if catch_unwind(AssertUnwindSafe(|| call(&event))).is_err() {
                    tracing::error!(
                        event = event.kind.as_str(),
                        "a callback for events panicked; the event is as it was, and the next ones follow"
                    );
                }
            }
            state = lock(&self.state);
        }
        (state.is_calling, state.is_behind) = (false, false);
    }
}

impl Channel {
    fn push(&self, event: &Arc<LifecycleEvent>) {
        let mut waiting = lock(&self.state);
        let item = match &event.kind {
            EventKind::Progress { job, .. } => {
                if waiting.progress.insert(job.id, Arc::clone(event)).is_some() {
                    return;
                }
                Waits::ProgressOf(job.id)
            }
            _ => Waits::Event(Arc::clone(event)),
        };
        waiting.items.push_back(item);
        if waiting.items.len() > WAITING_MAX {
            waiting.take();
            waiting.lagged += 1;
        }
        drop(waiting);
        self.changed.notify_all();
    }

    fn lag(&self, missed: u64) {
        if missed > 0 {
            lock(&self.state).lagged += missed;
        }
    }
}

impl Waiting {
    fn take(&mut self) -> Option<Arc<LifecycleEvent>> {
        match self.items.pop_front()? {
            Waits::Event(event) => Some(event),
            Waits::ProgressOf(job) => self.progress.remove(&job),
        }
    }

    fn next(&mut self) -> Option<EventItem> {
        // What was dropped came before all that waits.
        match std::mem::take(&mut self.lagged) {
            0 => Some(EventItem::Event(Arc::unwrap_or_clone(self.take()?))),
            lagged => Some(EventItem::Lagged { lagged }),
        }
    }
}

impl Events {
    /// The next event, if one is there.
    #[must_use]
    pub fn try_next(&self) -> Option<EventItem> {
        lock(&self.channel.state).next()
    }

    /// The next event, waiting at most this long. `None` when none came, or when Verger was closed
    /// and all were taken.
    #[must_use]
    pub fn next_within(&self, wait: Duration) -> Option<EventItem> {
        let begun = Instant::now();
        let mut waiting = lock(&self.channel.state);
        loop {
            if let Some(item) = waiting.next() {
                return Some(item);
            }
            let left = wait.saturating_sub(begun.elapsed());
            if left.is_zero() || waiting.is_closed {
                return None;
            }
            let waited = self.channel.changed.wait_timeout(waiting, left.min(WAIT_STEP));
            (waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Iterator for Events {
    type Item = EventItem;

    /// The next event, however long it takes. `None` when Verger was closed and all were taken.
    fn next(&mut self) -> Option<EventItem> {
        self.next_within(Duration::MAX)
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("waiting", &lock(&self.channel.state).items.len())
            .finish_non_exhaustive()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        lock(&self.shared.state).channels.retain(|channel| !Arc::ptr_eq(channel, &self.channel));
        self.shared.listeners.fetch_sub(1, Ordering::Relaxed);
    }
}
