//! Workers that are dropped in, replaced and taken away while the app runs.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test stops at the first surprise"
)]

mod common;

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::puppet_as;
use serde_json::{Value as Json, json};
use verger::testing::{ManualClock, TestVerger, capture_logs};
use verger::{
    Builder, Error, Grant, Job, JobFilter, JobId, JobState, NewJob, PluginError, TickLoop, Verger,
};

/// How long a busy machine may take to do what takes a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// A component of this name and version. Another version is another digest.
fn worker(name: &str, version: &str) -> Vec<u8> {
    puppet_as(&json!({
        "name": name, "version": version, "args": {"do": {"default": []}},
        "capabilities": ["echo", "absent"],
    }))
}

struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let site = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir(site.path("plugins")).unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn plugin(&self, file: &str) -> PathBuf {
        self.path("plugins").join(file)
    }

    /// As an installer does: written elsewhere, and put in its place at once.
    fn drop_in(&self, file: &str, bytes: &[u8]) {
        std::fs::write(self.path("new"), bytes).unwrap();
        std::fs::rename(self.path("new"), self.plugin(file)).unwrap();
    }

    fn builder(&self) -> Builder {
        Verger::builder(self.path("app.db"))
            .without_built_ins()
            .plugins(self.path("plugins"))
            .grant_plugins(Grant::as_declared().time_limit(PATIENCE))
    }

    fn open(&self) -> TestVerger {
        TestVerger::open(self.builder(), &ManualClock::at(TestVerger::START)).unwrap()
    }
}

fn version(verger: &Verger, name: &str) -> Option<String> {
    verger.manifest(name).ok().map(|manifest| manifest.version)
}

fn refused(verger: &Verger) -> Vec<String> {
    verger.refused_plugins().iter().map(ToString::to_string).collect()
}

#[track_caller]
fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn enqueue(verger: &Verger, name: &str) -> JobId {
    verger.enqueue_unchecked(NewJob::new(name, json!({}))).unwrap().id
}

fn job(verger: &Verger, id: JobId) -> Job {
    verger.job(id).unwrap().unwrap()
}

#[track_caller]
fn until_done(verger: &Verger, id: JobId) -> Job {
    until("the job is performed", || job(verger, id).state == JobState::Completed);
    job(verger, id)
}

fn running(test: &TestVerger) -> TickLoop {
    test.start().unwrap()
}

#[test]
fn a_file_is_a_worker_from_when_it_is_dropped_in_until_it_is_taken_away() {
    let site = Site::new();
    let test = site.open();
    let early = enqueue(&test, "acme");
    let ticking = running(&test);
    assert!(job(&test, early).parked);
    site.drop_in("acme.wasm", &worker("acme", "1"));
    let done = until_done(&test, early);
    assert_eq!((done.attempt, done.worker_version.as_deref()), (1, Some("1")));
    assert_eq!(done.worker_digest, test.digest("acme").unwrap());

    site.drop_in("acme.wasm", &worker("acme", "2"));
    until("the new version is taken", || version(&test, "acme").as_deref() == Some("2"));
    let done = until_done(&test, enqueue(&test, "acme"));
    assert_eq!(done.worker_version.as_deref(), Some("2"));

    std::fs::remove_file(site.plugin("acme.wasm")).unwrap();
    until("the worker is gone", || test.workers().is_empty());
    let parked = enqueue(&test, "acme");
    assert!(test.enqueue(NewJob::new("acme", json!({}))).is_err());
    // Jobs of others go on meanwhile.
    site.drop_in("other.wasm", &worker("other", "1"));
    until_done(&test, enqueue(&test, "other"));
    let waits = job(&test, parked);
    assert_eq!((waits.state, waits.attempt, waits.parked), (JobState::Available, 0, true));

    site.drop_in("acme.wasm", &worker("acme", "3"));
    let done = until_done(&test, parked);
    assert_eq!((done.attempt, done.worker_version.as_deref()), (1, Some("3")));
    ticking.stop(PATIENCE).unwrap();
}

