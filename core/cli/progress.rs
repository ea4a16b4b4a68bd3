//! Shows that something still goes on, for people at a terminal.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::is_watched;

/// Work that ends within this time shows nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// Does some work. If it takes longer than a second, a terminal shows that it goes on.
pub(crate) fn with_spinner<T>(what: &'static str, work: impl FnOnce() -> T) -> T {
    if !is_watched() {
        return work();
    }
    let (done, waiting) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if waiting.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let bar = ProgressBar::new_spinner().with_message(what);
                if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
                    bar.set_style(style);
                }
                bar.enable_steady_tick(Duration::from_millis(120));
                // Ends when the other side is dropped.
                let _ = waiting.recv();
                bar.finish_and_clear();
            }
        });
        let value = work();
        drop(done);
        value
    })
}
