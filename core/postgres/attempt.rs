//! One attempt at a job, from the claim to its recorded end.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use super::guests::{Component, Guests};
use super::node::Node;
use super::run::{Connection, Run};
use super::transition;
use crate::clock::Clock;
use crate::engine::{
    AttemptOutcome, AttemptReport, Failure, Next, Preparation, count, in_span, prepare, reported,
    say_ended, span, transition as ended_as,
};
use crate::queue::{AttemptLog, Claimed, Moved, PerformedBy};
use crate::run::{AttemptError, Claim, Interrupt, Tally};
use crate::store::StoreError;

/// How often an attempt is performed again at once because another transaction came in between.
const REPEATS_MAX: u32 = 3;

/// Performs a claimed job and records how it ended.
pub(super) fn perform(
    node: &Arc<Node>,
    connection: &mut Connection,
    clock: &Arc<dyn Clock>,
    claimed: &Claimed,
) -> AttemptReport {
    let begun = Instant::now();
    node.counters.started(&claimed.worker, claimed.wait);
    let span = span(claimed);
    let performed = in_span(&span, || {
        let (tally, outcome) = attempt(node, connection, clock, claimed);
        Ok::<_, Infallible>(report(claimed, begun, tally, outcome))
    });
    let report = match performed {
        Ok(report) => report,
        Err(never) => match never {},
    };
    count(&node.counters, &report);
    say_ended(&report);
    report
}

fn report(
    claimed: &Claimed,
    begun: Instant,
    tally: Tally,
    outcome: AttemptOutcome,
) -> AttemptReport {
    AttemptReport {
        job: claimed.id,
        worker: claimed.worker.clone(),
        queue: claimed.queue.clone(),
        attempt: claimed.attempt,
        schedule: claimed.schedule.clone(),
        wait: claimed.wait,
        outcome,
        elapsed: begun.elapsed(),
        rows_changed: tally.rows_changed,
        audited: tally.audited,
    }
}

fn attempt(
    node: &Arc<Node>,
    connection: &mut Connection,
    clock: &Arc<dyn Clock>,
    claimed: &Claimed,
) -> (Tally, AttemptOutcome) {
    let interrupt = Interrupt::default();
    let mut log = None;
    let nothing = Tally::default();
    let Some(worker) = node.registry.get(&claimed.worker) else {
        let gone = AttemptError::new("unknown-worker", "no worker of that name is here");
        return (
            nothing,
            record(node, connection, clock, claimed, gone.into(), (&interrupt, None, log)),
        );
    };
    let prepared = match prepare(&worker, claimed) {
        Ok(prepared) => prepared,
        Err(failure) => {
            let by = worker.performed_by().ok().map(Arc::clone);
            let outcome = record(node, connection, clock, claimed, failure, (&interrupt, by, log));
            return (nothing, outcome);
        }
    };
    let by = Some(Arc::clone(&prepared.performed_by));
    let claim = Claim { id: claimed.id, token: claimed.token, attempt: claimed.attempt };
    let own = match own_connection(node, connection, &prepared) {
        Ok(own) => own,
        Err(failure) => {
            let outcome = record(node, connection, clock, claimed, failure, (&interrupt, by, log));
            return (nothing, outcome);
        }
    };
    let (mut used, guests) = match own {
        Some((own, guests)) => (own, Some(guests)),
        None => (std::mem::replace(connection, Connection::new(&node.address)), None),
    };
    let cancel = match used.session.client() {
        Ok(client) => client.cancel_token(),
        // The lease, or the lock of this node, tells the others.
        Err(error) => return (nothing, AttemptOutcome::Lost(lost(&error))),
    };
    let mut repeats = 0;
    let mut task = prepared.task(claimed, claim, clock.now(), &interrupt);
    let _running = node.begins(claim, &interrupt, task.stop_signal.clone(), cancel);
    loop {
        let run = Run::new(used, Arc::clone(node), Arc::clone(clock), task);
        let (run, ended) = worker.perform(run, &prepared.args);
        let Some(run) = run else {
            // A panic took it, and its connection. The server rolls back.
            let failure = ended.err().map_or_else(|| taken_away().into(), Failure::from);
            let outcome = record(node, connection, clock, claimed, failure, (&interrupt, by, log));
            return (nothing, outcome);
        };
        let ended = ended
            .map_err(Failure::from)
            .and_then(|ended| ended_as(ended, clock.now()))
            .and_then(|(to, outcome)| Ok(reported(run.finish(&to)?, outcome)));
        let (tally, stopped, repeat) = (run.tally(), run.stopped(), run.is_to_be_repeated());
        log = run.kept_lines();
        (used, task) = run.into_parts();
        let failure = match ended {
            Ok(outcome) => {
                put_back(connection, used, guests);
                return (tally, outcome);
            }
            // The time granted is that of all together.
            Err(_) if repeat && repeats < REPEATS_MAX && !task.stop_signal.is_over() => {
                repeats += 1;
                continue;
            }
            // A run that was stopped ends for that reason, whatever its worker made of it.
            Err(failure) => stopped.map_or(failure, Failure::from),
        };
        put_back(connection, used, guests);
        if failure.error.code == verger_worker::code::LEASE_LOST {
            return (tally, AttemptOutcome::Lost(failure.error));
        }
        let outcome = record(node, connection, clock, claimed, failure, (&interrupt, by, log));
        return (tally, outcome);
    }
}

