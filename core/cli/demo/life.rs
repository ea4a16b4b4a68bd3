//! Time passes: slot by slot, the app writes and Verger ticks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use verger::Timestamp;

use super::app::{self, Progress};
use super::database::Database;
use super::diary::Diary;
use super::place::Place;
use super::world::{SLOT, World, end_of_slot, slots};
use crate::books::Books;
use crate::clock::Held;
use crate::output::{count, is_watched, tell};

/// The most passes in one slot, which is far more than any job's retries need.
const PASSES_MAX: u32 = 10_000;

/// How long the attempts of each worker took, in this process.
pub(crate) type Tallies = BTreeMap<String, Vec<Duration>>;

/// A demo that is open: the app's side and Verger's.
pub(crate) struct Life {
    pub(crate) verger: Books,
    pub(crate) app: Database,
    pub(crate) world: World,
    /// The last slot the app has written.
    pub(crate) slot: i64,
    clock: Held,
    /// Somebody wants it to end.
    stop: Arc<AtomicBool>,
}

impl Life {
    /// Opens the place at the instant it has come to. It lives until `stop` is set, at most.
    pub(crate) fn open(
        place: &Place,
        mut app: Database,
        progress: Progress,
        stop: Arc<AtomicBool>,
    ) -> Result<Self> {
        let clock = Held::at(end_of_slot(progress.slot.max(0)));
        let verger = place.open(&mut app, clock.clone())?;
        Ok(Self { verger, app, world: progress.world, slot: progress.slot, clock, stop })
    }

    pub(crate) fn now(&self) -> Timestamp {
        end_of_slot(self.slot.max(0))
    }

    /// Lives on to the end of this day.
    pub(crate) fn live(&mut self, days: u32) -> Result<Tallies> {
        let mut tallies = Tallies::new();
        let last = slots(days);
        // The app's last slot may not have been ticked to its end.
        if self.slot >= 0 {
            self.tick_through_slot(&mut tallies)?;
        }
        if self.slot >= last {
            return Ok(tallies);
        }
        let mut watch = Watch::begin(self.slot, last);
        let diary = Diary::of(self.world, days);
        if self.slot < 0 {
            app::write_base(&mut self.app, self.world, diary.acts(0))?;
            self.slot = 0;
            self.tick_through_slot(&mut tallies)?;
        }
        while self.slot < last {
            let slot = self.slot + 1;
            if self.stop.load(Ordering::Relaxed) {
                bail!("stopped before slot {slot} of {last}: the same command goes on from there");
            }
            self.clock.set(end_of_slot(slot));
            app::write_slot(&mut self.app, self.world, slot, diary.acts(slot))?;
            self.slot = slot;
            self.tick_through_slot(&mut tallies)?;
            watch.at(slot);
        }
        watch.end();
        Ok(tallies)
    }

    /// Ticks whenever something is due until the next slot begins, as the loop would.
    fn tick_through_slot(&self, tallies: &mut Tallies) -> Result<()> {
        let mut now = self.now();
        let end = now + SLOT;
        for _ in 0..PASSES_MAX {
            self.clock.set(now);
            let report = self.verger.tick(now)?;
            for attempt in report.attempts {
                tallies.entry(attempt.worker).or_default().push(attempt.elapsed);
            }
            match report.next_wake_at {
                Some(next) if next < end => now = now.max(next),
                _ => return Ok(()),
            }
        }
        bail!(
            "the queue does not come to rest at {now}: look at `verger jobs list --state executing`"
        )
    }
}

/// Shows the progress: a bar on a terminal, otherwise a line a day.
struct Watch {
    bar: Option<ProgressBar>,
    begun: Instant,
    last: i64,
}

impl Watch {
    fn begin(slot: i64, last: i64) -> Self {
        let signed = |number: i64| u64::try_from(number).unwrap_or(0);
        if slot < 0 {
            tell("making the data of the organisations ...");
        } else {
            tell(format!("going on after slot {} of {}", count(signed(slot)), count(signed(last))));
        }
        let bar = is_watched().then(|| {
            let bar = ProgressBar::new(signed(last)).with_position(signed(slot));
            let style =
                ProgressStyle::with_template("{msg}  {bar:40}  {pos} of {len} slots, {eta} to go");
            bar.set_message(date(slot.max(0)));
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self { bar, begun: Instant::now(), last }
    }

    fn at(&mut self, slot: i64) {
        let signed = |number: i64| u64::try_from(number).unwrap_or(0);
        match &self.bar {
            Some(bar) => {
                if slot % 12 == 0 {
                    bar.set_message(date(slot));
                }
                bar.set_position(signed(slot));
            }
            None if slot % slots(1) == 0 => {
                let seconds = self.begun.elapsed().as_secs_f64();
                tell(format!(
                    "{}: {} of {} slots, {seconds:.1} s",
                    date(slot),
                    count(signed(slot)),
                    count(signed(self.last))
                ));
            }
            None => {}
        }
    }

    fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The day a slot ends on.
fn date(slot: i64) -> String {
    end_of_slot(slot).to_string().chars().take(10).collect()
}
