//! Messages from workers to the app, delivered after commit.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value as Json;

use crate::ids::JobId;
use crate::mutex::lock;

/// How many messages may wait for a subscriber. Further ones are dropped for it and counted.
const WAITING_MAX: usize = 4_096;

/// Bytes of their texts. One message may have 256 KiB.
const WAITING_MAX_BYTES: usize = 32 << 20;

/// A message a worker published, in a transaction that has committed.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What it is about: `delivery.reconciled`.
    pub topic: String,
    /// The message.
    pub payload: Json,
    /// The worker that published it.
    pub worker: String,
    /// The job in which it was published. `None` when the worker was called directly.
    pub job: Option<JobId>,
}

/// A message on its way. It is text, which takes a hundredth of the memory that the built JSON may
/// take.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) topic: String,
    /// JSON text that was checked.
    pub(crate) payload: String,
    pub(crate) worker: Arc<str>,
    pub(crate) job: Option<JobId>,
}

impl Message {
    pub(crate) fn bytes(&self) -> usize {
        self.topic.len() + self.payload.len()
    }
}

/// The in-process subscribers.
#[derive(Default)]
pub(crate) struct Bus {
    subscribers: Mutex<Vec<Subscriber>>,
}

struct Subscriber {
    sender: SyncSender<Arc<Message>>,
    counts: Arc<Counts>,
}

/// What a subscriber and its subscription share.
#[derive(Debug, Default)]
struct Counts {
    dropped: AtomicU64,
    waiting_bytes: AtomicUsize,
}

impl Bus {
    pub(crate) fn subscribe(&self) -> Subscription {
        let (sender, receiver) = sync_channel(WAITING_MAX);
        let counts = Arc::new(Counts::default());
        let mut subscribers = lock(&self.subscribers);
        subscribers.push(Subscriber { sender, counts: Arc::clone(&counts) });
        Subscription { receiver, counts }
    }

    /// Hands messages to everyone who listens. It never waits.
    pub(crate) fn deliver(&self, messages: Vec<Message>) {
        if messages.is_empty() {
            return;
        }
        let messages: Vec<_> = messages.into_iter().map(Arc::new).collect();
        let mut subscribers = lock(&self.subscribers);
        subscribers.retain(|subscriber| messages.iter().all(|message| subscriber.send(message)));
    }
}

impl Subscriber {
    /// False when nobody listens any more.
    fn send(&self, message: &Arc<Message>) -> bool {
        if Arc::strong_count(&self.counts) == 1 {
            return false;
        }
        let Counts { dropped, waiting_bytes } = &*self.counts;
        let bytes = message.bytes();
        // Added before the message can be taken, so that the count never falls below zero.
        let waiting = waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let sent = if waiting.saturating_add(bytes) > WAITING_MAX_BYTES {
            Err(TrySendError::Full(()))
        } else {
            self.sender.try_send(Arc::clone(message)).map_err(|error| match error {
                TrySendError::Full(_) => TrySendError::Full(()),
                TrySendError::Disconnected(_) => TrySendError::Disconnected(()),
            })
        };
        if sent.is_err() {
            waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        match sent {
            Ok(()) => true,
            Err(TrySendError::Full(())) => {
                dropped.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(TrySendError::Disconnected(())) => false,
        }
    }
}

/// Receives what workers publish, from the moment it was made. It holds up to 4,096 messages that
/// were not taken yet, and 32 MiB of their text. Further ones are dropped and counted.
#[derive(Debug)]
pub struct Subscription {
    receiver: Receiver<Arc<Message>>,
    counts: Arc<Counts>,
}

impl Subscription {
    /// The next message, if one is there.
    #[must_use]
    pub fn try_next(&self) -> Option<Event> {
        self.receiver.try_recv().ok().map(|message| self.take(&message))
    }

    /// The next message, waiting at most this long. `None` when none came, or when Verger was
    /// closed.
    #[must_use]
    pub fn next_within(&self, wait: Duration) -> Option<Event> {
        self.receiver.recv_timeout(wait).ok().map(|message| self.take(&message))
    }

    fn take(&self, message: &Message) -> Event {
        self.counts.waiting_bytes.fetch_sub(message.bytes(), Ordering::Relaxed);
        Event {
            topic: message.topic.clone(),
            // It was checked when it was published.
            payload: serde_json::from_str(&message.payload).unwrap_or_default(),
            worker: message.worker.to_string(),
            job: message.job,
        }
    }

    /// How many messages were dropped because too many waited.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }
}
