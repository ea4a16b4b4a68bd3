//! "Why did it (not) run at 03:00?", in one sentence.

use std::time::Duration;

use rusqlite::Connection;

use super::ledger::{FireRow, Reason, fire_at_or_after, fires};
use super::rows::{self, ScheduleRow};
use super::slots::Rule;
use crate::queue::JobId;
use crate::store::{Books, StoreContext, StoreError};
use crate::time::Timestamp;

/// A slot found due no later than this was on time.
const ON_TIME: Duration = Duration::from_secs(1);

impl FireRow {
    /// What became of the slot, and why, in one sentence.
    ///
    /// ```no_run
    /// # let verger = verger::Verger::builder("app.db").open()?;
    /// for row in verger.fires("nightly-invitations", 7)? {
    ///     println!("{}", row.explain());
    /// }
    /// # Ok::<(), verger::Error>(())
    /// ```
    #[must_use]
    pub fn explain(&self) -> String {
        self.explain_with("")
    }

    /// The same, with words about the job: ", which is completed".
    fn explain_with(&self, job_is: &str) -> String {
        let (slot, late) = (self.slot, self.late());
        let Some(job) = self.job else {
            let others = match self.missed {
                0 => String::new(),
                1 => "; the same goes for the slot before it".to_string(),
                many => format!("; the same goes for the {many} slots before it"),
            };
            return format!("{slot} made no job: {}{others}.", self.reason_in_words());
        };
        if self.reason == Some(Reason::RunNow) {
            return format!(
                "{slot} is no slot: someone asked for a run, which made job {job}{job_is}."
            );
        }
        let late = if late > ON_TIME {
            format!(" {} late", in_words(late))
        } else {
            " on time".to_string()
        };
        let others = match self.missed {
            0 => String::new(),
            1 => "; it stands for the slot before it too, which was missed".to_string(),
            many => format!("; it stands for the {many} slots before it too, which were missed"),
        };
        format!("{slot} made job {job}{late}{job_is}{others}.")
    }

    fn late(&self) -> Duration {
        self.fired_at.since(self.slot)
    }

    fn reason_in_words(&self) -> String {
        let late = in_words(self.late());
        let words = match &self.reason {
            None => "no reason is recorded",
            Some(Reason::Overlap) => {
                "a job of an earlier slot was unfinished, and the schedule forbids overlap"
            }
            Some(Reason::Deadline) => {
                return format!("it was found due {late} late, which is past the start deadline");
            }
            Some(Reason::Paused) => "the schedule was paused",
            Some(Reason::Missed) => {
                return format!(
                    "it was found due {late} late, and the schedule does not make up for it"
                );
            }
            Some(Reason::Changed) => {
                "the schedule was changed before it was found due, and a changed schedule does not make up for old slots"
            }
            Some(Reason::Removed) => "the schedule was removed before it was found due",
            Some(Reason::Retired) => "the app does not register the schedule any more",
            Some(Reason::RunNow) => "someone asked for a run",
            Some(Reason::Worker(why) | Reason::Unreadable(why) | Reason::Other(why)) => why,
        };
        words.to_string()
    }
}

/// Says what became, or will become, of this instant in this schedule.
pub(super) fn explain(
    connection: &Connection,
    name: &str,
    at: Timestamp,
    now: Timestamp,
) -> Result<String, StoreError> {
    let reading = "read the fire ledger";
    let schedule = rows::get(connection, name).doing(reading)?;
    let line = fire_at_or_after(connection, name, at).doing(reading)?;
    if let Some(line) = line.as_ref().filter(|line| line.slot == at) {
        return Ok(line.explain_with(&job_in_words(connection, line.job)?));
    }
    let Some(schedule) = schedule else {
        return Ok(match fires(connection, name, 1)?.is_empty() {
            true => {
                format!("There is no schedule `{name}`, and there is no line of it in the ledger.")
            }
            false => format!(
                "There is no schedule `{name}` any more, and the ledger has no line of it for {at}."
            ),
        });
    };
    let rule = match Rule::of(&schedule) {
        Ok(rule) => rule,
        Err(reason) => return Ok(format!("{at} makes no job: {reason}.")),
    };
    let is_slot = rule.is_slot(at);
    // The line of a later slot may stand for this one. Lines of the same rule leave no gap; this
    // one's rule may have been another.
    let stands = line.filter(|line| line.missed > 0 && at <= now);
    if let Some(line) = stands.filter(|line| is_slot && rule.covers(at, line)) {
        let slot = line.slot;
        return Ok(match line.job {
            Some(job) => {
                let job_is = job_in_words(connection, Some(job))?;
                format!(
                    "{at} was missed, and job {job}{job_is}, made for the slot {slot}, stands for it."
                )
            }
            None => format!(
                "{at} made no job, as the slot {slot} after it: {}.",
                line.reason_in_words()
            ),
        });
    }
    Ok(explain_without_line(&schedule, &rule, is_slot, at, now))
}

fn explain_without_line(
    schedule: &ScheduleRow,
    rule: &Rule,
    is_slot: bool,
    at: Timestamp,
    now: Timestamp,
) -> String {
    let words = format!(
        "`{}` ({}, {})",
        schedule.expression,
        rule.expression.describe(),
        schedule.timezone
    );
    let since = schedule.anchor;
    if rule.expression.is_reboot() {
        return format!(
            "{at} is no start of the app that the ledger knows of, and {words} fires at those."
        );
    }
    if at <= since && at <= now {
        return format!(
            "{at} made no job: the schedule is {words} since {since}, and a new or changed schedule does not make up for old slots."
        );
    }
    if !is_slot {
        let before = rule.last_between(since, at).map_or_else(
            || "there is none before it".to_string(),
            |slot| format!("the one before it is {slot}"),
        );
        let after = rule.next(at).map_or_else(
            || "there is none after it".to_string(),
            |slot| format!("the next is {slot}"),
        );
        return format!("{at} is no slot of {words}: {before}, {after}.");
    }
    let paused = if schedule.paused { ", but the schedule is paused" } else { "" };
    if at > now {
        return format!("{at} is still to come: it is a slot of {words}{paused}.");
    }
    match schedule.next_fire_at {
        Some(next) if at >= next => {
            format!("{at} is due and was not looked at yet: nothing has ticked since{paused}.")
        }
        _ => format!(
            "{at} is a slot of {words}, but the ledger has no line of it: it was pruned, or the clock was set back over it."
        ),
    }
}

impl Rule {
    /// Whether this line of a later slot stands for the slot too.
    fn covers(&self, slot: Timestamp, line: &FireRow) -> bool {
        let (_, slots) = self.due(slot, line.slot);
        slots <= line.missed
    }
}

fn job_in_words(connection: &Connection, job: Option<JobId>) -> Result<String, StoreError> {
    let Some(job) = job else { return Ok(String::new()) };
    Ok(match Books::on(connection).job(job, &|_| Some(u32::MAX))? {
        Some(job) => format!(", which is {}", job.state),
        None => ", which is no longer kept".to_string(),
    })
}

/// The two largest units of a length of time: `2 d 3 h`.
fn in_words(length: Duration) -> String {
    let millis = length.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"), (1, "ms")];
    let Some(place) = units.iter().position(|(size, _)| millis >= *size) else {
        return "0 s".to_string();
    };
    let (mut rest, mut words) = (millis, Vec::new());
    for (size, unit) in units.iter().skip(place).take(2) {
        if rest >= *size {
            words.push(format!("{} {unit}", rest / size));
            rest %= size;
        }
    }
    words.join(" ")
}
