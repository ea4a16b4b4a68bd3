//! `verger schedule`: when things run, and why they did or did not.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};
use verger::{
    Expression, FireRow, Missed, Overlap, Schedule, ScheduleRow, Timestamp, Zone, upcoming,
};

use crate::books::Books;
use crate::input;
use crate::options::{Database, Options};
use crate::output::{opt_time, print, print_json, print_json_lines, row};
use crate::table::{Side, Table};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// What an expression means and when it is due next; needs no database
    Next {
        /// Five fields as in crontab(5), six with seconds first, a nickname such as @daily, or
        /// `@every 5m`
        #[arg(value_parser = input::expression)]
        expression: Expression,
        /// The time zone it goes by
        #[arg(long, value_name = "ZONE", default_value = "UTC", value_parser = input::zone)]
        tz: Zone,
        /// After this time; now when left out
        #[arg(long, value_name = "TIME", value_parser = input::time)]
        from: Option<Timestamp>,
        /// How many, up to 10,000
        #[arg(short = 'n', value_name = "N", default_value_t = 5)]
        count: usize,
    },
    /// All stored schedules
    List {
        #[command(flatten)]
        database: Database,
    },
    /// The ledger of a schedule, newest first: what became of each slot, and why
    Fires {
        /// Its name
        name: String,
        #[command(flatten)]
        database: Database,
        /// Only this instant, a slot or not: why it did, or did not, run then
        #[arg(long, value_name = "TIME", value_parser = input::time)]
        at: Option<Timestamp>,
        /// How many at most
        #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
        limit: u32,
    },
    /// Add a schedule, or change the one of that name
    Add {
        /// Its name
        name: String,
        /// When: as for `schedule next`
        expression: String,
        #[command(flatten)]
        database: Database,
        #[command(flatten)]
        settings: Settings,
    },
    /// Remove a schedule; its ledger and its jobs stay
    Remove {
        /// Its name
        name: String,
        #[command(flatten)]
        database: Database,
    },
    /// Pause a schedule: its slots make no jobs, and the ledger says so
    Pause {
        /// Its name
        name: String,
        #[command(flatten)]
        database: Database,
    },
    /// Resume a paused schedule with its next slot
    Resume {
        /// Its name
        name: String,
        #[command(flatten)]
        database: Database,
    },
    /// Make a job now, outside the slots, paused or not; the next slot stays
    RunNow {
        /// Its name
        name: String,
        #[command(flatten)]
        database: Database,
    },
}

#[derive(Args)]
pub(crate) struct Settings {
    /// The worker of its jobs
    #[arg(long, value_name = "NAME")]
    worker: String,
    /// The args of its jobs, a JSON object
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = input::args)]
    args: Json,
    /// The time zone it goes by
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    tz: String,
    /// What becomes of slots missed while nothing ticked: coalesce, skip, or `replay N`
    #[arg(long, value_name = "POLICY", default_value = "coalesce")]
    missed: Missed,
    /// Make jobs while an earlier one is unfinished
    #[arg(long)]
    allow_overlap: bool,
    /// Skip a slot that is found due later than this, such as 90s or 2h
    #[arg(long, value_name = "TIME", value_parser = input::duration)]
    start_deadline: Option<Duration>,
    /// Put its jobs off by up to this long, always the same for its name
    #[arg(long, value_name = "TIME", value_parser = input::duration)]
    jitter: Option<Duration>,
}

impl Settings {
    fn apply(&self, mut schedule: Schedule) -> Result<Schedule> {
        schedule = schedule
            .time_zone(&self.tz)?
            .worker(&self.worker)
            .args(self.args.clone())
            .missed(self.missed);
        if self.allow_overlap {
            schedule = schedule.overlap(Overlap::Allow);
        }
        if let Some(deadline) = self.start_deadline {
            schedule = schedule.start_deadline(deadline);
        }
        Ok(schedule.jitter(self.jitter.unwrap_or_default()))
    }
}