/// An app whose function `echo` waits until the test lets it go on.
fn held(site: &Site) -> (TestVerger, Receiver<()>, Sender<()>) {
    let (begun, begins) = channel();
    let (go_on, goes_on) = channel::<()>();
    let goes_on = Arc::new(Mutex::new(goes_on));
    let builder = site.builder().capability("echo", move |_| {
        begun.send(()).map_err(|error| error.to_string())?;
        goes_on.lock().unwrap().recv_timeout(PATIENCE).map_err(|error| error.to_string())?;
        Ok(Json::Null)
    });
    let test = TestVerger::open(builder, &ManualClock::at(TestVerger::START)).unwrap();
    (test, begins, go_on)
}

#[test]
fn a_job_that_runs_ends_on_the_code_it_began_with() {
    for is_removed in [false, true] {
        let site = Site::new();
        site.drop_in("acme.wasm", &worker("acme", "1"));
        let (test, begins, go_on) = held(&site);
        let args = json!({"do": [["call", "echo", "{}"]]});
        let id = test.enqueue(NewJob::new("acme", args)).unwrap().id;
        let ticking = running(&test);
        begins.recv_timeout(PATIENCE).unwrap();
        if is_removed {
            std::fs::remove_file(site.plugin("acme.wasm")).unwrap();
            until("the worker is gone", || test.workers().is_empty());
        } else {
            site.drop_in("acme.wasm", &worker("acme", "2"));
            until("the new version is taken", || version(&test, "acme").as_deref() == Some("2"));
        }
        assert_eq!(job(&test, id).state, JobState::Executing);
        go_on.send(()).unwrap();
        let done = until_done(&test, id);
        assert_eq!((done.attempt, done.worker_version.as_deref()), (1, Some("1")));
        ticking.stop(PATIENCE).unwrap();
    }
}

#[test]
fn a_broken_or_refused_file_leaves_the_version_before_in_its_place() {
    let site = Site::new();
    site.drop_in("acme.wasm", &worker("acme", "1"));
    let test = site.open();
    let ticking = running(&test);
    let unusable = worker("No name at all", "2");
    let core_module = b"\0asm\x01\0\0\0".to_vec();
    for (bytes, phrase) in [
        (b"no component".to_vec(), "acme.wasm is no valid WebAssembly component"),
        (core_module, "wrap it with `verger plugin pack"),
        (unusable, "the name \"No name at all\" must be"),
    ] {
        site.drop_in("acme.wasm", &bytes);
        until(phrase, || refused(&test).iter().any(|reason| reason.contains(phrase)));
        assert_eq!(refused(&test).len(), 1);
        let done = until_done(&test, enqueue(&test, "acme"));
        assert_eq!(done.worker_version.as_deref(), Some("1"));
    }
    ticking.stop(PATIENCE).unwrap();
    drop(test);
    // A start changes nothing about that.
    let test = site.open();
    assert_eq!((version(&test, "acme").as_deref(), refused(&test).len()), (Some("1"), 1));
    let id = enqueue(&test, "acme");
    test.drain();
    assert_eq!(job(&test, id).worker_version.as_deref(), Some("1"));
    site.drop_in("acme.wasm", &worker("acme", "2"));
    test.refresh_plugins().unwrap();
    assert_eq!((version(&test, "acme").as_deref(), refused(&test).len()), (Some("2"), 0));
    // Without a file there is no worker: it was taken away.
    std::fs::remove_file(site.plugin("acme.wasm")).unwrap();
    assert!(site.open().workers().is_empty());
}

