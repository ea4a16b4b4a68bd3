//! Savepoints of a run, and what is undone with one.

use verger_worker::{HostError, code};

use crate::run::audit::Audited;
use crate::run::statement::Changes;
use crate::run::{Run, Tally};
use crate::store::{self, TransactionStep};

/// Savepoints one run may have open at once.
const SAVEPOINTS_MAX: usize = 32;

/// A savepoint of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SavepointId(pub(crate) u32);

impl From<SavepointId> for store::Savepoint {
    fn from(SavepointId(number): SavepointId) -> Self {
        Self::OfWorker(number)
    }
}

#[derive(Default)]
pub(in crate::run) struct Savepoints {
    open: Vec<Savepoint>,
    next: u32,
}

impl Savepoints {
    pub(in crate::run) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Closes all savepoints, because their transaction has ended.
    pub(super) fn clear(&mut self) {
        self.open.clear();
    }

    /// The open savepoints, the outermost first.
    pub(in crate::run) fn ids(&self) -> impl Iterator<Item = SavepointId> {
        self.open.iter().map(|savepoint| savepoint.id)
    }
}

struct Savepoint {
    id: SavepointId,
    messages: usize,
    audited: Audited,
    cursors: u32,
    changes: Changes,
    tally: Tally,
}

impl Run {
    pub(crate) fn open_savepoint(&self) -> Result<SavepointId, HostError> {
        self.begin_read()?;
        let mut savepoints = self.savepoints.borrow_mut();
        if savepoints.open.len() >= SAVEPOINTS_MAX {
            return Err(HostError::new(
                code::LIMIT,
                format!("{SAVEPOINTS_MAX} savepoints are open: release one first"),
            ));
        }
        let id = SavepointId(savepoints.next);
        self.engine_step(TransactionStep::Open(id.into()))?;
        savepoints.next = savepoints.next.wrapping_add(1);
        savepoints.open.push(Savepoint {
            id,
            messages: self.messages.borrow().len(),
            audited: self.audited.get().new,
            cursors: self.cursors.borrow().mark(),
            changes: self.changes.borrow().clone(),
            tally: self.uncommitted.get(),
        });
        Ok(id)
    }

    pub(crate) fn release_savepoint(&self, id: SavepointId) -> Result<(), HostError> {
        self.end_savepoint(id)?;
        self.engine_step(TransactionStep::Release(id.into()))
    }

    pub(crate) fn rollback_savepoint(&self, id: SavepointId) -> Result<(), HostError> {
        let savepoint = self.end_savepoint(id)?;
        // What they read may be what is undone.
        self.cursors.borrow_mut().close_from(savepoint.cursors);
        self.engine_step(TransactionStep::RollbackTo(id.into()))?;
        self.engine_step(TransactionStep::Release(id.into()))?;
        self.messages.borrow_mut().truncate(savepoint.messages);
        self.changes.replace(savepoint.changes);
        self.forget_audited_since(savepoint.audited);
        self.uncommitted.set(savepoint.tally);
        self.log.borrow_mut().forget();
        Ok(())
    }

    /// Removes a savepoint, and those opened after it, from the list.
    fn end_savepoint(&self, id: SavepointId) -> Result<Savepoint, HostError> {
        self.alive()?;
        let open = &mut self.savepoints.borrow_mut().open;
        let place = open.iter().position(|savepoint| savepoint.id == id);
        place
            .and_then(|place| open.drain(place..).next())
            .ok_or_else(|| HostError::new(code::CLOSED, "the savepoint is closed"))
    }
}
