//! How far workers' statements went, in steps of SQLite's virtual machine.

use std::cell::Cell;

thread_local! {
    static TAKEN: Cell<u64> = const { Cell::new(0) };
}

/// Steps that SQLite's virtual machine took for statements of workers on this thread, since it was
/// asked last. Statements of the engine's own, inside them, are not in it.
#[must_use]
pub fn statement_steps() -> u64 {
    TAKEN.take()
}

pub(crate) fn count_steps(steps: i32) {
    TAKEN.set(TAKEN.get() + u64::from(steps.unsigned_abs()));
}
