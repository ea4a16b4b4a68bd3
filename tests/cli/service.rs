//! The files for the system's timer pass the system's own checkers, whatever the database is
//! called.

use std::process::Command;

use serde_json::Value as Json;

use crate::harness::{Folder, Site, command, refusal, said, stdout, text};

/// A name with what each of the formats has escapes for.
const NAME: &str = "my app's \"100%\" $HOME & <b> ü.db";

fn installed(kind: &str) -> (Site, Folder, String) {
    let site = Site::new();
    let file = site.db.with_file_name(NAME);
    std::fs::copy(&site.db, &file).unwrap();
    let folder = Folder::new();
    let into = folder.path("").to_str().unwrap().to_string();
    let install = ["service", "install", "--name", "acme.sync", "--kind", kind, "--into", &into];
    let (out, _) =
        said(0, &[&install[..], &["--db", file.to_str().unwrap(), "--every", "10m"]].concat());
    assert!(out.contains("it does not run yet: type"), "{out}");
    (site, folder, file.canonicalize().unwrap().to_str().unwrap().to_string())
}

#[test]
fn a_timer_for_systemd_is_one_that_systemd_takes() {
    let (_site, folder, file) = installed("systemd");
    let service = std::fs::read_to_string(folder.path("acme.sync.service")).unwrap();
    let timer = std::fs::read_to_string(folder.path("acme.sync.timer")).unwrap();
    let escaped = file.replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    assert!(
        service.contains(&format!("\"tick\" \"--until-idle\" \"--db\" \"{escaped}\"")),
        "{service}"
    );
    assert!(timer.contains("OnUnitInactiveSec=600s"), "{timer}");
    let checker = Command::new("systemd-analyze")
        .args(["--user", "verify"])
        .arg(folder.path("acme.sync.timer"))
        .env("XDG_RUNTIME_DIR", folder.path(""))
        .output();
    match checker {
        Ok(checked) => {
            let said = String::from_utf8_lossy(&checked.stderr).into_owned();
            let ours: Vec<&str> = said.lines().filter(|line| line.contains("acme.sync")).collect();
            assert!(ours.is_empty(), "{said}");
        }
        Err(error) => eprintln!("SKIPPED: systemd-analyze did not run ({error})"),
    }
}

#[test]
fn an_agent_for_launchd_and_a_task_for_windows_are_whole_xml() {
    let (_site, folder, file) = installed("launchd");
    let plist = std::fs::read_to_string(folder.path("acme.sync.plist")).unwrap();
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    let parsed = roxmltree::Document::parse_with_options(&plist, options).unwrap();
    let strings: Vec<&str> = parsed
        .descendants()
        .filter(|node| node.has_tag_name("string"))
        .filter_map(|node| node.text())
        .collect();
    assert_eq!(strings[0], "acme.sync");
    assert_eq!(strings[2..6], ["tick", "--until-idle", "--db", &file]);
    let numbers: Vec<_> =
        parsed.descendants().filter(|node| node.has_tag_name("integer")).collect();
    assert_eq!(numbers[0].text(), Some("600"));

    let (_site, folder, _) = installed("task");
    let bytes = std::fs::read(folder.path("acme.sync.xml")).unwrap();
    assert_eq!(bytes[..2], [0xff, 0xfe]);
    let units: Vec<u16> =
        bytes[2..].chunks(2).map(|two| u16::from_le_bytes([two[0], two[1]])).collect();
    let task = String::from_utf16(&units).unwrap();
    let parsed = roxmltree::Document::parse(&task).unwrap();
    let text = |tag: &str| {
        let node = parsed.descendants().find(|node| node.tag_name().name() == tag).unwrap();
        node.text().unwrap().to_string()
    };
    assert_eq!(text("Interval"), "PT10M");
    assert!(text("Arguments").starts_with("tick --until-idle --db \"/"), "{}", text("Arguments"));
    assert!(text("Arguments").contains("\\\"100%\\\""), "{}", text("Arguments"));
}

#[test]
fn what_cannot_be_installed_is_refused_and_what_is_not_there_is_said() {
    let site = Site::new();
    let install = ["service", "install", "--db", site.db(), "--print"];
    assert!(
        refusal(&[&install[..], &["--name", "../x"]].concat()).contains("no name of a service")
    );
    assert!(refusal(&[&install[..], &["--every", "5s"]].concat()).contains("--every 1m"));
    assert!(
        refusal(&[&install[..], &["--trust", "--plugins", "."]].concat()).contains("verger.toml")
    );
    let app = text(&[
        "service",
        "install",
        "--kind",
        "systemd",
        "--print",
        "--run",
        "/opt/app",
        "--verger-tick",
    ]);
    assert!(app.contains("ExecStart=\"/opt/app\" \"--verger-tick\""), "{app}");
    let home = Folder::new();
    let status = command(&["service", "status", "--kind", "systemd", "--json"])
        .env("XDG_CONFIG_HOME", home.path(""))
        .output()
        .unwrap();
    assert_eq!(status.status.code(), Some(1));
    let status: Json = serde_json::from_str(&stdout(&status)).unwrap();
    assert_eq!(status["installed"], false);
    let remove = command(&["service", "remove", "--kind", "systemd"])
        .env("XDG_CONFIG_HOME", home.path(""))
        .output()
        .unwrap();
    assert_eq!(remove.status.code(), Some(2));
}

#[test]
fn a_run_until_idle_does_all_that_is_due() {
    let site = Site::new();
    let file = site.open();
    for _ in 0..40 {
        file.execute(
            "INSERT INTO verger_jobs (worker, args) VALUES ('reconcile-memberships', '{\"organization_id\": null, \"actor_id\": null}')",
            [],
        )
        .unwrap();
    }
    text(&["tick", "--until-idle", "--db", site.db()]);
    let waiting: i64 = file
        .query_row("SELECT count(*) FROM verger_jobs WHERE state <> 'completed'", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(waiting, 0);
}

#[test]
fn shells_and_readers_are_told_of_every_verb() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = text(&["completions", shell]);
        for verb in ["doctor", "schedule", "allow-changes"] {
            assert!(script.contains(verb), "{shell} lacks {verb}");
        }
    }
    assert!(text(&["man"]).contains(".TH verger 1"));
    let folder = Folder::new();
    text(&["man", "--into", folder.path("man").to_str().unwrap()]);
    for page in ["verger.1", "verger-doctor.1", "verger-jobs-list.1"] {
        assert!(folder.path("man").join(page).is_file(), "{page}");
    }
}
