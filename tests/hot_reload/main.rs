//! Workers that are dropped in, replaced and removed while the app runs.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test stops at the first surprise"
)]

#[path = "../common/mod.rs"]
mod common;
mod folder;
mod load;
mod versions;

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::puppet_as;
use serde_json::{Value as Json, json};
use verger::testing::{ManualClock, TestVerger, capture_logs};
use verger::{Builder, Grant, Job, JobId, JobState, NewJob, PluginError, TickLoop, Verger};

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
