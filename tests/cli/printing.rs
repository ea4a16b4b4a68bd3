//! What is printed: strangers' words, readers that go away, devices that are full.

use std::process::Stdio;

use serde_json::json;

use super::harness::{NULL_TENANT, Site, command, objects, said, stderr, stdout, text, verger};

/// Acts on a terminal in every way there is, and makes up a row.
const SAID: &str = "x\u{1b}[2J\u{9b}31m\u{202e}\u{200b}\r\n   99  2026-11-25T00:00:00Z  all.good";

/// A database in which everything a stranger can write is [`SAID`].
fn strange() -> Site {
    let site = Site::new();
    let sql = "INSERT INTO memberships (id, organization_id, user_id, state, expires_at, created_at, updated_at)
        VALUES (?1, ?1, 'u', 'active', 5, 0, 0)";
    site.open().execute(sql, [SAID]).unwrap();
    text(&["run", "reconcile-memberships", "--db", site.db(), "--args", NULL_TENANT]);
    let sql = "INSERT INTO verger_jobs (worker, queue, priority, state, args, tenant_aware, due_at,
            max_attempts, created_at, finished_at, result, errors)
        VALUES (?1, ?1, 5, 'completed', json_object('a', ?1), 0, 0, 20, 0, 0, json_quote(?1), NULL),
            (?1, ?1, 5, 'discarded', '{}', 0, 0, 20, 0, 0, NULL,
            json_array(json_object('attempt', 1, 'at', 0, 'code', ?1, 'message', ?1))),
            ('cleanup-audit', ?1, 5, 'available', '{}', 0, 0, 20, 0, NULL, NULL, NULL)";
    site.open().execute(sql, [SAID]).unwrap();
    text(&["schedule", "add", SAID, "* * * * *", "--worker", "cleanup-audit", "--db", site.db()]);
    site
}

#[test]
fn no_word_of_a_stranger_acts_on_the_terminal_or_makes_up_a_row() {
    let site = strange();
    let folder = site.folder.path(SAID);
    for verb in [
        &["jobs", "list"][..],
        &["jobs", "show", "1"],
        &["jobs", "show", "2"],
        &["jobs", "retry", "1"],
        &["jobs", "show", "77"],
        &["queue", "list"],
        &["queue", "pause", SAID],
        &["queue", "resume", SAID],
        &["queue", "resume", SAID],
        &["audit", "list"],
        &["audit", "verify"],
        &["schedule", "list"],
        &["schedule", "pause", SAID],
        &["schedule", "pause", "none of that name"],
        &["schedule", "resume", SAID],
        &["schedule", "run-now", SAID],
        &["tick"],
        &["schedule", "fires", SAID],
        &["schedule", "fires", SAID, "--at", "2026-01-01"],
        &["run", SAID],
        &["enqueue", SAID],
        &["plugin", "inspect", folder.to_str().unwrap()],
    ] {
        let db = ["--db", site.db()];
        let args = if verb[0] == "plugin" { verb.to_vec() } else { [verb, &db].concat() };
        let output = verger(&args);
        let printed = stdout(&output) + &stderr(&output);
        let acts = |c: char| c != '\n' && (c.is_control() || "\u{202e}\u{200b}".contains(c));
        assert!(!printed.contains(acts), "{verb:?}: {printed:?}");
        assert!(!printed.lines().any(|line| line.trim_start().starts_with("99 ")), "{printed}");
        assert!(!printed.is_empty(), "{verb:?}");
    }
}

#[test]
fn json_has_the_words_of_strangers_exactly() {
    let site = strange();
    let rows = objects(&["jobs", "list", "--db", site.db()]);
    let of = |id: u64| rows.iter().find(|row| row["id"] == id).unwrap();
    assert_eq!((&of(1)["worker"], &of(1)["result"]), (&json!(SAID), &json!(SAID)));
    assert_eq!(of(1)["args"], json!({ "a": SAID }));
    assert_eq!(of(2)["errors"][0]["message"], SAID);
    let audit = objects(&["audit", "list", "--db", site.db()]);
    assert_eq!(audit[0]["subject_id"], SAID);
    assert_eq!(objects(&["schedule", "list", "--db", site.db()])[0]["name"], SAID);
}

/// A thousand finished jobs: more than a page, and more than a pipe holds.
fn busy() -> Site {
    let site = Site::new();
    site.sql(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200)
         INSERT INTO verger_jobs (worker, queue, priority, state, args, tenant_aware, due_at, max_attempts, created_at, finished_at)
         SELECT 'w', 'q', 5, 'completed', json_object('n', i), 0, 0, 20, 0, 0 FROM n",
    );
    site
}

