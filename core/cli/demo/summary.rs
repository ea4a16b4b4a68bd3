//! The results of the demo, read from the tables.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value as Json, json};
use verger::rusqlite::types::Value;
use verger::{AuditFilter, ChainError, Expression, Timestamp};

use super::SWEEPS;
use super::database::{Database, Words, integer, text};
use super::life::{Life, Tallies};
use super::place::Place;
use super::words;
use super::world::{DAY, World};
use crate::output::count;
use crate::table::{Side, Table};

/// How many of the last events are shown.
const LAST_EVENTS: u32 = 10;

/// What one worker did.
struct Sweep {
    worker: &'static str,
    schedule: String,
    runs: u64,
    rows_changed: u64,
    audited: u64,
    errors: u64,
    discarded: u64,
    /// Median and 99th percentile, of the attempts of this process.
    times: Option<(Duration, Duration)>,
}

/// A group of rows, and how many are in each part of it.
struct Group {
    name: &'static str,
    parts: Vec<(String, u64)>,
}

/// The whole summary.
pub(crate) struct Summary {
    world: World,
    now: Timestamp,
    slots: u64,
    sweeps: Vec<Sweep>,
    groups: Vec<Group>,
    /// Rows of the audit log, or why it does not verify.
    audit: Result<u64, String>,
    last: Vec<(Timestamp, String)>,
}

impl Summary {
    pub(crate) fn of(life: &mut Life, tallies: &Tallies) -> Result<Self> {
        let audit = match life.verger.verify_audit() {
            Ok(verified) => Ok(verified.rows),
            Err(broken @ (ChainError::Broken { .. } | ChainError::Missing { .. })) => {
                Err(broken.to_string())
            }
            Err(error) => return Err(error.into()),
        };
        let mut last = Vec::new();
        for event in life.verger.audit_log(&AuditFilter::default(), LAST_EVENTS)?.iter().rev() {
            let sql = "SELECT name FROM organizations WHERE id = ?1";
            let organization = match &event.organization_id {
                Some(id) => life.app.rows(sql, &[id.clone().into()])?.pop(),
                None => None,
            };
            let organization = organization.and_then(|mut row| row.pop()).map(text);
            last.push((event.occurred_at, words::sentence(event, organization.as_deref())));
        }
        let now = life.now();
        Ok(Self {
            world: life.world,
            now,
            slots: u64::try_from(life.slot).unwrap_or(0),
            sweeps: SWEEPS
                .into_iter()
                .map(|(schedule, worker)| sweep(life, schedule, worker, tallies))
                .collect::<Result<_>>()?,
            groups: groups(&mut life.app, now)?,
            audit,
            last,
        })
    }

    /// Whether every job came to a good end and the audit log is whole.
    pub(crate) fn is_sound(&self) -> bool {
        self.audit.is_ok() && self.sweeps.iter().all(|sweep| sweep.discarded == 0)
    }

    fn days(&self) -> u64 {
        self.slots / 288
    }

    pub(crate) fn to_json(&self, place: &Place) -> Json {
        let millis = |time: Duration| time.as_secs_f64() * 1_000.0;
        let workers = self.sweeps.iter().map(|sweep| {
            json!({
                "worker": sweep.worker,
                "schedule": sweep.schedule,
                "runs": sweep.runs,
                "rows_changed": sweep.rows_changed,
                "audited": sweep.audited,
                "errors": sweep.errors,
                "median_ms": sweep.times.map(|(median, _)| millis(median)),
                "p99_ms": sweep.times.map(|(_, p99)| millis(p99)),
            })
        });
        let groups = self.groups.iter().map(|group| {
            let parts = group
                .parts
                .iter()
                .map(|(name, number)| (name.replace([' ', '-'], "_"), json!(number)));
            (group.name.replace(' ', "_"), Json::Object(parts.collect()))
        });
        json!({
            "db": place.to_string(),
            "seed": self.world.seed,
            "days": self.days(),
            "slots": self.slots,
            "now": self.now.to_string(),
            "workers": workers.collect::<Vec<_>>(),
            "data": Json::Object(groups.collect()),
            "audit": {"rows": self.audit.as_ref().ok(), "verified": self.audit.is_ok()},
            "last_events": self.last.iter().map(|(at, what)| json!({"at": at.to_string(), "what": what})).collect::<Vec<_>>(),
        })
    }

