//! A job from its enqueue to its end: effects, audit and transition in one transaction.

use serde_json::json;
use verger::verger_worker::prelude::*;
use verger::{AttemptOutcome, AuditFilter, EventKind, JobState, NewJob};

use crate::cluster::database;
use crate::scripted::{scripted, worker};
use crate::{clock, effects, events, until};

#[test]
fn effects_audit_and_end_commit_together() {
    let Some(database) = database() else { return };
    let clock = clock();
    let verger = effects(&database).clock(clock.clone()).open().unwrap();
    let id = verger.enqueue(NewJob::new("effect", json!({"n": 7}))).unwrap().id;
    assert_eq!(verger.job(id).unwrap().unwrap().state, JobState::Available);
    let report = verger.tick(verger.now()).unwrap();
    assert_eq!(report.attempts.len(), 1);
    assert_eq!(report.attempts[0].outcome, AttemptOutcome::Completed(None));
    assert_eq!((report.attempts[0].rows_changed, report.attempts[0].audited), (1, 1));
    let job = verger.job(id).unwrap().unwrap();
    assert_eq!((job.state, job.attempt), (JobState::Completed, 1));
    assert_eq!(job.worker_version.as_deref(), Some("1.0.0"));
    assert_eq!(database.one::<i64>("SELECT sum(n)::bigint FROM effects"), 7);
    let rows = verger.audit_log(&AuditFilter::default(), 10).unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].job, rows[0].subject_id.as_deref()), (Some(id), Some("7")));
    assert_eq!(verger.verify_audit().unwrap().rows, 1);
    let events = events(&verger, 1);
    assert!(
        matches!(&events[..], [event] if matches!(&event.kind, EventKind::Completed { job } if job.id == id))
    );
    assert!(verger.events_since(events[0].position, 10).unwrap().is_empty());
    assert!(verger.tick(verger.now()).unwrap().attempts.is_empty());
}

#[test]
fn a_failed_attempt_leaves_nothing_but_its_error_and_its_log() {
    let Some(database) = database() else { return };
    let clock = clock();
    let verger = effects(&database)
        .worker(worker("fails", |job, _| {
            job.execute("INSERT INTO effects (n) VALUES (1)", vec![])?;
            job.audit(AuditEvent::success("effect.made"))?;
            job.log(LogLevel::Warn, "about to fail");
            Err(WorkerError::new("no\0 mail server"))
        }))
        .clock(clock.clone())
        .open()
        .unwrap();
    let id = verger.enqueue(NewJob::new("fails", json!({})).max_attempts(2)).unwrap().id;
    let report = verger.tick(verger.now()).unwrap();
    let AttemptOutcome::Retryable(_, again) = report.attempts[0].outcome else { panic!() };
    assert_eq!(report.next_wake_at, Some(again));
    assert_eq!(database.one::<i64>("SELECT count(*) FROM effects"), 0);
    assert_eq!(verger.verify_audit().unwrap().rows, 0);
    let job = verger.job(id).unwrap().unwrap();
    assert_eq!((job.state, job.due_at), (JobState::Retryable, again));
    assert!(job.errors[0].message.contains("mail server"));
    assert_eq!(verger.job_log(id).unwrap()[0].lines[0].text, "about to fail");
    // Not before its time.
    assert!(verger.tick(verger.now()).unwrap().attempts.is_empty());
    clock.set(again);
    let report = verger.tick(verger.now()).unwrap();
    assert!(matches!(report.attempts[0].outcome, AttemptOutcome::Discarded(_)));
    let events = events(&verger, 2);
    let words: Vec<_> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(words, ["retried", "discarded"]);
    assert!(verger.retry(id).unwrap());
    assert_eq!(verger.job(id).unwrap().unwrap().state, JobState::Available);
}

#[test]
fn a_worker_ends_as_it_says() {
    let Some(database) = database() else { return };
    let clock = clock();
    let verger = effects(&database)
        .worker(worker("ends", |_, args| {
            Ok(match args.get::<String>("how")?.as_str() {
                "result" => Outcome::DoneWith(json!({"swept": 3})),
                "snooze" => Outcome::Snooze(60),
                "cancel" => Outcome::Cancel("not needed".to_string()),
                "panic" => std::panic::resume_unwind(Box::new("as the test wants")),
                _ => return Err(WorkerError::new("never").discard()),
            })
        }))
        .clock(clock.clone())
        .open()
        .unwrap();
    let enqueue = |how: &str| verger.enqueue(NewJob::new("ends", json!({"how": how}))).unwrap().id;
    let ids = ["result", "snooze", "cancel", "panic", "discard"].map(enqueue);
    verger.tick(verger.now()).unwrap();
    let states = ids.map(|id| verger.job(id).unwrap().unwrap().state);
    use JobState::{Cancelled, Completed, Discarded, Retryable, Scheduled};
    assert_eq!(states, [Completed, Scheduled, Cancelled, Retryable, Discarded]);
    assert_eq!(verger.job(ids[0]).unwrap().unwrap().result, Some(json!({"swept": 3})));
    let snoozed = verger.job(ids[1]).unwrap().unwrap();
    assert_eq!((snoozed.attempt, snoozed.snoozes), (0, 1), "a snooze uses no attempt");
}

