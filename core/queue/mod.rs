//! The durable queue: jobs as rows, and every statement that moves one from state to state.

mod backoff;
mod canonical;
mod claim;
mod correction;
mod exact;
mod history;
mod insert;
mod job;
mod new_job;
mod operate;
mod prune;
mod queues;
mod read;
mod rescue;
mod set_aside;
mod settings;
mod transition;
mod waiting;

pub(crate) use crate::ids::JobId;
pub use backoff::Backoff;
pub(crate) use claim::{
    ClaimOrder, Claimed, claim_first, claim_in, due_by_queue, next_due, next_due_in,
};
pub(crate) use correction::{bring_back, misled};
pub(crate) use exact::check_numbers;
pub use exact::{ArgsTextError, InexactNumber, parse_args};
pub use history::HistorySpan;
pub(crate) use history::{history, latest};
pub(crate) use insert::{Inserting, Ready, SlotOf, insert};
pub use job::{Attempted, Job, JobFilter, JobState};
pub use new_job::{EnqueueError, Enqueued, NewJob};
pub(crate) use operate::{Cancelled, Retried, cancel, retry};
pub use prune::Retention;
pub(crate) use prune::prune;
pub use queues::QueueRow;
pub(crate) use queues::{pause_queue, paused_queues, queues};
pub(crate) use read::{get, list};
pub(crate) use rescue::{Lost, next_expiry, rescue};
pub(crate) use set_aside::{set_kind_aside, unreadable};
pub use settings::{Queue, QueueError};
pub(crate) use transition::{Lease, Moved, ON_REQUEST, PerformedBy, Transition, renew, transition};
