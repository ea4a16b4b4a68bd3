//! What a run enqueues, keeps and writes to the audit log, in its own transaction.

use std::time::Instant;

use verger_worker::{AuditEvent, Enqueued, HostError, NewJob as Asked, Scope, Value, code};

use super::{Connection, Run};
use crate::capability::{CapabilityCall, Speed};
use crate::postgres::jobs;
use crate::postgres::state::{self, Place};
use crate::queue::Ready;
use crate::run::{
    Audited, NAME_MAX_BYTES, NOTE, answer, at_place, check_asked, check_each, check_event,
    check_key, check_request, checkpoint_first, parse_request, registered, size, too_much_state,
};
use crate::store::StoreErrorKind;
use crate::text::beginning;

impl Run {
    /// Inserts jobs, all or none.
    pub(super) fn enqueue_jobs(&self, asked: &[Asked]) -> Result<Vec<Enqueued>, HostError> {
        self.alive()?;
        let bytes = asked.iter().map(Asked::bytes).fold(0, usize::saturating_add);
        self.enqueued.get().has_room(asked.len(), bytes, &self.task.grant.limits)?;
        let checked = asked.iter().map(|job| (self.check_job(job), job.worker().to_string()));
        self.insert_jobs(checked, bytes)
    }

    pub(super) fn check_job(&self, job: &Asked) -> Result<Ready, HostError> {
        check_asked(&self.task, &*self.node, job, self.clock.now())
    }

    /// Inserts jobs once all of them are checked, each with the name of its worker.
    pub(super) fn insert_jobs(
        &self,
        checked: impl Iterator<Item = (Result<Ready, HostError>, String)>,
        bytes: usize,
    ) -> Result<Vec<Enqueued>, HostError> {
        let now = self.clock.now();
        let ready = checked.enumerate().map(|(place, (checked, worker))| {
            checked.map_err(|error| at_place(error, place, &worker))
        });
        let ready = ready.collect::<Result<Vec<_>, HostError>>()?;
        if ready.is_empty() {
            return Ok(Vec::new());
        }
        self.begin()?;
        self.guard()?;
        let inserted = self.engine(|session| {
            ready.iter().map(|job| jobs::insert(session, job, now)).collect::<Result<Vec<_>, _>>()
        });
        let enqueued = match inserted {
            Ok(enqueued) => enqueued,
            Err(error) if error.kind() == StoreErrorKind::Constraint => {
                self.go_back()?;
                return Err(HostError::new(code::INVALID, error.to_string()));
            }
            Err(error) => return Err(self.failed_of_itself(&error)),
        };
        self.has_written.set(true);
        let kinds = ready.iter().map(|job| (job.queue.clone(), job.worker.clone()));
        self.kinds.borrow_mut().extend(kinds);
        let mut tally = self.enqueued.get();
        tally.add(ready.len(), bytes);
        self.enqueued.set(tally);
        Ok(enqueued
            .into_iter()
            .map(|job| Enqueued { id: job.id.number().unsigned_abs(), existing: job.existing })
            .collect())
    }

    pub(super) fn log_events(&self, events: &[AuditEvent]) -> Result<Vec<u64>, HostError> {
        self.alive()?;
        let new = events.iter().fold(Audited::default(), |all, event| all.and(Audited::of(event)));
        self.audited.get().has_room(new, &self.task.grant.limits)?;
        check_each(events, |event| self.check_event(event))?;
        self.append(events.iter(), new)
    }

    pub(super) fn log_events_safely(&self, events: &[AuditEvent]) -> u32 {
        let (mut good, mut new) = (Vec::new(), Audited::default());
        for event in events {
            let with = new.and(Audited::of(event));
            let room = self.audited.get().has_room(with, &self.task.grant.limits);
            match room.and_then(|()| self.check_event(event)) {
                Ok(()) => {
                    good.push(event);
                    new = with;
                }
                Err(why) => tracing::warn!(
                    target: "verger::run::audit",
                    worker = self.task.worker,
                    reason = %crate::text::one_line(&why.message),
                    "audit event dropped"
                ),
            }
        }
        let written = self.append(good.into_iter(), new);
        written.map_or(0, |ids| u32::try_from(ids.len()).unwrap_or(u32::MAX))
    }

