//! What wakes a sleeping loop.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A bell: rung by whoever made work, heard by the loop, never lost in between.
#[derive(Default)]
pub(crate) struct Wake {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    rung: bool,
    /// How often it rang, for those who listen beside the loop.
    rings: u64,
    /// An enqueue inside the app's own transaction: it may commit any moment.
    expecting: bool,
}

impl Wake {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is work now.
    pub(crate) fn ring(&self) {
        let mut state = self.state();
        state.rung = true;
        state.rings = state.rings.wrapping_add(1);
        drop(state);
        self.bell.notify_all();
    }

    /// There will be work as soon as the app commits.
    pub(crate) fn expect(&self) {
        self.state().expecting = true;
        self.bell.notify_all();
    }

    /// Takes the expectation, if there is one.
    pub(crate) fn take_expectation(&self) -> bool {
        std::mem::take(&mut self.state().expecting)
    }

    /// There may be work for those who listen beside the loop.
    pub(crate) fn ring_helpers(&self) {
        let mut state = self.state();
        state.rings = state.rings.wrapping_add(1);
        drop(state);
        self.bell.notify_all();
    }

    /// How often it rang.
    pub(crate) fn rings(&self) -> u64 {
        self.state().rings
    }

    /// Waits, at most this long, until it rings more often than was heard.
    pub(crate) fn wait_since(&self, heard: &mut u64, most: Duration) {
        let state = self.state();
        let (state, _) = self.bell.wait_timeout_while(state, most, |state| state.rings == *heard).unwrap_or_else(PoisonError::into_inner);
        *heard = state.rings;
    }

    /// Waits for the bell, at most this long: whether it rang.
    pub(crate) fn wait(&self, most: Duration) -> bool {
        let state = self.state();
        let waiting = |state: &mut State| !state.rung && !state.expecting;
        let (mut state, _) = self.bell.wait_timeout_while(state, most, waiting).unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut state.rung)
    }
}
