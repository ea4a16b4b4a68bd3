//! The bounds of a job and a queue, whoever sets them: a new job, an edit, a filter's verb, a
//! setting.

use crate::time::Timestamp;

/// From 0 (first) to 9 (last).
pub(crate) const fn is_priority(priority: u8) -> bool {
    priority <= 9
}

/// 1 to 128 bytes.
pub(crate) const fn is_queue_name(name: &str) -> bool {
    matches!(name.len(), 1..=128)
}

/// Up to the end of the year 9999, the last that a time can name.
pub(crate) fn is_due_time(at: Timestamp) -> bool {
    at <= Timestamp::LAST
}
