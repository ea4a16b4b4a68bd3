//! What a run writes to the disk: to the database's log since its last checkpoint, and to the file
//! in all.

use verger_worker::{HostError, code};

use super::Run;
use super::error::from_store;
use crate::store::{LONG_LOG_BYTES, Overdrawn, WorkConnection};

/// Below this, every page that a run wrote counts as growth. Above it, the growth of the file is
/// measured.
const MEASURED_FROM_BYTES: u64 = 16 << 20;

/// Bytes of pages, as the connection counts them, and by how much the file grew.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Written {
    /// How much the connection had written when the run began.
    at_start: u64,
    /// The same, when the transaction began.
    at_begin: u64,
    /// Bytes that rows took in the file when the transaction began, if that was asked.
    size_at_begin: Option<u64>,
    /// By how much the committed transactions of the run made the file larger, once that was asked.
    growth: Option<u64>,
}

impl Written {
    pub(super) fn at(bytes: u64) -> Self {
        Self { at_start: bytes, at_begin: bytes, ..Self::default() }
    }

    /// Called after a run, because the log of one that wrote much takes its space on the disk until
    /// it is cut. Returns whether the connection can be used on.
    pub(super) fn give_back(self, connection: &WorkConnection) -> bool {
        connection.bytes_written().saturating_sub(self.at_start) < LONG_LOG_BYTES
            || connection.shorten_log().is_ok()
    }
}

impl Run {
    /// Notes that a transaction begins.
    pub(super) fn writing_begins(&self) -> Result<(), HostError> {
        let mut written = self.written.get();
        written.at_begin = self.connection.bytes_written();
        written.size_at_begin = None;
        let so_far = written.at_begin.saturating_sub(written.at_start);
        if so_far >= MEASURED_FROM_BYTES {
            written.growth.get_or_insert(so_far);
            written.size_at_begin =
                Some(self.connection.bytes_in_use().map_err(|error| from_store(&error))?);
        }
        self.written.set(written);
        self.connection
            .may_write(written.at_begin.saturating_add(self.task.grant.limits.transaction_bytes));
        Ok(())
    }

    /// Called after a write. Rolls back what is too much for the log.
    pub(super) fn check_transaction_bytes(&self) -> Result<(), HostError> {
        let most = self.task.grant.limits.transaction_bytes;
        if self.connection.bytes_written().saturating_sub(self.written.get().at_begin) <= most {
            return Ok(());
        }
        let error = self.overdrawn(Overdrawn::Written);
        self.rollback();
        self.lose(error.clone().into());
        Err(error)
    }

    /// Called before a commit. The growth of the file with it, if the file may grow so much.
    pub(super) fn check_growth(&self) -> Result<Option<u64>, HostError> {
        let written = self.written.get();
        let (growth, kept) = match (written.growth, written.size_at_begin) {
            (Some(growth), Some(before)) => {
                let now = self.connection.bytes_in_use().map_err(|error| from_store(&error))?;
                let growth = growth.saturating_add(now.saturating_sub(before));
                (growth, Some(growth))
            }
            _ => (self.connection.bytes_written().saturating_sub(written.at_start), None),
        };
        let most = self.task.grant.limits.growth_bytes;
        if growth > most {
            return Err(HostError::new(
                code::LIMIT,
                format!(
                    "this run makes the database larger by more than the {most} bytes it is granted; nothing since the last checkpoint was kept"
                ),
            ));
        }
        Ok(kept)
    }

    /// Notes that it is committed.
    pub(super) fn keep_growth(&self, growth: Option<u64>) {
        let written = self.written.get();
        self.written.set(Written { growth: growth.or(written.growth), ..written });
    }

    /// The error for a statement that was ended for a limit.
    pub(super) fn overdrawn(&self, what: Overdrawn) -> HostError {
        let limits = &self.task.grant.limits;
        HostError::new(
            code::LIMIT,
            match what {
                Overdrawn::Memory => format!(
                    "the statements of this run take more than the {} MiB of memory they are granted",
                    limits.sql_memory_bytes >> 20
                ),
                Overdrawn::Written => format!(
                    "this run writes more than the {} bytes it is granted between two checkpoints; nothing since the last one was kept",
                    limits.transaction_bytes
                ),
            },
        )
    }
}
