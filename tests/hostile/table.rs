//! The table of what was tried and what came of it, for people and for the test.

/// The cases as they ended, printed at once: tests run side by side.
pub(super) struct Table {
    lines: Vec<String>,
    wrong: Vec<String>,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            lines: vec![format!("{:55} {:18} what is said", "tried", "wall")],
            wrong: Vec::new(),
        }
    }

    /// `expected` is a code, and what the message has to name.
    pub(super) fn row(
        &mut self,
        tried: &str,
        wall: &str,
        expected: (&str, &str),
        code: &str,
        message: &str,
    ) {
        self.lines.push(format!(
            "{tried:55} {wall:18} [{code}] {}",
            message.lines().next().unwrap_or_default()
        ));
        if code != expected.0 || !message.contains(expected.1) {
            self.wrong.push(format!("{tried}: not {expected:?}, but [{code}] {message}"));
        }
    }

    pub(super) fn close(self) {
        println!("{}\n{} cases", self.lines.join("\n"), self.lines.len() - 1);
        assert!(self.wrong.is_empty(), "{}", self.wrong.join("\n"));
    }
}
