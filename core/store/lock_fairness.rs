//! Taking turns at the write lock.
//!
//! SQLite has no queue for the lock: whoever waits looks again and again whether it is free. A
//! sweep that commits and begins anew at once leaves it free for microseconds, and could keep
//! others out for as long as it lasts. So a connection that has held the lock for some time pauses,
//! long enough for those who wait to look. While others write to the file it pauses every few
//! milliseconds. When nobody does, it hardly ever pauses.
//!
//! Two things show whether others wait. SQLite's data version tells what others have committed. And
//! a connection of Verger, or one of the app's that cooperates, looks every 2 ms and knocks.
//! Between processes the knock is a change of the time of the file that marks a process as present;
//! its value means nothing. Nobody notices a plain connection that waits and has not written for
//! long. It gets its turn in the rare long pause.
//!
//! A lock that one statement holds cannot be given away before the statement ends.

use std::cell::{Cell, OnceCell};
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::file_identity::KEEPS_ITS_NAME;
use super::location::{BUSY_TIMEOUT, Location};
use super::process_lock::{beside, existing, has_other_names};

/// How often a waiting connection looks whether the lock is free.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Shorter waits need no knock.
const QUIET_TRIES: i32 = 3;

/// How long a sweep holds the lock before it pauses, while others write.
const HELD_BESIDE_WRITERS: Duration = Duration::from_micros(2_500);

/// For this long after others wrote they may well write again.
const WRITERS_GO_ON: Duration = Duration::from_secs(1);

/// If someone wrote a while ago, a pause of 5 ms every 20 ms lets in whoever waits as SQLite does
/// within 33 ms, whenever it began to wait.
const HELD_AFTER_WRITERS: Duration = Duration::from_millis(13);
const SHORT_PAUSE: Duration = Duration::from_millis(5);
const WRITERS_COME_BACK: Duration = Duration::from_secs(20);

/// If nobody has written for longer, there is a pause after holding the lock this long in all. In
/// it everyone who waits as SQLite does looks once.
const HELD_ALONE: Duration = Duration::from_millis(1_400);
const LONG_PAUSE: Duration = Duration::from_millis(103);

/// The time between two looks at who else writes.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// When SQLite's own busy handler looks, in milliseconds since it began to wait. After these it
/// looks every 100 ms. See `sqliteDefaultBusyCallback`.
const SQLITE_LOOKS: [u64; 12] = [1, 3, 8, 18, 33, 53, 78, 103, 128, 178, 228, 328];

/// The longest time between two looks of someone who has waited for up to this long.
fn longest_between_looks(waited: Duration) -> Duration {
    let (mut last, mut longest) = (0, 0);
    for look in SQLITE_LOOKS {
        if Duration::from_millis(last) > waited {
            return Duration::from_millis(longest);
        }
        (longest, last) = (longest.max(look - last), look);
    }
    Duration::from_millis(if Duration::from_millis(last) > waited { longest } else { 100 })
}

/// The waiting of one connection, for its busy handler.
pub(super) struct Waiting {
    door: Option<PathBuf>,
    open: Option<File>,
    since: Instant,
    knocks: u64,
}

impl Waiting {
    pub(super) fn on(location: &Location) -> Self {
        let door = if location.is_read_only() { None } else { location.file().map(beside) };
        // Two connections must not knock with the same times.
        let knocks = door.as_ref().map_or(0, |_| random());
        Self { door, open: None, since: Instant::now(), knocks }
    }

    /// Waits for a moment, after this many waits before. False when it has been too long.
    pub(super) fn wait(&mut self, tries: i32) -> bool {
        if tries == 0 {
            self.since = Instant::now();
        }
        if self.since.elapsed() > BUSY_TIMEOUT {
            return false;
        }
        if tries >= QUIET_TRIES {
            self.knock();
        }
        std::thread::sleep(if tries == 0 { LOOK_EVERY / 4 } else { LOOK_EVERY });
        true
    }

