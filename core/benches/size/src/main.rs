//! The smallest app: one worker of its own, a plugins folder if there is a sandbox, and the loop.

use std::time::Duration;

use verger::verger_worker::prelude::*;
use verger::{Schedule, Verger};

struct Sweep;

impl Worker for Sweep {
    fn manifest(&self) -> Manifest {
        Manifest::new("sweep", "1.0.0").table(TableAsk::named("thumbnails").read().delete())
    }

    fn perform(&self, job: &Context<'_>, _: Option<&Scope>, _: &Args) -> Result<Outcome, WorkerError> {
        job.execute("DELETE FROM thumbnails WHERE used_at < ?1", params![job.now()])?;
        Ok(Outcome::Done)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args().nth(1).unwrap_or_else(|| "app.db".to_string());
    let schedule = Schedule::cron("nightly", "0 3 * * *")?.worker("sweep");
    #[cfg(feature = "postgres")]
    if file.starts_with("postgres://") {
        let builder = verger::postgres::Verger::builder(file).worker(Sweep).schedule(schedule);
        let working = builder.open()?.start()?;
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
        return Ok(working.stop(Duration::from_secs(2))?);
    }
    let builder = Verger::builder(file).worker(Sweep).schedule(schedule);
    #[cfg(feature = "wasm")]
    let builder = builder.plugins("plugins");
    let ticking = builder.open()?.start()?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    ticking.stop(Duration::from_secs(2))?;
    Ok(())
}
