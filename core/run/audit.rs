//! Audit events of a run, stamped and written in its transaction.

use verger_worker::{AuditEvent, HostError, code};

use super::Run;
use super::error::from_store;

impl Run {
    pub(crate) fn log_events(&self, events: &[AuditEvent]) -> Result<Vec<u64>, HostError> {
        for (place, event) in events.iter().enumerate() {
            self.check(event).map_err(|mut error| {
                error.message = format!(
                    "event {place}: {}; none of the {} was written",
                    error.message,
                    events.len()
                );
                error
            })?;
        }
        self.append(events.iter())
    }

    pub(crate) fn log_events_safely(&self, events: &[AuditEvent]) -> u32 {
        let (good, bad): (Vec<_>, Vec<_>) = events
            .iter()
            .map(|event| (event, self.check(event)))
            .partition(|(_, checked)| checked.is_ok());
        for (_, checked) in &bad {
            if let Err(error) = checked {
                tracing::warn!(worker = %self.task.worker, job = ?self.task.claim.map(|claim| claim.id.number()), reason = %error.message, "audit event dropped");
            }
        }
        match self.append(good.into_iter().map(|(event, _)| event)) {
            Ok(ids) => u32::try_from(ids.len()).unwrap_or(u32::MAX),
            Err(error) => {
                tracing::warn!(worker = %self.task.worker, reason = %error.message, "audit events dropped");
                0
            }
        }
    }

    fn check(&self, event: &AuditEvent) -> Result<(), HostError> {
        event.check().map_err(|fault| HostError::new(code::INVALID, fault.to_string()))?;
        let own = self.task.stamp.who.organization_id.as_ref();
        match (own, &event.organization_id) {
            (Some(own), Some(other)) if own != other => Err(HostError::new(
                code::DENIED,
                "audit field `organization_id` names another organization than the job's",
            )),
            _ => Ok(()),
        }
    }

    fn append<'e>(
        &self,
        events: impl ExactSizeIterator<Item = &'e AuditEvent>,
    ) -> Result<Vec<u64>, HostError> {
        if events.len() == 0 {
            return Ok(Vec::new());
        }
        let (audited, most) =
            (self.audited.get() + events.len(), self.task.grant.limits.audit_rows);
        if audited > most {
            return Err(HostError::new(
                code::LIMIT,
                format!("more than {most} audit rows since the last checkpoint: make one"),
            ));
        }
        self.begin()?;
        let now = self.clock.now();
        let mut log = self.log.borrow_mut();
        let ids = self.connection.engine(|connection| {
            events
                .map(|event| {
                    log.append(connection, now, &self.task.stamp, event)
                        .map(|id| u64::try_from(id).unwrap_or_default())
                })
                .collect::<rusqlite::Result<Vec<_>>>()
        });
        drop(log);
        match ids {
            Ok(ids) => {
                self.audited.set(audited);
                self.count(|tally| tally.audited += ids.len() as u64);
                Ok(ids)
            }
            Err(error) => {
                // Some of them may be in: the run must not commit a part of what it was to write
                // down.
                let error = from_store(&error);
                self.rollback();
                self.lose(error.clone().into());
                Err(error)
            }
        }
    }
}
