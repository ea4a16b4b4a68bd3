//! Litestream as a process of its own, and a life beside it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use verger::verger_worker::prelude::*;
use verger::{Builder, NewJob};

use crate::common::chronicle::{self, found};
use crate::common::processes::Process;

pub(crate) const FILE: &str = "VERGER_TEST_FILE";
pub(crate) const SEED: &str = "VERGER_TEST_SEED";
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Where `tests/litestream/install` puts it. `None` when it is not there, unless it has to be.
pub(crate) fn litestream() -> Option<PathBuf> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/target/litestream/bin/litestream");
    if Path::new(path).is_file() {
        return Some(path.into());
    }
    let is_required = std::env::var("VERGER_LITESTREAM").is_ok_and(|word| word == "require");
    assert!(!is_required, "Litestream is not there: tests/litestream/install");
    println!("skipped: Litestream is not there (tests/litestream/install puts it there)");
    None
}

/// Sleeps until its process dies, or writes at once.
pub(crate) struct Sleeper {
    pub(crate) wakes: bool,
}

impl Worker for Sleeper {
    fn manifest(&self) -> Manifest {
        Manifest::new("sleeper", "1.0.0").table(TableAsk::named("naps").insert())
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        _: &Args,
    ) -> Result<Outcome, WorkerError> {
        if !self.wakes {
            loop {
                std::thread::sleep(PATIENCE);
            }
        }
        let number = job.job().id.map(|id| id as i64);
        job.execute("INSERT INTO naps (job) VALUES (?1)", params![number])?;
        job.audit(AuditEvent::success("nap.taken"))?;
        Ok(Outcome::Done)
    }
}

pub(crate) fn builder(file: &Path, wakes: bool) -> Builder {
    chronicle::builder(file).worker(Sleeper { wakes })
}

pub(crate) fn nap() -> NewJob {
    NewJob::new("sleeper", serde_json::json!({})).queue("naps")
}

/// A file, where it is streamed to, and where copies go.
pub(crate) struct Site {
    folder: tempfile::TempDir,
    litestream: PathBuf,
}

impl Site {
    pub(crate) fn new(litestream: PathBuf) -> Self {
        let site = Self { folder: tempfile::tempdir().unwrap(), litestream };
        found(&site.path("app.db"));
        let app = chronicle::open(&site.path("app.db"));
        app.execute_batch("CREATE TABLE naps (job INTEGER)").unwrap();
        site
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A process that performs and enqueues jobs until it is killed.
    pub(crate) fn live(&self, seed: u64) -> Process {
        let file = self.path("app.db").display().to_string();
        let variables = [(FILE, file), (SEED, seed.to_string())];
        let process = Process::start("live_until_killed", &variables);
        assert!(process.hear("ready", PATIENCE).is_some());
        process
    }

    fn command(&self, verb: &str, log: &str) -> Command {
        let mut command = Command::new(&self.litestream);
        let log = File::options().create(true).append(true).open(self.path(log)).unwrap();
        command.arg(verb).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        command
    }

    fn replica(&self, name: &str) -> String {
        format!("file://{}", self.path(name).display())
    }

    /// Streams a file of the folder into a folder beside it, five times as often as by default.
    pub(crate) fn stream(&self, file: &str, replica: &str) -> Streaming {
        let (file, to) = (self.path(file), self.path(replica));
        let config = format!(
            "dbs:\n  - path: {}\n    monitor-interval: 200ms\n    replica:\n      type: file\n      \
             path: {}\n      sync-interval: 200ms\n",
            file.display(),
            to.display()
        );
        std::fs::write(self.path("litestream.yml"), config).unwrap();
        let mut command = self.command("replicate", "litestream.log");
        command.args(["-log-level", "debug", "-config"]).arg(self.path("litestream.yml"));
        Streaming(command.spawn().unwrap())
    }

    /// Copies what is not copied yet.
    pub(crate) fn stream_once(&self, file: &str, replica: &str) {
        let mut command = self.command("replicate", "once.log");
        command.arg("-once").arg(self.path(file)).arg(self.replica(replica));
        assert!(command.status().unwrap().success(), "{}", self.read("once.log"));
    }

    /// Waits until so many pieces more have arrived.
    pub(crate) fn arrived(&self, replica: &str, more: usize) {
        let folder = self.path(replica).join("ltx/0");
        let pieces = || std::fs::read_dir(&folder).map_or(0, Iterator::count);
        let (begun, before) = (Instant::now(), pieces());
        while pieces() < before + more {
            assert!(begun.elapsed() < PATIENCE, "{}", self.read("litestream.log"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn restore(&self, replica: &str, copy: &str) -> PathBuf {
        let mut command = self.command("restore", "restore.log");
        command.arg("-o").arg(self.path(copy)).arg(self.replica(replica));
        assert!(command.status().unwrap().success(), "{}", self.read("restore.log"));
        self.path(copy)
    }

    pub(crate) fn read(&self, log: &str) -> String {
        std::fs::read_to_string(self.path(log)).unwrap()
    }
}

/// Litestream at work. It is killed without warning.
pub(crate) struct Streaming(Child);

impl Drop for Streaming {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