    pub(crate) fn in_words(
        &self,
        place: &Place,
        days: u32,
        lived_before: bool,
        took: Duration,
    ) -> String {
        let lived = match lived_before {
            true => format!(
                "{} has lived through its {} days already; this is what it holds.",
                place,
                self.days()
            ),
            false => {
                format!(
                    "Lived through {} days, {} slots of five minutes, in {:.1} s.",
                    self.days(),
                    count(self.slots),
                    took.as_secs_f64()
                )
            }
        };
        let audit = match &self.audit {
            Ok(rows) => format!("{} rows, and the hash chain is whole.", count(*rows)),
            Err(broken) => format!("{broken}."),
        };
        let mut text = format!(
            "\n{lived}\nIts clock stands at {}. It holds {} organisations (seed {}).\n\n{}\n",
            self.now,
            count(self.world.organizations()),
            self.world.seed,
            self.table().into_text(),
        );
        text.push_str("The data now\n");
        for group in &self.groups {
            let total: u64 = group.parts.iter().map(|(_, number)| number).sum();
            let parts: Vec<String> = group
                .parts
                .iter()
                .map(|(name, number)| format!("{} {name}", count(*number)))
                .collect();
            text.push_str(&wrapped(&format!("{} {}:", count(total), group.name), &parts));
        }
        text.push_str(&format!("\nThe audit log\n  {audit} Its last events:\n"));
        for (at, what) in &self.last {
            text.push_str(&format!("  {at}  {what}\n"));
        }
        text.push_str(&self.further(place, days, lived_before));
        text
    }

    fn table(&self) -> Table {
        let mut columns = vec![
            ("WORKER", Side::Left),
            ("SCHEDULE", Side::Left),
            ("RUNS", Side::Right),
            ("ROWS CHANGED", Side::Right),
            ("AUDITED", Side::Right),
            ("ERRORS", Side::Right),
        ];
        // If the demo was over before, there is nothing to time.
        let timed = self.sweeps.iter().any(|sweep| sweep.times.is_some());
        if timed {
            columns.extend([("MEDIAN", Side::Right), ("P99", Side::Right)]);
        }
        let mut table = Table::new(&columns);
        for sweep in &self.sweeps {
            let time = |time: Option<Duration>| {
                time.map_or_else(
                    || "-".to_string(),
                    |time| format!("{:.2} ms", time.as_secs_f64() * 1_000.0),
                )
            };
            let numbers = [sweep.runs, sweep.rows_changed, sweep.audited, sweep.errors].map(count);
            let times = [
                time(sweep.times.map(|(median, _)| median)),
                time(sweep.times.map(|(_, p99)| p99)),
            ];
            table.row(
                [sweep.worker.to_string(), sweep.schedule.clone()]
                    .into_iter()
                    .chain(numbers)
                    .chain(times.into_iter().filter(|_| timed)),
            );
        }
        table
    }

    fn further(&self, place: &Place, days: u32, lived_before: bool) -> String {
        // The command as it was called, because whoever uses cargo has no `verger` on the path.
        let verger = std::env::args().next().unwrap_or_else(|| "verger".to_string());
        let mut text = format!("\n{}\n", place.where_to_look());
        for command in place.commands() {
            text.push_str(&format!("  {verger} {command}\n"));
        }
        if lived_before {
            text.push_str(&format!(
                "To go on: {verger} demo {} --days {}. To start over, name another place with --db.\n",
                place.argument(),
                u64::from(days).max(self.days()) + 7
            ));
        }
        text
    }
}