#[test]
fn a_file_that_is_being_copied_waits_until_it_is_complete() {
    let site = Site::new();
    site.drop_in("acme.wasm", &worker("acme", "1"));
    let test = site.open();
    let ticking = running(&test);
    let new = worker("acme", "2");
    std::fs::write(site.plugin("acme.wasm"), &new[..new.len() / 2]).unwrap();
    std::fs::write(site.plugin("late.wasm"), &worker("late", "1")[..1_000]).unwrap();
    // Files that are complete are taken meanwhile, so the others were looked at.
    site.drop_in("other.wasm", &worker("other", "1"));
    until("the complete file is taken", || version(&test, "other").is_some());
    assert_eq!(version(&test, "acme").as_deref(), Some("1"));
    assert_eq!(refused(&test), [""; 0]);
    std::fs::write(site.plugin("acme.wasm"), &new).unwrap();
    std::fs::write(site.plugin("late.wasm"), worker("late", "1")).unwrap();
    until("both are taken", || {
        version(&test, "acme").as_deref() == Some("2") && version(&test, "late").is_some()
    });
    // One that stays as it is will not get better: it is told of.
    std::fs::write(site.plugin("acme.wasm"), &new[..new.len() / 3]).unwrap();
    until("the half file is told of", || refused(&test).len() == 1);
    assert!(refused(&test)[0].contains("check that the file is complete"));
    assert_eq!(version(&test, "acme").as_deref(), Some("2"));
    ticking.stop(PATIENCE).unwrap();
}

#[test]
fn an_app_that_ticks_by_itself_takes_in_what_changed_at_its_next_tick() {
    let site = Site::new();
    let test = site.open();
    let id = enqueue(&test, "acme");
    test.drain();
    assert!(job(&test, id).parked);
    site.drop_in("acme.wasm", &worker("acme", "1"));
    test.drain();
    assert_eq!(job(&test, id).state, JobState::Completed);
    let (_, lines) = capture_logs(|| {
        site.drop_in("acme.wasm", &worker("acme", "0.9"));
        test.drain();
    });
    assert_eq!(version(&test, "acme").as_deref(), Some("0.9"));
    assert!(lines.iter().any(|line| line.message.contains("replaced by a lower version")));
}

#[test]
fn a_version_is_rolled_back_and_stays_so() {
    let site = Site::new();
    site.drop_in("acme.wasm", &worker("acme", "1"));
    let test = site.open();
    let error = test.rollback_plugin("acme").unwrap_err();
    assert!(matches!(error, Error::NotRolledBack { .. }), "{error}");
    assert!(test.rollback_plugin("nobody").is_err());
    let (_, lines) = capture_logs(|| {
        site.drop_in("acme.wasm", &worker("acme", "2"));
        test.refresh_plugins().unwrap();
        for _ in 0..4 {
            let args = json!({"do": [["failed", "no"]]});
            test.enqueue(NewJob::new("acme", args).max_attempts(1)).unwrap();
            test.drain();
        }
    });
    let told: Vec<_> =
        lines.iter().filter(|line| line.message.contains("plugin rollback acme")).collect();
    assert_eq!(told.len(), 1, "{lines:#?}");
    assert_eq!(told[0].fields["before"], "1");

    assert_eq!(test.rollback_plugin("acme").unwrap().version, "1");
    let says_so = |verger: &Verger| {
        let refused = refused(verger);
        assert_eq!(version(verger, "acme").as_deref(), Some("1"));
        assert!(refused[0].contains("version 2 of `acme`"), "{refused:?}");
        assert!(refused[0].contains("was rolled back"), "{refused:?}");
    };
    says_so(&test);
    let id = enqueue(&test, "acme");
    test.drain();
    assert_eq!(job(&test, id).worker_version.as_deref(), Some("1"));
    // Another process follows, and so does the next start.
    let other = site.open();
    says_so(&other);
    assert_eq!(test.rollback_plugin("acme").unwrap().version, "2");
    other.tick(TestVerger::START).unwrap();
    assert_eq!((version(&other, "acme").as_deref(), refused(&other).len()), (Some("2"), 0));
    assert_eq!(test.rollback_plugin("acme").unwrap().version, "1");
    drop((test, other));
    let test = site.open();
    says_so(&test);
    // The next version that is dropped in is taken.
    site.drop_in("acme.wasm", &worker("acme", "3"));
    test.refresh_plugins().unwrap();
    assert_eq!((version(&test, "acme").as_deref(), refused(&test).len()), (Some("3"), 0));
    let audited = test.audit_log(&verger::AuditFilter::default(), 10).unwrap();
    assert_eq!(audited.len(), 3);
    assert!(audited.iter().all(|row| row.action == "plugin.rolled_back"));
    test.verify_audit().unwrap();
}

