//! Messages from workers to the app, delivered after commit.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value as Json;

use crate::queue::JobId;

/// Messages a subscriber may leave waiting; further ones are dropped for it and counted.
const WAITING_MAX: usize = 4_096;

/// A message a worker published, in a transaction that has committed.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What it is about: `delivery.reconciled`.
    pub topic: String,
    /// The message.
    pub payload: Json,
    /// The worker that published it.
    pub worker: String,
    /// The job it did so in; `None` when it was called directly.
    pub job: Option<JobId>,
}

/// The in-process subscribers.
#[derive(Default)]
pub(crate) struct Bus {
    subscribers: Mutex<Vec<Subscriber>>,
}

struct Subscriber {
    sender: SyncSender<Event>,
    dropped: Arc<AtomicU64>,
}

impl Bus {
    pub(crate) fn subscribe(&self) -> Subscription {
        let (sender, receiver) = sync_channel(WAITING_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        subscribers.push(Subscriber { sender, dropped: Arc::clone(&dropped) });
        Subscription { receiver, dropped }
    }

    /// Hands events to everyone who listens. Never waits.
    pub(crate) fn deliver(&self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        subscribers.retain(|subscriber| {
            events.iter().all(|event| match subscriber.sender.try_send(event.clone()) {
                Ok(()) => true,
                Err(TrySendError::Full(_)) => {
                    subscriber.dropped.fetch_add(1, Ordering::Relaxed);
                    true
                }
                Err(TrySendError::Disconnected(_)) => false,
            })
        });
    }
}

/// Receives what workers publish, from the moment it was made. Holds up to 4,096 messages that were
/// not taken yet.
#[derive(Debug)]
pub struct Subscription {
    receiver: Receiver<Event>,
    dropped: Arc<AtomicU64>,
}

impl Subscription {
    /// The next message, if one is there.
    #[must_use]
    pub fn try_next(&self) -> Option<Event> {
        self.receiver.try_recv().ok()
    }

    /// The next message, waiting at most this long. `None` when none came, or when Verger was
    /// closed.
    #[must_use]
    pub fn next_within(&self, wait: Duration) -> Option<Event> {
        self.receiver.recv_timeout(wait).ok()
    }

    /// How many messages were dropped because too many waited.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
