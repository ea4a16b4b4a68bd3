//! Which queue gets a thread next.
//!
//! Queues with due jobs stand in one line. A thread takes one, performs some of its jobs, and puts
//! it back at the end if there are more. It takes the queue whose next job has the highest
//! priority, and the first in the line among equals. Every fourth time it takes the first of all.
//! So an urgent job does not wait for queues that have not begun. A queue with a backlog, urgent or
//! not, keeps no other from its turn, however many queues there are and however few threads.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::mutex::lock;

/// One of this many turns goes to the queue that has waited longest, the others go by priority.
const TURNS_BY_PRIORITY: u32 = 4;

/// The line of queues, and the threads that wait for one.
#[derive(Default)]
pub(super) struct Dispatch {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    line: VecDeque<String>,
    /// How often a queue was taken from the line.
    taken: u32,
    queues: HashMap<String, Turns>,
    threads: usize,
    /// Those of them that wait for a queue.
    waiting: usize,
    is_stopping: bool,
}

/// What is known of a queue that is in the line or has a thread.
#[derive(Default)]
struct Turns {
    is_in_line: bool,
    /// The priority of its next job, from 0 (first) to 9.
    priority: i64,
    /// Threads that perform its jobs.
    threads: usize,
    /// It was offered while it had all the threads it may have.
    is_asked_for: bool,
    /// None of its jobs can begin before this.
    not_before: Option<Instant>,
}

/// How a thread's turn at a queue ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TurnEnd {
    /// More of its jobs may be due.
    More,
    /// None was due.
    Empty,
    /// Jobs are due, but none may begin, or beginning one failed. The queue is looked at again
    /// after this long.
    Blocked(Duration),
    /// It was one thread too many, and no longer counts.
    Left,
}

impl Dispatch {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Puts a queue with due jobs into the line, if it may have one more thread. `priority` is its
    /// next job's, if that is known anew. True when a new thread is to be started for it; that
    /// thread counts already.
    pub(super) fn offer(
        &self,
        queue: &str,
        priority: Option<i64>,
        concurrency: usize,
        threads_max: usize,
    ) -> bool {
        let mut state = self.state();
        if state.is_stopping {
            return false;
        }
        let turns = match state.queues.get_mut(queue) {
            Some(turns) => turns,
            None => state.queues.entry(queue.to_string()).or_default(),
        };
        turns.priority = priority.unwrap_or(turns.priority);
        if turns.is_in_line || turns.not_before.is_some_and(|at| at > Instant::now()) {
            return false;
        }
        if turns.threads >= concurrency {
            turns.is_asked_for = true;
            return false;
        }
        turns.not_before = None;
        state.put_in_line(queue);
        self.changed.notify_one();
        let is_short = state.line.len() > state.waiting && state.threads < threads_max;
        state.threads += usize::from(is_short);
        is_short
    }

    /// Waits for a queue to perform. `None` when none came for `idle_max`, or the loop stops. The
    /// thread must end then, and no longer counts.
    pub(super) fn take(&self, idle_max: Duration) -> Option<String> {
        let mut state = self.state();
        state.waiting += 1;
        let (mut state, _) = self
            .changed
            .wait_timeout_while(state, idle_max, |state| {
                state.line.is_empty() && !state.is_stopping
            })
            .unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        let next = if state.is_stopping { None } else { state.next() };
        let Some(queue) = next else {
            state.threads -= 1;
            return None;
        };
        let turns = state.queues.entry(queue.clone()).or_default();
        turns.is_in_line = false;
        turns.threads += 1;
        Some(queue)
    }

    /// Ends a thread's turn at a queue.
    pub(super) fn end_turn(&self, queue: &str, end: TurnEnd) {
        if end == TurnEnd::Left {
            return;
        }
        let mut state = self.state();
        let Some(turns) = state.queues.get_mut(queue) else { return };
        turns.threads = turns.threads.saturating_sub(1);
        let is_asked_for = std::mem::take(&mut turns.is_asked_for);
        match end {
            TurnEnd::Blocked(time) => turns.not_before = Some(Instant::now() + time),
            TurnEnd::More | TurnEnd::Left => {}
            TurnEnd::Empty if is_asked_for => {}
            TurnEnd::Empty => {
                if turns.threads == 0 && !turns.is_in_line {
                    state.queues.remove(queue);
                }
                return;
            }
        }
        if matches!(end, TurnEnd::Blocked(_)) || turns.is_in_line {
            return;
        }
        state.put_in_line(queue);
        self.changed.notify_one();
    }

    /// Takes a thread off a queue that has more threads than it may have, and returns whether it
    /// did. The thread's turn is over then.
    pub(super) fn leave_if_crowded(&self, queue: &str, concurrency: usize) -> bool {
        let mut state = self.state();
        let turns = state.queues.get_mut(queue).filter(|turns| turns.threads > concurrency);
        turns.map(|turns| turns.threads -= 1).is_some()
    }

