//! `verger queue`: what waits in each queue, and pausing one.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Subcommand;
use serde_json::Value as Json;
use verger::QueueRow;

use crate::books::Books;
use crate::options::{Database, Options};
use crate::output::{count, counted, opt_time, print, print_json, print_json_lines, row};
use crate::table::{Side, Table};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// The queues in which a job waits or is being performed, and those that were ever paused
    List {
        #[command(flatten)]
        database: Database,
    },
    /// Have nothing claimed from a queue, by any process, until it is resumed; a job that is being
    /// performed goes on
    Pause {
        /// Its name
        name: String,
        #[command(flatten)]
        database: Database,
    },
    /// Have a paused queue claimed from again
    Resume {
        /// Its name
        name: String,
        #[command(flatten)]
        database: Database,
    },
}

impl Command {
    pub(crate) fn run(&self, options: &Options) -> Result<ExitCode> {
        match self {
            Self::List { database } => {
                list(&options.books_to_read(database)?.queues()?, options.json)?
            }
            Self::Pause { name, database } => {
                let verger = options.books_to_change(database)?;
                verger.pause_queue(name)?;
                changed(&verger, name, options, "is paused")?;
            }
            Self::Resume { name, database } => {
                let verger = options.books_to_change(database)?;
                let queues = verger.queues()?.into_iter().filter(|queue| queue.paused);
                let paused: Vec<String> = queues.map(|queue| queue.name).collect();
                if !paused.contains(name) {
                    let paused =
                        if paused.is_empty() { "none".to_string() } else { paused.join(", ") };
                    bail!("the queue `{name}` is not paused: paused are {paused}");
                }
                verger.resume_queue(name)?;
                changed(&verger, name, options, "is resumed")?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn changed(verger: &Books, name: &str, options: &Options, what: &str) -> Result<()> {
    let queues = verger.queues()?;
    let Some(queue) = queues.iter().find(|queue| queue.name == name) else { return Ok(()) };
    match options.json {
        true => print_json(&queue_json(queue)),
        false => {
            print([format!(
                "queue {name} {what}; {} in it",
                counted(queue.waiting, "waiting job")
            )]);
            Ok(())
        }
    }
}

fn queue_json(queue: &QueueRow) -> Json {
    row(queue, &[])
}

fn list(queues: &[QueueRow], json: bool) -> Result<()> {
    if json {
        print_json_lines(queues.iter().map(queue_json));
        return Ok(());
    }
    if queues.is_empty() {
        print(["no job waits in any queue, and none was ever paused"]);
        return Ok(());
    }
    let mut table = Table::new(&[
        ("NAME", Side::Left),
        ("PAUSED", Side::Left),
        ("WAITING", Side::Right),
        ("EXECUTING", Side::Right),
        ("NEXT DUE", Side::Left),
    ]);
    for queue in queues {
        table.row([
            queue.name.clone(),
            if queue.paused { "yes" } else { "-" }.to_string(),
            count(queue.waiting),
            count(queue.executing),
            opt_time(queue.next_due_at),
        ]);
    }
    print(table.lines());
    Ok(())
}
