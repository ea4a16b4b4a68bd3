//! What is due besides the jobs: slots, jobs whose time has come, lost jobs, cancels, pruning.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fallible_iterator::FallibleIterator;

use super::clock_offset::Compared;
use super::node::{NOWHERE, Node};
use super::presence::Presence;
use super::session::Session;
use super::{cancel, jobs, prune, rescue, schedules};
use crate::engine::{TickReport, event_of_slot};
use crate::event;
use crate::mutex::lock;
use crate::run::Interrupted;
use crate::store::StoreError;
use crate::time::Timestamp;

/// How long another node's jobs, cancels and slots may go unnoticed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The least time between two looks, however many notifications come.
const LOOK_APART: Duration = Duration::from_millis(20);

/// How often it is looked whether a job that is being performed is to end.
const WATCH_EVERY: Duration = Duration::from_millis(50);

/// How often finished jobs are looked through.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// How long to wait after the server failed, at first, and at most.
const AFTER_FAILURE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Looks until it is stopped.
pub(super) fn keep(node: &Arc<Node>, stopping: &AtomicBool) {
    let mut presence = lock(&node.presence);
    let mut compared = Compared::now();
    let mut wait_after_failure = AFTER_FAILURE.0;
    // When everything is looked after again; what was heard meanwhile is about jobs.
    let mut all_at = Instant::now();
    while !stopping.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let all = begun >= all_at;
        let looked = presence.appear().and_then(|number| {
            node.number.store(number, Ordering::Relaxed);
            presence.listen()?;
            if let Some(offset) = &node.offset {
                compared.again(presence.session(), offset)?;
            }
            look(node, presence.session(), all)
        });
        if !presence.is_there() {
            // Others take its jobs back, so it claims none under that number.
            node.number.store(NOWHERE, Ordering::Relaxed);
        }
        match looked {
            Ok(next) => {
                wait_after_failure = AFTER_FAILURE.0;
                let now = node.clock.now();
                let next = next.map_or(LOOK_EVERY, |next| next.since(now)).min(LOOK_EVERY);
                let next_all = Instant::now() + next;
                all_at = if all { next_all } else { all_at.min(next_all) };
                rest(node, &mut presence, stopping, (begun + LOOK_APART, all_at));
            }
            Err(error) => {
                tracing::error!(%error, "the keeper could not look after the jobs; it tries again");
                all_at = Instant::now() + wait_after_failure;
                wait_after_failure = (wait_after_failure * 2).min(AFTER_FAILURE.1);
                pause(node, stopping, all_at);
            }
        }
    }
}

/// Waits until everything is to be looked after, or for a notification, but not less than apart.
fn rest(
    node: &Node,
    presence: &mut Presence,
    stopping: &AtomicBool,
    (apart, until): (Instant, Instant),
) {
    let mut is_heard = false;
    loop {
        let end = if is_heard { apart.min(until) } else { until };
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || stopping.load(Ordering::Relaxed) {
            return;
        }
        node.cancel_overdue();
        let left = if node.is_performing() { left.min(WATCH_EVERY) } else { left };
        let heard = presence.session().noticing(|client| {
            let mut notifications = client.notifications();
            let first = notifications.timeout_iter(left).next()?;
            // All that came say the same.
            let mut others = notifications.iter();
            while others.next()?.is_some() {}
            Ok(first.is_some())
        });
        match heard {
            Ok(Ok(heard)) => is_heard |= heard,
            // The next look connects anew.
            Ok(Err(_)) | Err(_) => {
                node.number.store(NOWHERE, Ordering::Relaxed);
                return;
            }
        }
    }
}

/// Waits until this instant, without the server.
fn pause(node: &Node, stopping: &AtomicBool, until: Instant) {
    while Instant::now() < until && !stopping.load(Ordering::Relaxed) {
        node.cancel_overdue();
        std::thread::sleep(WATCH_EVERY.min(until.saturating_duration_since(Instant::now())));
    }
}

/// One look: at the jobs, or at all there is. Returns when there is something to do next, if that is
/// known.
fn look(node: &Node, session: &mut Session, all: bool) -> Result<Option<Timestamp>, StoreError> {
    let now = node.clock.now();
    let more = all && upkeep(node, session, now, &mut TickReport::at(now))?;
    let next = next_wake(session, now)?.into_iter().chain(more.then_some(now)).min();
    let asked = match node.is_performing() {
        true => cancel::asked(session, node.number.load(Ordering::Relaxed))?,
        false => Vec::new(),
    };
    if !asked.is_empty() {
        node.interrupt(Some(&asked), Interrupted::Cancelled);
    }
    if node.look(session)? {
        node.pool.work_is_there();
    }
    Ok(next)
}

/// Fires, takes back and prunes. Returns whether there is more to prune.
pub(super) fn upkeep(
    node: &Node,
    session: &mut Session,
    now: Timestamp,
    report: &mut TickReport,
) -> Result<bool, StoreError> {
    let prepare = |job| node.registry.ready(job).map_err(|error| error.to_string());
    report.fired = schedules::fire_due(session, now, &prepare)?;
    report.fired.iter().map(event_of_slot).for_each(|kind| event::say(&kind));
    let rescued = rescue::rescue(session, now, &|worker| node.settings.backoff(worker))?;
    rescued.iter().for_each(event::say);
    report.rescued = rescued.len();
    if !node.prune_is_due(now, PRUNE_EVERY) {
        return Ok(false);
    }
    let (rows, more) = prune::prune(session, &node.settings.retention, now)?;
    report.pruned = rows;
    if more {
        node.pruned_at.store(i64::MIN, Ordering::Relaxed);
    }
    Ok(more)
}

/// Makes jobs available whose time has come. Returns when there is something to do next.
pub(super) fn next_wake(
    session: &mut Session,
    now: Timestamp,
) -> Result<Option<Timestamp>, StoreError> {
    let next_due = jobs::make_available(session, now)?;
    let next_fire = schedules::next_fire(session, now)?;
    Ok(next_due.into_iter().chain(next_fire).min())
}
