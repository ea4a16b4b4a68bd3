//! What a component writes to its standard streams: lines for the job's log, and the last of them
//! for the error when it traps.

use verger_worker::LogLevel;

/// One of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Out,
    Error,
}

/// The longest line that is kept whole, in bytes.
const LINE_MAX_BYTES: usize = 4 << 10;

/// Of what was written to the error stream, so many bytes stand in the error of a trap.
const LAST_MAX_BYTES: usize = 1 << 10;

/// The unfinished lines of both streams, and the last words.
#[derive(Default)]
pub(super) struct Console {
    out: Vec<u8>,
    error: Vec<u8>,
    last: Vec<u8>,
}

impl Console {
    /// Takes up what was written; the lines that are complete now.
    pub(super) fn write(&mut self, stream: Stream, bytes: &[u8]) -> Vec<(LogLevel, String)> {
        if stream == Stream::Error {
            self.last.extend_from_slice(
                bytes.get(bytes.len().saturating_sub(LAST_MAX_BYTES)..).unwrap_or_default(),
            );
            self.last.drain(..self.last.len().saturating_sub(LAST_MAX_BYTES));
        }
        let (pending, level) = match stream {
            Stream::Out => (&mut self.out, LogLevel::Info),
            Stream::Error => (&mut self.error, LogLevel::Warn),
        };
        let mut lines = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            for piece in part.chunks(LINE_MAX_BYTES) {
                pending.extend_from_slice(piece);
                if piece.ends_with(b"\n") || pending.len() >= LINE_MAX_BYTES {
                    lines.extend(line(pending).map(|line| (level, line)));
                }
            }
        }
        lines
    }

    /// The lines that never came to their end.
    pub(super) fn finish(&mut self) -> Vec<(LogLevel, String)> {
        let out = line(&mut self.out).map(|line| (LogLevel::Info, line));
        let error = line(&mut self.error).map(|line| (LogLevel::Warn, line));
        out.into_iter().chain(error).collect()
    }

    /// The last of what was written to the error stream.
    pub(super) fn last_words(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.last);
        let text = text.trim().trim_start_matches(char::REPLACEMENT_CHARACTER);
        (!text.is_empty()).then(|| text.to_string())
    }
}

fn line(pending: &mut Vec<u8>) -> Option<String> {
    let text = String::from_utf8_lossy(pending).trim_end().to_string();
    pending.clear();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_and_the_last_words_stay() {
        let mut console = Console::default();
        assert!(console.write(Stream::Out, b"half a ").is_empty());
        assert_eq!(console.write(Stream::Error, b"oh\nno"), [(LogLevel::Warn, "oh".to_string())]);
        assert_eq!(
            console.write(Stream::Out, b"line\n\n"),
            [(LogLevel::Info, "half a line".to_string())]
        );
        assert_eq!(console.finish(), [(LogLevel::Warn, "no".to_string())]);
        assert_eq!(console.last_words().as_deref(), Some("oh\nno"));
        let long = vec![b'x'; 3 * LINE_MAX_BYTES + 1];
        assert_eq!(console.write(Stream::Error, &long).len(), 3);
        assert_eq!(console.last_words().map(|words| words.len()), Some(LAST_MAX_BYTES));
    }
}
