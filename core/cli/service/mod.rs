//! `verger service`: what is due is done while the app is closed, by the system's own timer.

mod launchd;
mod systemd;
mod task_scheduler;

use std::path::{Path, PathBuf};
use std::process::{Command as Process, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use crate::input;
use crate::options::{Database, Options};
use crate::output::{print, print_json, print_text, tell};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Have the system's timer run what is due, every few minutes, while you are logged in
    ///
    /// A systemd user timer on Linux, a launchd agent on macOS, a task on Windows. It runs
    /// `verger tick --until-idle` on the file, or the app itself by --run, and shares the file with
    /// the app: each job is performed once, by either.
    Install {
        #[command(flatten)]
        database: Database,
        #[command(flatten)]
        service: Service,
        /// How often to look, such as 5m: a slot is fired this late at most
        #[arg(long, value_name = "TIME", default_value = "5m", value_parser = input::duration)]
        every: Duration,
        /// What to run in the place of `verger tick`: the app, and its own option for it
        #[arg(long, value_name = "PROGRAM", num_args = 1.., allow_hyphen_values = true, value_terminator = ";")]
        run: Vec<String>,
        /// Print what would be written, and write nothing
        #[arg(long)]
        print: bool,
        /// Write into this folder, and tell the system nothing
        #[arg(long, value_name = "DIR")]
        into: Option<PathBuf>,
    },
    /// Whether it is installed, and what the system says of it
    Status {
        #[command(flatten)]
        service: Service,
    },
    /// Take it out again
    Remove {
        #[command(flatten)]
        service: Service,
    },
}

#[derive(Args)]
pub(crate) struct Service {
    /// Its name, for several files: letters, digits, `-` and `.`
    #[arg(long, value_name = "NAME", default_value = "verger")]
    name: String,
    /// Which timer; the system's own when left out
    #[arg(long, value_enum)]
    kind: Option<Kind>,
}

/// Who starts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A user timer of systemd
    Systemd,
    /// An agent of launchd
    Launchd,
    /// A task of the Windows Task Scheduler
    Task,
}

/// What is to be started, and how often.
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) about: String,
    /// The program, then its arguments.
    pub(crate) run: Vec<String>,
    pub(crate) every: Duration,
}

/// A file to be written.
pub(crate) struct Written {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

impl Kind {
    fn of_this_system() -> Self {
        match std::env::consts::OS {
            "macos" | "ios" => Self::Launchd,
            "windows" => Self::Task,
            _ => Self::Systemd,
        }
    }

    fn files(self, plan: &Plan) -> Vec<Written> {
        match self {
            Self::Systemd => systemd::files(plan),
            Self::Launchd => launchd::files(plan),
            Self::Task => task_scheduler::files(plan),
        }
    }

    /// Where the system looks for them.
    fn folder(self) -> Result<PathBuf> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let home = || variable("HOME").map(PathBuf::from).context("there is no HOME");
        Ok(match self {
            Self::Systemd => match variable("XDG_CONFIG_HOME") {
                Some(folder) => PathBuf::from(folder).join("systemd/user"),
                None => home()?.join(".config/systemd/user"),
            },
            Self::Launchd => home()?.join("Library/LaunchAgents"),
            Self::Task => {
                let data = variable("LOCALAPPDATA").context("there is no LOCALAPPDATA")?;
                PathBuf::from(data).join("verger")
            }
        })
    }

    fn names(self, name: &str) -> Vec<String> {
        match self {
            Self::Systemd => vec![format!("{name}.service"), format!("{name}.timer")],
            Self::Launchd => vec![format!("{name}.plist")],
            Self::Task => vec![format!("{name}.xml")],
        }
    }

    /// The commands that make the system take them up.
    fn begin(self, name: &str, folder: &Path) -> Vec<Vec<String>> {
        let file = folder.join(self.names(name).remove(0)).display().to_string();
        match self {
            Self::Systemd => vec![
                words(&["systemctl", "--user", "daemon-reload"]),
                words(&["systemctl", "--user", "enable", "--now", &format!("{name}.timer")]),
            ],
            Self::Launchd => vec![words(&["launchctl", "load", "-w", &file])],
            Self::Task => {
                vec![words(&["schtasks", "/Create", "/F", "/TN", name, "/XML", &file])]
            }
        }
    }

