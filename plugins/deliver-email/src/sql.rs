//! The statements, for a table with the columns of the reference table `email_outbox`.
//!
//! The index that serves them: `(next_attempt_at, id) WHERE status IN ('pending', 'sending')`.

use verger_worker::{Ident, TimeFormat};

/// The condition of rows that wait to be sent, or whose sending ended with the process.
pub const OPEN: &str = "status IN ('pending', 'sending')";

/// What is due, in the order of the times. `?1` now in milliseconds, `?2` rows.
///
/// A row without a number of attempts has had none, and one without a maximum has 10.
#[must_use]
pub fn due(table: &Ident, times: TimeFormat) -> String {
    // Rows due at this very millisecond, too.
    let due = times.before("next_attempt_at", 1).replace("?1", "(?1 + 1)");
    format!(
        "SELECT next_attempt_at, id, organization_id, recipient, subject, body, status = 'sending', \
         CASE WHEN typeof(attempts) = 'integer' THEN attempts ELSE 0 END, \
         CASE WHEN typeof(max_attempts) = 'integer' THEN max_attempts ELSE 10 END \
         FROM {table} WHERE {OPEN} AND {due} ORDER BY next_attempt_at NULLS FIRST, id NULLS FIRST LIMIT ?2"
    )
}

/// Claims a row that is as it was read. `?1` id, `?2` its time, `?3` its attempts, `?4` until when,
/// `?5` now.
#[must_use]
pub fn claim(table: &Ident, times: TimeFormat) -> String {
    let (until, now) = (times.stored(4), times.stored(5));
    format!(
        "UPDATE {table} SET status = 'sending', attempts = ?3 + 1, next_attempt_at = {until}, updated_at = {now} \
         WHERE id IS ?1 AND {OPEN} AND next_attempt_at IS ?2 AND coalesce(attempts, 0) = ?3"
    )
}

/// The condition of a row that this run claimed: `?1` id, `?2` the number of the attempt.
const OURS: &str = "id IS ?1 AND status = 'sending' AND attempts = ?2";

/// Takes a claim back, with its attempt. `?3` now, `?4` when it is due.
#[must_use]
pub fn give_back(table: &Ident, times: TimeFormat) -> String {
    let (now, due) = (times.stored(3), times.stored(4));
    format!(
        "UPDATE {table} SET status = 'pending', attempts = ?2 - 1, next_attempt_at = {due}, updated_at = {now} WHERE {OURS}"
    )
}

/// Marks a message as sent. `?3` now, `?4` the name the provider gave it.
#[must_use]
pub fn sent(table: &Ident, times: TimeFormat) -> String {
    let now = times.stored(3);
    format!(
        "UPDATE {table} SET status = 'sent', sent_at = {now}, updated_at = {now}, provider_message_id = ?4, last_error = NULL WHERE {OURS}"
    )
}

/// Marks a message as failed, to be tried again. `?3` now, `?4` when, `?5` why.
#[must_use]
pub fn failed(table: &Ident, times: TimeFormat) -> String {
    let (now, due) = (times.stored(3), times.stored(4));
    format!(
        "UPDATE {table} SET status = 'pending', next_attempt_at = {due}, updated_at = {now}, last_error = ?5 WHERE {OURS}"
    )
}

/// Marks a message as not to be tried again. `?3` now, `?4` why.
#[must_use]
pub fn dead(table: &Ident, times: TimeFormat) -> String {
    let now = times.stored(3);
    format!(
        "UPDATE {table} SET status = 'dead', updated_at = {now}, last_error = ?4 \
         WHERE id IS ?1 AND {OPEN} AND coalesce(attempts, 0) = ?2"
    )
}
