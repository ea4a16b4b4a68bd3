//! Giving the write lock back while the thread that holds it is busy with something else.
//!
//! Jobs that share a transaction run while it is open. A job that takes longer than expected must
//! not keep the lock for that time. So until it touches the database, its connection is lent. When
//! the time is over, the thread of this file ends the transaction on it.
//!
//! Only one thread at a time uses the connection. Whoever lent it takes it back before using it,
//! and waits while the other thread uses it.

use std::ffi::CString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ffi};

use crate::mutex::lock;

/// How often lent connections are looked at while there are any.
const PERIOD: Duration = Duration::from_millis(1);

/// Periods without a lent connection after which the thread goes to sleep until the next one.
const LINGER: u32 = 20;

type Work = Box<dyn FnOnce(&LentConnection<'_>) + Send>;

struct Lent {
    /// When the connection is to be used.
    at: Instant,
    work: Work,
}

/// What a connection and the thread share.
struct Shared {
    handle: AtomicPtr<ffi::sqlite3>,
    /// The thread locks this for as long as it uses the connection.
    lent: Mutex<Option<Lent>>,
    is_known: AtomicBool,
}

/// One connection's side.
pub(super) struct Lender(Arc<Shared>);

/// A connection while the thread uses it.
pub(crate) struct LentConnection<'a>(&'a Shared);

impl LentConnection<'_> {
    /// Runs statements that return nothing.
    ///
    /// # Errors
    /// As SQLite says.
    #[allow(unsafe_code, reason = "a rusqlite connection stays with its thread")]
    pub(crate) fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        let sql = CString::new(sql)?;
        // SAFETY: the connection is open, because it is taken back before it closes. No other
        // thread uses it, because it is lent. SQLite allows one to change hands in every threading
        // mode that rusqlite opens connections in.
        let code = unsafe {
            ffi::sqlite3_exec(
                self.0.handle.load(Ordering::Relaxed),
                sql.as_ptr(),
                None,
                null_mut(),
                null_mut(),
            )
        };
        match code {
            ffi::SQLITE_OK => Ok(()),
            code => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)),
        }
    }
}

impl Lender {
    #[allow(unsafe_code, reason = "a rusqlite connection stays with its thread")]
    pub(super) fn of(connection: &Connection) -> Self {
        // SAFETY: the handle is only read. It is used only while the connection is lent, and that
        // ends before the connection does.
        let handle = AtomicPtr::new(unsafe { connection.handle() });
        Self(Arc::new(Shared { handle, lent: Mutex::default(), is_known: AtomicBool::new(false) }))
    }

    /// Lends the connection until it is taken back. At this instant `work` is done on it. Nothing
    /// else may use it meanwhile. False when it cannot be lent.
    pub(super) fn lend(&self, at: Instant, work: Work) -> bool {
        let Some(thread) = ReleaseThread::get() else { return false };
        if !self.0.is_known.swap(true, Ordering::Relaxed) {
            thread.known().push(Arc::downgrade(&self.0));
        }
        *self.0.lent() = Some(Lent { at, work });
        thread.begin();
        true
    }

    /// Takes it back. Returns whether the work was not done on it.
    pub(super) fn take_back(&self) -> bool {
        let lent = self.0.lent().take();
        if lent.is_some()
            && let Some(thread) = ReleaseThread::get()
        {
            thread.end();
        }
        lent.is_some()
    }
}

impl Shared {
    fn lent(&self) -> MutexGuard<'_, Option<Lent>> {
        // It is whole after any panic, because the work is taken out before it is used.
        lock(&self.lent)
    }

    fn use_if_due(&self, thread: &ReleaseThread) {
        let mut lent = self.lent();
        if lent.as_ref().is_none_or(|lent| lent.at > Instant::now()) {
            return;
        }
        if let Some(Lent { work, .. }) = lent.take() {
            // After a panic the transaction ends with the connection, when its own thread uses it
            // next.
            let _ = catch_unwind(AssertUnwindSafe(|| work(&LentConnection(self))));
            thread.end();
        }
    }
}

/// The thread of this process. It sleeps, at no cost, while nothing is lent.
struct ReleaseThread {
    known: Mutex<Vec<Weak<Shared>>>,
    lent: AtomicUsize,
    asleep: AtomicBool,
    thread: OnceLock<Thread>,
}

/// One thread for all connections of the process. It starts with the first that is lent, and never
/// ends.
static THREAD: OnceLock<Option<Arc<ReleaseThread>>> = OnceLock::new();

impl ReleaseThread {
    fn get() -> Option<&'static Arc<Self>> {
        THREAD.get_or_init(Self::start).as_ref()
    }

    fn start() -> Option<Arc<Self>> {
        let shared = Arc::new(Self {
            known: Mutex::default(),
            lent: AtomicUsize::new(0),
            asleep: AtomicBool::new(false),
            thread: OnceLock::new(),
        });
        let watched = Arc::clone(&shared);
        let handle = std::thread::Builder::new()
            .name("verger-release".to_string())
            .spawn(move || watched.run())
            .inspect_err(|error| tracing::warn!(%error, "short jobs will not share transactions"))
            .ok()?;
        // It cannot be set yet, because this is the only place that sets it.
        let _ = shared.thread.set(handle.thread().clone());
        Some(shared)
    }

    fn known(&self) -> MutexGuard<'_, Vec<Weak<Shared>>> {
        lock(&self.known)
    }

    fn begin(&self) {
        self.lent.fetch_add(1, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    fn end(&self) {
        self.lent.fetch_sub(1, Ordering::SeqCst);
    }

    fn run(&self) {
        let mut quiet = 0;
        loop {
            quiet = if self.lent.load(Ordering::SeqCst) > 0 { 0 } else { quiet + 1 };
            if quiet > LINGER {
                self.asleep.store(true, Ordering::SeqCst);
                // Looks again after the thread said that it sleeps, because a connection that was
                // lent just before woke nobody.
                while self.lent.load(Ordering::SeqCst) == 0 {
                    std::thread::park();
                }
                self.asleep.store(false, Ordering::SeqCst);
                quiet = 0;
            }
            std::thread::sleep(PERIOD);
            let known: Vec<_> = {
                let mut known = self.known();
                known.retain(|shared| shared.strong_count() > 0);
                known.iter().filter_map(Weak::upgrade).collect()
            };
            known.iter().for_each(|shared| shared.use_if_due(self));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    fn opened() -> (Connection, Lender) {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE t (n); BEGIN; INSERT INTO t VALUES (1)").unwrap();
        let lender = Lender::of(&connection);
        (connection, lender)
    }

    #[test]
    fn a_connection_that_is_not_taken_back_in_time_is_used() {
        let (connection, lender) = opened();
        let (sender, receiver) = std::sync::mpsc::channel();
        let commit = move |lent: &LentConnection<'_>| sender.send(lent.execute("COMMIT")).unwrap();
        assert!(lender.lend(Instant::now(), Box::new(commit)));
        receiver.recv().unwrap().unwrap();
        assert!(!lender.take_back());
        assert!(connection.is_autocommit());
    }

    #[test]
    fn a_connection_that_is_taken_back_is_left_alone() {
        let (connection, lender) = opened();
        let far = Instant::now() + Duration::from_secs(3_600);
        assert!(lender.lend(far, Box::new(|lent| lent.execute("COMMIT").unwrap())));
        assert!(lender.take_back());
        assert!(!lender.take_back());
        assert!(!connection.is_autocommit());
    }
}
