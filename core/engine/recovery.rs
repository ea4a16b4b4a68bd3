//! Jobs of processes that are dead for certain, taken back at open.

use rusqlite::{Connection, TransactionBehavior};

use super::habits::Habits;
use super::settings::Settings;
use crate::event;
use crate::queue::{self, Lost};
use crate::store::{
    Durability, Exclusive, Location, ProcessLock, StoreContext, StoreError, prove_exclusive,
};
use crate::time::Timestamp;

const DOING: &str = "take back the jobs of a process that died";

/// What opens the database once more.
pub(crate) struct Reopen<'a> {
    pub(crate) location: &'a Location,
    pub(crate) durability: Durability,
}

/// Takes back what dead processes held. Reads first: a file with nothing to take back is not
/// written. Gives back a connection to go on with.
pub(crate) fn take_back(
    mut front: Connection,
    lock: Option<&ProcessLock>,
    reopen: &Reopen<'_>,
    now: Timestamp,
    (settings, habits): (&Settings, &Habits),
) -> Result<Connection, StoreError> {
    if reopen.location.file().is_none() {
        rescue(&mut front, Lost::All, now, settings, habits)?;
        return Ok(front);
    }
    let Some(lock) = lock.filter(|lock| lock.is_alone()) else { return Ok(front) };
    if let Some(tag) = lock.tag() {
        rescue(&mut front, Lost::Under(&tag), now, settings, habits)?;
    }
    if queue::next_expiry(&front).doing(DOING)?.is_none() {
        return Ok(front);
    }
    // Claimed under another lock: it may be another name of the file, or one that was tidied away.
    drop(front);
    if let Exclusive::Proved(mut alone) = prove_exclusive(reopen.location).doing(DOING)? {
        rescue(&mut alone, Lost::All, now, settings, habits)?;
    }
    reopen.location.connect(reopen.durability).doing("open the database")
}

fn rescue(
    connection: &mut Connection,
    lost: Lost<'_>,
    now: Timestamp,
    settings: &Settings,
    habits: &Habits,
) -> Result<(), StoreError> {
    if queue::next_expiry(connection).doing(DOING)?.is_none() {
        return Ok(());
    }
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).doing(DOING)?;
    let backoff = |worker: &str| settings.backoff(worker);
    let rescued = queue::rescue(&transaction, lost, now, &backoff).doing(DOING)?;
    transaction.commit().doing(DOING)?;
    rescued.events.iter().for_each(event::say);
    if rescued.jobs > 0 {
        habits.expect_trouble();
        tracing::info!(rescued = rescued.jobs, "took back the jobs of a process that died");
    }
    Ok(())
}
