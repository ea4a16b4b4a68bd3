//! `verger start`: the loop, until someone stops it.

use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::options::{Database, Options};
use crate::output::tell;

/// How long a running job may go on after a signal.
const STOP_WITHIN: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(crate) struct Start {
    #[command(flatten)]
    database: Database,
}

impl Start {
    pub(crate) fn run(&self, options: &Options) -> Result<ExitCode> {
        ensure!(
            options.now.is_none(),
            "start goes by the system's clock: leave --now out, or use `verger tick --now`"
        );
        let target = options.target(&self.database)?;
        let verger = options.open_to_tick(&target)?;
        let (signal, signalled) = channel();
        // A second signal finds the channel gone, and the loop stopping already.
        ctrlc::set_handler(move || signal.send(()).unwrap_or_default())
            .context("cannot listen for signals")?;
        let ticking = verger.start()?;
        tell(format!("verger: ticking {}; stop it with Ctrl-C", target.file.display()));
        while let Err(RecvTimeoutError::Timeout) = signalled.recv_timeout(Duration::from_secs(1)) {
            if !ticking.is_running() {
                bail!("the loop has ended by itself");
            }
        }
        tell(format!("verger: stopping; a running job may take up to {} s", STOP_WITHIN.as_secs()));
        ticking.stop(STOP_WITHIN)?;
        Ok(ExitCode::SUCCESS)
    }
}
