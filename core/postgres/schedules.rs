//! Schedules: stored, fired and shown. Whichever node comes first decides a slot, and its key keeps
//! every other from deciding it again. No node leads.

use std::collections::HashSet;

use postgres::Row;

use super::claim::count;
use super::session::Session;
use super::slots::Slots;
use crate::ids::JobId;
use crate::queue::{Enqueued, NewJob, Ready};
use crate::schedule::{
    FireRow, Fired, Line, Missed, Overlap, Reason, Rule, Schedule, ScheduleRow, SlotBooks as _,
    SlotOutcome, decide_due, decide_missed, free_instant, new_job, row_of, slot_of,
};
use crate::store::{StoreError, Unreadable};
use crate::time::Timestamp;

const READING: &str = "read the schedules";
const STORING: &str = "store the schedules";
const FIRING: &str = "fire the schedule";

const COLUMNS: &str = "name, expression, timezone, worker, args::text, args_version, queue, priority, max_attempts, missed, overlap, deadline_ms, \
     jitter_ms, paused, anchor, next_fire_at, last_slot, registered_by";

fn from_row(row: &Row) -> ScheduleRow {
    let mut unreadable = Vec::new();
    let mut word = |column: &'static str, why: String| unreadable.push(Unreadable { column, why });
    let missed = row.get::<_, &str>(9).parse().unwrap_or_else(|why| {
        word("missed", why);
        Missed::Skip
    });
    let overlap = row.get::<_, &str>(10).parse().unwrap_or_else(|why| {
        word("overlap", why);
        Overlap::Forbid
    });
    let time = |column: usize| row.get::<_, Option<i64>>(column).map(Timestamp::from_millis);
    ScheduleRow {
        name: row.get(0),
        expression: row.get(1),
        timezone: row.get(2),
        worker: row.get(3),
        args: row.get(4),
        args_version: count(row.get(5)),
        queue: row.get(6),
        priority: u8::try_from(row.get::<_, i16>(7)).unwrap_or(u8::MAX),
        max_attempts: count(row.get(8)),
        missed,
        overlap,
        deadline_ms: row.get(11),
        jitter_ms: row.get(12),
        paused: row.get(13),
        anchor: Timestamp::from_millis(row.get(14)),
        next_fire_at: time(15),
        last_slot: time(16),
        registered_by: row.get(17),
        unreadable,
    }
}

/// All schedules, by name.
pub(super) fn list(session: &mut Session) -> Result<Vec<ScheduleRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM verger.schedules ORDER BY name");
    Ok(session.query(READING, &sql, &[])?.iter().map(from_row).collect())
}

/// One schedule, locked against other nodes, inside a transaction.
fn locked(session: &mut Session, name: &str) -> Result<Option<ScheduleRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM verger.schedules WHERE name = $1 FOR UPDATE");
    Ok(session.first(READING, &sql, &[&name])?.as_ref().map(from_row))
}

/// When the next slot of any schedule comes after this instant. One that is due and could not be
/// decided is looked at again with everything else.
pub(super) fn next_fire(
    session: &mut Session,
    now: Timestamp,
) -> Result<Option<Timestamp>, StoreError> {
    let sql = "SELECT min(next_fire_at) FROM verger.schedules WHERE next_fire_at > $1";
    let row = session.first(READING, sql, &[&now.as_millis()])?;
    Ok(row.and_then(|row| row.get::<_, Option<i64>>(0)).map(Timestamp::from_millis))
}