    /// A thread ended without having been told to: it could not be started, or it panicked.
    pub(super) fn lose_thread(&self) {
        let mut state = self.state();
        state.threads = state.threads.saturating_sub(1);
    }

    /// When the next blocked queue is to be looked at again.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        self.state().queues.values().filter_map(|turns| turns.not_before).min()
    }

    /// Whether other queues wait for a thread.
    pub(super) fn has_line(&self) -> bool {
        !self.state().line.is_empty()
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.state().is_stopping
    }

    /// Makes every thread end after its present job.
    pub(super) fn stop(&self) {
        self.state().is_stopping = true;
        self.changed.notify_all();
    }
}

impl State {
    /// Takes the queue whose turn it is from the line.
    fn next(&mut self) -> Option<String> {
        self.taken = self.taken.wrapping_add(1);
        let priority = |queue: &String| self.queues.get(queue).map(|turns| turns.priority);
        let place = match self.taken % TURNS_BY_PRIORITY {
            0 => 0,
            _ => (0..self.line.len()).min_by_key(|place| self.line.get(*place).map(priority))?,
        };
        self.line.remove(place)
    }

    fn put_in_line(&mut self, queue: &str) {
        if let Some(turns) = self.queues.get_mut(queue) {
            turns.is_in_line = true;
            self.line.push_back(queue.to_string());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn queues_take_turns_however_few_threads_there_are() {
        let dispatch = Dispatch::default();
        assert!(dispatch.offer("a", None, 1, 1));
        for queue in ["b", "c", "a"] {
            assert!(!dispatch.offer(queue, None, 1, 1), "one thread is all there is");
        }
        let mut order = Vec::new();
        for _ in 0..6 {
            let queue = dispatch.take(NOW).unwrap();
            dispatch.end_turn(&queue, TurnEnd::More);
            order.push(queue);
        }
        assert_eq!(order, ["a", "b", "c", "a", "b", "c"]);
    }

    #[test]
    fn an_urgent_queue_goes_first_and_starves_no_other() {
        let dispatch = Dispatch::default();
        for queue in ["a", "b", "c"] {
            dispatch.offer(queue, Some(5), 1, 1);
        }
        dispatch.offer("urgent", Some(0), 1, 1);
        let mut order = Vec::new();
        for _ in 0..8 {
            let queue = dispatch.take(NOW).unwrap();
            dispatch.end_turn(&queue, TurnEnd::More);
            order.push(queue);
        }
        assert_eq!(order, ["urgent", "urgent", "urgent", "a", "urgent", "urgent", "urgent", "b"]);
        // A job that comes while its queue is in the line.
        dispatch.offer("c", Some(0), 1, 1);
        dispatch.offer("urgent", Some(9), 1, 1);
        assert_eq!(dispatch.take(NOW).as_deref(), Some("c"));
    }

    #[test]
    fn a_queue_has_as_many_threads_as_it_may_have_and_misses_no_offer() {
        let dispatch = Dispatch::default();
        assert!(dispatch.offer("a", None, 2, 8));
        assert_eq!(dispatch.take(NOW).as_deref(), Some("a"));
        assert!(dispatch.offer("a", None, 2, 8));
        assert_eq!(dispatch.take(NOW).as_deref(), Some("a"));
        // Enqueued after both had looked, and before they said that nothing is due.
        assert!(!dispatch.offer("a", None, 2, 8));
        dispatch.end_turn("a", TurnEnd::Empty);
        assert_eq!(dispatch.take(NOW).as_deref(), Some("a"));
        dispatch.end_turn("a", TurnEnd::Empty);
        dispatch.end_turn("a", TurnEnd::Empty);
        assert_eq!(dispatch.take(NOW), None);
        assert!(dispatch.state().queues.is_empty(), "a queue with nothing to do is forgotten");
    }

    #[test]
    fn a_queue_whose_concurrency_is_lowered_keeps_as_many_threads_as_it_may_have() {
        let dispatch = Dispatch::default();
        for _ in 0..3 {
            dispatch.offer("a", None, 3, 8);
            dispatch.take(NOW).unwrap();
        }
        let left = (0..3).filter(|_| dispatch.leave_if_crowded("a", 1)).count();
        assert_eq!((left, dispatch.state().queues["a"].threads), (2, 1));
        dispatch.end_turn("a", TurnEnd::Left);
        assert_eq!(dispatch.state().queues["a"].threads, 1);
    }

    #[test]
    fn a_queue_that_cannot_go_on_is_left_alone_for_a_while() {
        let dispatch = Dispatch::default();
        assert!(dispatch.offer("a", None, 1, 8));
        dispatch.take(NOW).unwrap();
        dispatch.end_turn("a", TurnEnd::Blocked(Duration::from_secs(60)));
        assert!(dispatch.next_retry().is_some());
        assert!(!dispatch.offer("a", None, 1, 8));
        assert_eq!(dispatch.take(NOW), None);
        assert!(dispatch.offer("b", None, 1, 8), "the others are not");
    }
}
