//! One attempt at a job, from the claim to its recorded end.

mod failure;
mod preparation;

use std::sync::Arc;
use std::time::{Duration, Instant};

use verger_worker::{Args, JobInfo, code};

pub(crate) use self::failure::Failure;
#[cfg(feature = "postgres")]
pub(crate) use self::failure::Next;
pub(crate) use self::failure::transition;
pub(crate) use self::preparation::fit_args;
use self::preparation::prepare_with;
pub(crate) use self::preparation::{Preparation, prepare};
use super::executor::Executor;
use super::habits::Conduct;
use super::pending::PendingTransition;
use super::report::{AttemptOutcome, AttemptReport};
use super::shared::Engine;
use crate::clock::Clock;
use crate::failpoint::Failpoint;
use crate::queue::{AttemptLog, Claimed, Moved, ON_REQUEST, PerformedBy, Transition};
use crate::run::{
    AttemptError, Claim, Ended, Group, Interrupt, Interrupted, LEASE_MARGIN, RowChange, Run, Seat,
    Tally, Task,
};
use crate::store::{Books, StoreError, WorkConnection};
use crate::time::Timestamp;
use crate::worker::Registered;

/// Performs a claimed job and records how it ended.
///
/// # Errors
/// Only when no connection can be had. Then the job is left to its lease.
pub(super) fn attempt(
    inner: &Engine,
    executor: &mut Executor,
    clock: &Arc<dyn Clock>,
    claimed: Claimed,
    lease_until: Timestamp,
    seat: Seat,
) -> Result<AttemptReport, StoreError> {
    Failpoint::Claimed.reached();
    let begun = Instant::now();
    let Some(worker) = worker_of(inner, &claimed) else {
        // The worker was removed after the claim. The job waits for it, and its attempt is not
        // used.
        let (gone, now) = (gone(&claimed), clock.now());
        let released = (gone.into(), Some(Interrupted::Shutdown));
        let outcome = record(inner, executor, now, &claimed, released, (None, None));
        return Ok(report(claimed, begun, Tally::default(), outcome));
    };
    match prepare(&worker, &claimed) {
        Ok(prepared) => {
            attempt_prepared(inner, executor, clock, claimed, prepared, Some(lease_until), seat)
        }
        Err(failure) => {
            if !failure.says_nothing_of_its_code() {
                worker.note(false);
            }
            // A component that cannot be loaded has performed nothing.
            let by = worker.performed_by().ok().cloned();
            let outcome =
                record(inner, executor, clock.now(), &claimed, (failure, None), (by, None));
            Ok(report(claimed, begun, Tally::default(), outcome))
        }
    }
}

/// The worker of a job, if it is there to perform it.
pub(super) fn worker_of(inner: &Engine, claimed: &Claimed) -> Option<Arc<Registered>> {
    inner.registry.get(&claimed.worker).filter(|worker| !worker.waits())
}

