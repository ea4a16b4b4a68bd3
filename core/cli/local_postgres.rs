//! A PostgreSQL server of the command's own, on a socket that nobody else reaches.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

/// The least version that Verger works with.
const OLDEST: u32 = 15;

/// Where Debian and Homebrew put the versions, each with its programs in `bin`.
const FOLDERS: [&str; 3] = ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt"];

/// A server that runs. It stops when this is dropped.
pub(crate) struct LocalPostgres {
    programs: PathBuf,
    data: PathBuf,
    socket: PathBuf,
    /// Whoever started it stops it.
    own: Option<TempDir>,
}

impl LocalPostgres {
    /// Starts the server whose data are in this folder, which is made if it is not there. If it runs
    /// already, because whoever started it was killed or is not done, it is left running.
    pub(crate) fn start(data: &Path) -> Result<Self> {
        let is_new = !data.join("PG_VERSION").exists();
        let is_empty = fs::read_dir(data).map_or(true, |mut inside| inside.next().is_none());
        ensure!(
            !is_new || is_empty,
            "{} is there and is no folder of a PostgreSQL server: name another",
            data.display()
        );
        let programs = programs()?;
        fs::create_dir_all(data).with_context(|| format!("cannot make {}", data.display()))?;
        let data = data.canonicalize()?;
        if let Some(socket) = is_running(&data) {
            return Ok(Self { programs, data, socket, own: None });
        }
        give_away(&data)?;
        let own = socket_folder()?;
        let server = Self { programs, data, socket: own.path().to_path_buf(), own: Some(own) };
        if is_new {
            server.initialise()?;
        }
        server.begin("")?;
        Ok(server)
    }

    /// Starts a server whose data end with it.
    pub(crate) fn temporary() -> Result<Self> {
        let programs = programs()?;
        let own = socket_folder()?;
        let socket = own.path().to_path_buf();
        let server = Self { programs, data: socket.join("data"), socket, own: Some(own) };
        server.initialise()?;
        server.begin("-c fsync=off")?;
        Ok(server)
    }

    /// The address of its database `postgres`. Whoever reaches the socket is let in without a
    /// password, as the server's superuser.
    pub(crate) fn url(&self) -> String {
        url(&self.socket)
    }

    /// The address at which it listens then, or goes on to listen.
    pub(crate) fn url_afterwards(&self) -> String {
        url(if self.own.is_some() { &self.data } else { &self.socket })
    }

    /// The command that starts it again, for as long as somebody wants it. `None` if it ran before
    /// and goes on.
    pub(crate) fn command_to_start(&self) -> Option<String> {
        let options = format!("-c listen_addresses= -k {}", self.data.display());
        self.own.is_some().then(|| self.command_line(&format!("-o '{options}' start")))
    }

    pub(crate) fn command_to_stop(&self) -> String {
        self.command_line("stop")
    }

    fn command_line(&self, words: &str) -> String {
        let program = self.programs.join("pg_ctl");
        let user = if is_root() { "runuser -u postgres -- " } else { "" };
        format!("{user}{} -D {} {words}", program.display(), self.data.display())
    }

    fn initialise(&self) -> Result<()> {
        let words = ["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"];
        run(self.command("initdb").args(words))
    }

    fn begin(&self, more: &str) -> Result<()> {
        let options = format!("-c listen_addresses= -k {} {more}", self.socket.display());
        let log = self.data.join("server.log");
        let mut command = self.command("pg_ctl");
        command.args(["-w", "-o", &options, "-l"]).arg(&log).arg("start");
        run(&mut command).with_context(|| format!("see {}", log.display()))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = as_server(&self.programs.join(program));
        command.env("PGDATA", &self.data);
        command
    }
}

impl Drop for LocalPostgres {
    fn drop(&mut self) {
        if self.own.is_some() {
            // Whatever it says: the server notices on its own that its folder is gone.
            let _ = output(self.command("pg_ctl").args(["-w", "-m", "fast", "stop"]));
        }
    }
}

fn url(socket: &Path) -> String {
    let folder = socket.display().to_string().replace('/', "%2F");
    format!("postgres://postgres@{folder}/postgres")
}

