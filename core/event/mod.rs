//! What an app is told: messages that its workers publish, and the life-cycle of its jobs,
//! schedules, queues and plugins.
//!
//! Ends and failures are rows of `verger_events`, written in the transaction they tell of. Whoever
//! listens is handed the rows after those it had, after the commit and in order. So what is heard
//! live and what is read later by position is the same. The rest is told in memory only.

mod books;
mod hub;
mod lifecycle;
mod message;
mod position;
mod record;
mod say;

pub(crate) use hub::{Callback, Hub};
pub use hub::{EventItem, Events};
pub use lifecycle::{EventFailure, EventJob, EventKind, LifecycleEvent};
pub(crate) use message::{Bus, Message};
pub use message::{Event, Subscription};
pub use position::EventPosition;
#[cfg(feature = "postgres")]
pub(crate) use position::PLACES;
#[cfg(feature = "postgres")]
pub(crate) use record::source;
pub(crate) use record::{completed_sql, past, record, record_completed};
pub(crate) use say::say;
