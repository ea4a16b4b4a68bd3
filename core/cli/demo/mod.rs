//! `verger demo`: a week of a realistic organisation, lived through in seconds under a clock that
//! the demo moves.
//!
//! Everything that happens is a function of the seed ([`people`], [`mail`]), and is planned in
//! advance by slot ([`diary`]). For each slot of five minutes the app writes what happened, in one
//! transaction ([`app`]), and Verger ticks at its end ([`life`]). The [`summary`] is read from the
//! tables alone.

mod app;
mod diary;
mod life;
mod mail;
mod people;
mod random;
mod summary;
mod words;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;

use crate::failure::WORK_FAILED;
use crate::options::Options;
use crate::output::{print, print_json};
use life::Life;
use summary::Summary;
use world::World;

/// The seed when nobody gives one.
const SEED: u64 = 20_260_105;

#[derive(Args)]
pub(crate) struct Demo {
    /// The file: a new one, or that of a demo to go on with
    #[arg(long, value_name = "FILE", default_value = "verger-demo.db")]
    db: PathBuf,
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
        let progress = app::begin(&self.db, self.seed, self.scale, World { seed: SEED, scale: 1 })?;
        let mut life = Life::open(&self.db, progress)?;
        let lived_before = progress.slot >= world::slots(self.days);
        let tallies = life.live(self.days)?;
        let summary = Summary::of(&life, &tallies)?;
        match options.json {
            true => print_json(&summary.to_json(&self.db))?,
            false => {
                print(summary.in_words(&self.db, self.days, lived_before, begun.elapsed()).lines())
            }
        }
        Ok(if summary.is_sound() { ExitCode::SUCCESS } else { ExitCode::from(WORK_FAILED) })
    }
}
