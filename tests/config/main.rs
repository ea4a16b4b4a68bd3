//! `verger.toml`: the builder gets what it says, and each fault in it has a position.
#![cfg(feature = "config")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod capabilities;

use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};
use tempfile::TempDir;
use verger::{ChangeKind, Config, ConfigError, Verger};

const NIGHTLY: &str = r#"
[schedules.nightly]
cron = "0 3 * * *"
worker = "cleanup-expired-invitations"
all_organizations = true
"#;

fn folder_with(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("verger.toml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

/// All that is wrong with a text: `line:column: key: message`.
fn problems(text: &str) -> Vec<String> {
    let (_folder, path) = folder_with(text);
    Config::check(&path).unwrap().iter().map(ToString::to_string).collect()
}

#[test]
fn a_file_opens_what_it_describes() {
    let (folder, path) = folder_with(
        r#"
file = "data/app.db"
plugins = ["plugins"]
built_ins = true
durability = "full"
threads = 2
lease = "5m"
keep_audit = "30d"
compile_cache = "off"
compile_limit = "90s"

[limits]
time = "5s"
memory = "32MiB"

[retention]
completed = "1d"
discarded = "forever"

[backoff]
base = "1s"

[workers.reconcile-memberships]
backoff = { base = "10s", max = "1h" }

[grants.reconcile-memberships]
read = ["memberships", "users:id,name"]
update = ["memberships:state"]
tenant_column = "organization_id"
limits = { statements = 1000 }

[queues.mail]
concurrency = 4
global = 8

[schedules.nightly]
cron = "0 3 * * *"
worker = "cleanup-expired-invitations"
args = '{"organization_id": null, "actor_id": null, "retention_days": 7}'
time_zone = "Europe/Berlin"
missed = "replay 3"
overlap = "allow"
start_deadline = "2h"
jitter = "90s"
priority = 3
max_attempts = 4
queue = "mail"

[schedules.often]
every = "5m"
worker = "cleanup-expired-invitations"
args = { retention_days = 7 }
organization = "o1"
actor = "u1"
"#,
    );
    std::fs::create_dir(folder.path().join("data")).unwrap();
    let verger = Verger::from_config(&path).unwrap();
    let rows = verger.schedules().unwrap();
    let json = |place: usize| serde_json::to_value(&rows[place]).unwrap();
    let nightly = json(0);
    for (key, value) in [
        ("timezone", json!("Europe/Berlin")),
        ("missed", json!("replay 3")),
        ("overlap", json!("allow")),
        ("deadline_ms", json!(7_200_000)),
        ("jitter_ms", json!(90_000)),
        ("priority", json!(3)),
        ("max_attempts", json!(4)),
        ("queue", json!("mail")),
        ("registered_by", json!("verger.toml")),
    ] {
        assert_eq!(nightly[key], value, "{key}");
    }
    let args: Json = serde_json::from_str(&rows[1].args).unwrap();
    assert_eq!(args, json!({"retention_days": 7, "organization_id": "o1", "actor_id": "u1"}));
    assert!(folder.path().join("data/app.db").is_file());
    assert_eq!(Config::read(&path).unwrap().difference().unwrap(), []);
}

#[test]
fn each_fault_is_told_with_its_line_and_column_and_all_at_once() {
    let text = r#"file = 7
pluginz = ["a"]
threads = 99
lease = "soon"

[retention]
completed = "never"

[grants.acme]
write = ["orders:id"]
sha256 = "12"
limits = { memory = "1MB", statements = 0 }

[queues.mail]
concurency = 4

[schedules.nightly]
cron = "61 * * * *"
worker = "w"

[schedules.both]
cron = "@daily"
every = "5m"
worker = "w"

[schedules.none]
worker = "w"

[schedules.idle]
every = "5m"

[schedules.zone]
every = "5m"
worker = "w"
time_zone = "Europe/Berlim"
overlap = "forbidden"
actor = "u1"
"#;
    let expected = [
        ("1:8", "file", "must be a path in quotes, and is a whole number"),
        ("2:1", "pluginz", "did you mean `plugins`?"),
        ("3:11", "threads", "from 1 to 32"),
        ("4:9", "lease", "\"soon\" is no length of time"),
        ("7:13", "retention.completed", "or forever"),
        ("10:9", "grants.acme.write", "only `read` and `update` take them"),
        ("11:10", "grants.acme.sha256", "no SHA-256"),
        ("12:21", "grants.acme.limits.memory", "\"1MB\" is no size"),
        ("12:41", "grants.acme.limits.statements", "at least 1"),
        ("15:1", "queues.mail.concurency", "did you mean `concurrency`?"),
        ("18:8", "schedules.nightly.cron", "minute field \"61\""),
        ("23:9", "schedules.both.every", "keep one"),
        ("26:12", "schedules.none", "neither `cron` nor `every`"),
        ("29:12", "schedules.idle", "names no worker"),
        ("35:13", "schedules.zone.time_zone", "did you mean Europe/Berlin?"),
        ("36:11", "schedules.zone.overlap", "did you mean \"forbid\"?"),
        ("37:9", "schedules.zone.actor", "name that too"),
    ];
    let found = problems(text);
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, (at, key, says)) in found.iter().zip(expected) {
        assert!(found.starts_with(&format!("{at}: {key}: ")), "{found}, not {at} {key}");
        assert!(found.contains(says), "{found}, not {says}");
    }
    let (_folder, path) = folder_with(text);
    let Err(ConfigError::Invalid { problems, .. }) = Verger::from_config(&path) else { panic!() };
    assert_eq!(problems.len(), expected.len());
}

#[test]
fn what_is_no_toml_has_a_place_too() {
    for text in
        ["file = \"a\nb\"", "file = \"a\"\nfile = \"b\"", "[queues\n", "\n\nö = [1,", "\u{0}"]
    {
        let found = problems(text);
        assert!(found[0].contains("no TOML"), "{text:?}: {found:?}");
        let line: usize = found[0].split(':').next().unwrap().parse().unwrap();
        assert!((1..=text.lines().count() + 1).contains(&line), "{text:?}: {found:?}");
    }
    assert!(problems("").is_empty());
    let missing = Config::read("/nowhere/verger.toml").unwrap_err();
    assert!(missing.to_string().contains("/nowhere/verger.toml"), "{missing}");
}

#[test]
fn an_old_name_works_and_is_told() {
    let (folder, path) = folder_with("db = \"app.db\"\n");
    let config = Config::read(&path).unwrap();
    assert_eq!(config.file(), Some(folder.path().join("app.db").as_path()));
    assert_eq!(config.deprecations().len(), 1);
    let said = config.deprecations()[0].to_string();
    assert_eq!(said, "1:1: db: it is deprecated: write `file` in its place");
    assert!(problems("db = \"a\"\nfile = \"b\"\n").iter().any(|said| said.contains("remove this")));
}

#[test]
fn the_nearest_file_is_found_from_below() {
    let (folder, path) = folder_with("");
    let below = folder.path().join("a/b");
    std::fs::create_dir_all(&below).unwrap();
    assert_eq!(Config::find(&below), Some(path.clone()));
    assert_eq!(Config::find(folder.path()), Some(path));
    let Err(ConfigError::NoFile { .. }) = Verger::from_config(Config::find(&below).unwrap()) else {
        panic!()
    };
}

#[test]
fn what_is_for_the_apps_own_workers_keeps_no_other_program_out() {
    let (folder, path) = folder_with(
        "file = \"app.db\"\n[grants.send-report]\nread = [\"orders\"]\n[workers.send-report]\nbackoff = { base = \"1s\" }\n\
         [schedules.report]\ncron = \"@daily\"\nworker = \"send-report\"\n",
    );
    let config = Config::read(&path).unwrap();
    let file = folder.path().join("app.db");
    drop(config.builder_for(&file, |_| false).open().unwrap());
    let looking = config.without_schedules(&file).read_only().open().unwrap();
    assert_eq!(looking.schedules().unwrap(), []);
    let Err(ConfigError::Open(error)) = Verger::from_config(&path) else { panic!() };
    assert!(error.to_string().contains("send-report"), "{error}");
}

#[test]
fn what_it_would_change_is_told_and_then_changed() {
    let (_folder, path) = folder_with(&format!("file = \"app.db\"\n{NIGHTLY}"));
    drop(Verger::from_config(&path).unwrap());
    std::fs::write(
        &path,
        "file = \"app.db\"\nplugins = [\"plugins\"]\n[grants.acme]\nread = [\"orders\"]\n\
         [schedules.weekly]\ncron = \"@weekly\"\nworker = \"reconcile-memberships\"\nall_organizations = true\n",
    )
    .unwrap();
    let config = Config::read(&path).unwrap();
    let changes = config.difference().unwrap();
    let kinds: Vec<_> = changes.iter().map(|change| (change.kind, change.key.as_str())).collect();
    assert_eq!(
        kinds,
        [
            (ChangeKind::Add, "schedules.weekly"),
            (ChangeKind::Remove, "schedules.nightly"),
            (ChangeKind::Refuse, "grants.acme"),
        ]
    );
    let verger = config.builder().unwrap().open().unwrap();
    let names: Vec<String> = verger.schedules().unwrap().into_iter().map(|row| row.name).collect();
    assert_eq!(names, ["weekly"]);
    drop(verger);
    let text = std::fs::read_to_string(&path).unwrap().replace("@weekly", "@monthly");
    std::fs::write(&path, text).unwrap();
    let changes = Config::read(&path).unwrap().difference().unwrap();
    assert!(changes[0].message.contains("from 0 0 * * 0 to 0 0 1 * *"), "{changes:?}");
    assert_eq!(changes[0].kind, ChangeKind::Change);
}

#[test]
fn the_schema_for_editors_is_what_the_check_goes_by() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("core/config/schema.json");
    let schema = format!("{:#}\n", Config::json_schema());
    if std::env::var_os("VERGER_WRITE").is_some() {
        std::fs::write(&kept, &schema).unwrap();
    }
    let text = std::fs::read_to_string(&kept).unwrap_or_default();
    assert!(text == schema, "VERGER_WRITE=1 cargo test --features config --test config schema");
    // Each key that it names is one that the check knows, and takes a table or says what it takes.
    for (key, property) in Config::json_schema()["properties"].as_object().unwrap() {
        let said = problems(&format!("{key} = 1979-05-27\n"));
        assert!(said.iter().all(|said| !said.contains("no such key")), "{said:?}");
        assert!(said.iter().any(|said| said.contains("it must be")), "{key}: {said:?}");
        assert!(property["description"].is_string(), "{key}");
    }
}

