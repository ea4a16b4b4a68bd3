//! The durable queue: jobs as rows, and every statement that moves one from state to state.

mod backoff;
mod books;
mod bounds;
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
mod search;
mod set_aside;
mod settings;
mod transition;
mod waiting;

pub(crate) use crate::ids::JobId;
pub use backoff::Backoff;
pub(crate) use bounds::{is_due_time, is_priority};
pub(crate) use bulk::{BATCH as BULK_BATCH, Done};
pub use bulk::{BulkMode, BulkPart, BulkReport, BulkVerb, Skipped};
pub(crate) use claim::{ClaimOrder, Claimed};
pub(crate) use edit::Edited;
pub use edit::JobEdit;
pub(crate) use exact::check_numbers;
pub use exact::{ArgsTextError, InexactNumber, parse_args};
pub use filter::{JobFilter, JobTime};
pub use filter_text::FilterError;
pub(crate) use grouped::Unclaimed;
pub use history::HistorySpan;
pub(crate) use insert::{Ready, SlotOf};
pub use job::{Attempted, Job, JobState};
pub(crate) use log::AttemptLog;
pub use log::{JobLog, LoggedLine};
pub use new_job::{EnqueueError, Enqueued, NewJob};
pub(crate) use operate::{Cancelled, Retried};
pub use prune::Retention;
pub use queues::QueueRow;
pub(crate) use queues::counted;
#[cfg(feature = "postgres")]
pub(crate) use read::why_parked;
pub(crate) use rescue::Lost;
#[cfg(feature = "postgres")]
pub(crate) use rescue::after_crash;
pub use search::JobSearch;
pub(crate) use set_aside::Stuck;
pub use settings::{Queue, QueueError};
pub(crate) use transition::{Lease, Moved, ON_REQUEST, PerformedBy, Transition};
#[cfg(feature = "postgres")]
pub(crate) use transition::{Left, error_json, kind_of};