#[test]
fn jobs_are_performed_by_priority_due_time_and_id() {
    let Some(database) = database() else { return };
    let clock = clock();
    let verger = effects(&database).clock(clock.clone()).open().unwrap();
    let job = |n: i64| NewJob::new("effect", json!({"n": n}));
    for new in
        [job(1), job(2).priority(1), job(3), job(4).priority(9).queue("other"), job(5).priority(0)]
    {
        verger.enqueue(new).unwrap();
    }
    let report = verger.tick(verger.now()).unwrap();
    assert_eq!(report.attempts.len(), 5);
    let order: Vec<i64> = database
        .client()
        .query("SELECT n FROM effects ORDER BY ctid", &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(order, [5, 2, 1, 3, 4]);
}

#[test]
fn a_unique_job_is_there_once() {
    let Some(database) = database() else { return };
    let clock = clock();
    let verger = effects(&database).clock(clock.clone()).open().unwrap();
    let job = || NewJob::new("effect", json!({"n": 1})).unique();
    let first = verger.enqueue(job()).unwrap();
    let again = verger.enqueue(job()).unwrap();
    assert_eq!((again.id, first.existing, again.existing), (first.id, false, true));
    verger.tick(verger.now()).unwrap();
    assert!(!verger.enqueue(job()).unwrap().existing, "the first one has ended");
    let for_a_day = || job().unique_for(std::time::Duration::from_secs(86_400)).queue("daily");
    let daily = verger.enqueue(for_a_day()).unwrap();
    verger.tick(verger.now()).unwrap();
    assert_eq!(verger.enqueue(for_a_day()).unwrap().id, daily.id);
    clock.advance(std::time::Duration::from_secs(86_401));
    assert!(!verger.enqueue(for_a_day()).unwrap().existing);
}

#[test]
fn what_a_worker_enqueues_publishes_and_keeps_commits_with_it() {
    let Some(database) = database() else { return };
    let manifest = Manifest::new("parent", "1.0.0").enqueues("effect").tenant_aware();
    let verger = effects(&database)
        .worker(scripted(manifest, |job, scope, args| {
            assert_eq!(scope.and_then(Scope::organization_id), Some("acme"));
            job.enqueue(verger::verger_worker::NewJob::new("effect", json!({"n": 1})))?;
            job.publish("parent.ran", &json!({"n": 1}))?;
            let ran = match job.state("ran")? {
                Value::Integer(ran) => ran,
                _ => 0,
            };
            job.set_state("ran", ran + 1)?;
            job.set_state("pi", 3.25)?;
            match args.get::<bool>("fails")? {
                true => Err(WorkerError::new("as the test wants")),
                false => Ok(Outcome::DoneWith(json!(ran + 1))),
            }
        }))
        .clock(clock())
        .open()
        .unwrap();
    let messages = verger.subscribe();
    let job = |fails: bool| {
        NewJob::new("parent", json!({"fails": fails}))
            .for_organization("acme", None)
            .max_attempts(1)
    };
    let ids = [job(true), job(false), job(false)].map(|job| verger.enqueue(job).unwrap().id);
    verger.tick(verger.now()).unwrap();
    let results = ids.map(|id| verger.job(id).unwrap().unwrap().result);
    assert_eq!(results, [None, Some(json!(1)), Some(json!(2))]);
    assert_eq!(database.one::<i64>("SELECT count(*) FROM effects"), 2, "in the same tick");
    assert_eq!(messages.try_next().unwrap().topic, "parent.ran");
    assert!(messages.try_next().is_some() && messages.try_next().is_none());
}

#[test]
fn the_loop_performs_at_once_and_stops() {
    let Some(database) = database() else { return };
    let verger = effects(&database).open().unwrap();
    let working = verger.start().unwrap();
    let mut waits = Vec::new();
    for n in 0..20 {
        let begun = std::time::Instant::now();
        let id = verger.enqueue(NewJob::new("effect", json!({"n": n}))).unwrap().id;
        until("the job is done", || verger.job(id).unwrap().unwrap().state == JobState::Completed);
        waits.push(begun.elapsed());
    }
    waits.sort();
    println!("enqueue to end, seen by polling: median {:?}", waits[10]);
    let begun = std::time::Instant::now();
    working.stop(std::time::Duration::from_secs(5)).unwrap();
    assert!(begun.elapsed() < std::time::Duration::from_secs(1), "{:?}", begun.elapsed());
}
