//! Adding schedules, changing them, and removing them.

use std::collections::HashSet;
use std::time::Duration;

use rusqlite::Connection;

use super::decide::{SlotBooks as _, decide_missed, free_instant};
use super::definition::Schedule;
use super::ledger::{Line, Reason, SlotOutcome};
use super::rows::{REBOOT, ScheduleRow, get};
use crate::store::Books;
use crate::time::Timestamp;

/// Stores a schedule, inside a write transaction. An unchanged expression keeps its next slot. A
/// new or a changed one starts from now. `args` is the text of its args, with their version. `set`
/// is the set of the app's code that it belongs to, if there is one.
pub(super) fn upsert(
    connection: &Connection,
    schedule: &Schedule,
    (args, args_version): (&str, u32),
    set: Option<&str>,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let stored = get(connection, &schedule.name)?;
    let is_anothers = |row: &ScheduleRow| row.registered_by.is_none();
    if schedule.yields && set.is_some() && stored.as_ref().is_some_and(is_anothers) {
        return Ok(());
    }
    let row = row_of(schedule, (args, args_version), stored.as_ref(), set, now);
    if stored.as_ref() == Some(&row) {
        return Ok(());
    }
    if let Some(stored) = stored.as_ref().filter(|stored| !stored.goes_on_as(&row)) {
        decide_missed(&Books::on(connection), stored, &Reason::Changed, now)?;
    }
    write(connection, &row, now)?;
    match set {
        Some(set) => connection
            .prepare_cached(
                "INSERT INTO verger_registrations (schedule, registered_by, registered_at) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (schedule) DO UPDATE SET registered_by = ?2, registered_at = ?3",
            )?
            .execute((&row.name, set, now.as_millis()))
            .map(drop),
        None => forget_registration(connection, &row.name),
    }
}

/// A schedule as its row is to be. An unchanged expression keeps its next slot. A new or a changed
/// one starts from now.
pub(crate) fn row_of(
    schedule: &Schedule,
    (args, args_version): (&str, u32),
    stored: Option<&ScheduleRow>,
    set: Option<&str>,
    now: Timestamp,
) -> ScheduleRow {
    let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    let mut row = ScheduleRow {
        name: schedule.name.clone(),
        expression: schedule.expression.to_string(),
        timezone: schedule.zone.name().to_string(),
        worker: schedule.job.worker.clone(),
        args: args.to_string(),
        args_version,
        queue: schedule.job.queue.clone(),
        priority: schedule.job.priority,
        max_attempts: schedule.job.max_attempts,
        missed: schedule.missed,
        overlap: schedule.overlap,
        deadline_ms: schedule.deadline.map(millis),
        jitter_ms: millis(schedule.jitter),
        paused: stored.is_some_and(|row| row.paused),
        anchor: now,
        next_fire_at: None,
        last_slot: stored.and_then(|row| row.last_slot),
        registered_by: set.map(str::to_string),
        unreadable: Vec::new(),
    };
    match stored.filter(|stored| stored.goes_on_as(&row)) {
        Some(stored) => (row.anchor, row.next_fire_at) = (stored.anchor, stored.next_fire_at),
        None => row.next_fire_at = schedule.expression.next_after(now, schedule.zone, now),
    }
    row
}

impl ScheduleRow {
    /// Whether it keeps its next slot when it becomes this row. A schedule that could not be read
    /// before, and was mended by hand, begins anew.
    pub(crate) fn goes_on_as(&self, other: &Self) -> bool {
        self.expression == other.expression
            && self.timezone == other.timezone
            && (self.next_fire_at.is_some() || other.expression == REBOOT)
    }
}

fn write(connection: &Connection, row: &ScheduleRow, now: Timestamp) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO verger_schedules (name, expression, timezone, worker, args, queue, priority, max_attempts, missed, overlap, deadline_ms, \
             jitter_ms, paused, anchor, next_fire_at, last_slot, created_at, updated_at, args_version) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?17, ?18) \
             ON CONFLICT (name) DO UPDATE SET expression = ?2, timezone = ?3, worker = ?4, args = ?5, queue = ?6, priority = ?7, \
             max_attempts = ?8, missed = ?9, overlap = ?10, deadline_ms = ?11, jitter_ms = ?12, anchor = ?14, next_fire_at = ?15, updated_at = ?17, \
             args_version = ?18",
        )?
        .execute(rusqlite::params![
            row.name,
            row.expression,
            row.timezone,
            row.worker,
            row.args,
            row.queue,
            row.priority,
            row.max_attempts,
            row.missed.to_string(),
            row.overlap.as_str(),
            row.deadline_ms,
            row.jitter_ms,
            row.paused,
            row.anchor,
            row.next_fire_at,
            row.last_slot,
            now.as_millis(),
            row.args_version,
        ])?;
    Ok(())
}

fn forget_registration(connection: &Connection, name: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM verger_registrations WHERE schedule = ?1")?
        .execute([name])
        .map(drop)
}

/// The schedules of a set of the app's code that are not among these any more.
pub(super) fn dropped(
    connection: &Connection,
    set: &str,
    names: &HashSet<&str>,
) -> rusqlite::Result<Vec<String>> {
    let mut select = connection.prepare_cached(
        "SELECT schedule FROM verger_registrations WHERE registered_by = ?1 ORDER BY schedule",
    )?;
    let rows = select
        .query_map([set], |row| row.get_ref(0).map(|name| name.as_str().map(str::to_string)))?;
    // A name that is no text was registered by nobody.
    let stored = rows.filter_map(|row| row.map(Result::ok).transpose());
    stored.filter(|name| !name.as_ref().is_ok_and(|name| names.contains(name.as_str()))).collect()
}

/// Retires a schedule that the app's code does not register any more. Its ledger says so, and its
/// jobs stay. Call it inside a write transaction.
pub(super) fn retire(connection: &Connection, name: &str, now: Timestamp) -> rusqlite::Result<()> {
    if let Some(row) = get(connection, name)?
        && !decide_missed(&Books::on(connection), &row, &Reason::Retired, now)?
    {
        let books = Books::on(connection);
        let line = Line { slot: free_instant(&books, name, now, |_| false)?, missed: 0, now };
        let outcome = (SlotOutcome::Skipped, Some(&Reason::Retired));
        books.write_line(name, &line, outcome, None)?;
    }
    delete(connection, name).map(drop)
}

/// Pauses or resumes a schedule. False when there is none of that name. Slots that fall due while
/// it is paused are skipped, and the ledger says so.
pub(super) fn set_paused(
    connection: &Connection,
    name: &str,
    paused: bool,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let Some(row) = get(connection, name)? else { return Ok(false) };
    if row.paused && !paused {
        decide_missed(&Books::on(connection), &row, &Reason::Paused, now)?;
    }
    if row.paused != paused {
        connection
            .prepare_cached(
                "UPDATE verger_schedules SET paused = ?2, updated_at = ?3 WHERE name = ?1",
            )?
            .execute((name, paused, now.as_millis()))?;
    }
    Ok(true)
}

/// Removes a schedule; its ledger and its jobs stay.
pub(super) fn remove(
    connection: &Connection,
    name: &str,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let Some(row) = get(connection, name)? else { return Ok(false) };
    decide_missed(&Books::on(connection), &row, &Reason::Removed, now)?;
    delete(connection, name)
}

fn delete(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    forget_registration(connection, name)?;
    let mut delete = connection.prepare_cached("DELETE FROM verger_schedules WHERE name = ?1")?;
    Ok(delete.execute([name])? == 1)
}