/// The connection of a component, which has a role of its own, and where that goes afterwards.
/// `None` for the app's own code.
fn own_connection<'n>(
    node: &'n Node,
    connection: &mut Connection,
    prepared: &Preparation,
) -> Result<Option<(Connection, &'n Guests)>, Failure> {
    if !prepared.worker.is_component() {
        return Ok(None);
    }
    // Never with the rights of the node itself.
    let guests = node.guests.get().ok_or_else(|| {
        AttemptError::new(
            verger_worker::code::DENIED,
            "no component was let in when this node opened",
        )
    })?;
    let component = Component {
        worker: &prepared.name,
        is_confined: prepared.is_confined(),
        knows_both: prepared.worker.knows_both_stores(),
    };
    let own = guests.connection(&node.address, component, &mut connection.session);
    // A role that was taken away, or a server that has no room, is not the job's fault.
    own.map(|own| Some((own, guests)))
        .map_err(|error| Failure { error: lost(&error), next: Next::Defer })
}

/// Gives a component's connection back, or puts the executor's own where it was.
fn put_back(connection: &mut Connection, used: Connection, guests: Option<&Guests>) {
    match guests {
        Some(guests) => guests.give_back(used),
        None => *connection = used,
    }
}

fn taken_away() -> AttemptError {
    AttemptError::new("panic", "a host function panicked while the worker called it")
}

type Told<'a> = (&'a Interrupt, Option<Arc<PerformedBy>>, Option<AttemptLog>);

/// Records a failed attempt, in a transaction of its own. If the connection was what failed, on a
/// new one.
fn record(
    node: &Node,
    connection: &mut Connection,
    clock: &Arc<dyn Clock>,
    claimed: &Claimed,
    failure: Failure,
    (interrupt, by, log): Told<'_>,
) -> AttemptOutcome {
    const RECORDING: &str = "record the end of the attempt";
    let now = clock.now();
    let backoff = node.settings.backoff(&claimed.worker);
    let (to, outcome) = failure.transition(claimed, interrupt.raised(), backoff, now);
    let attempt = (claimed.id, claimed.token, claimed.attempt);
    let mut write = || {
        connection.session.transaction(RECORDING, |session| {
            if let Some(log) = &log {
                transition::keep_log(session, (claimed.id, claimed.attempt), now, log)?;
            }
            transition::leave(session, attempt, now, &to, by.as_deref())
        })
    };
    match write().or_else(|_| write()) {
        Ok((Moved::Stale, _)) => AttemptOutcome::Lost(failure.error),
        Ok((moved, _)) => reported(moved, outcome),
        Err(error) => AttemptOutcome::Lost(AttemptError::new(
            verger_worker::code::STORE,
            format!("{}; and the failure could not be recorded: {error}", failure.error),
        )),
    }
}

fn lost(error: &StoreError) -> AttemptError {
    AttemptError::new(verger_worker::code::STORE, error.to_string())
}