    fn knock(&mut self) {
        if self.open.is_none()
            && let Some(door) = &self.door
        {
            // If it cannot be opened there is nobody to hear.
            self.open = existing(door, OpenOptions::new().write(true))
                .filter(|file| !has_other_names(file));
        }
        if let Some(file) = &self.open {
            self.knocks = self.knocks.wrapping_add(1);
            // Milliseconds, so that every file system keeps the difference, within some 30 years.
            let _ = file.set_modified(UNIX_EPOCH + Duration::from_millis(self.knocks % (1 << 40)));
        }
    }
}

fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

/// Who else writes to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Others {
    Write,
    Wrote,
    None,
}

/// One connection's holding of the lock, transaction after transaction.
pub(super) struct Holding {
    door: Option<PathBuf>,
    /// The door, once opened, where a file keeps its name.
    ear: OnceCell<File>,
    heard: Cell<Option<SystemTime>>,
    /// SQLite's data version at the last look; it changes with the commits of others.
    version: Cell<Option<i64>>,
    looked: Cell<Option<Instant>>,
    /// When others were last known to write.
    others_at: Cell<Option<Instant>>,
    /// It has looked, during a pause, who else writes.
    has_paused: Cell<bool>,
    /// Since when it holds the lock without having left it for long.
    stretch: Cell<Instant>,
    ended: Cell<Instant>,
    held_in_all: Cell<Duration>,
}

impl Holding {
    pub(super) fn of(location: &Location) -> Self {
        let now = Instant::now();
        Self {
            door: location.file().map(beside),
            ear: OnceCell::new(),
            heard: Cell::default(),
            version: Cell::default(),
            looked: Cell::default(),
            others_at: Cell::default(),
            has_paused: Cell::new(false),
            stretch: Cell::new(now),
            ended: Cell::new(now),
            held_in_all: Cell::default(),
        }
    }

    /// Whether a look is worth it, because short transactions follow each other by the microsecond.
    pub(super) fn wants_look(&self) -> bool {
        self.looked.get().is_none_or(|at| at.elapsed() >= BETWEEN_LOOKS)
    }

    /// Notes what others have committed since the last look. Call it outside a transaction.
    pub(super) fn look(&self, version: i64) {
        self.looked.set(Some(Instant::now()));
        let before = self.version.replace(Some(version));
        if before.is_some_and(|before| before != version) || self.someone_knocked() {
            self.others_at.set(Some(Instant::now()));
        }
    }

    /// Whether others write to the file now, as far as is known.
    pub(super) fn is_beside_writers(&self) -> bool {
        self.others() == Others::Write
    }

    /// Whether others were seen to write in the last second.
    pub(super) fn others_write_now(&self) -> bool {
        self.others_at.get().is_some_and(|at| at.elapsed() < WRITERS_GO_ON)
    }

    fn others(&self) -> Others {
        let since = self.others_at.get().map(|at| at.elapsed());
        match since {
            Some(since) if since < WRITERS_GO_ON => Others::Write,
            // Nobody knows yet.
            _ if !self.has_paused.get() => Others::Write,
            Some(since) if since < WRITERS_COME_BACK => Others::Wrote,
            _ => Others::None,
        }
    }

    /// Whether a transaction that has held the lock since then should end soon.
    pub(super) fn is_due(&self, since: Instant) -> bool {
        // A knock tells of someone who waits now.
        if self.someone_knocked() {
            self.others_at.set(Some(Instant::now()));
        }
        match self.others() {
            Others::Write => since.elapsed() >= HELD_BESIDE_WRITERS,
            Others::Wrote => since.elapsed() >= HELD_AFTER_WRITERS,
            Others::None => false,
        }
    }

