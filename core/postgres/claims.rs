//! Threads take turns at claiming, and claim for each other.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::mutex::lock;
use crate::queue::Claimed;

/// Who claims, who waits for that, and what was claimed for those that wait.
#[derive(Default)]
pub(super) struct Claims {
    waiting: AtomicUsize,
    claimed: Mutex<VecDeque<Claimed>>,
}

/// The turn of one thread.
pub(super) struct Turn<'c> {
    claims: &'c Claims,
    claimed: MutexGuard<'c, VecDeque<Claimed>>,
}

impl Claims {
    /// Waits for the turn of this thread.
    pub(super) fn take_turn(&self) -> Turn<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let claimed = lock(&self.claimed);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Turn { claims: self, claimed }
    }
}

impl Turn<'_> {
    /// What another thread claimed for this one.
    pub(super) fn claimed_before(&mut self) -> Option<Claimed> {
        self.claimed.pop_front()
    }

    /// How many jobs are wanted: one for this thread, and one for each that waits. Each of those
    /// comes to its turn and takes one.
    pub(super) fn wanted(&self) -> usize {
        1 + self.claims.waiting.load(Ordering::Relaxed)
    }

    /// Leaves jobs to the threads that wait.
    pub(super) fn leave_to_others(mut self, claimed: impl Iterator<Item = Claimed>) {
        self.claimed.extend(claimed);
    }
}
