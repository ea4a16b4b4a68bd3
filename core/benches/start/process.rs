//! Measurements in processes of their own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use super::IDLE;
use crate::common::Result;

/// A process that ends with this value.
pub(super) struct Running {
    pub(super) child: Child,
    pub(super) output: Option<BufReader<ChildStdout>>,
}

impl Running {
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().map(BufReader::new);
        Ok(Self { child, output })
    }

    pub(super) fn read_line(&mut self) -> Result<String> {
        let mut line = String::new();
        if let Some(output) = &mut self.output {
            output.read_line(&mut line)?;
        }
        anyhow::ensure!(!line.is_empty(), "the process ended early");
        Ok(line)
    }

    /// SIGKILL, on Unix.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.kill();
    }
}

/// Builds the example as an app would, and says where it is.
pub(super) fn minimal() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let built = Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "--release",
            "--example",
            "minimal",
            "--manifest-path",
            manifest,
        ])
        .status()?;
    anyhow::ensure!(built.success(), "the example `minimal` could not be built");
    // This program is target/release/deps/start-…
    let release =
        std::env::current_exe()?.ancestors().nth(2).map(Path::to_path_buf).unwrap_or_default();
    Ok(release.join("examples").join(format!("minimal{}", std::env::consts::EXE_SUFFIX)))
}

pub(super) struct Idle {
    pub(super) cpu_ms: f64,
    pub(super) resident_mb: f64,
    pub(super) private_mb: f64,
    pub(super) after_compiling_mb: f64,
}

/// The example app with nothing to do.
pub(super) fn idle(example: &Path, folder: &Path) -> Result<Idle> {
    let start = || {
        Running::start(
            Command::new(example).arg(folder.join("idle.db")).env("XDG_CACHE_HOME", folder),
        )
    };
    // Compiles, and leaves the cache for the next.
    let first = start()?;
    std::thread::sleep(Duration::from_secs(3));
    let after_compiling_mb = memory(&first, "Rss")?;
    drop(first);
    let app = start()?;
    std::thread::sleep(Duration::from_secs(2));
    let before = cpu_ms(&app)?;
    std::thread::sleep(IDLE);
    Ok(Idle {
        cpu_ms: cpu_ms(&app)? - before,
        resident_mb: memory(&app, "Rss")?,
        private_mb: memory(&app, "Private_Dirty")?,
        after_compiling_mb,
    })
}

/// Milliseconds of CPU time that all threads of a process have had.
pub(super) fn cpu_ms(process: &Running) -> Result<f64> {
    let mut total = 0.0;
    for thread in std::fs::read_dir(format!("/proc/{}/task", process.child.id()))? {
        let stat = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        total += stat.split(' ').next().unwrap_or("0").parse::<f64>()? / 1e6;
    }
    Ok(total)
}

/// A line of the process's memory map, in MB.
pub(super) fn memory(process: &Running, line: &str) -> Result<f64> {
    let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", process.child.id()))?;
    let found = rollup
        .lines()
        .find_map(|text| text.strip_prefix(line)?.strip_prefix(':')?.trim().strip_suffix(" kB"));
    Ok(found
        .ok_or_else(|| anyhow::anyhow!("no {line} in the memory map"))?
        .trim()
        .parse::<f64>()?
        * 1024.0
        / 1e6)
}
