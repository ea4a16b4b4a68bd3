//! What is asked of the table of events. The SQL stands in `record.rs`.

use super::lifecycle::EventKind;
use super::position::EventPosition;
use super::record;
use super::record::Kept;
use crate::store::{Books, StoreContext, StoreError};
use crate::time::Timestamp;

impl Books<'_> {
    /// The events after a position, at most `limit`.
    pub(crate) fn events_after(
        &self,
        position: EventPosition,
        limit: usize,
    ) -> Result<Kept, StoreError> {
        record::after(self.connection(), position, limit).doing("read the events")
    }

    /// The position of the newest event that is kept.
    pub(crate) fn newest_event(&self) -> Result<EventPosition, StoreError> {
        record::newest(self.connection()).doing("read the events")
    }

    /// Writes that something happened, inside the transaction in which it does.
    pub(crate) fn record_event(&self, now: Timestamp, kind: &EventKind) -> Result<(), StoreError> {
        record::record(self.connection(), now, kind).doing("write the event of the job")
    }
}
