//! Jobs that do not go on: parked, stuck, overdue, given up, kept waiting by locks.

use std::collections::BTreeMap;

use super::examination::{Examination, counted, quoted_text};
use super::finding::{Finding, Fix};
use crate::store::{Books, StoreError};
use crate::time::Timestamp;

/// Milliseconds. A job that has been due for longer than this is overdue.
pub(super) const OVERDUE: i64 = 300_000;

/// Milliseconds. Failures that are no older than this are reported.
const RECENT: i64 = 86_400_000;

/// The most kinds of waiting jobs that are told apart, and the most findings of one kind.
const KINDS_MAX: usize = 10_000;
const FINDINGS_MAX: usize = 20;

/// How many of the newest jobs are searched for locks they met.
const NEWEST: i64 = 2_000;

/// The jobs of one worker that wait in one queue.
struct Waiting {
    queue: String,
    worker: String,
    count: u64,
    first_due_at: i64,
}

pub(super) fn check(examination: &mut Examination<'_>) {
    count(examination);
    let paused = paused(examination);
    let Some(waiting) = waiting(examination) else { return };
    let now = examination.now.as_millis();
    parked(examination, &waiting);
    too_new(examination);
    let is_open = examination.facts.is_open;
    let known = examination.known.filter(|known| known.is_the_app);
    let mut by_queue: BTreeMap<&str, (u64, i64)> = BTreeMap::new();
    for kind in waiting.iter().filter(|kind| !paused.contains(&kind.queue)) {
        let is_late = now.saturating_sub(kind.first_due_at) > OVERDUE;
        let has_worker = known.is_none_or(|known| known.workers.contains(&kind.worker));
        if is_late && has_worker {
            let (count, first) = by_queue.entry(&kind.queue).or_insert((0, i64::MAX));
            *count += kind.count;
            *first = kind.first_due_at.min(*first);
        }
    }
    for (queue, (count, first)) in by_queue.into_iter().take(FINDINGS_MAX) {
        let since = match first > 0 {
            true => format!("is due since {}", Timestamp::from_millis(first)),
            false => "is due since it was enqueued".to_string(),
        };
        let jobs = counted(count, "job");
        let finding = if is_open == Some(false) {
            Finding::warning(
                "no-process",
                format!("queue `{queue}`: {jobs} wait, the first {since}, and no process has the file open for work"),
            )
            .mend(examination.verb("start"))
        } else {
            Finding::warning(
                "overdue-jobs",
                format!("queue `{queue}`: {jobs} wait, the first {since}: nothing performs them (does a process call `start()` or `tick()`?), or it cannot keep up"),
            )
            .mend(examination.verb("queue list"))
        };
        examination.found(finding.about(queue));
    }
    stuck(examination);
    given_up(examination);
    locked(examination);
}

fn count(examination: &mut Examination<'_>) {
    let sql = "SELECT 'executing', count(*) FROM verger_jobs WHERE lease_until IS NOT NULL AND state = 'executing' \
         UNION ALL SELECT 'scheduled', count(*) FROM verger_jobs WHERE state = 'scheduled' \
         UNION ALL SELECT 'available', count(*) FROM verger_jobs WHERE state = 'available' \
         UNION ALL SELECT 'retryable', count(*) FROM verger_jobs WHERE state = 'retryable' \
         UNION ALL SELECT 'completed', sum(n) FROM (SELECT count(*) AS n FROM verger_jobs WHERE state = 'completed' AND finished_at IS NOT NULL AND lease_until IS NULL \
            UNION ALL SELECT count(*) FROM verger_jobs WHERE lease_until IS NOT NULL AND state = 'completed') \
         UNION ALL SELECT 'discarded', count(*) FROM verger_jobs WHERE state = 'discarded' AND finished_at IS NOT NULL AND lease_until IS NULL \
         UNION ALL SELECT 'cancelled', count(*) FROM verger_jobs WHERE state = 'cancelled' AND finished_at IS NOT NULL AND lease_until IS NULL";
    let counts = examination.connection.prepare(sql).and_then(|mut statement| {
        statement
            .query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?
            .collect::<Result<_, _>>()
    });
    if let Some(counts) = examination.look("the table verger_jobs", counts) {
        examination.facts.jobs = counts;
    }
}

fn paused(examination: &mut Examination<'_>) -> Vec<String> {
    let paused = Books::on(examination.connection).paused_queues().map_err(StoreError::into_sqlite);
    examination.look("the table verger_queues", paused).unwrap_or_default()
}

