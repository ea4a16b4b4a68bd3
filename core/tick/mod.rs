//! The engine: one pass over what is due, and the thread that makes one whenever something is.

mod attempt;
mod executor;
mod helper;
mod looping;
mod owed;
mod pass;
mod report;
mod traces;
mod wake;

pub(crate) use attempt::perform_directly;
pub(crate) use executor::Executor;
pub(crate) use looping::start;
pub use looping::{LoopError, TickLoop};
pub(crate) use owed::Owed;
pub(crate) use pass::tick;
pub use report::{AttemptOutcome, AttemptReport, TableChange, TickReport};
pub(crate) use wake::Wake;