/// As [`attempt`], for a job that was checked. `lease_until` is `None` for a job whose claim is
/// part of the run.
pub(super) fn attempt_prepared(
    inner: &Engine,
    executor: &mut Executor,
    clock: &Arc<dyn Clock>,
    claimed: Claimed,
    prepared: Preparation,
    lease_until: Option<Timestamp>,
    seat: Seat,
) -> Result<AttemptReport, StoreError> {
    let begun = Instant::now();
    let claim = Claim { id: claimed.id, token: claimed.token, attempt: claimed.attempt };
    let interrupt = Interrupt::default();
    let group = seat.group();
    let time = prepared.time();
    let connection = match prepared.connection(executor) {
        Ok(connection) => connection,
        Err(error) => {
            let (now, ended) = (clock.now(), (error.into(), None));
            let outcome = record(inner, executor, now, &claimed, ended, (None, None));
            return Ok(report(claimed, begun, Tally::default(), outcome));
        }
    };
    if lease_until.is_some_and(|until| until < clock.now() + time + LEASE_MARGIN / 2)
        && !renew(&connection, claim, clock, time)?
    {
        executor.give_back(Some(connection));
        return Ok(report(claimed, begun, Tally::default(), AttemptOutcome::Lost(stale())));
    }
    let mut next = match seat {
        Seat::Alone | Seat::First(_) => executor.next_claim(inner, clock),
        Seat::Member(..) => None,
    };
    let mut claim_next = |books: Books<'_>| {
        if let Some(next) = &mut next {
            next.claim(books);
        }
    };
    let _running = inner.running(claim.id, &interrupt);
    let task = prepared.task(&claimed, claim, clock.now(), &interrupt);
    let performer =
        Performer { inner, clock, prepared: &prepared, group: group.as_ref(), dry: false };
    let (run, ended) = performer.perform(executor, (connection, task), seat);
    let to = |ended| transition(ended, clock.now());
    let (mut tally, mut ended) = commit_or_roll_back(run.as_ref(), ended, to, &mut claim_next);
    let (run, repeated) = match run {
        Some(run) if run.is_to_be_repeated_alone() => {
            let (run, again) = performer.perform_again(executor, run);
            (tally, ended) = commit_or_roll_back(run.as_ref(), again, to, &mut claim_next);
            (run, true)
        }
        run => (run, false),
    };
    if let Some(run) = &run {
        let mut conduct = run.conduct();
        conduct.1 |= repeated;
        inner
            .habits
            .note(&claimed.worker, Conduct { worked: conduct.0, concerned_itself: conduct.1 });
    }
    let log = run.as_ref().filter(|_| ended.is_err()).and_then(Run::kept_lines);
    executor.give_back(run.and_then(Run::into_connection));
    if ended.is_ok()
        && let Some(next) = next
    {
        executor.follow(next);
    }
    if let (Err(_), Some(group)) = (&ended, &group) {
        // The job is claimed. How it ends is written in a transaction of its own.
        executor.commit(group)?;
    }
    let is_lost = group.is_some_and(|group| group.is_lost());
    let is_of_args = matches!(&ended, Err(failure) if failure.says_nothing_of_its_code());
    // A stop from outside says nothing of the worker's code, and neither do wrong args.
    if interrupt.raised().is_none() && !is_of_args && !is_lost {
        prepared.worker.note(ended.is_ok());
    }
    let outcome = match ended {
        Ok(outcome) => outcome,
        Err(Failure { error, .. }) if error.code == code::LEASE_LOST => AttemptOutcome::Lost(error),
        Err(Failure { error, .. }) if is_lost => AttemptOutcome::Lost(error),
        Err(failure) => {
            let (now, ended) = (clock.now(), (failure, interrupt.raised()));
            let by = Some(Arc::clone(&prepared.performed_by));
            record(inner, executor, now, &claimed, ended, (by, log))
        }
    };
    Ok(report(claimed, begun, tally, outcome))
}

fn report(
    claimed: Claimed,
    begun: Instant,
    tally: Tally,
    outcome: AttemptOutcome,
) -> AttemptReport {
    AttemptReport {
        job: claimed.id,
        worker: claimed.worker,
        queue: claimed.queue,
        attempt: claimed.attempt,
        schedule: claimed.schedule,
        wait: claimed.wait,
        outcome,
        elapsed: begun.elapsed(),
        rows_changed: tally.rows_changed,
        audited: tally.audited,
    }
}

fn gone(claimed: &Claimed) -> AttemptError {
    AttemptError::new("unknown-worker", format!("no worker is named `{}` any more", claimed.worker))
}

fn stale() -> AttemptError {
    AttemptError::new(code::LEASE_LOST, "the lease ran out before the job was begun")
}

fn renew(
    connection: &WorkConnection,
    claim: Claim,
    clock: &Arc<dyn Clock>,
    time: Duration,
) -> Result<bool, StoreError> {
    let now = clock.now();
    let renewed = connection.books(|books| {
        books.renew_lease(claim.id, claim.token, now, now + time + LEASE_MARGIN, None)
    })?;
    Ok(renewed.is_some())
}

/// What performs a worker.
struct Performer<'a> {
    inner: &'a Engine,
    clock: &'a Arc<dyn Clock>,
    prepared: &'a Preparation,
    group: Option<&'a Arc<Group>>,
    dry: bool,
}

type Ran = (Option<Run>, Result<Ended, AttemptError>);

impl Performer<'_> {
    /// Performs the worker. It performs it once more, by itself and with the write lock from the
    /// start, if what it had read was changed before it wrote, or if it cannot share a transaction.
    fn perform(
        &self,
        executor: &mut Executor,
        (connection, task): (WorkConnection, Task),
        seat: Seat,
    ) -> Ran {
        match self.begin(connection, task, false, seat) {
            (Some(run), _) if run.must_repeat() => self.perform_again(executor, run),
            ran => ran,
        }
    }

    fn perform_again(&self, executor: &mut Executor, run: Run) -> Ran {
        let (connection, task) = run.into_parts();
        executor.give_back(connection);
        if let Some(group) = self.group {
            let committed = executor.commit(group);
            if committed.is_err() || group.is_lost() {
                return (None, Err(AttemptError::new(code::CONFLICT, "it is performed again")));
            }
        }
        match self.prepared.connection(executor) {
            Ok(connection) => self.begin(connection, task, true, Seat::Alone),
            Err(error) => (None, Err(error)),
        }
    }

    fn begin(&self, connection: WorkConnection, task: Task, lock_first: bool, seat: Seat) -> Ran {
        let (services, clock) = (Arc::clone(&self.inner.services), Arc::clone(self.clock));
        let run = Run::new(connection, services, clock, task, self.dry, lock_first, seat);
        self.prepared.worker.perform(run, &self.prepared.args)
    }
}

