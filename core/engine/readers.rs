//! Connections that only read.
//!
//! Writes hold the app's own connection while they wait for the write lock. Whoever only reads,
//! perhaps a million jobs for a page, uses another connection. So neither waits for the other.

use std::sync::{Mutex, MutexGuard, OnceLock, TryLockError};

use super::Engine;
use crate::mutex::lock;
use crate::store::BookConnection;

/// How many readers may read at the same time. One more waits for the first of them.
const READERS_MAX: usize = 4;

/// Each is opened when it is first needed, and kept.
#[derive(Default)]
pub(crate) struct Readers([OnceLock<Mutex<BookConnection>>; READERS_MAX]);

impl Engine {
    /// A connection to read from. For a database in memory it is the app's own, because such
    /// connections lock each other out. It is the app's own too where no other can be opened.
    pub(crate) fn reader(&self) -> MutexGuard<'_, BookConnection> {
        for slot in &self.readers.0 {
            let reader = match slot.get() {
                Some(reader) => reader,
                None => match self.open_reader() {
                    Some(reader) => slot.get_or_init(|| Mutex::new(reader)),
                    None => return self.front(),
                },
            };
            match reader.try_lock() {
                Ok(reader) => return reader,
                Err(TryLockError::Poisoned(reader)) => return reader.into_inner(),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        match self.readers.0.first().and_then(OnceLock::get) {
            Some(reader) => lock(reader),
            None => self.front(),
        }
    }

    fn open_reader(&self) -> Option<BookConnection> {
        self.connector.location.file()?;
        // Another file of this name is not the one that the app reads.
        self.file_identity.check().ok()?;
        let reader = self.connector.connect().ok()?;
        reader.only_reading().ok()
    }
}