    fn end(self, name: &str, folder: &Path) -> Vec<Vec<String>> {
        let file = folder.join(self.names(name).remove(0)).display().to_string();
        match self {
            Self::Systemd => {
                vec![words(&["systemctl", "--user", "disable", "--now", &format!("{name}.timer")])]
            }
            Self::Launchd => vec![words(&["launchctl", "unload", "-w", &file])],
            Self::Task => vec![words(&["schtasks", "/Delete", "/F", "/TN", name])],
        }
    }

    fn ask(self, name: &str) -> Vec<String> {
        match self {
            Self::Systemd => {
                words(&["systemctl", "--user", "status", "--no-pager", &format!("{name}.timer")])
            }
            Self::Launchd => words(&["launchctl", "list", name]),
            Self::Task => words(&["schtasks", "/Query", "/TN", name]),
        }
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

impl Service {
    fn kind(&self) -> Kind {
        self.kind.unwrap_or_else(Kind::of_this_system)
    }

    fn check(&self) -> Result<()> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        ensure!(
            (1..=64).contains(&self.name.len())
                && self.name.chars().all(fits)
                && !self.name.starts_with(['-', '.']),
            "{:?} is no name of a service: use letters, digits, `-` and `.`",
            self.name
        );
        Ok(())
    }
}

impl Command {
    pub(crate) fn run(&self, options: &Options) -> Result<ExitCode> {
        match self {
            Self::Install { database, service, every, run, print, into } => {
                service.check()?;
                ensure!(
                    *every >= Duration::from_secs(60),
                    "the system's timers look once a minute at most: --every 1m or more"
                );
                let plan = plan(options, database, service, *every, run)?;
                let files = service.kind().files(&plan);
                if *print {
                    for file in &files {
                        print_text(&format!("# {}\n{}\n", file.name, text(&file.bytes)));
                    }
                    return Ok(ExitCode::SUCCESS);
                }
                install(options, service, &files, into.as_deref())
            }
            Self::Status { service } => {
                service.check()?;
                status(options, service)
            }
            Self::Remove { service } => {
                service.check()?;
                remove(options, service)
            }
        }
    }
}

fn plan(
    options: &Options,
    database: &Database,
    service: &Service,
    every: Duration,
    run: &[String],
) -> Result<Plan> {
    let absolute = |path: &Path| -> Result<String> {
        let path =
            path.canonicalize().with_context(|| format!("there is no file {}", path.display()))?;
        path.to_str().map(str::to_string).with_context(|| {
            format!("{} is no UTF-8: no file of settings can name it", path.display())
        })
    };
    let (about, run) = if run.is_empty() {
        let target = options.target(database)?;
        let file = absolute(&target.file)?;
        let mut words = vec![absolute(&std::env::current_exe()?)?];
        words.extend(["tick", "--until-idle", "--db"].map(str::to_string));
        words.push(file.clone());
        if let Some(config) = &target.config {
            words.extend(["--config".to_string(), absolute(config.path())?]);
        }
        for folder in &options.plugins {
            words.extend(["--plugins".to_string(), absolute(folder)?]);
        }
        ensure!(
            options.grant.is_empty() && !options.trust,
            "a service takes its grants from verger.toml: write them there"
        );
        (format!("Background work of {file}"), words)
    } else {
        (format!("Background work of {}", run.join(" ")), run.to_vec())
    };
    ensure!(
        run.iter().all(|word| !word.contains(['\n', '\r', '\0'])),
        "a program's name or argument has a line break in it: no timer can run it"
    );
    Ok(Plan { name: service.name.clone(), about, run, every })
}

fn install(
    options: &Options,
    service: &Service,
    files: &[Written],
    into: Option<&Path>,
) -> Result<ExitCode> {
    let kind = service.kind();
    let folder = into.map_or_else(|| kind.folder(), |folder| Ok(folder.to_path_buf()))?;
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let mut written = Vec::new();
    for file in files {
        let path = folder.join(&file.name);
        // Whole or not at all: the system may read it any moment.
        let mut fresh = tempfile::NamedTempFile::new_in(&folder)?;
        std::io::Write::write_all(&mut fresh, &file.bytes)?;
        readable(fresh.path())?;
        fresh.persist(&path).with_context(|| format!("cannot write {}", path.display()))?;
        written.push(path);
    }
    let commands = kind.begin(&service.name, &folder);
    let is_begun = into.is_none() && commands.iter().all(|command| succeeds(command));
    let next: Vec<String> = commands.iter().map(|command| command.join(" ")).collect();
    match options.json {
        true => print_json(
            &json!({"name": service.name, "files": written, "started": is_begun, "next": if is_begun { vec![] } else { next }}),
        )?,
        false => {
            print(written.iter().map(|path| format!("written: {}", path.display())));
            match is_begun {
                true => print([format!(
                    "{} runs from now on; `verger service status` shows it",
                    service.name
                )]),
                false => print(
                    std::iter::once("it does not run yet: type".to_string())
                        .chain(next.into_iter().map(|line| format!("    {line}"))),
                ),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(unix)]
fn readable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))?)
}

