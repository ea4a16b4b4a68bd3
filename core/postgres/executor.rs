//! Claiming the next job and performing it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::attempt;
use super::claim::{Holder, claim, claim_within};
use super::kinds::Kind;
use super::node::{NOWHERE, Node, Seat};
use super::run::Connection;
use super::session::Session;
use crate::clock::Clock;
use crate::engine::AttemptReport;
use crate::queue::Claimed;
use crate::run::LEASE_MARGIN;
use crate::store::StoreError;

/// Performs the first due job of those that can be claimed. `None` when there is none.
pub(super) fn perform_next(
    node: &Arc<Node>,
    connection: &mut Connection,
    clock: &Arc<dyn Clock>,
) -> Result<Option<AttemptReport>, StoreError> {
    let Some((claimed, _seat)) = claim_next(node, connection, clock)? else { return Ok(None) };
    // There may be more, for another thread.
    if node.has_claimable() {
        node.pool.work_is_there();
    }
    Ok(Some(attempt::perform(node, connection, clock, &claimed)))
}

/// Claims a job, and takes its place in the queue in this process. Threads take turns at it, so that
/// the places are counted right and the order is kept. Whoever has the turn claims for those that
/// wait for it, too: a turn lasts as long as the server takes to answer, and otherwise all threads
/// together would claim no faster than one.
fn claim_next<'n>(
    node: &'n Node,
    connection: &mut Connection,
    clock: &Arc<dyn Clock>,
) -> Result<Option<(Claimed, Seat<'n>)>, StoreError> {
    let mut turn = node.claims.take_turn();
    if let Some(claimed) = turn.claimed_before() {
        let seat = node.seat(&claimed.queue);
        return Ok(Some((claimed, seat)));
    }
    let kinds = node.claimable();
    let number = node.number.load(Ordering::Relaxed);
    if number == NOWHERE {
        // The next look of the keeper wakes whoever performs.
        return Ok(None);
    }
    let now = clock.now();
    let longest = kinds.keys().filter_map(|(_, worker)| node.registry.get(worker));
    let longest = longest.map(|worker| worker.grant.time()).max().unwrap_or_default();
    let holder = Holder { node: number, now, until: now + longest + LEASE_MARGIN };
    let most = turn.wanted().min(node.least_room(&kinds));
    let session = &mut connection.session;
    // Neither kind of queue waits for the other to be empty.
    let bounded_first = node.turn.fetch_xor(true, Ordering::Relaxed);
    let mut claimed = Vec::new();
    if bounded_first {
        claimed.extend(claim_bounded(node, session, &kinds, holder)?);
    }
    if claimed.is_empty() {
        claimed = claim_plain(node, session, &kinds, holder, most)?;
    }
    if claimed.is_empty() && !bounded_first {
        claimed.extend(claim_bounded(node, session, &kinds, holder)?);
    }
    for claimed in &claimed {
        node.enter(&claimed.queue);
    }
    let mut claimed = claimed.into_iter();
    let first = claimed.next().map(|claimed| {
        let seat = node.seat(&claimed.queue);
        (claimed, seat)
    });
    turn.leave_to_others(claimed);
    Ok(first)
}

/// Claims from the queues that no bound for all nodes holds.
fn claim_plain(
    node: &Node,
    session: &mut Session,
    kinds: &BTreeMap<Kind, u32>,
    holder: Holder,
    most: usize,
) -> Result<Vec<Claimed>, StoreError> {
    let is_plain = |queue: &str| node.settings.queues.most_in_file(queue).is_none();
    claim(session, kinds.iter().filter(|((queue, _), _)| is_plain(queue)), holder, most)
}

/// Claims from the first queue that has room in all nodes together.
fn claim_bounded(
    node: &Node,
    session: &mut Session,
    kinds: &BTreeMap<Kind, u32>,
    holder: Holder,
) -> Result<Option<Claimed>, StoreError> {
    let queues: BTreeSet<&String> = kinds.keys().map(|(queue, _)| queue).collect();
    for queue in queues {
        let Some(most) = node.settings.queues.most_in_file(queue) else { continue };
        let of_queue = kinds.iter().filter(|((name, _), _)| name == queue);
        let claimed = claim_within(session, queue, of_queue, most, holder)?;
        if claimed.is_some() {
            return Ok(claimed);
        }
    }
    Ok(None)
}