fn waiting(examination: &mut Examination<'_>) -> Option<Vec<Waiting>> {
    let sql = "SELECT CAST(queue AS TEXT), CAST(worker AS TEXT), count(*), min(due_at) FROM verger_jobs \
         WHERE (state = 'scheduled' OR state = 'available' OR state = 'retryable') GROUP BY queue, priority, worker LIMIT ?1";
    let waiting = examination.connection.prepare(sql).and_then(|mut statement| {
        statement
            .query_map([KINDS_MAX as i64], |row| {
                let text = |column| {
                    Ok::<_, rusqlite::Error>(
                        String::from_utf8_lossy(row.get_ref(column)?.as_bytes()?).into_owned(),
                    )
                };
                Ok(Waiting {
                    queue: text(0)?,
                    worker: text(1)?,
                    count: row.get::<_, i64>(2)?.unsigned_abs(),
                    first_due_at: row.get(3)?,
                })
            })?
            .collect::<Result<_, _>>()
    });
    examination.look("the jobs that wait", waiting)
}

/// Jobs whose workers nobody here has.
fn parked(examination: &mut Examination<'_>, waiting: &[Waiting]) {
    let Some(known) = examination.known else { return };
    let mut parked: BTreeMap<&str, u64> = BTreeMap::new();
    for kind in waiting.iter().filter(|kind| !known.workers.contains(&kind.worker)) {
        *parked.entry(&kind.worker).or_default() += kind.count;
    }
    for (worker, count) in parked.into_iter().take(FINDINGS_MAX) {
        let message = format!(
            "worker `{worker}`: {} for a process that has it, and this one has no worker of that name",
            if count == 1 { "1 job waits".to_string() } else { format!("{count} jobs wait") }
        );
        let finding = match known.is_the_app {
            true => Finding::warning("parked-jobs", message),
            false => Finding::note("parked-jobs", message),
        };
        let list = format!("jobs list --worker {}", quoted_text(worker));
        let mend = examination.verb(&list);
        examination.found(finding.about(worker).mend(mend));
    }
}

/// Jobs whose args are of a later version than the worker here knows.
fn too_new(examination: &mut Examination<'_>) {
    let Some(known) = examination.known else { return };
    // A file of an earlier schema has no versions of args.
    let sql = "SELECT CAST(worker AS TEXT), args_version, count(*) FROM verger_jobs \
         WHERE (state = 'scheduled' OR state = 'available' OR state = 'retryable') \
         AND args_version > 1 GROUP BY worker, args_version LIMIT ?1";
    let has_versions =
        "SELECT count(*) FROM pragma_table_info('verger_jobs') WHERE name = 'args_version'";
    let found = examination.connection.query_row(has_versions, [], |row| row.get(0)).and_then(
        |has: i64| {
            if has == 0 {
                return Ok(Vec::new());
            }
            examination
                .connection
                .prepare(sql)?
                .query_map([KINDS_MAX as i64], |row| {
                    let worker = String::from_utf8_lossy(row.get_ref(0)?.as_bytes()?).into_owned();
                    Ok((worker, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?.unsigned_abs()))
                })?
                .collect::<Result<Vec<_>, _>>()
        },
    );
    let Some(found) = examination.look("the versions of args", found) else { return };
    let is_the_app = known.is_the_app;
    let too_new = found.into_iter().filter_map(|(worker, version, count)| {
        let newest = *known.newest_args.get(&worker)?;
        (version > newest.into()).then_some((worker, version, count, newest))
    });
    for (worker, version, count, newest) in too_new.take(FINDINGS_MAX).collect::<Vec<_>>() {
        let jobs =
            if count == 1 { "1 job waits".to_string() } else { format!("{count} jobs wait") };
        let message = format!(
            "worker `{worker}`: {jobs} for a newer version of it: their args are of version {version}, and the worker here knows them up to version {newest}"
        );
        let finding = match is_the_app {
            true => Finding::warning("parked-jobs", message),
            false => Finding::note("parked-jobs", message),
        };
        let list = format!("jobs list --worker {}", quoted_text(&worker));
        let mend = examination.verb(&list);
        examination.found(finding.about(&worker).mend(mend));
    }
}