#[test]
fn what_a_grant_in_the_file_leaves_out_is_told_by_the_difference() {
    let text = |enqueue: &str| {
        format!(
            "file = \"app.db\"\n[grants.reconcile-memberships]\nread = [\"memberships\"]\n{enqueue}\n"
        )
    };
    let (_folder, path) = folder_with(&text(""));
    drop(Verger::from_config(&path).unwrap());
    let changes = Config::read(&path).unwrap().difference().unwrap();
    let keys: Vec<_> = changes.iter().map(|change| (change.kind, change.key.as_str())).collect();
    assert_eq!(keys, [(ChangeKind::Refuse, "grants.reconcile-memberships")], "{changes:?}");
    assert!(changes[0].message.contains("update on table memberships"), "{changes:?}");
    // Of what is not in the database (capabilities, secrets, retention) nothing changes there.
    std::fs::write(
        &path,
        "file = \"app.db\"\n[retention]\nevents = \"3d\"\n[secrets.key]\nenv = \"KEY\"\n",
    )
    .unwrap();
    assert_eq!(Config::read(&path).unwrap().difference().unwrap(), []);
}

#[test]
fn what_is_said_of_a_built_in_that_is_no_component_holds_in_the_command_too() {
    let (folder, path) =
        folder_with("[workers.export-backup.backoff]\nbase = \"1s\"\nmax = \"2s\"\n");
    let config = Config::read(&path).unwrap();
    let verger = config.builder_for(folder.path().join("app.db"), |_| true).open().unwrap();
    let args = json!({"folder": path.join("below-a-file")});
    let id = verger.enqueue(verger::NewJob::new("export-backup", args)).unwrap().id;
    let now = verger.now();
    verger.tick(now).unwrap();
    let job = verger.job(id).unwrap().unwrap();
    assert_eq!(job.state, verger::JobState::Retryable, "{:?}", job.errors);
    // By default it would be 15 seconds.
    assert!(job.due_at.since(now) < std::time::Duration::from_secs(8), "{:?}", job.due_at);
}
