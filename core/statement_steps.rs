//! How far workers' statements went, in steps of SQLite's virtual machine.

use std::cell::Cell;

thread_local! {
    static TAKEN: Cell<u64> = const { Cell::new(0) };
}

/// Steps that SQLite's virtual machine took for workers' statements on this thread, since the last
/// call. The engine's own statements do not count, even inside those of workers.
#[must_use]
pub fn statement_steps() -> u64 {
    TAKEN.take()
}

pub(crate) fn count_steps(steps: i32) {
    TAKEN.set(TAKEN.get() + u64::from(steps.unsigned_abs()));
}
