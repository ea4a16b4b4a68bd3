//! What happens to jobs, schedules and queues is told live, after the commit and in order. Ends and
//! failures can also be read later, whatever became of the process.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

#[path = "../common/mod.rs"]
mod common;
mod operators;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::processes::Process;
use serde_json::{Value as Json, json};
use verger::testing::{ManualClock, TestVerger, capture_logs};
use verger::verger_worker::prelude::*;
use verger::{
    EventItem, EventKind, EventPosition, Events, LifecycleEvent, NewJob, Retention, Verger,
};

const FILE: &str = "VERGER_TEST_FILE";

/// Does as its args say.
struct Obedient;

impl Worker for Obedient {
    fn manifest(&self) -> Manifest {
        Manifest::new("obedient", "1.0.0")
    }

    fn perform(
        &self,
        context: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let text = |key: &str| args.as_map().get(key).and_then(Json::as_str).map(str::to_string);
        if let Some(steps) = args.as_map().get("progress").and_then(Json::as_u64) {
            (1..=steps).for_each(|step| context.progress(step, steps));
        }
        Ok(match text("do").as_deref() {
            Some("fail") => Outcome::Failed(WorkerError::new("no luck")),
            Some("snooze") => Outcome::Snooze(60),
            Some("cancel") => Outcome::Cancel("not needed".to_string()),
            Some("panic") => panic!("as told"),
            Some("die") => std::process::abort(),
            _ => Outcome::Done,
        })
    }
}

fn job(what: &str) -> NewJob {
    NewJob::new("obedient", json!({"do": what}))
}

fn test() -> TestVerger {
    TestVerger::with(|builder| builder.without_built_ins().worker(Obedient))
}

fn on(file: &Path, clock: &ManualClock) -> TestVerger {
    let builder = Verger::builder(file).without_built_ins().worker(Obedient);
    TestVerger::open(builder, clock).unwrap()
}

fn taken(events: &Events) -> Vec<LifecycleEvent> {
    std::iter::from_fn(|| events.try_next()).filter_map(|item| item.event().cloned()).collect()
}

fn words(events: &[LifecycleEvent]) -> Vec<&'static str> {
    events.iter().map(|event| event.kind.as_str()).collect()
}

fn since(verger: &Verger, position: EventPosition) -> Vec<LifecycleEvent> {
    let items = verger.events_since(position, 1_000).unwrap();
    items.iter().filter_map(|item| item.event().cloned()).collect()
}

#[test]
fn each_end_of_an_attempt_is_told_after_its_commit_and_kept_if_it_is_an_end_or_a_failure() {
    for (what, max_attempts, live, kept) in [
        ("done", 1, "completed", true),
        ("snooze", 1, "snoozed", false),
        ("cancel", 1, "cancelled", true),
        ("fail", 1, "discarded", true),
        ("fail", 2, "retried", true),
        ("panic", 1, "discarded", true),
    ] {
        let test = test();
        let events = test.events().unwrap();
        let id = test.enqueue(job(what).max_attempts(max_attempts)).unwrap().id;
        test.tick(test.now()).unwrap();
        let told = taken(&events);
        assert_eq!(words(&told), ["enqueued", "started", live], "{what}");
        assert!(told.iter().all(|event| event.here && event.at == test.now()));
        let of = told[2].kind.job().unwrap();
        assert_eq!((of.id, &*of.worker, &*of.queue, of.attempt), (id, "obedient", "default", 1));
        let later = since(&test, EventPosition::START);
        assert_eq!(later.len(), usize::from(kept), "{what}");
        if kept {
            assert_eq!(later[0], told[2], "what is read later is what was told");
            assert!(since(&test, told[2].position).is_empty());
        }
    }
}

