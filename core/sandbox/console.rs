//! What a component writes to its standard streams. It becomes lines of the job's log, and its end
//! becomes part of the error when the component traps.

use verger_worker::LogLevel;

/// One of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Out,
    Error,
}

/// The longest line that is kept whole, in bytes.
const LINE_MAX_BYTES: usize = 4 << 10;

/// How many bytes of the error stream are part of the error of a trap.
const LAST_MAX_BYTES: usize = 1 << 10;

/// The unfinished lines of both streams, and the last words.
#[derive(Default)]
pub(super) struct Console {
    out: Vec<u8>,
    error: Vec<u8>,
    last: Vec<u8>,
    /// Nobody wants further lines.
    is_full: bool,
}

impl Console {
    /// Takes what was written, and hands on each line that is complete now, until the taker wants
    /// no more.
    pub(super) fn write(
        &mut self,
        stream: Stream,
        bytes: &[u8],
        mut take: impl FnMut(LogLevel, &str) -> bool,
    ) {
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
        if self.is_full {
            return;
        }
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            for piece in part.chunks(LINE_MAX_BYTES) {
                pending.extend_from_slice(piece);
                if (piece.ends_with(b"\n") || pending.len() >= LINE_MAX_BYTES)
                    && !hand_on(pending, level, &mut take)
                {
                    self.is_full = true;
                    return;
                }
            }
        }
    }

    /// Hands on lines that were never ended.
    pub(super) fn finish(&mut self, mut take: impl FnMut(LogLevel, &str) -> bool) {
        if !self.is_full && hand_on(&mut self.out, LogLevel::Info, &mut take) {
            hand_on(&mut self.error, LogLevel::Warn, &mut take);
        }
    }

    /// The end of what was written to the error stream.
    pub(super) fn last_words(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.last);
        let text = text.trim().trim_start_matches(char::REPLACEMENT_CHARACTER);
        (!text.is_empty()).then(|| text.to_string())
    }
}

/// Hands on a line, unless it is empty. Returns whether more are wanted.
fn hand_on(
    pending: &mut Vec<u8>,
    level: LogLevel,
    take: &mut impl FnMut(LogLevel, &str) -> bool,
) -> bool {
    let text = String::from_utf8_lossy(pending);
    let text = text.trim_end();
    let more = text.is_empty() || take(level, text);
    pending.clear();
    more
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(console: &mut Console, stream: Stream, bytes: &[u8]) -> Vec<(LogLevel, String)> {
        let mut lines = Vec::new();
        console.write(stream, bytes, |level, line| {
            lines.push((level, line.to_string()));
            true
        });
        lines
    }

    #[test]
    fn lines_come_whole_and_the_last_words_stay() {
        let mut console = Console::default();
        assert!(written(&mut console, Stream::Out, b"half a ").is_empty());
        assert_eq!(
            written(&mut console, Stream::Error, b"oh\nno"),
            [(LogLevel::Warn, "oh".to_string())]
        );
        assert_eq!(
            written(&mut console, Stream::Out, b"line\n\n"),
            [(LogLevel::Info, "half a line".to_string())]
        );
        let mut rest = Vec::new();
        console.finish(|level, line| {
            rest.push((level, line.to_string()));
            true
        });
        assert_eq!(rest, [(LogLevel::Warn, "no".to_string())]);
        assert_eq!(console.last_words().as_deref(), Some("oh\nno"));
        let long = vec![b'x'; 3 * LINE_MAX_BYTES + 1];
        assert_eq!(written(&mut console, Stream::Error, &long).len(), 3);
        assert_eq!(console.last_words().map(|words| words.len()), Some(LAST_MAX_BYTES));
    }

    #[test]
    fn no_line_is_made_once_nobody_wants_more() {
        let mut console = Console::default();
        let mut taken = 0;
        for _ in 0..2 {
            console.write(Stream::Error, &b"a\n".repeat(1 << 20), |_, _| {
                taken += 1;
                taken < 5
            });
        }
        console.write(Stream::Error, b"last", |_, _| true);
        assert_eq!(taken, 5);
        assert!(console.last_words().is_some_and(|words| words.ends_with("a\nlast")));
    }
}