    /// Pauses when others wait or may wait, after a commit of a transaction that held the lock
    /// since then. `version` reads the data version; the pause is over when someone has committed.
    pub(super) fn let_others_in(&self, since: Instant, version: impl Fn() -> Option<i64>) {
        let before = self.version.get();
        if self.wants_look()
            && let Some(version) = version()
        {
            self.look(version);
        }
        // If the log was folded back, the lock was released before that, and someone else has had
        // it already.
        let is_left = before.is_some() && self.version.get() != before;
        let free = since.saturating_duration_since(self.ended.get());
        if free >= longest_between_looks(self.ended.get().duration_since(self.stretch.get())) {
            self.stretch.set(since);
        }
        if free >= LONG_PAUSE {
            self.held_in_all.set(Duration::ZERO);
        }
        let stretch = self.stretch.get().elapsed();
        let held_in_all = self.held_in_all.get() + since.elapsed();
        self.held_in_all.set(held_in_all);
        let pause = match self.others() {
            Others::Write if is_left => Duration::ZERO,
            // Two rounds, because looks come late on a busy machine. The pause ends with the first
            // commit.
            Others::Write if stretch >= HELD_BESIDE_WRITERS => 2 * longest_between_looks(stretch),
            Others::Wrote if stretch >= 2 * HELD_AFTER_WRITERS => longest_between_looks(stretch),
            Others::Wrote if stretch >= HELD_AFTER_WRITERS => SHORT_PAUSE,
            _ if held_in_all >= HELD_ALONE => LONG_PAUSE,
            _ => Duration::ZERO,
        };
        if !pause.is_zero() || is_left {
            self.pause(pause, version);
            self.held_in_all.set(Duration::ZERO);
            self.stretch.set(Instant::now());
        }
        self.ended.set(Instant::now());
    }

    fn pause(&self, most: Duration, version: impl Fn() -> Option<i64>) {
        if most.is_zero() {
            return;
        }
        self.has_paused.set(true);
        let begun = Instant::now();
        // A look may come a little late.
        let most = most + LOOK_EVERY / 2;
        while let Some(left) = most.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
            std::thread::sleep(left.min(LOOK_EVERY / 2));
            let now = version();
            if now.is_some() && self.version.replace(now) != now {
                self.others_at.set(Some(Instant::now()));
                return;
            }
        }
    }

    fn someone_knocked(&self) -> bool {
        let last = self.door.as_ref().and_then(|door| self.last_knock(door).ok());
        last.is_some() && self.heard.replace(last).is_some_and(|before| Some(before) != last)
    }

    fn last_knock(&self, door: &Path) -> io::Result<SystemTime> {
        if !KEEPS_ITS_NAME {
            return std::fs::symlink_metadata(door)?.modified();
        }
        // Windows opens a file to tell its times, so it is opened once.
        let ear = match self.ear.get() {
            Some(ear) => ear,
            None => {
                let opened = File::open(door)?;
                self.ear.get_or_init(|| opened)
            }
        };
        ear.metadata()?.modified()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_knock_touches_no_file_that_another_name_leads_to() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let knock = |database: &str| {
            let door = Some(beside(&path(database)));
            Waiting { door, open: None, since: Instant::now(), knocks: 7 }.knock();
        };
        let modified = |name: &str| std::fs::metadata(path(name)).unwrap().modified().unwrap();
        std::fs::write(path("precious"), "").unwrap();
        let before = modified("precious");
        symlink(path("precious"), path("linked.db-verger")).unwrap();
        std::fs::hard_link(path("precious"), path("hard.db-verger")).unwrap();
        knock("linked.db");
        knock("hard.db");
        assert_eq!(modified("precious"), before);
        std::fs::write(path("own.db-verger"), "").unwrap();
        let before = modified("own.db-verger");
        knock("own.db");
        assert_ne!(modified("own.db-verger"), before);
    }

    #[test]
    fn a_pause_is_long_enough_for_whoever_waited_that_long_to_look() {
        for (waited, between) in [
            (0, 1),
            (2, 2),
            (4, 5),
            (9, 10),
            (20, 15),
            (40, 20),
            (100, 25),
            (150, 50),
            (1_000, 100),
        ] {
            let between = Duration::from_millis(between);
            assert_eq!(longest_between_looks(Duration::from_millis(waited)), between, "{waited}");
        }
    }
}
