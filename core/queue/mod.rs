//! The durable queue: jobs as rows, and every statement that moves one from state to state.

mod backoff;
mod bulk;
mod canonical;
mod claim;
mod correction;
mod edit;
mod exact;
mod filter;
mod filter_text;
mod grouped;
mod history;
mod insert;
mod job;
mod log;
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
pub use bulk::{BulkMode, BulkReport, Skipped};
pub(crate) use bulk::{Done, Verb, apply, count_for, count_jobs, delete, newest_id, next_batch};
pub(crate) use claim::{
    ClaimOrder, Claimed, claim_first, claim_in, due_by_queue, next_due, next_due_in,
};
pub(crate) use correction::{bring_back, misled};
pub use edit::JobEdit;
pub(crate) use edit::{Edited, edit};
pub(crate) use exact::check_numbers;
pub use exact::{ArgsTextError, InexactNumber, parse_args};
pub use filter::{JobFilter, JobTime};
pub use filter_text::FilterError;
pub(crate) use grouped::{Unclaimed, look, next_in_line};
pub use history::HistorySpan;
pub(crate) use history::{history, latest};
pub(crate) use insert::{Inserting, Ready, SlotOf, insert};
pub use job::{Attempted, Job, JobState};
pub(crate) use log::{AttemptLog, keep_log, log_of};
pub use log::{JobLog, LoggedLine};
pub use new_job::{EnqueueError, Enqueued, NewJob};
pub(crate) use operate::{Cancelled, Retried, cancel, retry};
pub use prune::Retention;
pub(crate) use prune::prune;
pub use queues::QueueRow;
pub(crate) use queues::{pause_queue, paused_queues, queues};
pub(crate) use read::{get, list};
pub(crate) use rescue::{Lost, next_expiry, rescue};
pub(crate) use set_aside::{Stuck, set_kind_aside, stuck};
pub use settings::{Queue, QueueError};
pub(crate) use transition::{Lease, Moved, ON_REQUEST, PerformedBy, Transition, renew, transition};
