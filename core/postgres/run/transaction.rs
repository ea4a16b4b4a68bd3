//! The one transaction of a run: begun at its first use, committed by a checkpoint or with the
//! job's own transition.

use std::time::{Duration, Instant};

use verger_worker::{HostError, code};

use super::{Connection, Run, State};
use crate::event::EventJob;
use crate::postgres::cancel;
use crate::postgres::failure::host_error;
use crate::postgres::guests::ENTER;
use crate::postgres::session::Session;
use crate::postgres::transition;
use crate::queue::{Moved, Transition};
use crate::run::{AttemptError, AuditTally, Claim, Interrupted, LEASE_MARGIN, NOTE, Tally};
use crate::store::{StoreError, StoreErrorKind};

/// Savepoints one run may have open.
const SAVEPOINTS_MAX: usize = 64;

/// How long after its deadline an attempt that asks for nothing keeps its transaction. It can commit
/// nothing any more.
const FROZEN: Duration = Duration::from_secs(1);

const BEGINNING: &str = "begin the transaction of the attempt";
const COMMITTING: &str = "commit the attempt";

/// What a savepoint of the worker goes back to.
pub(super) struct Savepoint {
    pub(super) number: u32,
    messages: usize,
    tally: Tally,
    audited: AuditTally,
}

impl Run {
    /// Begins the transaction, unless it is open.
    pub(super) fn begin(&self) -> Result<(), HostError> {
        self.alive()?;
        if self.state.get() == State::Open {
            return Ok(());
        }
        let left = self.task.stop_signal.deadline.saturating_duration_since(Instant::now());
        // One that is only spared may still note what it did. In milliseconds, and 0 would be no bound.
        let left = if self.task.stop_signal.is_spared() { NOTE } else { left };
        let left = left.as_millis().clamp(1, 2_000_000_000);
        // Of a process that stands still, and whose locks others wait for, the server makes an end.
        let idle = left + FROZEN.as_millis();
        let mut connection = self.connection.borrow_mut();
        let Connection { session, lane, guest } = &mut *connection;
        let tenant = guest.as_ref().map(|guest| guest.tenant(&self.task));
        let begun = lane.take(session).and_then(|()| {
            let sql = format!(
                "BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL statement_timeout = {left}; \
                 SET LOCAL idle_in_transaction_session_timeout = {idle}; SET LOCAL plan_cache_mode = auto"
            );
            session.begin(BEGINNING, &sql)?;
            let Some(tenant) = tenant else { return Ok(()) };
            let entered = session.execute(BEGINNING, ENTER, &[&tenant]);
            entered.map(drop).inspect_err(|_| session.roll_back())
        });
        drop(connection);
        begun.map_err(|error| self.failed_of_itself(&error))?;
        self.state.set(State::Open);
        Ok(())
    }

    /// Sets the savepoint that the next statement goes back to if it fails. A failed statement ends
    /// a transaction on this server, and a worker may go on after one.
    pub(super) fn guard(&self) -> Result<(), HostError> {
        let sql = match self.is_guarded.replace(true) {
            true => "RELEASE SAVEPOINT verger_guard; SAVEPOINT verger_guard",
            false => "SAVEPOINT verger_guard",
        };
        self.batch(sql)
    }

    /// Goes back to before the statement that failed.
    pub(super) fn go_back(&self) -> Result<(), HostError> {
        self.connection.borrow_mut().lane.forget_end();
        self.batch("ROLLBACK TO SAVEPOINT verger_guard")
    }

    /// Ends a snapshot in which nothing was written and nothing is being read.
    pub(super) fn end_snapshot(&self) {
        let is_idle = self.cursors.borrow().is_empty() && self.savepoints.borrow().is_empty();
        if self.state.get() == State::Open && !self.has_written.get() && is_idle {
            self.connection.borrow_mut().session.roll_back();
            self.ended();
        }
    }

