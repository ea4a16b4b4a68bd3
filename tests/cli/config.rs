//! The command finds its settings, and its doctor says what to type next.

use serde_json::json;

use crate::harness::{Folder, NULL_TENANT, Site, command, object, refusal, said, stderr, stdout};

/// A folder with a file of settings, and the command as it is typed in it.
struct Home(Folder);

impl Home {
    fn new(settings: &str) -> Self {
        let folder = Folder::new();
        folder.file("verger.toml", settings);
        Self(folder)
    }

    #[track_caller]
    fn said(&self, status: i32, args: &[&str]) -> (String, String) {
        let output = command(args).current_dir(self.0.path("")).output().unwrap();
        let (out, err) = (stdout(&output), stderr(&output));
        assert_eq!(output.status.code(), Some(status), "{args:?}: {out}{err}");
        (out, err)
    }

    #[track_caller]
    fn text(&self, args: &[&str]) -> String {
        self.said(0, args).0
    }
}

const SETTINGS: &str = r#"
file = "app.db"
[schedules.nightly]
cron = "0 3 * * *"
worker = "reconcile-memberships"
all_organizations = true
"#;

#[test]
fn every_verb_finds_the_file_by_the_settings() {
    let home = Home::new(SETTINGS);
    home.text(&["migrate", "--reference"]);
    let enqueue =
        ["enqueue", "reconcile-memberships", "--args", NULL_TENANT, "--now", "2026-01-01"];
    assert!(home.text(&enqueue).contains("job 1"));
    assert!(home.text(&["jobs", "list"]).contains("reconcile-memberships"));
    assert_eq!(home.text(&["schedule", "list"]), "no schedules\n", "looking stores none");
    home.text(&["tick", "--now", "2026-01-01T00:00:01Z"]);
    assert!(home.text(&["schedule", "list"]).contains("nightly"));
    assert_eq!(home.text(&["config", "diff"]), "nothing changes\n");

    // Below, and named.
    std::fs::create_dir(home.0.path("below")).unwrap();
    let below = command(&["jobs", "list"]).current_dir(home.0.path("below")).output().unwrap();
    assert!(stdout(&below).contains("reconcile-memberships"));
    let named = home.0.path("verger.toml");
    let named = ["jobs", "show", "1", "--config", named.to_str().unwrap()];
    assert!(said(0, &named).0.contains("completed"));

    // Another database is another app's.
    let other = Site::new();
    assert_eq!(home.text(&["jobs", "list", "--db", other.db()]), "no jobs\n");
    home.text(&["tick", "--db", other.db()]);
    assert_eq!(home.text(&["schedule", "list", "--db", other.db()]), "no schedules\n");
    assert!(refusal(&["jobs", "list"]).contains("--db FILE"));
}

#[test]
fn settings_are_checked_compared_and_applied() {
    let home = Home::new("file = \"app.db\"\nthreds = 2\n");
    let (out, _) = home.said(1, &["config", "check"]);
    assert!(out.contains("verger.toml:2:1: threds: there is no such key; did you mean `threads`?"));
    let (_, err) = home.said(2, &["jobs", "list"]);
    assert!(err.contains("2:1: threds"), "{err}");
    home.0.file("verger.toml", SETTINGS);
    assert!(home.text(&["config", "check"]).contains("it is right"));
    home.text(&["migrate"]);
    assert!(home.text(&["config", "diff"]).starts_with("+ schedules.nightly: a new schedule"));
    home.text(&["config", "apply"]);
    home.0.file("verger.toml", "file = \"app.db\"\n");
    assert_eq!(
        home.text(&["config", "diff"]),
        "- schedules.nightly: the file has it no more: it is retired\n"
    );
    home.text(&["tick"]);
    assert!(home.text(&["schedule", "list"]).contains("nightly"), "a tick retires none");
    home.text(&["config", "apply"]);
    assert_eq!(home.text(&["schedule", "list"]), "no schedules\n");
    let schema: serde_json::Value =
        serde_json::from_str(&home.text(&["config", "schema"])).unwrap();
    assert_eq!(schema["title"], "verger.toml");
}

#[test]
fn the_doctor_has_an_exit_status_and_a_command_for_each_finding() {
    let site = Site::new();
    let well = object(0, &["doctor", "--db", site.db()]);
    assert_eq!((&well["well"], &well["facts"]["journal_mode"]), (&json!(true), &json!("wal")));
    site.sql("DROP INDEX verger_jobs_due");
    let (out, _) = said(1, &["doctor", "--db", site.db()]);
    assert!(out.contains("error [schema-missing]") && out.contains("1 thing to mend"), "{out}");
    assert!(
        out.contains(&format!("    verger doctor --fix=schema-missing --db {}", site.db())),
        "{out}"
    );
    assert!(said(0, &["doctor", "--db", site.db(), "--fix"]).0.contains("mended schema-missing"));
    assert!(refusal(&["doctor", "--db", site.db(), "--fix=nothing"]).contains("`nothing`"));

    let letter = site.folder.file("letter.txt", "Dear verger, ".repeat(99));
    let ill = object(1, &["doctor", "--db", &letter]);
    assert_eq!(ill["findings"][0]["code"], "no-database");
    let nowhere = object(1, &["doctor", "--db", "/nowhere/app.db"]);
    assert_eq!(nowhere["findings"][0]["mend"], "verger migrate --db /nowhere/app.db");
}
