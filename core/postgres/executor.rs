//! Claiming the next job and performing it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::attempt;
use super::claim::{Holder, claim, claim_within};
use super::node::Node;
use super::run::Connection;
use crate::clock::Clock;
use crate::engine::AttemptReport;
use crate::mutex::lock;
use crate::queue::Claimed;
use crate::run::LEASE_MARGIN;
use crate::store::StoreError;

/// Performs the first due job of those that can be claimed. `None` when there is none.
pub(super) fn perform_next(
    node: &Node,
    connection: &mut Connection,
    clock: &Arc<dyn Clock>,
) -> Result<Option<AttemptReport>, StoreError> {
    let Some(claimed) = claim_next(node, connection, clock)? else { return Ok(None) };
    // There may be more, for another thread.
    if !node.claimable().is_empty() {
        node.pool.work_is_there();
    }
    let report = attempt::perform(node, connection, clock, &claimed);
    node.leave(&claimed.queue);
    Ok(Some(report))
}

/// Claims a job, and takes its place in the queue in this process. Threads take turns at it, so that
/// the places are counted right and the order is kept.
fn claim_next(
    node: &Node,
    connection: &mut Connection,
    clock: &Arc<dyn Clock>,
) -> Result<Option<Claimed>, StoreError> {
    let _turn = lock(&node.claiming);
    let kinds = node.claimable();
    let is_bounded = |queue: &str| node.settings.queues.most_in_file(queue);
    let now = clock.now();
    let longest = kinds.keys().filter_map(|(_, worker)| node.registry.get(worker));
    let longest = longest.map(|worker| worker.grant.time()).max().unwrap_or_default();
    let holder = Holder {
        node: node.number.load(Ordering::Relaxed),
        now,
        until: now + longest + LEASE_MARGIN,
    };
    let session = &mut connection.session;
    let plain = kinds.iter().filter(|((queue, _), _)| is_bounded(queue).is_none());
    let mut claimed = claim(session, plain, holder)?;
    if claimed.is_none() {
        let mut bounded: Vec<(&str, usize)> = kinds
            .keys()
            .filter_map(|(queue, _)| is_bounded(queue).map(|most| (queue.as_str(), most)))
            .collect();
        bounded.dedup();
        for (queue, most) in bounded {
            let of_queue = kinds.iter().filter(|((name, _), _)| name == queue);
            claimed = claim_within(session, queue, of_queue, most, holder)?;
            if claimed.is_some() {
                break;
            }
        }
    }
    if let Some(claimed) = &claimed {
        node.enter(&claimed.queue);
    }
    Ok(claimed)
}