    fn check_event(&self, event: &AuditEvent) -> Result<(), HostError> {
        check_event(event, &self.task.stamp)?;
        let texts = [
            Some(&event.action),
            event.organization_id.as_ref(),
            event.subject_type.as_ref(),
            event.subject_id.as_ref(),
            event.before.as_ref(),
            event.after.as_ref(),
            event.metadata.as_ref(),
        ];
        if texts.into_iter().flatten().any(|text| text.contains('\0')) {
            return Err(HostError::new(
                code::INVALID,
                "a text of the event has a character of the number 0, which this database cannot keep",
            ));
        }
        Ok(())
    }

    fn append<'a>(
        &self,
        events: impl ExactSizeIterator<Item = &'a AuditEvent>,
        new: Audited,
    ) -> Result<Vec<u64>, HostError> {
        self.alive()?;
        if events.len() == 0 {
            return Ok(Vec::new());
        }
        self.begin()?;
        let now = self.clock.now();
        let mut connection = self.connection.borrow_mut();
        let Connection { session, lane, .. } = &mut *connection;
        let written = lane.append(session, now, &self.task.stamp, events);
        drop(connection);
        let ids = written.map_err(|error| self.failed_of_itself(&error))?;
        self.has_written.set(true);
        let mut tally = self.audited.get();
        tally.add(new);
        self.audited.set(tally);
        self.count(|tally| tally.audited += ids.len() as u64);
        Ok(ids.into_iter().map(|id| u64::try_from(id).unwrap_or_default()).collect())
    }

    pub(super) fn get_state(&self, key: &str) -> Result<Value, HostError> {
        check_key(key)?;
        self.begin()?;
        self.engine(|session| state::get(session, self.place(key)))
            .map_err(|error| self.failed_of_itself(&error))
    }

    pub(super) fn keep_state(&self, key: &str, value: &Value) -> Result<(), HostError> {
        check_key(key)?;
        let most = self.task.grant.limits.state_bytes;
        if key.len().saturating_add(size(value)) > most {
            return Err(too_much_state(most));
        }
        self.begin()?;
        let now = self.clock.now();
        let kept = self.engine(|session| state::keep(session, self.place(key), value, most, now));
        match kept.map_err(|error| self.failed_of_itself(&error))? {
            true => {
                self.has_written.set(true);
                Ok(())
            }
            false => Err(too_much_state(most)),
        }
    }

    fn place<'a>(&'a self, key: &'a str) -> Place<'a> {
        let organization = self.task.scope.as_ref().and_then(Scope::organization_id);
        Place { worker: &self.task.worker, organization, key }
    }

    pub(super) fn call_capability(&self, name: &str, request: &str) -> Result<String, HostError> {
        self.alive()?;
        if self.task.stop_signal.is_spared() {
            return Err(self.stop_now());
        }
        let name = beginning(name, NAME_MAX_BYTES);
        let denied = |why| HostError::new(code::DENIED, why);
        self.task.grant.check_capability(name).map_err(denied)?;
        let most = self.task.grant.limits.call_bytes;
        check_request(name, request, most)?;
        let (function, speed) = registered(&self.node.capabilities, name)?;
        let request = parse_request(name, request, most)?;
        if speed == Speed::Slow && self.has_written.get() {
            return Err(checkpoint_first(name));
        }
        // From here on nothing can be undone.
        self.has_effects.set(true);
        if speed == Speed::Slow {
            // An old snapshot would make the next write a conflict.
            self.end_snapshot();
        }
        let call = CapabilityCall {
            request: &request,
            worker: &self.task.worker,
            job: self.task.claim.map(|claim| claim.id),
            scope: self.task.scope.as_ref(),
            time_left: self.task.stop_signal.deadline.saturating_duration_since(Instant::now()),
            now: self.clock.now(),
            is_dry_run: false,
            grant: &self.task.grant,
            #[cfg(any(feature = "http", feature = "mailer"))]
            secrets: &self.node.capabilities.secrets,
        };
        let answer = answer(name, function, &call, most);
        if speed == Speed::Slow {
            // What reached the outside must not be forgotten.
            self.task.stop_signal.spare(NOTE);
        }
        answer
    }
}
