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
    /// An enqueue inside the app's own transaction: it may commit any moment.
    expecting: bool,
}

impl Wake {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is work now.
    pub(crate) fn ring(&self) {
        self.state().rung = true;
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

    /// Waits for the bell, at most this long: whether it rang.
    pub(crate) fn wait(&self, most: Duration) -> bool {
        let state = self.state();
        let waiting = |state: &mut State| !state.rung && !state.expecting;
        let (mut state, _) = self.bell.wait_timeout_while(state, most, waiting).unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut state.rung)
    }
}
