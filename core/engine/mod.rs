//! The engine: one pass over what is due, and the thread that makes one whenever something is due.

mod attempt;
mod clock_watch;
mod commit_watcher;
mod dispatch;
mod executor;
mod habits;
mod next_claim;
mod notifier;
mod observe;
mod pending;
mod performing;
#[cfg(feature = "wasm")]
mod plugin_watch;
mod queue_threads;
mod readers;
mod recovery;
mod report;
mod settings;
mod shared;
mod sharing;
mod tick;
mod tick_loop;
mod upkeep;

#[cfg(feature = "postgres")]
pub(crate) use attempt::{Failure, Next, Preparation, prepare, reported, transition};
pub(crate) use attempt::{fit_args, perform_directly};
pub(crate) use habits::{GroupCommit, Habits};
pub(crate) use notifier::Notifier;
#[cfg(feature = "postgres")]
pub(crate) use observe::{count, event_of_slot, in_span, say_ended, span};
pub(crate) use pending::Pending;
#[cfg(feature = "wasm")]
pub(crate) use plugin_watch::take_in_plugins;
pub(crate) use readers::Readers;
pub(crate) use recovery::take_back;
pub use report::{AttemptOutcome, AttemptReport, TableChange, TickReport};
pub(crate) use settings::{Queues, Settings};
pub(crate) use shared::Engine;
pub(crate) use tick::tick;
#[cfg(feature = "postgres")]
pub(crate) use tick_loop::end_within;
pub(crate) use tick_loop::start;
pub use tick_loop::{LoopError, TickLoop};