fn sweep(
    life: &mut Life,
    schedule: &str,
    worker: &'static str,
    tallies: &Tallies,
) -> Result<Sweep> {
    let Words { audit, fires, schedules, jobs, deleted, linked, errors, .. } = life.app.words();
    // The changes that the audit log tells: one for an event of a membership, a count for
    // invitations, and two for each link, because it appends an event and moves a delivery on.
    let changed = format!(
        "SELECT CAST(coalesce(sum(CASE action WHEN 'membership.updated' THEN 1 \
         WHEN 'organization_invitation.deleted' THEN {deleted} \
         WHEN 'webhook_event.reconciled' THEN 2 * ({linked}) END), 0) AS BIGINT) \
         FROM {audit} WHERE worker = ?1 AND outcome = 'success'"
    );
    let runs = format!(
        "SELECT count(f.job) FROM {fires} f JOIN {schedules} s ON s.name = f.schedule WHERE s.worker = ?1"
    );
    let audited = format!("SELECT count(*) FROM {audit} WHERE worker = ?1");
    let told = format!("SELECT count(*) FROM {audit} WHERE worker = ?1 AND outcome = 'error'");
    let kept =
        format!("SELECT CAST(coalesce(sum({errors}), 0) AS BIGINT) FROM {jobs} WHERE worker = ?1");
    let discarded =
        format!("SELECT count(*) FROM {jobs} WHERE worker = ?1 AND state = 'discarded'");
    let stored = life.verger.schedules()?.into_iter().find(|row| row.name == schedule);
    let words = stored
        .and_then(|row| row.expression.parse::<Expression>().ok())
        .map(|expression| expression.describe());
    let mut number = |sql: &str| life.app.number(sql, &[worker.to_string().into()]);
    Ok(Sweep {
        worker,
        schedule: words.unwrap_or_default(),
        runs: number(&runs)?,
        rows_changed: number(&changed)?,
        audited: number(&audited)?,
        errors: number(&told)? + number(&kept)?,
        discarded: number(&discarded)?,
        times: tallies.get(worker).and_then(|times| quantiles(times.clone())),
    })
}

/// The median and the 99th percentile.
fn quantiles(mut times: Vec<Duration>) -> Option<(Duration, Duration)> {
    times.sort_unstable();
    let at = |percent: usize| {
        times.get((times.len() * percent).div_ceil(100).saturating_sub(1)).copied()
    };
    at(50).zip(at(99))
}

fn groups(app: &mut Database, now: Timestamp) -> Result<Vec<Group>> {
    let mut group = |name, sql: &str| -> Result<Group> {
        let rows = app.rows(sql, &[])?.into_iter();
        let parts = rows.filter_map(|row| <[Value; 2]>::try_from(row).ok());
        Ok(Group {
            name,
            parts: parts.map(|[part, number]| (text(part), integer(&number))).collect(),
        })
    };
    let (now, week_ago) = (now.as_millis(), now.as_millis() - 7 * DAY);
    Ok(vec![
        group(
            "memberships",
            "SELECT state, count(*) FROM memberships GROUP BY state ORDER BY count(*) DESC, state",
        )?,
        group(
            "invitations",
            &format!(
                "SELECT CASE WHEN accepted_at IS NOT NULL THEN 'accepted' WHEN expires_at >= {now} THEN 'open' \
                 ELSE 'expired and kept for now' END AS part, \
                 count(*) FROM organization_invitations GROUP BY part ORDER BY count(*) DESC, part"
            ),
        )?,
        group(
            "webhook events",
            &format!(
                "SELECT CASE WHEN needs_reconciliation = 0 THEN 'came after their delivery' \
                 WHEN EXISTS (SELECT 1 FROM webhook_events r WHERE r.idempotency_key = 'reconciled:' || e.id) THEN 'came before it and were linked' \
                 WHEN inserted_at >= {week_ago} THEN 'still wait for it' ELSE 'are no longer looked for' END AS part, \
                 count(*) FROM webhook_events e WHERE type <> 'reconciled' GROUP BY part ORDER BY count(*) DESC, part"
            ),
        )?,
        group(
            "deliveries",
            "SELECT status, count(*) FROM deliveries GROUP BY status ORDER BY count(*) DESC, status",
        )?,
    ])
}

/// A head and its parts, on lines of at most 100 characters.
fn wrapped(head: &str, parts: &[String]) -> String {
    let (mut text, mut line) = (String::new(), format!("  {head:<24}"));
    for (place, part) in parts.iter().enumerate() {
        let comma = if place + 1 < parts.len() { "," } else { "" };
        if line.chars().count() + part.chars().count() + 2 > 100 {
            text.push_str(line.trim_end());
            text.push('\n');
            line = format!("  {:24}", "");
        }
        line.push_str(&format!(" {part}{comma}"));
    }
    text + &line + "\n"
}
