//! The steps at which a crash does the most harm. A test can end the process there, as abruptly as
//! if it were killed.
//!
//! Without the feature `testing` nothing of this is compiled in.

/// A boundary between two steps of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "testing"), allow(unreachable_pub, reason = "only the test kit shows it"))]
pub enum Failpoint {
    /// The job is claimed and nothing of it was begun.
    Claimed,
    /// The worker has returned; its transition is not written.
    Performed,
    /// The transition is written and not committed.
    BeforeCommit,
    /// The attempt is committed; nobody was told.
    AfterCommit,
    /// A checkpoint has renewed the lease and is not committed.
    BeforeCheckpoint,
    /// A checkpoint is committed; the worker does not know.
    AfterCheckpoint,
}

#[cfg(feature = "testing")]
mod armed {
    use crate::mutex::lock;
    use std::sync::Mutex;

    use super::Failpoint;

    static ARMED: Mutex<Option<(Failpoint, u32)>> = Mutex::new(None);

    impl Failpoint {
        /// Every failpoint.
        pub const ALL: [Self; 6] = [
            Self::Claimed,
            Self::Performed,
            Self::BeforeCommit,
            Self::AfterCommit,
            Self::BeforeCheckpoint,
            Self::AfterCheckpoint,
        ];

        /// Ends this process by `abort` the `nth` time it comes by here, counted from 1.
        pub fn abort_at(self, nth: u32) {
            *lock(&ARMED) = Some((self, nth));
        }

        pub(crate) fn reached(self) {
            let mut armed = lock(&ARMED);
            if let Some((place, left)) = &mut *armed
                && *place == self
            {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    std::process::abort();
                }
            }
        }
    }
}

#[cfg(not(feature = "testing"))]
impl Failpoint {
    #[inline(always)]
    pub(crate) fn reached(self) {}
}
