//! The claim of the next job, made in the commit that ends the one before it.
//!
//! A job with a transaction of its own would write twice: its claim and its end. If another job
//! follows at once, the end and the next claim share one commit. Nothing can come between the two
//! and put the next job off, unless someone is told of the end. In that case the next job is
//! claimed later.

use std::sync::Arc;

use super::performing::claim_order;
use super::shared::Engine;
use crate::clock::Clock;
use crate::queue::{Claimed, Lease};
use crate::store::Books;

/// A run of jobs that one executor performs, one after the other.
pub(super) struct Turn {
    /// The queue they are of. `None` for all queues.
    pub(super) queue: Option<String>,
    /// Whether another job may follow, as things are now.
    pub(super) goes_on: Box<dyn Fn() -> bool + Send + Sync>,
}

/// A job that is claimed, and its lease.
pub(crate) struct Following {
    pub(super) job: Claimed,
    pub(super) lease: Lease,
}

/// Claims the job that follows.
pub(super) struct NextClaim<'a> {
    inner: &'a Engine,
    clock: &'a Arc<dyn Clock>,
    turn: Arc<Turn>,
    holder: String,
    following: Option<Following>,
}

impl<'a> NextClaim<'a> {
    pub(super) fn new(
        inner: &'a Engine,
        clock: &'a Arc<dyn Clock>,
        turn: Arc<Turn>,
        holder: String,
    ) -> Self {
        Self { inner, clock, turn, holder, following: None }
    }

    /// Claims it inside the transaction that ends the job before. That transaction commits whether
    /// or not this succeeds.
    pub(super) fn claim(&mut self, books: Books<'_>) {
        // An earlier claim was undone with its transaction.
        self.following = None;
        // Whoever is told of an end may pause the queue, or cancel what follows.
        if self.inner.services.hub.is_heard() || !(self.turn.goes_on)() {
            return;
        }
        let now = self.clock.now();
        let lease = Lease { holder: self.holder.clone(), until: now + self.inner.services.lease };
        let claimed = claim_order(self.inner, &lease, now, |order| {
            books.claim_now(self.turn.queue.as_deref(), order)
        });
        match claimed {
            Ok(claimed) => {
                let job = claimed.into_iter().next();
                self.following = job.map(|job| Following { job, lease });
            }
            Err(error) => tracing::debug!(%error, "the next job is claimed later"),
        }
    }

    /// What was claimed, once it is committed.
    pub(super) fn into_following(self) -> Option<Following> {
        self.following
    }
}
