//! Audit events of a run, bounded, stamped and written in its transaction.

use verger_worker::{AuditEvent, HostError, code};

use super::Run;
use super::error::from_store;
use crate::audit::Stamp;
use crate::limits::Limits;

/// Bytes that a row takes besides the texts of its event: the stamp, the hash, the indexes.
const ROW_BYTES: u64 = 256;

/// Rows of the audit log, and the bytes they take.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Audited {
    pub(super) rows: u64,
    bytes: u64,
}

impl Audited {
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            rows: self.rows.saturating_add(other.rows),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    pub(crate) fn of(event: &AuditEvent) -> Self {
        let texts = [
            &event.organization_id,
            &event.subject_type,
            &event.subject_id,
            &event.before,
            &event.after,
            &event.metadata,
        ];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        let bytes = u64::try_from(event.action.len() + texts).unwrap_or(u64::MAX);
        Self { rows: 1, bytes: bytes.saturating_add(ROW_BYTES) }
    }
}

/// The audit rows of a run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AuditTally {
    /// Rows that are committed.
    kept: Audited,
    /// Rows that are not committed yet.
    pub(super) new: Audited,
}

/// Checks events of which all are to be written, or none.
pub(crate) fn check_each(
    events: &[AuditEvent],
    check: impl Fn(&AuditEvent) -> Result<(), HostError>,
) -> Result<(), HostError> {
    events.iter().enumerate().try_for_each(|(place, event)| {
        check(event).map_err(|mut error| {
            error.message = format!(
                "event {place}: {}; none of the {} was written",
                error.message,
                events.len()
            );
            error
        })
    })
}

impl AuditTally {
    /// Whether a run with these limits may write these besides what it wrote.
    pub(crate) fn has_room(&self, new: Audited, limits: &Limits) -> Result<(), HostError> {
        let all = self.kept.and(self.new).and(new);
        for (number, most, what) in [
            (all.rows, limits.audit_rows, "audit rows"),
            (all.bytes, limits.audit_bytes, "bytes of audit rows"),
        ] {
            if number > most {
                return Err(HostError::new(
                    code::LIMIT,
                    format!("more than the {most} {what} this run is granted"),
                ));
            }
        }
        Ok(())
    }

    /// Notes that what was written is committed.
    pub(crate) fn keep(&mut self) {
        *self = Self { kept: self.kept.and(self.new), new: Audited::default() };
    }

    /// Notes that what is not committed is undone.
    #[cfg(feature = "postgres")]
    pub(crate) fn forget(&mut self) {
        self.new = Audited::default();
    }

    /// Counts what was written.
    pub(crate) fn add(&mut self, new: Audited) {
        self.new = self.new.and(new);
    }
}

/// Whether a run with this stamp may write this event.
pub(crate) fn check_event(event: &AuditEvent, stamp: &Stamp) -> Result<(), HostError> {
    event.check().map_err(|fault| HostError::new(code::INVALID, fault.to_string()))?;
    let own = stamp.who.organization_id.as_ref();
    match (own, &event.organization_id) {
        (Some(own), Some(other)) if own != other => Err(HostError::new(
            code::DENIED,
            "audit field `organization_id` names another organization than the job's",
        )),
        _ => Ok(()),
    }
}

impl Run {
    /// Notes that what was written is committed.
    pub(super) fn keep_audited(&self) {
        let mut tally = self.audited.get();
        tally.keep();
        self.audited.set(tally);
    }

    /// Notes that what was written is undone.
    pub(super) fn forget_audited(&self) {
        self.forget_audited_since(Audited::default());
    }

    /// Notes that what was written since then is undone.
    pub(super) fn forget_audited_since(&self, new: Audited) {
        self.audited.set(AuditTally { new, ..self.audited.get() });
    }

    pub(crate) fn log_events(&self, events: &[AuditEvent]) -> Result<Vec<u64>, HostError> {
        // Counted first, so that too much is not even read.
        let new = events.iter().fold(Audited::default(), |all, event| all.and(Audited::of(event)));
        self.has_room(new)?;
        check_each(events, |event| self.check(event))?;
        self.append(events.iter(), new)
    }

    pub(crate) fn log_events_safely(&self, events: &[AuditEvent]) -> u32 {
        let (mut good, mut new) = (Vec::new(), Audited::default());
        for event in events {
            let with = new.and(Audited::of(event));
            match self.has_room(with).and_then(|()| self.check(event)) {
                Ok(()) => {
                    good.push(event);
                    new = with;
                }
                Err(why) => self.audit_event_dropped(&why),
            }
        }
        match self.append(good.into_iter(), new) {
            Ok(ids) => u32::try_from(ids.len()).unwrap_or(u32::MAX),
            Err(why) => {
                self.audit_event_dropped(&why);
                0
            }
        }
    }

    /// Whether the run may write these besides what it wrote.
    fn has_room(&self, new: Audited) -> Result<(), HostError> {
        self.audited.get().has_room(new, &self.task.grant.limits)
    }

    fn check(&self, event: &AuditEvent) -> Result<(), HostError> {
        check_event(event, &self.task.stamp)
    }

    fn append<'e>(
        &self,
        events: impl ExactSizeIterator<Item = &'e AuditEvent>,
        new: Audited,
    ) -> Result<Vec<u64>, HostError> {
        if events.len() == 0 {
            return Ok(Vec::new());
        }
        self.begin()?;
        let now = self.clock.now();
        let mut log = self.log.borrow_mut();
        let count = events.len();
        let goes_on = || !self.task.stop_signal.is_over();
        let written = self.connection.engine(|connection| {
            log.append_all(connection, now, &self.task.stamp, events, goes_on)
        });
        drop(log);
        let written = written.map_err(|error| from_store(&error)).and_then(|ids| {
            self.check_transaction_bytes()?;
            if ids.len() < count { Err(self.stop_now()) } else { Ok(ids) }
        });
        match written {
            Ok(ids) => {
                let mut tally = self.audited.get();
                tally.add(new);
                self.audited.set(tally);
                self.count(|tally| tally.audited += ids.len() as u64);
                Ok(ids.into_iter().map(|id| u64::try_from(id).unwrap_or_default()).collect())
            }
            Err(error) => {
                // Some of them may have been written, and the run must not commit only a part of
                // them.
                self.rollback();
                self.lose(error.clone().into());
                Err(error)
            }
        }
    }
}
