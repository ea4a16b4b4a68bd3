//! Installing, looking and removing.

use std::path::{Path, PathBuf};
use std::process::{Command as Process, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::{Plan, Service, Written};
use crate::options::{Database, Options};
use crate::output::{print, print_json, tell};

pub(super) fn plan(
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

pub(super) fn install(
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
        // Whole or not at all, because the system may read it at any moment.
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

pub(super) fn status(options: &Options, service: &Service) -> Result<ExitCode> {
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

pub(super) fn remove(options: &Options, service: &Service) -> Result<ExitCode> {
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

/// The text of a file, for a terminal. One of them is UTF-16.
pub(super) fn text(bytes: &[u8]) -> String {
    match bytes {
        [0xff, 0xfe, rest @ ..] => {
            let units: Vec<u16> =
                rest.chunks_exact(2).map(|two| u16::from_le_bytes([two[0], two[1]])).collect();
            String::from_utf16_lossy(&units)
        }
        bytes => String::from_utf8_lossy(bytes).into_owned(),
    }
}