#[test]
fn a_plugin_is_added_and_taken_out_by_the_app() {
    let site = Site::new();
    let test = site.open();
    std::fs::write(site.path("acme.wasm"), worker("acme", "1")).unwrap();
    let added = test.add_plugin(site.path("acme.wasm")).unwrap();
    assert_eq!((added.name.as_str(), added.version.as_str()), ("acme", "1"));
    assert_eq!(test.plugins(), std::slice::from_ref(&added));
    assert_eq!(test.digest("acme").unwrap(), Some(added.digest));
    // It is looked at from now on.
    std::fs::write(site.path("acme.wasm"), worker("acme", "2")).unwrap();
    test.tick(TestVerger::START).unwrap();
    assert_eq!(version(&test, "acme").as_deref(), Some("2"));
    // What is refused changes nothing.
    std::fs::write(site.path("twin.wasm"), worker("acme", "3")).unwrap();
    std::fs::write(site.path("text.wasm"), "no component").unwrap();
    for (file, phrase) in [
        ("twin.wasm", "that name belongs to"),
        ("text.wasm", "is no valid WebAssembly component"),
        ("none.wasm", "cannot read the plugin"),
        ("plugins", "is a folder, not a file"),
    ] {
        let error = test.add_plugin(site.path(file)).unwrap_err();
        assert!(matches!(error, Error::Plugin(_)), "{error:?}");
        assert!(error.to_string().contains(phrase), "{error}");
    }
    test.refresh_plugins().unwrap();
    assert_eq!((test.workers(), refused(&test)), (vec!["acme".to_string()], Vec::new()));

    let id = enqueue(&test, "acme");
    assert!(test.remove_plugin("acme").unwrap());
    assert!(!test.remove_plugin("acme").unwrap());
    test.drain();
    assert!(job(&test, id).parked);
    test.add_plugin(site.path("acme.wasm")).unwrap();
    test.drain();
    assert_eq!(job(&test, id).state, JobState::Completed);
    // One in the folder stays out until it changes.
    site.drop_in("other.wasm", &worker("other", "1"));
    test.refresh_plugins().unwrap();
    assert!(test.remove_plugin("other").unwrap());
    test.refresh_plugins().unwrap();
    assert_eq!(version(&test, "other"), None);
    assert!(refused(&test)[0].contains("other.wasm was taken out by the app"));
    site.drop_in("other.wasm", &worker("other", "2"));
    test.refresh_plugins().unwrap();
    assert_eq!(version(&test, "other").as_deref(), Some("2"));
}

#[cfg(unix)]
#[test]
fn what_can_be_no_plugin_is_told_of_and_the_loop_goes_on() {
    let site = Site::new();
    let own = worker("own", "1");
    let clock = ManualClock::at(TestVerger::START);
    let test = TestVerger::open(site.builder().component("own.wasm", own), &clock).unwrap();
    let ticking = running(&test);
    std::fs::create_dir(site.plugin("folder.wasm")).unwrap();
    let pipe = std::process::Command::new("mkfifo").arg(site.plugin("pipe.wasm")).status();
    assert!(pipe.unwrap().success());
    std::os::unix::fs::symlink("loop.wasm", site.plugin("loop.wasm")).unwrap();
    std::os::unix::fs::symlink("nowhere", site.plugin("nowhere.wasm")).unwrap();
    std::fs::File::create(site.plugin("large.wasm")).unwrap().set_len(200 << 20).unwrap();
    std::fs::write(site.plugin("empty.wasm"), "").unwrap();
    site.drop_in("own.wasm", &worker("own", "2"));
    site.drop_in("twin-a.wasm", &worker("twin", "1"));
    site.drop_in("twin-b.wasm", &worker("twin", "2"));
    site.drop_in("good.wasm", &worker("good", "1"));
    until("all are looked at", || refused(&test).len() == 9);
    let told = refused(&test);
    for (file, phrase) in [
        ("empty.wasm", "does not begin as WebAssembly does"),
        ("folder.wasm", "is a folder, not a file: put the .wasm itself in its place"),
        ("large.wasm", "has 209715200 bytes, more than the 67108864 a plugin may have"),
        ("loop.wasm", "it is a symbolic link that leads to no file"),
        ("nowhere.wasm", "it is a symbolic link that leads to no file"),
        ("own.wasm", "is named `own`, and so is a worker the app has already"),
        ("pipe.wasm", "is a pipe, not a file"),
        ("twin-a.wasm", "remove all but one"),
        ("twin-b.wasm", "remove all but one"),
    ] {
        let is_told = |reason: &&String| reason.contains(file) && reason.contains(phrase);
        assert!(told.iter().any(|reason| is_told(&reason)), "{file}: {told:#?}");
    }
    assert_eq!(version(&test, "own").as_deref(), Some("1"));
    until_done(&test, enqueue(&test, "good"));
    ticking.stop(PATIENCE).unwrap();
}

