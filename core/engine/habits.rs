//! Which workers' jobs are short, judged by their last attempts.
//!
//! Jobs that share a transaction hold the write lock while they run. So a worker takes part only if
//! its attempts were short, and made no checkpoint and no call. A worker that then takes long must
//! be short for a while before it takes part again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crate::mutex::lock;
use crate::run::SHORT;

/// How many jobs are performed alone after a process died, or a shared transaction failed. That
/// shows which job was at fault.
pub(crate) const ALONE_AFTER_TROUBLE: u32 = 2_000;

/// An attempt this long was no accident of a busy machine.
const LONG: Duration = Duration::from_millis(20);

/// The most short attempts in a row that are required.
const ASKED_MAX: u32 = 1_024;

/// When jobs share transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupCommit {
    Off,
    /// Jobs of workers that are known to be short.
    On,
    /// All jobs, whatever is known of their workers.
    #[cfg_attr(not(feature = "testing"), expect(dead_code, reason = "for tests"))]
    Always,
}

/// How an attempt went.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conduct {
    /// How long its worker took, without waiting for the write lock.
    pub(crate) worked: Duration,
    /// It made a checkpoint or a call, or had to leave the jobs it shared a transaction with.
    pub(crate) concerned_itself: bool,
}

/// What is known of a worker.
struct Habit {
    short_in_a_row: u32,
    asked: u32,
}

/// What is known of all workers.
#[derive(Default)]
pub(crate) struct Habits {
    workers: Mutex<HashMap<String, Habit>>,
    alone: AtomicU32,
}

impl Habits {
    fn workers(&self) -> MutexGuard<'_, HashMap<String, Habit>> {
        lock(&self.workers)
    }

    /// Makes the next jobs be performed alone.
    pub(crate) fn expect_trouble(&self) {
        self.alone.store(ALONE_AFTER_TROUBLE, Ordering::Relaxed);
    }

    /// Whether a job of this worker may share a transaction.
    pub(super) fn may_share(&self, worker: &str, when: GroupCommit) -> bool {
        match when {
            GroupCommit::Off => false,
            GroupCommit::Always => true,
            GroupCommit::On => {
                self.alone.load(Ordering::Relaxed) == 0
                    && self
                        .workers()
                        .get(worker)
                        .is_some_and(|habit| habit.short_in_a_row >= habit.asked)
            }
        }
    }

    /// Notes how an attempt went.
    pub(super) fn note(&self, worker: &str, conduct: Conduct) {
        if self.alone.load(Ordering::Relaxed) > 0 {
            let less = |left: u32| left.checked_sub(1);
            let _ = self.alone.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
        let mut workers = self.workers();
        let habit = match workers.get_mut(worker) {
            Some(habit) => habit,
            None => {
                workers.entry(worker.to_string()).or_insert(Habit { short_in_a_row: 0, asked: 1 })
            }
        };
        if conduct.concerned_itself || conduct.worked > LONG {
            habit.short_in_a_row = 0;
            habit.asked = (habit.asked * 2).min(ASKED_MAX);
        } else if conduct.worked > SHORT {
            habit.short_in_a_row = 0;
        } else {
            habit.short_in_a_row = habit.short_in_a_row.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(millis: u64) -> Conduct {
        Conduct { worked: Duration::from_millis(millis), concerned_itself: false }
    }

    #[test]
    fn a_worker_shares_once_it_was_short_and_later_again_once_it_was_long() {
        let habits = Habits::default();
        let may = || habits.may_share("w", GroupCommit::On);
        assert!(!may(), "nothing is known of it");
        habits.note("w", took(0));
        assert!(may());
        habits.note("w", took(1_000));
        assert!(!may());
        habits.note("w", took(0));
        assert!(!may(), "twice, after that");
        habits.note("w", took(0));
        assert!(may());
        habits.note("w", Conduct { concerned_itself: true, ..took(0) });
        for _ in 0..4 {
            assert!(!may());
            habits.note("w", took(0));
        }
        assert!(may());
        assert!(!habits.may_share("w", GroupCommit::Off));
    }

    #[test]
    fn after_trouble_jobs_are_performed_alone_for_a_while() {
        let habits = Habits::default();
        habits.expect_trouble();
        for _ in 0..ALONE_AFTER_TROUBLE {
            assert!(!habits.may_share("w", GroupCommit::On));
            habits.note("w", took(0));
        }
        assert!(habits.may_share("w", GroupCommit::On));
    }
}