/// Commits what the worker did, together with the job's transition and what else belongs in that
/// commit, or rolls it back.
fn commit_or_roll_back(
    run: Option<&Run>,
    ended: Result<Ended, AttemptError>,
    to: impl FnOnce(Ended) -> Result<(Transition, AttemptOutcome), Failure>,
    also: &mut dyn FnMut(Books<'_>),
) -> (Tally, Result<AttemptOutcome, Failure>) {
    let Some(run) = run else {
        let lost = || AttemptError::new("panic", "the attempt was lost to a panic");
        return (Tally::default(), Err(ended.err().unwrap_or_else(lost).into()));
    };
    let ended = ended
        .map_err(Failure::from)
        .and_then(to)
        .and_then(|(to, outcome)| Ok(reported(run.finish(Some(&to), also)?, outcome)));
    if ended.is_err() {
        run.abandon();
    }
    // A run that was stopped ends for that reason, whatever its worker made of it.
    let ended = ended.map_err(|failure| run.stopped().map_or(failure, Failure::from));
    (run.tally(), ended)
}

/// What is reported of a job that was to end with this outcome.
pub(crate) fn reported(moved: Moved, outcome: AttemptOutcome) -> AttemptOutcome {
    match (moved, outcome) {
        (Moved::Cancelled, AttemptOutcome::Cancelled(reason)) => AttemptOutcome::Cancelled(reason),
        (Moved::Cancelled, _) => AttemptOutcome::Cancelled(ON_REQUEST.to_string()),
        (_, outcome) => outcome,
    }
}

/// Records a failed attempt, in a transaction of its own.
fn record(
    inner: &Engine,
    executor: &mut Executor,
    now: Timestamp,
    claimed: &Claimed,
    (failure, interrupted): (Failure, Option<Interrupted>),
    (by, log): (Option<Arc<PerformedBy>>, Option<AttemptLog>),
) -> AttemptOutcome {
    let backoff = inner.backoff(&claimed.worker);
    let (to, outcome) = failure.transition(claimed, interrupted, backoff, now);
    let error = failure.error;
    let (id, token, attempt) = (claimed.id, claimed.token, claimed.attempt);
    let ending = PendingTransition { id, token, attempt, to, by, log };
    match inner.pending.write(executor, now, ending) {
        Ok(Moved::Stale) => AttemptOutcome::Lost(error),
        Ok(moved) => reported(moved, outcome),
        // The next tick tries to record it. If that never succeeds, the job is tried again when its
        // lease ends.
        Err(store) => AttemptOutcome::Lost(AttemptError::new(
            code::STORE,
            format!("{error}; and the failure could not be recorded: {store}"),
        )),
    }
}

/// What a worker that was called directly did.
pub(crate) struct Performed {
    pub(crate) ended: Ended,
    pub(crate) tally: Tally,
    pub(crate) changes: Vec<(String, [u64; 3])>,
    pub(crate) rows: Vec<RowChange>,
}

/// Performs a worker without a job. The sandbox and the rules for its transaction are the same.
/// With `dry`, everything is rolled back.
pub(crate) fn perform_directly(
    inner: &Engine,
    executor: &mut Executor,
    clock: &Arc<dyn Clock>,
    worker: &Arc<Registered>,
    args: &Args,
    dry: bool,
) -> Result<Result<Performed, AttemptError>, StoreError> {
    let prepared = match prepare_with(worker, args, None) {
        Ok(prepared) => prepared,
        Err(failure) => return Ok(Err(failure.error)),
    };
    let interrupt = Interrupt::default();
    let deadline = (clock.now() + prepared.grant.limits.time).as_millis();
    let info = JobInfo { id: None, attempt: 1, max_attempts: 1, deadline, scheduled: None };
    let task = prepared.task_of(None, info, &interrupt);
    let connection = match prepared.connection(executor) {
        Ok(connection) => connection,
        Err(error) => return Ok(Err(error)),
    };
    let performer = Performer { inner, clock, prepared: &prepared, group: None, dry };
    let (run, ended) = performer.perform(executor, (connection, task), Seat::Alone);
    let Some(run) = run else {
        let lost = || AttemptError::new("panic", "the attempt was lost to a panic");
        return Ok(Err(ended.err().unwrap_or_else(lost)));
    };
    let ended = ended
        .and_then(|ended| match ended {
            Ended::Discard(error) => Err(error),
            ended => run.finish(None, &mut |_| {}).map(|_| ended),
        })
        .map_err(|error| run.stopped().unwrap_or(error));
    let (tally, changes, rows) = (run.tally(), run.take_changes(), run.take_rows());
    executor.give_back(run.into_connection());
    Ok(ended.map(|ended| Performed { ended, tally, changes, rows }))
}