    fn batch(&self, sql: &str) -> Result<(), HostError> {
        let done =
            self.connection.borrow_mut().session.noticing(|client| client.batch_execute(sql));
        match done {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                let error = self.interrupted_or(host_error(&error));
                self.lose(error.clone().into());
                Err(error)
            }
            Err(error) => Err(self.failed_of_itself(&error)),
        }
    }

    /// A statement of the engine's own failed, so the transaction is lost.
    pub(super) fn failed_of_itself(&self, error: &StoreError) -> HostError {
        if error.kind() == StoreErrorKind::Busy {
            self.has_conflict.set(true);
        }
        let code = match error.kind() {
            StoreErrorKind::Busy => code::CONFLICT,
            _ => code::STORE,
        };
        let error = self.interrupted_or(HostError::new(code, error.to_string()));
        self.lose(error.clone().into());
        error
    }

    /// The reason why the run was told to stop, if it was: its statement was cancelled then.
    pub(super) fn interrupted_or(&self, error: HostError) -> HostError {
        if self.task.stop_signal.is_over() { self.stop_now() } else { error }
    }

    pub(super) fn open_savepoint(&self) -> Result<u32, HostError> {
        self.begin()?;
        if self.savepoints.borrow().len() >= SAVEPOINTS_MAX {
            return Err(HostError::new(
                code::LIMIT,
                format!("{SAVEPOINTS_MAX} savepoints are open: end one before opening another"),
            ));
        }
        let number = self.next_number();
        let guard =
            if self.is_guarded.replace(false) { "RELEASE SAVEPOINT verger_guard; " } else { "" };
        self.batch(&format!("{guard}SAVEPOINT verger_{number}"))?;
        let (messages, tally) = (self.messages.borrow().len(), self.uncommitted.get());
        let audited = self.audited.get();
        self.savepoints.borrow_mut().push(Savepoint { number, messages, tally, audited });
        Ok(number)
    }

    pub(super) fn release_savepoint(&self, number: u32) -> Result<(), HostError> {
        self.end_savepoint(number, &format!("RELEASE SAVEPOINT verger_{number}")).map(drop)
    }

    pub(super) fn roll_savepoint_back(&self, number: u32) -> Result<(), HostError> {
        // Going back keeps the savepoint itself open.
        let sql =
            format!("ROLLBACK TO SAVEPOINT verger_{number}; RELEASE SAVEPOINT verger_{number}");
        let savepoint = self.end_savepoint(number, &sql)?;
        self.connection.borrow_mut().lane.forget_end();
        self.messages.borrow_mut().truncate(savepoint.messages);
        self.uncommitted.set(savepoint.tally);
        self.audited.set(savepoint.audited);
        // A cursor that was opened since is closed by the server.
        self.cursors.borrow_mut().retain(|cursor, _| *cursor < number);
        Ok(())
    }

    fn end_savepoint(&self, number: u32, sql: &str) -> Result<Savepoint, HostError> {
        self.alive()?;
        let mut savepoints = self.savepoints.borrow_mut();
        let Some(place) = savepoints.iter().position(|savepoint| savepoint.number == number) else {
            return Err(HostError::new(code::CLOSED, "the savepoint is closed"));
        };
        // Those within it end with it.
        let ended = savepoints.drain(place..).next();
        drop(savepoints);
        self.is_guarded.set(false);
        self.batch(sql)?;
        ended.ok_or_else(|| HostError::new(code::CLOSED, "the savepoint is closed"))
    }

    /// Commits what was done so far, and renews the lease.
    pub(super) fn checkpoint_now(&self) -> Result<(), HostError> {
        self.alive()?;
        let Some(claim) = self.task.claim else { return Ok(()) };
        let was_open = self.state.get() == State::Open;
        self.begin()?;
        let now = self.clock.now();
        let left = self.task.stop_signal.deadline.saturating_duration_since(Instant::now());
        let until = now + left + LEASE_MARGIN;
        let attempt = (claim.id, claim.token, claim.attempt);
        let progress = self.progress.get();
        let renewed =
            self.engine(|session| transition::renew(session, attempt, now, until, progress));
        match renewed.map_err(|error| self.failed_of_itself(&error))? {
            None => {
                let error = lease_lost();
                self.lose(error.clone().into());
                return Err(error);
            }
            Some(true) => self.task.interrupt.raise(Interrupted::Cancelled),
            Some(false) => {}
        }
        // A commit cannot be undone any more, and a message that was delivered neither. A query may
        // have written too, by a function.
        let has_effects = was_open || self.messages.borrow().len() > 0;
        self.commit().map_err(|error| self.failed_of_itself(&error))?;
        self.has_effects.set(self.has_effects.get() || has_effects);
        // What was committed stays, and a job that is cancelled goes no further.
        if self.task.stop_signal.is_over() { Err(self.stop_now()) } else { Ok(()) }
    }

    /// Ends the attempt: what the worker did and the job's transition commit together, or neither.
    /// Returns what became of the job.
    pub(in crate::postgres) fn finish(&self, to: &Transition) -> Result<Moved, AttemptError> {
        self.alive()?;
        let Some(claim) = self.task.claim else {
            self.commit().map_err(|error| self.failed_of_itself(&error))?;
            return Ok(Moved::There);
        };
        // Nothing was done in the database: a statement that is a transaction of its own is enough.
        let is_alone = self.state.get() == State::Idle
            && self.kept.borrow().is_empty()
            && matches!(to, Transition::Complete(_));
        if !is_alone {
            self.begin()?;
        }
        let recorded = self.record(to, (claim.id, claim.token, claim.attempt));
        let (moved, transaction) = match recorded {
            Ok(recorded) => recorded,
            Err(error) => return Err(self.failed_of_itself(&error).into()),
        };
        if moved == Moved::Stale {
            let error: AttemptError = lease_lost().into();
            self.lose(error.clone());
            return Err(error);
        }
        match self.commit() {
            Ok(()) => Ok(self.cancelled_meanwhile(to, claim).unwrap_or(moved)),
            Err(error) if error.kind() == StoreErrorKind::Gone => self
                .ask_after(transaction, moved)
                .ok_or_else(|| self.failed_of_itself(&error).into()),
            Err(error) => Err(self.failed_of_itself(&error).into()),
        }
    }

    /// A job that was put off is cancelled after all, if someone asked for that while its attempt
    /// could not see it. A snapshot is older than that.
    fn cancelled_meanwhile(&self, to: &Transition, claim: Claim) -> Option<Moved> {
        if matches!(to, Transition::Complete(_) | Transition::Cancel(_)) {
            return None;
        }
        let now = self.clock.now();
        let settled = self.engine(|session| cancel::settle(session, (claim.id, claim.token), now));
        match settled {
            Ok(is_cancelled) => is_cancelled.then_some(Moved::Cancelled),
            Err(error) => {
                tracing::error!(job = claim.id.number(), %error, "a request to cancel is lost");
                None
            }
        }
    }

    /// Writes the transition, and the log that goes with it. Returns what became of the job, and
    /// the number of the transaction.
    fn record(
        &self,
        to: &Transition,
        attempt: transition::Attempt,
    ) -> Result<(Moved, Option<String>), StoreError> {
        let (now, by) = (self.clock.now(), &*self.task.performed_by);
        let log = self.kept.borrow().log();
        self.engine(|session| {
            if let Some(log) = &log {
                transition::keep_log(session, (attempt.0, attempt.2), now, log)?;
            }
            match to {
                Transition::Complete(result) => {
                    let job = EventJob {
                        id: attempt.0,
                        worker: self.task.worker.clone(),
                        queue: self.task.queue.clone(),
                        attempt: attempt.2,
                        schedule: self.task.info.scheduled.as_ref().map(|of| of.schedule.clone()),
                    };
                    let done =
                        transition::complete(session, attempt, now, result.as_deref(), (by, job))?;
                    let moved = if done.is_some() { Moved::There } else { Moved::Stale };
                    Ok((moved, done))
                }
                to => {
                    let (moved, _) = transition::leave(session, attempt, now, to, Some(by))?;
                    Ok((moved, None))
                }
            }
        })
    }

    /// The connection was lost while the commit was on its way. The server knows what became of it.
    fn ask_after(&self, transaction: Option<String>, moved: Moved) -> Option<Moved> {
        let transaction = transaction?;
        let mut connection = self.connection.borrow_mut();
        // The server may be starting again.
        for wait in [0, 100, 500, 2_000] {
            std::thread::sleep(Duration::from_millis(wait));
            let row = connection.session.first(
                COMMITTING,
                "SELECT pg_xact_status($1::text::xid8)",
                &[&transaction],
            );
            if let Ok(row) = row {
                let status: Option<String> = row.and_then(|row| row.get(0));
                let is_committed = status.as_deref() == Some("committed");
                drop(connection);
                if is_committed {
                    self.settled();
                }
                return is_committed.then_some(moved);
            }
        }
        None
    }

    fn commit(&self) -> Result<(), StoreError> {
        if self.state.get() == State::Open {
            let mut connection = self.connection.borrow_mut();
            let Connection { session, lane, .. } = &mut *connection;
            let ended = match lane.seal(session) {
                Ok(()) => session.end(COMMITTING, "COMMIT"),
                Err(error) => {
                    session.roll_back();
                    Err(error)
                }
            };
            lane.forget();
            drop(connection);
            self.ended();
            ended?;
        }
        self.settled();
        Ok(())
    }

    /// Counts and tells what was committed.
    fn settled(&self) {
        let (mut tally, new) = (self.tally.get(), self.uncommitted.take());
        tally.rows_changed += new.rows_changed;
        tally.audited += new.audited;
        self.tally.set(tally);
        let mut audited = self.audited.get();
        audited.keep();
        self.audited.set(audited);
        self.node.bus.deliver(self.messages.borrow_mut().take());
        let kinds = self.kinds.take();
        if !kinds.is_empty() {
            self.node.jobs_wait(&mut self.connection.borrow_mut().session, kinds);
        }
    }

    /// Forgets what belongs to a transaction.
    fn ended(&self) {
        self.state.set(State::Idle);
        self.is_guarded.set(false);
        self.has_written.set(false);
        self.cursors.borrow_mut().clear();
        self.savepoints.borrow_mut().clear();
    }

    /// Rolls back what is open.
    pub(super) fn abandon(&self) {
        if self.state.get() == State::Open {
            let mut connection = self.connection.borrow_mut();
            connection.session.roll_back();
            connection.lane.forget();
            drop(connection);
            self.ended();
        }
        self.uncommitted.take();
        self.messages.borrow_mut().take();
        self.kinds.take();
        let mut audited = self.audited.get();
        audited.forget();
        self.audited.set(audited);
    }

    /// Does this with the connection, as the engine.
    pub(super) fn engine<T>(
        &self,
        work: impl FnOnce(&mut Session) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        work(&mut self.connection.borrow_mut().session)
    }
}

fn lease_lost() -> HostError {
    HostError::new(
        code::LEASE_LOST,
        "another claim has taken the job, or its lease is over: nothing of this attempt counts",
    )
}
