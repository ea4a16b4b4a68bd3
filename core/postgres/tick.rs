//! One pass, for tests and for apps with a loop of their own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::executor::perform_next;
use super::keeper::{next_wake, upkeep};
use super::node::Node;
use crate::clock::Shifted;
use crate::engine::TickReport;
use crate::store::StoreError;
use crate::time::Timestamp;

/// The most jobs one tick performs before it returns. The next tick goes on where it stopped.
const JOBS_MAX: usize = 1_000;

/// How long one tick goes on claiming jobs.
const TIME_MAX: Duration = Duration::from_secs(1);

/// Makes one pass at this instant.
pub(super) fn tick(node: &Arc<Node>, now: Timestamp) -> Result<TickReport, StoreError> {
    node.appear()?;
    let clock = Shifted::reading(&node.clock, now);
    let mut connection = node.connection();
    let mut report = TickReport::at(now);
    let more = upkeep(node, &mut connection.session, now, &mut report)?;
    next_wake(&mut connection.session, now)?;
    node.look(&mut connection.session)?;
    // From here on, because a slow server must not leave every tick without a job.
    let begun = Instant::now();
    let is_done = loop {
        if report.attempts.len() >= JOBS_MAX || begun.elapsed() >= TIME_MAX {
            break false;
        }
        let mut performed = perform_next(node, &mut connection, &clock)?;
        // A job may have enqueued others, of a kind that was not there before.
        if performed.is_none() && node.look(&mut connection.session)? {
            performed = perform_next(node, &mut connection, &clock)?;
        }
        match performed {
            Some(attempt) => report.attempts.push(attempt),
            None => break true,
        }
    };
    let next = next_wake(&mut connection.session, now)?;
    node.give_back(connection);
    report.next_wake_at = if is_done && !more { next } else { Some(now) };
    Ok(report)
}
