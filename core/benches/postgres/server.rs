//! The server of the bench, and the queue of others that runs on it.

#![allow(clippy::print_stdout, reason = "a bench says on what it runs")]

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use postgres::{Client, NoTls};

use crate::common::Result;

pub(crate) struct Server {
    bin: PathBuf,
    folder: tempfile::TempDir,
    databases: Cell<u32>,
}

impl Server {
    /// Starts one, as its packager sets it up but for a socket of its own. `None` where there is no
    /// PostgreSQL.
    pub(crate) fn start() -> Result<Option<Self>> {
        let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .flatten()
            .map(|version| version.path().join("bin"))
            .filter(|bin| bin.join("initdb").exists())
            .collect();
        found.sort();
        let Some(bin) = found.pop() else {
            println!("skipped: there is no PostgreSQL here");
            return Ok(None);
        };
        let folder = tempfile::Builder::new().prefix("vg").tempdir_in("/tmp")?;
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(folder.path()))?;
        }
        let server = Self { bin, folder, databases: Cell::new(0) };
        run(server.command("initdb").args([
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C",
        ]))?;
        let socket = server.socket();
        let options = format!(
            "-c listen_addresses= -c unix_socket_directories={socket} -c max_connections=200"
        );
        let log = format!("{socket}/log");
        run(server.command("pg_ctl").args(["-w", "-l", &log, "-o", &options, "start"]))?;
        let mut client = server.client()?;
        let row = client.query_one(
            "SELECT version(), current_setting('fsync'), current_setting('synchronous_commit')",
            &[],
        )?;
        let [version, fsync, commit]: [String; 3] = [row.get(0), row.get(1), row.get(2)];
        println!("{version}, fsync {fsync}, synchronous_commit {commit}");
        Ok(Some(server))
    }

    fn socket(&self) -> String {
        self.folder.path().display().to_string()
    }

    fn client(&self) -> Result<Client> {
        let url = format!("host={} user=postgres dbname=postgres", self.socket());
        Ok(Client::connect(&url, NoTls)?)
    }

    /// The address of a fresh database.
    pub(crate) fn database(&self) -> Result<String> {
        let name = format!("bench{}", self.databases.replace(self.databases.get() + 1));
        self.client()?.batch_execute(&format!("CREATE DATABASE {name}"))?;
        Ok(format!("host={} user=postgres dbname={name}", self.socket()))
    }

    fn command(&self, program: &str) -> Command {
        let program = self.bin.join(program);
        let mut command = match is_root() {
            true => {
                let mut command = Command::new("runuser");
                command.args(["-u", "postgres", "--"]).arg(program);
                command
            }
            false => Command::new(program),
        };
        command.env("PGDATA", self.folder.path().join("data")).stdin(Stdio::null());
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.command("pg_ctl").args(["-m", "immediate", "stop"]).output();
    }
}

/// The server refuses to run as root.
fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|id| id.stdout.starts_with(b"0\n"))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Has graphile-worker drain as many no-op jobs on the same server, where it is installed.
pub(crate) fn graphile(server: &Server, jobs: usize) -> Result<()> {
    let Some(folder) = std::env::var_os("GRAPHILE_WORKER") else { return Ok(()) };
    let url = server.database()?;
    let name = url.rsplit('=').next().context("a name")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("core/benches/postgres/graphile.cjs");
    println!();
    let status = Command::new("node")
        .arg(script)
        .args([&server.socket(), name, &jobs.to_string()])
        .env("NODE_PATH", Path::new(&folder).join("node_modules"))
        .status()?;
    ensure!(status.success(), "graphile-worker failed");
    Ok(())
}