#[test]
fn a_failure_says_why_in_the_channel_the_callback_and_the_log() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    let test = TestVerger::with(|builder| {
        builder.without_built_ins().worker(Obedient).on_failure(move |event| {
            hears.lock().unwrap().push(event.clone());
        })
    });
    test.enqueue(job("done")).unwrap();
    test.enqueue(job("fail").max_attempts(1)).unwrap();
    let (_, lines) = capture_logs(|| test.drain());
    let heard = heard.lock().unwrap();
    assert_eq!(words(&heard), ["discarded"]);
    let error = heard[0].kind.error().unwrap();
    assert_eq!((&*error.code, &*error.message), ("failed", "no luck"));
    let line = lines.iter().find(|line| line.message.contains("no luck")).unwrap();
    assert_eq!((line.level.as_str(), &*line.target), ("ERROR", "verger::job"));
    assert_eq!((&*line.fields["worker"], &*line.fields["job"]), ("obedient", "2"));
}

#[test]
fn a_callback_may_use_verger_and_its_panic_harms_nobody() {
    let again: Arc<Mutex<Option<Verger>>> = Arc::default();
    let uses = Arc::clone(&again);
    let test = TestVerger::with(|builder| {
        builder.without_built_ins().worker(Obedient).on_failure(|_| panic!("as told")).on_event(
            move |event| {
                if let (EventKind::Discarded { .. }, Some(verger)) =
                    (&event.kind, &*uses.lock().unwrap())
                {
                    verger.enqueue(job("done")).unwrap();
                    verger.pause_queue("other").unwrap();
                }
            },
        )
    });
    *again.lock().unwrap() = Some((*test).clone());
    test.enqueue(job("fail").max_attempts(1)).unwrap();
    let report = test.drain();
    assert_eq!(report.attempts.len(), 2, "the one that failed, and the one the callback enqueued");
    assert_eq!(test.paused_queues().unwrap(), ["other"]);
    *again.lock().unwrap() = None;
}

#[test]
fn a_discarded_job_is_told_under_the_loop() {
    let folder = tempfile::tempdir().unwrap();
    let verger =
        Verger::builder(folder.path().join("app.db")).without_built_ins().worker(Obedient).open();
    let verger = verger.unwrap();
    let events = verger.events().unwrap();
    let ticking = verger.start().unwrap();
    verger.enqueue(job("fail").max_attempts(1)).unwrap();
    let end = std::iter::from_fn(|| events.next_within(Duration::from_secs(60)))
        .find(|item| item.event().is_some_and(|event| event.kind.error().is_some()));
    assert!(end.is_some());
    ticking.stop(Duration::from_secs(60)).unwrap();
}

#[test]
fn an_iterator_ends_when_verger_is_closed() {
    let test = test();
    let mut events = test.events().unwrap();
    test.enqueue(job("done")).unwrap();
    drop(test);
    assert_eq!(events.next().unwrap().event().unwrap().kind.as_str(), "enqueued");
    assert_eq!(events.next(), None);
}

#[test]
fn a_slow_reader_is_told_how_much_it_missed_and_reads_what_is_kept_later() {
    let test = test();
    let events = test.events().unwrap();
    let jobs = 2_000;
    for _ in 0..jobs / 100 {
        test.enqueue_all((0..100).map(|_| job("done"))).unwrap();
    }
    test.drain();
    // Three events a job; 4,096 wait.
    let Some(EventItem::Lagged { lagged }) = events.try_next() else { panic!("it did not lag") };
    let rest = taken(&events);
    assert_eq!((lagged as usize, rest.len()), (jobs * 3 - 4_096, 4_096));
    assert!(rest.windows(2).all(|two| two[0].position <= two[1].position));
    let mut position = EventPosition::START;
    let mut ids = Vec::new();
    loop {
        let page = test.events_since(position, 77).unwrap();
        let Some(last) = page.last() else { break };
        position = last.event().unwrap().position;
        ids.extend(page.iter().filter_map(|item| Some(item.event()?.kind.job()?.id.number())));
    }
    assert_eq!(ids, (1..=jobs as i64).collect::<Vec<_>>(), "each once, in order");
}

