//! Notices commits. The loop hears no bell when another process commits, or the app itself by its
//! own connection.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::store::{BookConnection, Connector};

/// If a file has not changed for this long, its time shows the next change: a kernel's clock for
/// files ticks every few milliseconds. FAT counts in 2 s. There, a commit so soon after another may
/// be noticed only when the longest sleep is over.
const SETTLED_AFTER: Duration = Duration::from_millis(500);

/// It looks at SQLite's data version, which every commit of another connection changes (see
/// sqlite.org/pragma.html), and at the size and time of the files. The files cost a tenth of that,
/// but tell less: two commits within a tick of the clock can leave them alike.
pub(super) struct CommitWatcher {
    connection: Option<BookConnection>,
    files: Vec<PathBuf>,
    version: Option<i64>,
    seen: Files,
    /// Since when the files look like that.
    since: Instant,
    /// The version was read after the files had been unchanged for long enough.
    is_settled: bool,
}

type Files = Vec<Option<(u64, Option<SystemTime>)>>;

impl CommitWatcher {
    pub(super) fn of(connector: &Connector) -> Self {
        let connection = connector
            .connect()
            // Where the file is locked, the next look will tell.
            .and_then(BookConnection::impatient)
            .inspect_err(|error| tracing::warn!(%error, "commits of others will be noticed late"))
            .ok();
        let location = &connector.location;
        let file = location.file().map(Path::to_path_buf);
        let files = file.into_iter().chain(location.log_file()).collect();
        Self {
            connection,
            files,
            version: None,
            seen: Vec::new(),
            since: Instant::now(),
            is_settled: false,
        }
    }

    /// It opens no file, because closing a descriptor of the database would drop SQLite's locks.
    fn look(&self) -> Files {
        self.files
            .iter()
            .map(|file| std::fs::metadata(file).ok().map(|meta| (meta.len(), meta.modified().ok())))
            .collect()
    }

    fn ask(&self) -> Option<i64> {
        self.connection.as_ref()?.data_version()
    }

    /// Looks before a tick, so that what the tick commits causes one more look, and no more.
    pub(super) fn remember(&mut self) {
        self.changed();
    }

    /// Whether anything was committed since the last look.
    pub(super) fn changed(&mut self) -> bool {
        let files = self.look();
        if files != self.seen {
            (self.seen, self.since, self.is_settled) = (files, Instant::now(), false);
        }
        if self.is_settled {
            return false;
        }
        // A database in memory has no files to look at.
        self.is_settled = !self.files.is_empty() && self.since.elapsed() >= SETTLED_AFTER;
        let before = self.version;
        self.version = self.ask().or(before);
        self.version != before
    }
}
