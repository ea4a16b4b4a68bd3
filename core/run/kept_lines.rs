//! What a job keeps of the lines that its worker logged: the last ones.

use std::collections::VecDeque;

use crate::queue::{AttemptLog, LoggedLine};

/// Bytes of a worker's lines that its job keeps.
const KEPT_MAX_BYTES: usize = 64 << 10;

/// What a line counts for besides its text.
const LINE_BYTES: usize = 64;

/// The lines of one attempt.
#[derive(Default)]
pub(crate) struct KeptLines {
    lines: VecDeque<LoggedLine>,
    bytes: usize,
    dropped: u32,
}

impl KeptLines {
    pub(crate) fn push(&mut self, line: LoggedLine) {
        self.bytes += line.text.len() + LINE_BYTES;
        self.lines.push_back(line);
        while self.bytes > KEPT_MAX_BYTES {
            let Some(first) = self.lines.pop_front() else { break };
            self.bytes -= first.text.len() + LINE_BYTES;
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// What is kept, if that is anything.
    pub(crate) fn log(&self) -> Option<AttemptLog> {
        let lines = self.lines.iter().cloned().collect();
        (!self.is_empty()).then_some(AttemptLog { dropped: self.dropped, lines })
    }
}
