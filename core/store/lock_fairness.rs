//! Taking turns at the write lock.
//!
//! SQLite has no queue for it: who waits looks again and again whether it is free. A sweep that
//! commits and begins anew at once leaves it free for microseconds, and could keep others out for
//! as long as it lasts. So a connection of Verger that waits looks every 2 ms, and knocks; one that
//! has held the lock for long listens, and pauses when someone knocked. Between processes the knock
//! is the time of the file that marks a process as present: any change of it counts, its value
//! means nothing.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::location::{BUSY_TIMEOUT, Location};
use super::process_lock::beside;

/// How often a waiting connection looks whether the lock is free.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Waits shorter than this need no knock.
const QUIET_TRIES: i32 = 3;

/// After holding the lock this long in all, a connection listens for a knock.
const HELD_LONG: Duration = Duration::from_millis(20);

/// How long it pauses after one: long enough for everyone who waits to look.
const PAUSE: Duration = Duration::from_millis(5);

/// The app's own connections do not knock. SQLite's busy handler looks every 100 ms: after holding
/// the lock this long in all, a sweep pauses for longer than that, knock or none.
const HELD_VERY_LONG: Duration = Duration::from_millis(1_400);
const LONG_PAUSE: Duration = Duration::from_millis(103);

/// One connection's waiting, for its busy handler.
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

    /// Waits for a moment, having waited so many times before. False when it has been too long.
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
            // Where it cannot be opened there is nobody to hear.
            self.open = OpenOptions::new().write(true).open(door).ok();
        }
        if let Some(file) = &self.open {
            self.knocks = self.knocks.wrapping_add(1);
            // Milliseconds, so that every file system keeps the difference; some 30 years of them.
            let _ = file.set_modified(UNIX_EPOCH + Duration::from_millis(self.knocks % (1 << 40)));
        }
    }
}

fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

/// One connection's holding of the lock, transaction after transaction.
pub(super) struct Holding {
    door: Option<PathBuf>,
    heard: Cell<Option<SystemTime>>,
    held: Cell<Duration>,
    held_in_all: Cell<Duration>,
    ended: Cell<Instant>,
}

impl Holding {
    pub(super) fn of(location: &Location) -> Self {
        Self {
            door: location.file().map(beside),
            heard: Cell::default(),
            held: Cell::default(),
            held_in_all: Cell::default(),
            ended: Cell::new(Instant::now()),
        }
    }

    /// After a commit of a transaction that began then: pauses when others wait, or may.
    pub(super) fn let_others_in(&self, since: Instant, sweeping: bool) {
        let held = since.elapsed();
        if since.saturating_duration_since(self.ended.get()) >= LONG_PAUSE {
            self.held_in_all.set(Duration::ZERO);
        }
        self.held.set(self.held.get() + held);
        self.held_in_all.set(self.held_in_all.get() + held);
        if sweeping && self.held_in_all.get() >= HELD_VERY_LONG {
            self.held_in_all.set(Duration::ZERO);
            self.held.set(Duration::ZERO);
            std::thread::sleep(LONG_PAUSE);
        } else if self.held.get() >= HELD_LONG {
            self.held.set(Duration::ZERO);
            if self.someone_knocked() {
                std::thread::sleep(PAUSE);
            }
        }
        self.ended.set(since + since.elapsed());
    }

    fn someone_knocked(&self) -> bool {
        let last = self
            .door
            .as_ref()
            .and_then(|door| std::fs::metadata(door).and_then(|file| file.modified()).ok());
        last.is_some() && self.heard.replace(last) != last
    }
}