#[test]
fn a_long_list_comes_page_by_page_and_is_whole() {
    let site = busy();
    let list = |n: &str| objects(&["jobs", "list", "-n", n, "--db", site.db()]);
    let ids: Vec<u64> = list("1100").iter().map(|job| job["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, (101..=1200).rev().collect::<Vec<_>>());
    assert_eq!(list("5000").len(), 1200);
    assert!(list("0").is_empty());
    let table = text(&["jobs", "list", "-n", "1100", "--db", site.db()]);
    assert_eq!(table.lines().count(), 1101, "one head");
}

#[test]
fn a_reader_that_goes_away_ends_the_printing_and_is_no_fault() {
    let site = busy();
    let list = ["jobs", "list", "-n", "1000000", "--db", site.db(), "--json"];
    let mut child = command(&list).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
    // Work that fails is told by the status, whoever reads.
    let run =
        ["run", "cleanup-audit", "--db", site.db(), "--args", r#"{"retention_days": 0}"#, "--json"];
    let mut child = command(&run).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[cfg(target_os = "linux")]
#[test]
fn on_a_full_device_the_status_says_that_the_work_was_done() {
    let site = Site::new();
    let full = || std::fs::File::create("/dev/full").unwrap();
    let enqueue = ["enqueue", "cleanup-audit", "--db", site.db()];
    let output = command(&enqueue).stdout(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("it is done, but what it prints could not be written"));
    let output = command(&enqueue).stdout(full()).stderr(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(objects(&["jobs", "list", "--db", site.db()]).len(), 2);
    let refused = ["enqueue", "nobody", "--db", site.db()];
    let output = command(&refused).stdout(full()).stderr(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "nothing was done");
}

#[cfg(unix)]
#[test]
fn the_loop_goes_on_when_nobody_reads_its_log() {
    let site = Site::new();
    let mut child = command(&["start", "--db", site.db()])
        .env("RUST_LOG", "trace")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    text(&["enqueue", "cleanup-audit", "--db", site.db()]);
    let begun = std::time::Instant::now();
    while objects(&["jobs", "show", "1", "--db", site.db()])[0]["state"] != "completed" {
        assert!(begun.elapsed().as_secs() < 20, "the loop did not perform the job");
    }
    let kill = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(kill.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_grant_is_read_as_editors_and_shells_save_it() {
    let site = Site::new();
    let grant = r#"{"cleanup-audit": {"capabilities": ["verger.prune-audit"]}}"#;
    let utf16: Vec<u16> = format!("\u{feff}{grant}\r\n").encode_utf16().collect();
    let little: Vec<u8> = utf16.iter().flat_map(|unit| unit.to_le_bytes()).collect();
    let big: Vec<u8> = utf16.iter().flat_map(|unit| unit.to_be_bytes()).collect();
    let marked = format!("\u{feff}{grant}\r\n").into_bytes();
    for (name, bytes) in [("marked", marked), ("little", little.clone()), ("big", big)] {
        let file = site.folder.file(name, bytes);
        text(&["run", "cleanup-audit", "--db", site.db(), "--grant", &file]);
    }
    for (bytes, names) in [(&little[2..], "UTF-16"), (b"{\"\xff\": {}}", "no UTF-8 at byte 2")] {
        let file = site.folder.file("other", bytes);
        let (_, err) = said(2, &["run", "cleanup-audit", "--db", site.db(), "--grant", &file]);
        assert!(err.contains(names), "{err}");
    }
}

#[test]
fn a_plugins_folder_that_is_not_there_is_empty_and_what_is_no_plugin_in_it_is_told() {
    let site = Site::new();
    let folder = site.folder.path("plugins");
    let tick = ["tick", "--db", site.db(), "--plugins", folder.to_str().unwrap()];
    assert_eq!(said(0, &tick).1, "");
    std::fs::create_dir_all(folder.join("folder.wasm")).unwrap();
    std::fs::write(folder.join("BROKEN.WASM"), "not wasm").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("moved-away.wasm", folder.join("link.wasm")).unwrap();
    let (_, err) = said(0, &tick);
    for name in ["BROKEN.WASM", "folder.wasm", if cfg!(unix) { "link.wasm" } else { "" }] {
        assert!(err.contains(name), "{err}");
    }
    let output = command(&tick).env("RUST_LOG", "info").output().unwrap();
    assert!(output.status.success());
}

#[test]
fn a_database_in_memory_is_no_file_of_the_command() {
    for verb in [&["migrate"][..], &["tick"], &["jobs", "list"]] {
        let (_, err) = said(2, &[verb, &["--db", ":memory:"]].concat());
        assert!(err.contains(":memory:"), "{err}");
    }
}