#[test]
fn a_link_that_leads_to_another_version_is_a_new_version() {
    let site = Site::new();
    for number in ["1", "2"] {
        std::fs::create_dir(site.path(number)).unwrap();
        std::fs::write(site.path(number).join("acme.wasm"), worker("acme", number)).unwrap();
    }
    let point = |number: &str| {
        let _ = std::fs::remove_file(site.plugin("acme.wasm"));
        let to = site.path(number).join("acme.wasm");
        #[cfg(unix)]
        std::os::unix::fs::symlink(to, site.plugin("acme.wasm")).unwrap();
        #[cfg(not(unix))]
        std::fs::copy(to, site.plugin("acme.wasm")).unwrap();
    };
    point("1");
    let test = site.open();
    assert_eq!(version(&test, "acme").as_deref(), Some("1"));
    point("2");
    test.refresh_plugins().unwrap();
    assert_eq!((version(&test, "acme").as_deref(), refused(&test)), (Some("2"), Vec::new()));
}

#[test]
fn a_folder_that_appears_or_goes_is_a_folder_that_is_empty() {
    let site = Site::new();
    std::fs::remove_dir(site.path("plugins")).unwrap();
    let test = site.open();
    test.refresh_plugins().unwrap();
    std::fs::create_dir(site.path("plugins")).unwrap();
    site.drop_in("acme.wasm", &worker("acme", "1"));
    test.tick(TestVerger::START).unwrap();
    assert_eq!(version(&test, "acme").as_deref(), Some("1"));
    std::fs::rename(site.path("plugins"), site.path("elsewhere")).unwrap();
    test.tick(TestVerger::START).unwrap();
    assert!(test.workers().is_empty());
    std::fs::rename(site.path("elsewhere"), site.path("plugins")).unwrap();
    test.tick(TestVerger::START).unwrap();
    assert_eq!(version(&test, "acme").as_deref(), Some("1"));
}

#[test]
fn a_known_file_is_not_loaded_before_it_is_needed() {
    let site = Site::new();
    // Names of its own: no other test has the same components, and replaces them.
    site.drop_in("acme.wasm", &worker("known-a", "1"));
    site.drop_in("other.wasm", &worker("known-b", "1"));
    drop(site.open());
    let loads = |lines: &[verger::testing::LogLine]| {
        lines.iter().filter(|line| line.message == "described").count()
    };
    let begun = Instant::now();
    let (test, lines) = capture_logs(|| site.open());
    println!("opened with two known plugins in {:?}", begun.elapsed());
    assert_eq!((loads(&lines), test.workers().len()), (0, 2));
    assert_eq!(version(&test, "known-a").as_deref(), Some("1"));
    let (_, lines) = capture_logs(|| test.perform_now("known-a", json!({})).unwrap());
    assert_eq!(loads(&lines), 1, "the one that is needed, and no other");
    drop(test);
    // A file that was changed behind its back is not taken for what it was.
    let test = site.open();
    std::fs::write(site.plugin("acme.wasm"), worker("known-a", "2")).unwrap();
    let error = test.perform_now("known-a", json!({})).unwrap_err();
    assert!(error.to_string().contains("was replaced since it was looked at"), "{error}");
    test.refresh_plugins().unwrap();
    test.perform_now("known-a", json!({})).unwrap();
}

