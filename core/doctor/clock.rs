//! What the clock did, as the database remembers it.

use super::examination::Examination;
use super::finding::Finding;
use crate::store::{Books, StoreError};
use crate::time::Timestamp;

/// Milliseconds. A row from further ahead than this was written by a wrong clock.
const AHEAD: i64 = 3_600_000;

pub(super) fn check(examination: &mut Examination<'_>) {
    let (connection, now) = (examination.connection, examination.now);
    let jumps = Books::on(connection).clock_jumps().map_err(StoreError::into_sqlite);
    let Some(jumps) = examination.look("the table verger_clock", jumps) else { return };
    if let Some((before, after)) = jumps.leap {
        let mend = examination.verb("tick");
        examination.found(
            Finding::warning(
                "clock-jumped",
                format!("the clock leapt from {before} to {after}: until it has stayed there for an hour nothing is deleted for its age"),
            )
            .mend(mend),
        );
    }
    if let Some(at) = jumps.set_back_at {
        let mend = examination.verb("tick");
        examination.found(
            Finding::warning(
                "clock-set-back",
                format!("the clock was set back, to {at}: the next tick puts back what a wrong reading sent away"),
            )
            .mend(mend),
        );
    } else if let Some(read_at) = jumps.read_at
        && read_at.as_millis().saturating_sub(now.as_millis()) > AHEAD
    {
        examination.found(
            Finding::warning(
                "clock-behind",
                format!("the clock reads {now}, and it read {read_at} when something was last decided: one of the two is wrong"),
            )
            .mend("timedatectl"),
        );
    }
    let ahead = now.as_millis().saturating_add(AHEAD);
    let newest = "SELECT created_at FROM verger_jobs ORDER BY id DESC LIMIT 1";
    let newest = connection.query_row(newest, [], |row| row.get::<_, i64>(0));
    let newest = match newest {
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(0),
        other => other,
    };
    if let Some(at) = examination.look("the newest job", newest).filter(|at| *at > ahead) {
        examination.found(
            Finding::warning(
                "from-the-future",
                format!("the newest job says that it was enqueued at {}, and it is {now}: a clock is, or was, wrong", Timestamp::from_millis(at)),
            )
            .mend("timedatectl"),
        );
    }
}
