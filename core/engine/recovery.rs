//! Jobs of processes that are certainly dead, taken back at open.

use super::habits::Habits;
use super::settings::Settings;
use crate::event;
use crate::queue::Lost;
use crate::store::{
    BookConnection, Books, Connector, Exclusive, ProcessLock, StoreContext, StoreError,
    prove_exclusive,
};
use crate::time::Timestamp;

const DOING: &str = "take back the jobs of a process that died";

/// Takes back what dead processes held. It reads first, so that a file with nothing to take back is
/// not written. Returns a connection to go on with.
pub(crate) fn take_back(
    front: BookConnection,
    lock: Option<&ProcessLock>,
    reopen: &Connector,
    now: Timestamp,
    (settings, habits): (&Settings, &Habits),
) -> Result<BookConnection, StoreError> {
    if reopen.location.file().is_none() {
        rescue(front.books(), Lost::All, now, settings, habits)?;
        return Ok(front);
    }
    let Some(lock) = lock.filter(|lock| lock.is_alone()) else { return Ok(front) };
    if let Some(tag) = lock.tag() {
        rescue(front.books(), Lost::Under(&tag), now, settings, habits)?;
    }
    if front.books().next_lease_expiry().doing(DOING)?.is_none() {
        return Ok(front);
    }
    // These were claimed under another lock: under another name of the file, or a lock that was
    // deleted.
    drop(front);
    if let Exclusive::Proved(alone) = prove_exclusive(&reopen.location).doing(DOING)? {
        rescue(alone.books(), Lost::All, now, settings, habits)?;
    }
    reopen.connect().doing("open the database")
}

fn rescue(
    books: Books<'_>,
    lost: Lost<'_>,
    now: Timestamp,
    settings: &Settings,
    habits: &Habits,
) -> Result<(), StoreError> {
    if books.next_lease_expiry().doing(DOING)?.is_none() {
        return Ok(());
    }
    let backoff = |worker: &str| settings.backoff(worker);
    let rescued = books.write(DOING, |books| books.rescue_jobs(lost, now, &backoff))?;
    rescued.events.iter().for_each(event::say);
    if rescued.jobs > 0 {
        habits.expect_trouble();
        tracing::info!(rescued = rescued.jobs, "took back the jobs of a process that died");
    }
    Ok(())
}
