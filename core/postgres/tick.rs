//! One pass, for tests and for apps with a loop of their own.

use std::time::{Duration, Instant};

use super::executor::perform_next;
use super::keeper::upkeep;
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
pub(super) fn tick(node: &Node, now: Timestamp) -> Result<TickReport, StoreError> {
    let begun = Instant::now();
    node.appear()?;
    let clock = Shifted::reading(&node.clock, now);
    let mut connection = node.connection();
    let mut report = TickReport::at(now);
    let next = upkeep(node, &mut connection.session, now, &mut report)?;
    node.look(&mut connection.session)?;
    let mut is_done = false;
    while report.attempts.len() < JOBS_MAX && begun.elapsed() < TIME_MAX {
        match perform_next(node, &mut connection, &clock)? {
            Some(attempt) => report.attempts.push(attempt),
            None => {
                // A job may have enqueued others.
                let is_there = node.look(&mut connection.session)?;
                if is_done || !is_there {
                    is_done = true;
                    break;
                }
                is_done = true;
            }
        }
    }
    node.give_back(connection);
    report.next_wake_at = if is_done { next } else { Some(now) };
    Ok(report)
}
