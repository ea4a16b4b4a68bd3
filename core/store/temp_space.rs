//! What a run's SQL uses besides the database: temporary space, and the time.
//!
//! SQLite asks its file system for both, and the file system cannot know which run asks. So the run
//! says so for its thread.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::clock::Clock;

/// The temporary space of one run, counted, and its clock.
pub(crate) struct TempSpace {
    clock: Arc<dyn Clock>,
    held: AtomicUsize,
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<TempSpace>>> = const { RefCell::new(None) };
}

impl TempSpace {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, held: AtomicUsize::new(0) })
    }

    /// Bytes that its sorts, its groups and its savepoints keep now.
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    pub(super) fn took(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn gave_back(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Now, in milliseconds since 1970.
    pub(super) fn now_millis(&self) -> i64 {
        self.clock.now().as_millis()
    }

    /// The space of the run whose SQL is on this thread now.
    pub(super) fn current() -> Option<Arc<Self>> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// From here until the value is dropped, the SQL on this thread is this run's.
    pub(super) fn enter(self: Arc<Self>) -> Entered {
        Entered(CURRENT.with_borrow_mut(|current| current.replace(self)))
    }
}

/// Restores whose SQL was on this thread before, because a function of the app may call a worker in
/// the midst of another's run.
pub(super) struct Entered(Option<Arc<TempSpace>>);

impl Drop for Entered {
    fn drop(&mut self) {
        let before = self.0.take();
        CURRENT.with_borrow_mut(|current| *current = before);
    }
}

/// Bytes that a run holds besides SQLite, counted with those that its SQL takes.
pub(crate) struct HeldBytes {
    of: Arc<TempSpace>,
    bytes: usize,
}

impl HeldBytes {
    pub(super) fn of(of: Arc<TempSpace>) -> Self {
        Self { of, bytes: 0 }
    }

    pub(crate) fn add(&mut self, bytes: usize) {
        self.of.took(bytes);
        self.bytes += bytes;
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.of.gave_back(self.bytes);
    }
}