/// Jobs that are being performed by a process that has gone.
fn stuck(examination: &mut Examination<'_>) {
    let now = examination.now;
    let held = examination.connection.prepare(
        "SELECT id, worker, lease_until FROM verger_jobs WHERE lease_until IS NOT NULL AND lease_until < ?1 AND state = 'executing' \
         ORDER BY lease_until LIMIT ?2",
    );
    let held = held.and_then(|mut statement| {
        statement
            .query_map((now.as_millis(), KINDS_MAX as i64), |row| {
                let worker = row.get_ref(1)?.as_bytes()?;
                Ok((
                    row.get::<_, i64>(0)?,
                    String::from_utf8_lossy(worker).into_owned(),
                    row.get::<_, i64>(2)?,
                ))
            })?
            .collect::<Result<Vec<_>, _>>()
    });
    let Some(held) = examination.look("the jobs that are executing", held) else { return };
    let Some((id, worker, until)) = held.first() else { return };
    let others = match held.len() - 1 {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let message = format!(
        "job {id} of worker `{worker}` is executing{others}, and whoever held it has not been heard of since its lease ended at {}: the process died, or its machine sleeps",
        Timestamp::from_millis(*until)
    );
    let mend = examination.verb("doctor --fix=stuck-jobs");
    examination.found(
        Finding::warning("stuck-jobs", message)
            .about(format!("job {id}"))
            .mend(mend)
            .fix(Fix::Safe),
    );
}

/// Jobs that were discarded lately, by worker.
fn given_up(examination: &mut Examination<'_>) {
    let since = examination.now.as_millis().saturating_sub(RECENT);
    let found = examination.connection.prepare(
        "SELECT worker, count(*), max(id) FROM verger_jobs \
         WHERE state = 'discarded' AND finished_at IS NOT NULL AND lease_until IS NULL AND finished_at >= ?1 \
         GROUP BY worker ORDER BY count(*) DESC LIMIT ?2",
    );
    let found = found.and_then(|mut statement| {
        statement
            .query_map((since, FINDINGS_MAX as i64), |row| {
                let worker = String::from_utf8_lossy(row.get_ref(0)?.as_bytes()?).into_owned();
                Ok((worker, row.get::<_, i64>(1)?.unsigned_abs(), row.get::<_, i64>(2)?))
            })?
            .collect::<Result<Vec<_>, _>>()
    });
    for (worker, count, newest) in
        examination.look("the jobs that were discarded", found).unwrap_or_default()
    {
        let reason = examination
            .connection
            .query_row(
                "SELECT json_extract(errors, '$[#-1].message') FROM verger_jobs WHERE id = ?1",
                [newest],
                |row| row.get::<_, Option<String>>(0),
            )
            .ok()
            .flatten();
        let reason = reason.map(|reason| {
            let line = crate::text::one_line(crate::text::beginning(&reason, 300)).into_owned();
            format!("; the newest, job {newest}, because: {line}")
        });
        let message = format!(
            "{} of worker `{worker}` failed for good in the last 24 h{}",
            counted(count, "job"),
            reason.unwrap_or_default()
        );
        let mend = examination.verb(&format!("jobs show {newest}"));
        examination.found(Finding::warning("discarded-jobs", message).about(worker).mend(mend));
    }
}

/// Attempts that ended because somebody held the write lock, or because they held it too long
/// themselves.
fn locked(examination: &mut Examination<'_>) {
    let sql = "SELECT count(*), max(job.id) FROM (SELECT id, errors FROM verger_jobs ORDER BY id DESC LIMIT ?1) AS job, \
         json_each(CASE WHEN json_valid(job.errors) THEN job.errors ELSE '[]' END) AS error \
         WHERE job.errors IS NOT NULL AND json_extract(error.value, '$.at') >= ?2 AND json_extract(error.value, '$.code') IN (?3, ?4)";
    let since = examination.now.as_millis().saturating_sub(RECENT);
    for (code, other, what) in [
        (
            "busy",
            "locked",
            "ended because the database stayed locked by another connection: someone keeps a write transaction open",
        ),
        (
            "lock-held",
            "lock-held",
            "were undone because they held the write lock for too long: their workers should checkpoint more often",
        ),
    ] {
        let found = examination.connection.query_row(sql, (NEWEST, since, code, other), |row| {
            Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get::<_, Option<i64>>(1)?))
        });
        if let Some((count, Some(newest))) = examination.look("the errors of jobs", found) {
            let message = format!("{} in the last 24 h {what}", counted(count, "attempt"));
            let mend = examination.verb(&format!("jobs show {newest}"));
            examination.found(Finding::warning("lock-waits", message).mend(mend));
        }
    }
}
