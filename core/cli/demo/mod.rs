//! `verger demo`: a week of a realistic organisation, lived through in seconds under a clock that
//! the demo moves.
//!
//! Everything that happens is a function of the seed ([`people`], [`mail`]), and is planned in
//! advance by slot ([`diary`]). For each slot of five minutes the app writes what happened, in one
//! transaction ([`app`]), and Verger ticks at its end ([`life`]). The [`summary`] is read from the
//! tables alone.

mod app;
mod database;
mod diary;
mod life;
mod mail;
mod people;
mod place;
#[cfg(feature = "postgres")]
mod postgres_client;
mod random;
mod summary;
mod words;
mod world;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::failure::WORK_FAILED;
use crate::options::Options;
use crate::output::{print, print_json};
use life::Life;
use place::{Place, Store};
use summary::Summary;
use world::World;

/// The seed when nobody gives one.
const SEED: u64 = 20_260_105;

/// The built-in workers and the names of their schedules.
pub(crate) const SWEEPS: [(&str, &str); 3] = [
    ("invitations", "cleanup-expired-invitations"),
    ("memberships", "reconcile-memberships"),
    ("webhook-events", "reconcile-webhook-events"),
];

#[derive(Args)]
pub(crate) struct Demo {
    /// Where it lives: in a SQLite file, or in PostgreSQL, by a server that the demo starts
    #[arg(long, value_enum)]
    store: Option<Store>,
    /// The file, verger-demo.db by default; with --store postgres the folder of the server's data,
    /// verger-demo-postgres by default, or the address of an empty database: postgres://…
    ///
    /// A new one, or that of a demo to go on with.
    #[arg(long, value_name = "FILE")]
    db: Option<String>,
    /// How many days to live through
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=60))]
    days: u32,
    /// The numbers all data is made from
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX.unsigned_abs()))]
    seed: Option<u64>,
    /// Make only one in so many of everything
    #[arg(long, value_name = "N", hide = true, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    scale: Option<u64>,
}

impl Demo {
    pub(crate) fn run(&self, options: &Options) -> Result<ExitCode> {
        ensure!(options.now.is_none(), "the demo moves a clock of its own: leave --now out");
        let has_key = options.key_command.is_some();
        ensure!(!has_key, "the demo's file is not encrypted: leave --key-command out");
        let begun = Instant::now();
        let place = Place::of(self.store, self.db.as_deref())?;
        let mut app = place.connect()?;
        let default = World { seed: SEED, scale: 1 };
        let progress = app::begin(&mut app, &place, self.seed, self.scale, default)?;
        let mut life = Life::open(&place, app, progress, stop_by_signal(&place)?)?;
        let lived_before = progress.slot >= world::slots(self.days);
        let tallies = life.live(self.days)?;
        let summary = Summary::of(&mut life, &tallies)?;
        match options.json {
            true => print_json(&summary.to_json(&place))?,
            false => {
                print(summary.in_words(&place, self.days, lived_before, begun.elapsed()).lines())
            }
        }
        Ok(if summary.is_sound() { ExitCode::SUCCESS } else { ExitCode::from(WORK_FAILED) })
    }
}

/// Set by Ctrl-C where a server of the demo's own has to be stopped. A file can be left at any
/// instant.
fn stop_by_signal(place: &Place) -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    if place.has_server() {
        let asked = Arc::clone(&stop);
        ctrlc::set_handler(move || asked.store(true, Ordering::Relaxed))
            .context("cannot listen for signals")?;
    }
    Ok(stop)
}