/// Replaces a plugin so often while jobs of it are performed.
fn replacements(count: usize) {
    let site = Site::new();
    let cache = site.path("cache");
    let builder = || site.builder().compile_cache(verger::CompileCache::Folder(cache.clone()));
    site.drop_in("acme.wasm", &worker("acme", "0"));
    let verger = builder().open().unwrap();
    let ticking = verger.start().unwrap();
    let mut enqueued = 0;
    let memory = || {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
    };
    let open_files = || std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let mut before = (0, 0);
    for number in 1..=count {
        // By turns as an installer does it, and over the old bytes.
        let bytes = worker("acme", &number.to_string());
        match number % 2 {
            0 => site.drop_in("acme.wasm", &bytes),
            _ => std::fs::write(site.plugin("acme.wasm"), &bytes).unwrap(),
        }
        let jobs = (0..5).map(|_| NewJob::new("acme", json!({})));
        enqueued += verger.enqueue_all(jobs).unwrap().len();
        verger.refresh_plugins().unwrap();
        assert_eq!(version(&verger, "acme"), Some(number.to_string()), "{:?}", refused(&verger));
        if number == count / 10 {
            before = (memory(), open_files());
        }
    }
    until("all jobs are performed", || {
        verger.jobs(&JobFilter::new().state(JobState::Completed), u32::MAX).unwrap().len()
            == enqueued
    });
    let jobs = verger.jobs(&JobFilter::default(), u32::MAX).unwrap();
    assert!(jobs.iter().all(|job| job.attempt == 1 && job.errors.is_empty()));
    let grown = memory().saturating_sub(before.0);
    println!("{count} replacements: {} MB more, {} files", grown >> 20, open_files());
    assert!(grown < 128 << 20, "{} MB more", grown >> 20);
    assert!(open_files() < before.1 + 16);
    ticking.stop(PATIENCE).unwrap();
    let connection = verger.connect().unwrap();
    let one = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(one("SELECT count(DISTINCT digest) FROM verger_plugin_code"), 2);
    assert!(one("SELECT count(*) FROM verger_plugin_versions") <= 2);
    assert!(std::fs::read_dir(&cache).unwrap().count() <= 2, "the cache keeps what is needed");
}

#[test]
fn replacements_under_load_lose_nothing_and_leak_nothing() {
    replacements(10);
}

#[test]
#[ignore = "takes half an hour where the compiler is not optimised; started by name"]
fn a_thousand_replacements_under_load() {
    replacements(1_000);
}

#[test]
fn a_plugin_named_like_one_of_the_apps_own_does_not_take_its_place_while_it_runs() {
    let site = Site::new();
    let builder = site.builder().component("own.wasm", worker("own", "1"));
    let test = TestVerger::open(builder, &ManualClock::at(TestVerger::START)).unwrap();
    site.drop_in("own.wasm", &worker("own", "2"));
    test.refresh_plugins().unwrap();
    assert!(matches!(test.refused_plugins()[..], [PluginError::Duplicate { .. }]));
    assert_eq!(version(&test, "own").as_deref(), Some("1"));
    assert!(!test.remove_plugin("own").unwrap());
    assert_eq!(version(&test, "own").as_deref(), Some("1"));
}

#[test]
fn two_processes_with_one_folder_agree() {
    let site = Site::new();
    let (a, b) = (site.open(), site.open());
    site.drop_in("acme.wasm", &worker("acme", "1"));
    a.refresh_plugins().unwrap();
    b.refresh_plugins().unwrap();
    site.drop_in("acme.wasm", &worker("acme", "2"));
    b.refresh_plugins().unwrap();
    a.refresh_plugins().unwrap();
    let versions = [version(&a, "acme"), version(&b, "acme")];
    assert_eq!(versions, [Some("2".to_string()), Some("2".to_string())]);
}
