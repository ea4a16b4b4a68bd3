//! Taking a lock that a panic may have left behind.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes the lock. What Verger's mutexes guard is whole after any panic: plain collections, and
/// connections whose transactions roll back on drop.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