#[cfg(not(unix))]
fn readable(_: &Path) -> Result<()> {
    Ok(())
}

fn status(options: &Options, service: &Service) -> Result<ExitCode> {
    let (kind, folder) = (service.kind(), service.kind().folder()?);
    let names = kind.names(&service.name);
    let missing: Vec<&String> = names.iter().filter(|name| !folder.join(name).is_file()).collect();
    let is_there = missing.is_empty();
    let said = is_there.then(|| output(&kind.ask(&service.name))).flatten();
    match options.json {
        true => print_json(
            &json!({"name": service.name, "installed": is_there, "folder": folder, "system": said}),
        )?,
        false if !is_there => print([format!(
            "{} is not installed: there is no {} in {}; `verger service install --db FILE` installs it",
            service.name,
            missing.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" and no "),
            folder.display()
        )]),
        false => {
            print([format!("{} is installed in {}", service.name, folder.display())]);
            match said {
                Some(said) => print(said.lines()),
                None => print([format!(
                    "the system could not be asked: type {}",
                    kind.ask(&service.name).join(" ")
                )]),
            }
        }
    }
    Ok(if is_there { ExitCode::SUCCESS } else { ExitCode::from(crate::failure::WORK_FAILED) })
}

fn remove(options: &Options, service: &Service) -> Result<ExitCode> {
    let (kind, folder) = (service.kind(), service.kind().folder()?);
    let there: Vec<PathBuf> = kind
        .names(&service.name)
        .iter()
        .map(|name| folder.join(name))
        .filter(|path| path.is_file())
        .collect();
    if there.is_empty() {
        bail!("{} is not installed: there is nothing of it in {}", service.name, folder.display());
    }
    for command in kind.end(&service.name, &folder) {
        if !succeeds(&command) {
            tell(format!(
                "verger: `{}` did not succeed; the files go all the same",
                command.join(" ")
            ));
        }
    }
    for path in &there {
        std::fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    match options.json {
        true => print_json(&json!({"name": service.name, "removed": there}))?,
        false => print(there.iter().map(|path| format!("removed: {}", path.display()))),
    }
    Ok(ExitCode::SUCCESS)
}

fn succeeds(command: &[String]) -> bool {
    let Some((program, arguments)) = command.split_first() else { return false };
    Process::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

fn output(command: &[String]) -> Option<String> {
    let (program, arguments) = command.split_first()?;
    let output = Process::new(program).args(arguments).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned()).filter(|text| !text.is_empty())
}

/// What a file says, for a terminal: one of them is UTF-16.
fn text(bytes: &[u8]) -> String {
    match bytes {
        [0xff, 0xfe, rest @ ..] => {
            let units: Vec<u16> =
                rest.chunks_exact(2).map(|two| u16::from_le_bytes([two[0], two[1]])).collect();
            String::from_utf16_lossy(&units)
        }
        bytes => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// Text inside XML.
pub(crate) fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}