#[test]
fn progress_is_told_at_once_and_takes_one_place_however_often_it_is_said() {
    let test = test();
    let events = test.events().unwrap();
    let args = json!({"do": "fail", "progress": 50_000});
    test.enqueue(NewJob::new("obedient", args).max_attempts(1)).unwrap();
    test.drain();
    let told = taken(&events);
    assert_eq!(words(&told), ["enqueued", "started", "progress", "discarded"]);
    assert!(
        matches!(told[2].kind, EventKind::Progress { done: 50_000, total: 50_000, .. }),
        "{told:?}"
    );
}

#[test]
fn retention_takes_old_events_out_and_says_so() {
    let test = TestVerger::with(|builder| {
        let day = Duration::from_secs(86_400);
        builder.without_built_ins().worker(Obedient).retention(Retention::new().events(day))
    });
    for _ in 0..3 {
        test.enqueue(job("done")).unwrap();
        test.drain();
    }
    let first = since(&test, EventPosition::START)[0].position;
    test.clock().advance(Duration::from_secs(3 * 86_400));
    test.tick(test.now()).unwrap();
    let items = test.events_since(first, 10).unwrap();
    assert!(
        matches!(items[..], [EventItem::Lagged { lagged: 1 }, EventItem::Event(_)]),
        "{items:?}"
    );
    assert_eq!(test.events_since(EventPosition::START, 10).unwrap().len(), 1, "the newest stays");
}

#[test]
fn an_event_is_one_flat_object_in_json() {
    let test = test();
    test.enqueue(job("fail").max_attempts(1)).unwrap();
    test.drain();
    let event = &since(&test, EventPosition::START)[0];
    assert_eq!(
        serde_json::to_value(event).unwrap(),
        json!({
            "position": event.position.number(), "at": "2026-01-01T00:00:00Z", "here": true, "kind": "discarded",
            "job": {"id": 1, "worker": "obedient", "queue": "default", "attempt": 1},
            "error": {"code": "failed", "message": "no luck"},
        })
    );
}

/// Not a test of its own: the life of the process that dies.
#[test]
#[ignore = "a process of its own, which the tests here start"]
fn live_until_it_dies() {
    let file = std::env::var_os(FILE).unwrap();
    let verger = Verger::builder(file).without_built_ins().worker(Obedient).open().unwrap();
    verger.enqueue(job("done")).unwrap();
    verger.enqueue(job("fail").max_attempts(1)).unwrap();
    verger.enqueue(job("die").max_attempts(1)).unwrap();
    loop {
        verger.tick(verger.now()).unwrap();
    }
}

#[test]
fn nothing_is_lost_when_the_process_dies_and_who_opens_next_is_told_of_what_died_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    let process = Process::start("live_until_it_dies", &[(FILE, file.display().to_string())]);
    let (ended, _) = process.end(Duration::from_secs(60));
    assert!(!ended.success());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    let verger = Verger::builder(&file)
        .without_built_ins()
        .worker(Obedient)
        .on_failure(move |event| hears.lock().unwrap().push(event.clone()))
        .open()
        .unwrap();
    let kept = since(&verger, EventPosition::START);
    assert_eq!(words(&kept), ["completed", "discarded", "discarded"]);
    assert_eq!((kept[0].here, kept[1].here, kept[2].here), (false, false, true));
    assert_eq!(kept[2].kind.error().unwrap().code, "crashed");
    assert_eq!(*heard.lock().unwrap(), kept[2..]);
}

#[test]
fn what_was_done_is_counted_by_worker() {
    let test = test();
    for what in ["done", "done", "fail", "snooze", "cancel"] {
        test.enqueue(job(what).max_attempts(1)).unwrap();
    }
    test.tick(test.now()).unwrap();
    test.enqueue(job("done").queue("other").after(Duration::from_secs(5))).unwrap();
    let metrics = test.metrics().unwrap();
    let counts = metrics.workers["obedient"];
    assert_eq!(
        (counts.started, counts.completed, counts.discarded, counts.snoozed, counts.cancelled),
        (5, 2, 1, 1, 1)
    );
    assert_eq!((counts.run.count, counts.wait.count), (5, 5));
    assert_eq!((metrics.waiting["default"], metrics.waiting["other"]), (1, 1));
    assert!(metrics.to_prometheus().contains("verger_waiting{queue=\"other\"} 1"));
}