/// Decides the slots of every schedule that is due, each schedule in a transaction of its own.
/// `prepare` checks the job that a schedule makes.
pub(super) fn fire_due(
    session: &mut Session,
    now: Timestamp,
    prepare: &dyn Fn(NewJob) -> Result<Ready, String>,
) -> Result<Vec<Fired>, StoreError> {
    let sql =
        "SELECT name FROM verger.schedules WHERE next_fire_at <= $1 ORDER BY next_fire_at, name";
    let names = session.query(READING, sql, &[&now.as_millis()])?;
    let mut fired = Vec::new();
    for name in names.iter().map(|row| row.get::<_, String>(0)) {
        let decided = session.transaction(FIRING, |session| {
            // Another node may be deciding it just now, or have done so.
            let sql = format!(
                "SELECT {COLUMNS} FROM verger.schedules WHERE name = $1 AND next_fire_at <= $2 FOR UPDATE SKIP LOCKED"
            );
            let row = session.first(READING, &sql, &[&name, &now.as_millis()])?;
            let Some(row) = row.as_ref().map(from_row) else { return Ok(Vec::new()) };
            let Some(due) = row.next_fire_at else { return Ok(Vec::new()) };
            let prepared = new_job(&row).and_then(prepare);
            decide_due(&Slots::on(session), &row, due, &prepared, now)
        });
        match decided {
            Ok(slots) => fired.extend(slots),
            // The others are decided all the same.
            Err(error) if error.is_of_the_row() => {
                tracing::error!(schedule = name, %error, "a schedule cannot be fired");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(fired)
}

/// Stores a schedule, inside a transaction. `args` is the text of its args, with their version.
fn put(
    session: &mut Session,
    schedule: &Schedule,
    args: (&str, u32),
    set: Option<&str>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let stored = locked(session, schedule.name())?;
    let is_anothers = |row: &ScheduleRow| row.registered_by.is_none();
    if schedule.yields && set.is_some() && stored.as_ref().is_some_and(is_anothers) {
        return Ok(());
    }
    let row = row_of(schedule, args, stored.as_ref(), set, now);
    if stored.as_ref() == Some(&row) {
        return Ok(());
    }
    if let Some(stored) = stored.as_ref().filter(|stored| !stored.goes_on_as(&row)) {
        decide_missed(&Slots::on(session), stored, &Reason::Changed, now)?;
    }
    session
        .execute(
            STORING,
            "INSERT INTO verger.schedules (name, expression, timezone, worker, args, args_version, queue, priority, max_attempts, missed, overlap, \
             deadline_ms, jitter_ms, paused, anchor, next_fire_at, last_slot, registered_by, updated_at) \
             VALUES ($1, $2, $3, $4, $5::text::json, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19) ON CONFLICT (name) DO UPDATE SET \
             expression = $2, timezone = $3, worker = $4, args = $5::text::json, args_version = $6, queue = $7, priority = $8, max_attempts = $9, missed = $10, \
             overlap = $11, deadline_ms = $12, jitter_ms = $13, anchor = $15, next_fire_at = $16, registered_by = $18, updated_at = $19",
            &[
                &row.name,
                &row.expression,
                &row.timezone,
                &row.worker,
                &row.args,
                &i64::from(row.args_version),
                &row.queue,
                &i16::from(row.priority),
                &i64::from(row.max_attempts),
                &row.missed.to_string(),
                &row.overlap.to_string(),
                &row.deadline_ms,
                &row.jitter_ms,
                &row.paused,
                &row.anchor.as_millis(),
                &row.next_fire_at.map(Timestamp::as_millis),
                &row.last_slot.map(Timestamp::as_millis),
                &row.registered_by,
                &now.as_millis(),
            ],
        )
        .map(drop)
}

/// Stores schedules whose args were checked, all or none. Those of the app's code belong to `set`,
/// and what the set has no more is retired.
pub(super) fn put_all(
    session: &mut Session,
    schedules: &[(&Schedule, (String, u32))],
    set: Option<&str>,
    now: Timestamp,
) -> Result<(), StoreError> {
    session.transaction(STORING, |session| {
        for (schedule, (args, version)) in schedules {
            put(session, schedule, (args, *version), set, now)?;
        }
        let Some(set) = set else { return Ok(()) };
        let names: HashSet<&str> = schedules.iter().map(|(schedule, _)| schedule.name()).collect();
        let sql = "SELECT name FROM verger.schedules WHERE registered_by = $1 ORDER BY name";
        for row in session.query(STORING, sql, &[&set])? {
            let name: &str = row.get(0);
            if !names.contains(name) {
                retire(session, name, now)?;
            }
        }
        Ok(())
    })
}

fn retire(session: &mut Session, name: &str, now: Timestamp) -> Result<(), StoreError> {
    let Some(row) = locked(session, name)? else { return Ok(()) };
    let slots = Slots::on(session);
    if !decide_missed(&slots, &row, &Reason::Retired, now)? {
        let line = Line { slot: free_instant(&slots, name, now, |_| false)?, missed: 0, now };
        slots.write_line(name, &line, (SlotOutcome::Skipped, Some(&Reason::Retired)), None)?;
    }
    delete(session, name).map(drop)
}

fn delete(session: &mut Session, name: &str) -> Result<bool, StoreError> {
    let deleted =
        session.execute(STORING, "DELETE FROM verger.schedules WHERE name = $1", &[&name])?;
    Ok(deleted > 0)
}

/// Removes a schedule; its ledger and its jobs stay. False when there is none of that name.
pub(super) fn remove(
    session: &mut Session,
    name: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    session.transaction("remove the schedule", |session| {
        let Some(row) = locked(session, name)? else { return Ok(false) };
        decide_missed(&Slots::on(session), &row, &Reason::Removed, now)?;
        delete(session, name)
    })
}

/// Pauses or resumes a schedule. False when there is none of that name.
pub(super) fn set_paused(
    session: &mut Session,
    name: &str,
    paused: bool,
    now: Timestamp,
) -> Result<bool, StoreError> {
    const PAUSING: &str = "pause the schedule";
    session.transaction(PAUSING, |session| {
        let Some(row) = locked(session, name)? else { return Ok(false) };
        if row.paused && !paused {
            decide_missed(&Slots::on(session), &row, &Reason::Paused, now)?;
        }
        session.execute(
            PAUSING,
            "UPDATE verger.schedules SET paused = $2, updated_at = $3 WHERE name = $1 AND paused <> $2",
            &[&name, &paused, &now.as_millis()],
        )?;
        Ok(true)
    })
}

/// Makes a job outside the slots. If the schedule forbids overlap and has an unfinished job, it
/// returns that job. `None` when there is no schedule of that name.
pub(super) fn run_now(
    session: &mut Session,
    name: &str,
    now: Timestamp,
    prepare: &dyn Fn(NewJob) -> Result<Ready, String>,
) -> Result<Option<Result<Enqueued, String>>, StoreError> {
    session.transaction("run the schedule now", |session| {
        let Some(row) = locked(session, name)? else { return Ok(None) };
        let mut ready = match new_job(&row).and_then(prepare) {
            Ok(ready) => ready,
            Err(why) => return Ok(Some(Err(why))),
        };
        let slots = Slots::on(session);
        if row.overlap == Overlap::Forbid
            && let Some(id) = slots.job_under_way(name)?
        {
            return Ok(Some(Ok(Enqueued { id, existing: true })));
        }
        // The line must not be at the instant of a real slot.
        let rule = Rule::of(&row).ok();
        let slot = free_instant(&slots, name, now, |at| {
            rule.as_ref().is_some_and(|rule| rule.is_slot(at))
        })?;
        ready.of_slot(slot_of(&row, slot, 0, row.last_slot), now);
        let Some(id) = slots.insert_slot_job(&ready, now)? else {
            return Ok(Some(Err("its args are refused by the table".to_string())));
        };
        let line = Line { slot, missed: 0, now };
        slots.write_line(name, &line, (SlotOutcome::Enqueued, Some(&Reason::RunNow)), Some(id))?;
        Ok(Some(Ok(Enqueued { id, existing: false })))
    })
}

/// The ledger of a schedule, newest slot first.
pub(super) fn fires(
    session: &mut Session,
    schedule: &str,
    limit: u32,
) -> Result<Vec<FireRow>, StoreError> {
    let rows = session.query(
        "read the fire ledger",
        "SELECT schedule, slot, fired_at, outcome, reason, missed, job FROM verger.fires WHERE schedule = $1 ORDER BY slot DESC LIMIT $2",
        &[&schedule, &i64::from(limit)],
    )?;
    let fire = |row: &Row| FireRow {
        schedule: row.get(0),
        slot: Timestamp::from_millis(row.get(1)),
        fired_at: Timestamp::from_millis(row.get(2)),
        outcome: row.get::<_, &str>(3).parse().unwrap_or(SlotOutcome::Skipped),
        reason: row.get::<_, Option<&str>>(4).and_then(|text| text.parse().ok()),
        missed: count(row.get(5)),
        job: row.get::<_, Option<i64>>(6).map(JobId),
        unreadable: Vec::new(),
    };
    Ok(rows.iter().map(fire).collect())
}