/// Where a server listens that runs on these data.
fn is_running(data: &Path) -> Option<PathBuf> {
    let lock = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let socket = PathBuf::from(lock.lines().nth(4)?.trim());
    // A server that was killed leaves its lock, and its socket, to which nobody answers.
    #[cfg(unix)]
    let answers = std::os::unix::net::UnixStream::connect(socket.join(".s.PGSQL.5432")).is_ok();
    #[cfg(not(unix))]
    let answers = false;
    answers.then_some(socket)
}

/// The folder of the programs of the newest version.
fn programs() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    for folder in FOLDERS {
        let versions = fs::read_dir(folder).into_iter().flatten().flatten();
        folders.extend(versions.map(|version| version.path().join("bin")));
    }
    newest(&folders)
}

/// The folder of the newest programs that are in these folders.
fn newest(folders: &[PathBuf]) -> Result<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for folder in folders.iter().filter(|folder| folder.join("initdb").exists()) {
        // A folder may have a link to the program only, and its fellows are where that points.
        let Ok(program) = folder.join("initdb").canonicalize() else { continue };
        let Some(version) = version(&program) else { continue };
        if let Some(folder) = program.parent().filter(|folder| folder.join("pg_ctl").exists()) {
            found.push((version, folder.to_path_buf()));
        }
    }
    match found.into_iter().max() {
        Some((version, folder)) if version >= OLDEST => Ok(folder),
        Some((version, _)) => bail!(
            "the PostgreSQL here is of version {version}, and {OLDEST} is the least: install a newer one, or name a database with --db postgres://…"
        ),
        None => bail!(
            "there is no PostgreSQL here (no program initdb): install it, such as Debian's postgresql or Homebrew's, or name a database with --db postgres://…"
        ),
    }
}

/// The 15 of `initdb (PostgreSQL) 15.18`.
fn version(program: &Path) -> Option<u32> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let version =
        text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// A folder whose name is short enough for a socket: 107 bytes with the socket's own.
fn socket_folder() -> Result<TempDir> {
    let short = Path::new("/tmp");
    let parent = if short.is_dir() { short.to_path_buf() } else { std::env::temp_dir() };
    let folder = tempfile::Builder::new().prefix("verger-").tempdir_in(parent)?;
    give_away(folder.path())?;
    Ok(folder)
}

/// The server refuses to run as root, and runs as the user of its package then.
fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    cfg!(unix) && id.is_ok_and(|id| id.stdout.starts_with(b"0\n"))
}

fn as_server(program: &Path) -> Command {
    if is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        return command;
    }
    Command::new(program)
}

/// Lets the server write there, whoever made the folder.
fn give_away(folder: &Path) -> Result<()> {
    match is_root() {
        true => run(Command::new("chown").arg("-R").arg("postgres").arg(folder))
            .context("as root, the server runs as the user `postgres`"),
        false => Ok(()),
    }
}

fn output(command: &mut Command) -> Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    // What the server inherits of these it keeps open as long as it runs.
    command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {name}"))
}

fn run(command: &mut Command) -> Result<()> {
    let output = output(command)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_string();
    ensure!(
        output.status.success(),
        "PostgreSQL's own program failed: {} {}",
        text(&output.stdout),
        text(&output.stderr)
    );
    Ok(())
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn without_a_server_that_is_new_enough_it_says_what_to_install_or_name() {
        let folder = tempfile::tempdir().unwrap();
        let said = newest(&[folder.path().to_path_buf()]).unwrap_err().to_string();
        assert!(said.starts_with("there is no PostgreSQL here"), "{said}");
        assert!(said.contains("install it") && said.contains("--db postgres://…"), "{said}");

        let with = |version: &str| {
            let bin = folder.path().join(version);
            fs::create_dir(&bin).unwrap();
            for program in ["initdb", "pg_ctl"] {
                let text = format!("#!/bin/sh\necho '{program} (PostgreSQL) {version}'\n");
                fs::write(bin.join(program), text).unwrap();
                fs::set_permissions(bin.join(program), fs::Permissions::from_mode(0o755)).unwrap();
            }
            bin.canonicalize().unwrap()
        };
        let old = with("14.9");
        let said = newest(std::slice::from_ref(&old)).unwrap_err().to_string();
        assert!(said.contains("is of version 14, and 15 is the least"), "{said}");
        let new = with("15.4");
        assert_eq!(newest(&[new.clone(), old]).unwrap(), new);
    }
}
