//! Schedules that make no jobs, and why.

use super::examination::{Examination, quoted_text};
use super::finding::Finding;
use super::jobs::OVERDUE;
use crate::schedule::{Expression, ScheduleRow, SlotOutcome};
use crate::store::Books;

/// This many slots in a row that made no job are worth a warning.
const IN_A_ROW: u32 = 3;

pub(super) fn check(examination: &mut Examination<'_>) {
    let rows = match Books::on(examination.connection).schedules() {
        Ok(rows) => rows,
        Err(error) => {
            examination.look::<()>("the table verger_schedules", Err(error.into_sqlite()));
            return;
        }
    };
    for row in rows {
        let fires = |verb: &str| format!("schedule {verb} {}", quoted_text(&row.name));
        if let Some((severe, reason)) = why_never(examination, &row) {
            let message = format!("schedule `{}` makes no jobs: {reason}", row.name);
            let (finding, verb) = match severe {
                Never::Broken => (Finding::error("schedule-never", message), "fires"),
                Never::Waits => (Finding::warning("schedule-overdue", message), "fires"),
                Never::Paused => (Finding::note("schedule-paused", message), "resume"),
                Never::Elsewhere => (Finding::note("schedule-elsewhere", message), "fires"),
            };
            let mend = match severe {
                Never::Waits if examination.facts.is_open == Some(false) => {
                    examination.verb("start")
                }
                _ => examination.verb(&fires(verb)),
            };
            examination.found(finding.about(row.name.clone()).mend(mend));
        } else if let Some(why) = skips(examination, &row) {
            let message =
                format!("the last {IN_A_ROW} slots of schedule `{}` made no job: {why}", row.name);
            let mend = examination.verb(&fires("fires"));
            examination.found(
                Finding::warning("schedule-skips", message).about(row.name.clone()).mend(mend),
            );
        }
    }
}

enum Never {
    /// It cannot fire until someone changes it.
    Broken,
    /// It is due, and nobody fires it.
    Waits,
    /// Someone paused it.
    Paused,
    /// It cannot fire here. Another process may have what it needs.
    Elsewhere,
}

fn why_never(examination: &Examination<'_>, row: &ScheduleRow) -> Option<(Never, String)> {
    if let Some(unreadable) = row.unreadable.first() {
        let why = format!("its column {} cannot be read: {}", unreadable.column, unreadable.why);
        return Some((Never::Broken, why));
    }
    let expression: Expression = match row.expression.parse() {
        Ok(expression) => expression,
        Err(error) => return Some((Never::Broken, format!("{error}"))),
    };
    if let Some(known) = examination.known.filter(|known| !known.workers.contains(&row.worker)) {
        let why = format!("there is no worker `{}` here", row.worker);
        return Some((if known.is_the_app { Never::Broken } else { Never::Elsewhere }, why));
    }
    if row.paused {
        return Some((Never::Paused, "it is paused".to_string()));
    }
    match row.next_fire_at {
        None if expression.is_reboot() => None,
        None => Some((
            Never::Broken,
            format!("`{}` ({}) has no time to come", row.expression, expression.describe()),
        )),
        Some(next) if examination.now.as_millis().saturating_sub(next.as_millis()) > OVERDUE => {
            Some((Never::Waits, format!("its slot {} is due, and nothing has ticked since", next)))
        }
        Some(_) => None,
    }
}

/// Why its last slots made no job, if none of them did.
fn skips(examination: &mut Examination<'_>, row: &ScheduleRow) -> Option<String> {
    let lines = match Books::on(examination.connection).fires(&row.name, IN_A_ROW) {
        Ok(lines) => lines,
        Err(error) => {
            examination.look::<()>("the table verger_fires", Err(error.into_sqlite()));
            return None;
        }
    };
    let all = lines.len() as u64 == u64::from(IN_A_ROW)
        && lines.iter().all(|line| line.outcome == SlotOutcome::Skipped && line.job.is_none());
    let newest = lines.first().filter(|_| all)?;
    Some(newest.explain())
}