impl Command {
    pub(crate) fn run(&self, options: &Options) -> Result<ExitCode> {
        match self {
            Self::Next { expression, tz, from, count } => {
                next(expression, *tz, from.unwrap_or_else(|| options.now()), *count, options.json)?
            }
            Self::List { database } => {
                list(&options.books_to_read(database)?.schedules()?, options.json)?
            }
            Self::Fires { name, database, at: Some(at), .. } => {
                let why = options.open_to_read(database)?.explain(name, *at)?;
                match options.json {
                    true => {
                        print_json(&json!({"schedule": name, "at": at.to_string(), "why": why}))?
                    }
                    false => print([why]),
                }
            }
            Self::Fires { name, database, limit, at: None } => {
                let verger = options.books_to_read(database)?;
                let fires = verger.fires(name, *limit)?;
                // The ledger of a removed schedule can still be read.
                if fires.is_empty() {
                    check_known(&verger, name)?;
                }
                print_fires(&fires, options.json)?;
            }
            Self::Add { name, expression, database, settings } => {
                let schedule = settings.apply(Schedule::cron(name, expression)?)?;
                let verger = options.books_to_change(database)?;
                verger.add_schedule(&schedule)?;
                changed(&verger, name, options, "stored")?;
            }
            Self::Remove { name, database } => {
                let verger = options.books_to_change(database)?;
                check_known(&verger, name)?;
                verger.remove_schedule(name)?;
                if options.json {
                    print_json(&json!({"name": name, "removed": true}))?;
                } else {
                    print([format!("schedule {name} is removed")]);
                }
            }
            Self::Pause { name, database } => {
                let verger = options.books_to_change(database)?;
                check_known(&verger, name)?;
                verger.pause_schedule(name)?;
                changed(&verger, name, options, "paused")?;
            }
            Self::Resume { name, database } => {
                let verger = options.books_to_change(database)?;
                check_known(&verger, name)?;
                verger.resume_schedule(name)?;
                changed(&verger, name, options, "resumed")?;
            }
            Self::RunNow { name, database } => {
                let verger = options.open(database)?;
                check_known(&Books::File(verger.clone()), name)?;
                if let Some(made) = verger.run_schedule_now(name)? {
                    let what =
                        if made.existing { "has an unfinished job already" } else { "made a job" };
                    match options.json {
                        true => print_json(
                            &json!({"schedule": name, "job": made.id, "existing": made.existing}),
                        )?,
                        false => print([format!("schedule {name} {what}: {}", made.id)]),
                    }
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn check_known(verger: &Books, name: &str) -> Result<()> {
    let known: Vec<String> =
        verger.schedules()?.into_iter().map(|schedule| schedule.name).collect();
    if known.iter().any(|known| known == name) {
        return Ok(());
    }
    let known = if known.is_empty() { "none".to_string() } else { known.join(", ") };
    bail!("there is no schedule `{name}`: known are {known}")
}

fn changed(verger: &Books, name: &str, options: &Options, what: &str) -> Result<()> {
    let schedules = verger.schedules()?;
    let Some(schedule) = schedules.iter().find(|schedule| schedule.name == name) else {
        return Ok(());
    };
    match options.json {
        true => print_json(&schedule_json(schedule)),
        false => {
            print([format!(
                "schedule {name} is {what}, {}; next due {}",
                words(schedule),
                opt_time(schedule.next_fire_at)
            )]);
            Ok(())
        }
    }
}

fn next(
    expression: &Expression,
    zone: Zone,
    from: Timestamp,
    count: usize,
    json: bool,
) -> Result<()> {
    let slots = upcoming(expression, zone, from, count);
    if json {
        let slots = slots.iter().map(|slot| {
            let mut json = json!({"utc": slot.at.to_string(), "local": slot.local});
            if let Some(note) = &slot.note {
                json["note"] = json!(note.to_string());
            }
            json
        });
        return print_json(&slots.collect::<Vec<_>>());
    }
    let mut text = format!("{expression}  means  {}, {zone}\n", expression.describe());
    if slots.is_empty() {
        text.push_str(&format!("There is no such time after {from}.\n"));
        print(text.lines());
        return Ok(());
    }
    // In UTC the local time says nothing new.
    let local = zone != Zone::UTC;
    let columns = [("UTC", Side::Left), ("LOCAL", Side::Left), ("", Side::Left)];
    let mut table = Table::new(if local { &columns } else { &columns[..1] });
    for slot in slots {
        let cells = [
            slot.at.to_string(),
            slot.local,
            slot.note.map(|note| note.to_string()).unwrap_or_default(),
        ];
        table.row(cells.into_iter().take(if local { 3 } else { 1 }));
    }
    text.push_str(&table.into_text());
    print(text.lines());
    Ok(())
}

fn words(schedule: &ScheduleRow) -> String {
    schedule
        .expression
        .parse::<Expression>()
        .map_or_else(|error| error.to_string(), |expression| expression.describe())
}

fn schedule_json(schedule: &ScheduleRow) -> Json {
    row(schedule, &["args"])
}

fn list(schedules: &[ScheduleRow], json: bool) -> Result<()> {
    if json {
        print_json_lines(schedules.iter().map(schedule_json));
        return Ok(());
    }
    if schedules.is_empty() {
        print(["no schedules"]);
        return Ok(());
    }
    let mut table = Table::new(&[
        ("NAME", Side::Left),
        ("EXPRESSION", Side::Left),
        ("ZONE", Side::Left),
        ("WORKER", Side::Left),
        ("NEXT", Side::Left),
        ("MEANING", Side::Left),
    ]);
    for schedule in schedules {
        let next =
            if schedule.paused { "paused".to_string() } else { opt_time(schedule.next_fire_at) };
        table.row([
            schedule.name.clone(),
            schedule.expression.clone(),
            schedule.timezone.clone(),
            schedule.worker.clone(),
            next,
            words(schedule),
        ]);
    }
    print(table.lines());
    Ok(())
}

fn print_fires(fires: &[FireRow], json: bool) -> Result<()> {
    if json {
        print_json_lines(fires.iter().map(|fire| row(fire, &[])));
        return Ok(());
    }
    if fires.is_empty() {
        print(["no slot has come yet"]);
        return Ok(());
    }
    print(fires.iter().map(FireRow::explain));
    Ok(())
}
