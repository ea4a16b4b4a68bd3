//! What wakes a sleeping loop.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::mutex::lock;

/// A bell. Whoever made work rings it, the loop hears it, and no ring is lost in between.
#[derive(Default)]
pub(crate) struct Notifier {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    rung: bool,
    /// Something was enqueued inside the app's own transaction, which may commit any moment.
    expecting: bool,
    /// Threads that wait for the bell. If there are none, ringing it makes no call to the kernel.
    waiting: u32,
}

impl Notifier {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        let waiting = state.waiting;
        drop(state);
        if waiting > 0 {
            self.bell.notify_all();
        }
    }

    fn wait_while(
        &self,
        most: Duration,
        condition: impl FnMut(&mut State) -> bool,
    ) -> MutexGuard<'_, State> {
        let mut state = self.state();
        state.waiting += 1;
        let (mut state, _) = self
            .bell
            .wait_timeout_while(state, most, condition)
            .unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        state
    }

    /// Says that there is work now.
    pub(crate) fn ring(&self) {
        self.change(|state| state.rung = true);
    }

    /// Says that there will be work as soon as the app commits.
    pub(crate) fn expect(&self) {
        self.change(|state| state.expecting = true);
    }

    /// Takes the expectation, if there is one.
    pub(crate) fn take_expectation(&self) -> bool {
        std::mem::take(&mut self.state().expecting)
    }

    /// Waits for the bell, at most this long, and returns whether it rang.
    pub(crate) fn wait(&self, most: Duration) -> bool {
        let mut state = self.wait_while(most, |state| !state.rung && !state.expecting);
        std::mem::take(&mut state.rung)
    }
}
