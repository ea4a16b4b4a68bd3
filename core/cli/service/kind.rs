//! The system's timers: where each has its files, and the commands that load them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::{Plan, Written};
use crate::service::{launchd, systemd, task_scheduler};

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

impl Kind {
    pub(super) fn of_this_system() -> Self {
        match std::env::consts::OS {
            "macos" | "ios" => Self::Launchd,
            "windows" => Self::Task,
            _ => Self::Systemd,
        }
    }

    pub(super) fn files(self, plan: &Plan) -> Vec<Written> {
        match self {
            Self::Systemd => systemd::files(plan),
            Self::Launchd => launchd::files(plan),
            Self::Task => task_scheduler::files(plan),
        }
    }

    /// Where the system looks for the files.
    pub(super) fn folder(self) -> Result<PathBuf> {
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

    pub(super) fn names(self, name: &str) -> Vec<String> {
        match self {
            Self::Systemd => vec![format!("{name}.service"), format!("{name}.timer")],
            Self::Launchd => vec![format!("{name}.plist")],
            Self::Task => vec![format!("{name}.xml")],
        }
    }

    /// The commands that make the system load the files.
    pub(super) fn begin(self, name: &str, folder: &Path) -> Vec<Vec<String>> {
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

    pub(super) fn end(self, name: &str, folder: &Path) -> Vec<Vec<String>> {
        let file = folder.join(self.names(name).remove(0)).display().to_string();
        match self {
            Self::Systemd => {
                vec![words(&["systemctl", "--user", "disable", "--now", &format!("{name}.timer")])]
            }
            Self::Launchd => vec![words(&["launchctl", "unload", "-w", &file])],
            Self::Task => vec![words(&["schtasks", "/Delete", "/F", "/TN", name])],
        }
    }

    pub(super) fn ask(self, name: &str) -> Vec<String> {
        match self {
            Self::Systemd => {
                words(&["systemctl", "--user", "status", "--no-pager", &format!("{name}.timer")])
            }
            Self::Launchd => words(&["launchctl", "list", name]),
            Self::Task => words(&["schtasks", "/Query", "/TN", name]),
        }
    }
}

pub(super) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
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
