//! `verger plugin inspect` and `verger plugin check`: what a person learns of a `.wasm` before it
//! is dropped in, and the grants for the command line that they print.

mod check;
#[cfg(all(unix, feature = "postgres"))]
mod dialect;
mod inspect;

use serde_json::{Value as Json, json};
use verger::rusqlite::Connection;

use super::handmade::Handmade;
use super::harness::{Folder, Site, object, prebuilt, puppet, refusal, repository, said, text};

fn memberships() -> String {
    prebuilt("reconcile-memberships")
}

/// The findings of a check that are no `ok`: level, what was looked at, and the sentence.
fn findings(checked: &Json) -> Vec<(&str, &str, &str)> {
    let all = checked["findings"].as_array().unwrap().iter();
    let all = all.map(|finding| {
        (
            finding["level"].as_str().unwrap(),
            finding["check"].as_str().unwrap(),
            finding["says"].as_str().unwrap(),
        )
    });
    all.filter(|(level, ..)| *level != "ok").collect()
}

fn has(checked: &Json, level: &str, check: &str, names: &str) -> bool {
    findings(checked)
        .iter()
        .any(|found| found.0 == level && found.1 == check && found.2.contains(names))
}

#[test]
fn the_same_grant_lets_a_worker_run_as_far_as_it_goes() {
    let folder = Folder::new();
    let db = folder.path("app.db").to_str().unwrap().to_string();
    said(0, &["migrate", "--db", &db]);
    Connection::open(&db)
        .unwrap()
        .execute_batch("CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT)")
        .unwrap();
    std::fs::create_dir(folder.path("plugins")).unwrap();
    std::fs::copy(puppet(), folder.path("plugins/puppet.wasm")).unwrap();
    let steps = r#"{"do": [["execute", "INSERT INTO things (id) VALUES (1)", []], ["query", "SELECT name FROM things", []], ["execute", "DELETE FROM things", []]]}"#;
    let plugins = folder.path("plugins");
    let run = [
        "run",
        "puppet",
        "--db",
        &db,
        "--args",
        steps,
        "--dry-run",
        "--plugins",
        plugins.to_str().unwrap(),
    ];
    let with = |grant: &str| object(0, &[&run[..], &["--grant", grant]].concat())["result"].clone();

    let grant = r#"{"puppet": {"insert": ["things"], "read": ["things:id"]}}"#;
    let answers = with(grant);
    assert_eq!(answers[0], json!({"ok": 1}));
    assert!(
        answers[1]["message"].as_str().unwrap().contains("read denied: column things.name"),
        "{answers}"
    );
    assert!(
        answers[2]["message"].as_str().unwrap().contains("delete denied: table things"),
        "{answers}"
    );
    assert_eq!(with(&folder.file("grants.json", grant)), answers, "a file says the same");

    // What is granted by name counts before --trust.
    let trusted = object(0, &[&run[..], &["--trust"]].concat());
    assert_eq!(trusted["result"][2], json!({"ok": 1}));
    let narrowed = object(0, &[&run[..], &["--trust", "--grant", grant]].concat());
    assert_eq!(narrowed["result"], answers);

    // For this file alone.
    let sha256 =
        object(0, &["plugin", "inspect", &puppet()])["sha256"].as_str().unwrap().to_string();
    let bound =
        |sha256: &str| format!(r#"{{"puppet": {{"write": ["things"], "sha256": "{sha256}"}}}}"#);
    assert_eq!(with(&bound(&sha256))[2], json!({"ok": 1}));
    let refused = refusal(&[&run[..], &["--grant", &bound(&"0".repeat(64))]].concat());
    assert!(refused.contains("a plugin was refused") && refused.contains(&sha256), "{refused}");

    let (_, warned) = said(0, &[&run[..], &["--grant", r#"{"pupet": {}}"#]].concat());
    assert!(warned.contains("--grant names `pupet`") && warned.contains("puppet"), "{warned}");
    assert!(
        refusal(&[&run[..], &["--grant", r#"{"puppet": {"reed": []}}"#]].concat())
            .contains("unknown field `reed`")
    );
    assert!(
        refusal(&[&run[..], &["--grant", grant, "--grant", grant]].concat())
            .contains("`puppet` twice")
    );
    assert!(refusal(&["tick", "--db", &db, "--trust"]).contains("--plugins"));
}

#[test]
fn the_built_in_workers_need_nothing() {
    for entry in std::fs::read_dir(repository("plugins/prebuilt")).unwrap() {
        let file = entry.unwrap().path();
        let checked = object(0, &["plugin", "check", file.to_str().unwrap()]);
        // What the app gives, and what an empty world has no use for, is not the worker's to mend.
        let own: Vec<_> = findings(&checked)
            .into_iter()
            .filter(|(level, check, _)| {
                *level != "advice" || !["functions", "tables"].contains(check)
            })
            .collect();
        assert_eq!(own, [], "{}", file.display());
        assert_eq!((&checked["outcome"], &checked["error"]), (&json!("done"), &Json::Null));
    }
}

#[test]
fn a_name_that_is_taken_is_told() {
    let folder = Folder::new();
    let manifest =
        json!({"name": "reconcile-memberships", "version": "1", "description": "Another."});
    let file = folder.file("mine.wasm", Handmade::described(manifest.to_string()).bytes());
    let checked = object(0, &["plugin", "check", &file]);
    assert!(
        has(&checked, "advice", "name", "name the file reconcile-memberships.wasm"),
        "{checked}"
    );
    assert!(has(&checked, "advice", "name", "a built-in worker has its name"), "{checked}");
}

#[test]
fn the_waiting_jobs_that_a_version_could_not_perform_are_named() {
    let site = Site::new();
    let waiting = |args: &str, version: u32, count: usize| {
        let sql = format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) \
             INSERT INTO verger_jobs (worker, args, args_version, queue) SELECT 'report', '{args}', {version}, 'q' FROM n"
        );
        site.open().execute_batch(&sql).unwrap();
    };
    text(&["tick", "--db", site.db()]);
    let file = repository("tests/guests/migrant.wasm");
    let check = ["plugin", "check", &file, "--args", r#"{"minutes": 1}"#, "--db", site.db()];
    waiting(r#"{"days": 1}"#, 1, 700);
    waiting(r#"{"hours": 1}"#, 2, 1);
    let checked = object(0, &check);
    assert!(checked.to_string().contains("its args fit 701 waiting jobs"), "{checked}");
    waiting(r#"{"dayz": 1}"#, 1, 7);
    waiting(r#"{"seconds": 1}"#, 4, 1);
    let checked = object(1, &check);
    let unfit = "7 waiting jobs (702, 703, 704, 705, 706, …) could not be performed";
    assert!(has(&checked, "must-fix", "jobs", unfit), "{checked}");
    assert!(has(&checked, "must-fix", "jobs", "the arg `days` is missing"), "{checked}");
    assert!(has(&checked, "advice", "jobs", "1 waiting job (709) would be parked"), "{checked}");
    let of_all = "SELECT count(*) FROM verger_jobs WHERE attempt = 0 AND state = 'available'";
    let count: i64 = site.open().query_row(of_all, [], |row| row.get(0)).unwrap();
    assert_eq!(count, 709, "nothing of them is changed");
}

#[test]
fn a_name_is_free_once_it_is_forgotten() {
    let site = Site::new();
    let folder = site.folder.path("plugins");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(puppet(), folder.join("p.wasm")).unwrap();
    text(&["tick", "--db", site.db(), "--plugins", folder.to_str().unwrap()]);
    let forget = ["plugin", "forget", "puppet", "--db", site.db()];
    let named = "SELECT count(*) FROM verger_plugins";
    let count = || site.open().query_row(named, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count(), 1);
    assert_eq!(object(0, &forget), json!({"forgotten": "puppet"}));
    assert_eq!(count(), 0);
    assert!(refusal(&forget).contains("no dropped-in worker had the name `puppet`"));
}
