//! What an operator and an app do: cancel, pause, find, enqueue by SQL, look at the audit log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use verger::verger_worker::prelude::*;
use verger::{ChainError, JobFilter, JobState, JobTime, NewJob, Queue};

use crate::cluster::database;
use crate::scripted::{scripted, worker};
use crate::{clock, effects, until};

#[test]
fn a_job_is_cancelled_wherever_it_is_performed() {
    let Some(database) = database() else { return };
    let begun = Arc::new(AtomicBool::new(false));
    let begins = Arc::clone(&begun);
    let performing = effects(&database)
        .worker(worker("sleeps", move |job, _| {
            begins.store(true, Ordering::SeqCst);
            job.execute("INSERT INTO effects VALUES (1)", vec![])?;
            job.query_all("SELECT count(*) FROM (SELECT pg_sleep(60)) AS x", vec![])?;
            Ok(Outcome::Done)
        }))
        .open()
        .unwrap();
    let elsewhere = effects(&database).open().unwrap();
    let working = performing.start().unwrap();
    for who in [&performing, &elsewhere] {
        begun.store(false, Ordering::SeqCst);
        let id = performing.enqueue(NewJob::new("sleeps", json!({}))).unwrap().id;
        until("it began", || begun.load(Ordering::SeqCst));
        let asked = Instant::now();
        assert!(who.cancel(id).unwrap());
        until("it is cancelled", || who.job(id).unwrap().unwrap().state == JobState::Cancelled);
        assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
        assert!(!who.cancel(id).unwrap());
    }
    working.stop(Duration::from_secs(5)).unwrap();
    let waiting = elsewhere.enqueue(NewJob::new("effect", json!({"n": 1}))).unwrap().id;
    assert!(elsewhere.cancel(waiting).unwrap());
    assert_eq!(elsewhere.job(waiting).unwrap().unwrap().errors[0].code, "cancelled");
    assert_eq!(database.one::<i64>("SELECT count(*) FROM effects"), 0);
    assert_eq!(crate::events(&elsewhere, 3).len(), 3);
}

#[test]
fn a_queue_is_paused_for_all_nodes() {
    let Some(database) = database() else { return };
    let clock = clock();
    let (one, two) = (
        effects(&database).clock(clock.clone()).open().unwrap(),
        effects(&database).clock(clock.clone()).open().unwrap(),
    );
    one.pause_queue("mail").unwrap();
    two.enqueue(NewJob::new("effect", json!({"n": 1})).queue("mail")).unwrap();
    two.enqueue(NewJob::new("effect", json!({"n": 2}))).unwrap();
    assert_eq!(two.tick(two.now()).unwrap().attempts.len(), 1);
    let rows = two.queues().unwrap();
    let mail = rows.iter().find(|row| row.name == "mail").unwrap();
    assert!(mail.paused && mail.waiting == 1);
    two.resume_queue("mail").unwrap();
    assert_eq!(one.tick(one.now()).unwrap().attempts.len(), 1);
}

#[test]
fn a_queue_is_performed_by_so_many_at_a_time() {
    let Some(database) = database() else { return };
    let (now, most, global_now, global_most) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
    );
    let open = || {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        let (global_now, global_most) = (Arc::clone(&global_now), Arc::clone(&global_most));
        let measured = |now: Arc<AtomicUsize>, most: Arc<AtomicUsize>| {
            move |_: &Context<'_>, _: &Args| {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(20));
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(Outcome::Done)
            }
        };
        effects(&database)
            .worker(worker("plain", measured(now, most)))
            .worker(worker("bounded", measured(global_now, global_most)))
            .queue(Queue::new("plain").concurrency(2))
            .queue(Queue::new("bounded").concurrency(3).global(2))
            .threads(6)
            .open()
            .unwrap()
    };
    let nodes = [open(), open()];
    for _ in 0..20 {
        nodes[0].enqueue(NewJob::new("plain", json!({})).queue("plain")).unwrap();
        nodes[0].enqueue(NewJob::new("bounded", json!({})).queue("bounded")).unwrap();
    }
    let working = [nodes[0].start().unwrap(), nodes[1].start().unwrap()];
    until("all are done", || {
        nodes[0].count_jobs(&JobFilter::new().state(JobState::Completed)).unwrap() == 40
    });
    for working in working {
        working.stop(Duration::from_secs(5)).unwrap();
    }
    let most = most.load(Ordering::SeqCst);
    assert!((3..=4).contains(&most), "two nodes perform two each: {most}");
    assert_eq!(global_most.load(Ordering::SeqCst), 2, "both nodes together");
}

#[test]
fn sql_enqueues_in_the_transaction_of_any_client() {
    let Some(database) = database() else { return };
    let clock = clock();
    let manifest = Manifest::new("mail", "1.0.0").arg("to", ArgSpec::required());
    let verger = effects(&database)
        .worker(scripted(manifest, |_, _, _| Ok(Outcome::Done)))
        .clock(clock.clone())
        .open()
        .unwrap();
    let mut client = database.client();
    let mut transaction = client.transaction().unwrap();
    let enqueue = "SELECT verger.enqueue('mail', json_build_object('to', 'ann'))";
    transaction.query(enqueue, &[]).unwrap();
    assert!(verger.tick(verger.now()).unwrap().attempts.is_empty(), "it is not committed");
    transaction.rollback().unwrap();
    let id: i64 = client.query_one(enqueue, &[]).unwrap().get(0);
    let unique = "SELECT verger.enqueue('mail', '{\"to\": \"bob\"}', unique_key => '\\x01', queue => 'bulk', priority => 9)";
    let first: i64 = client.query_one(unique, &[]).unwrap().get(0);
    assert_eq!(client.query_one(unique, &[]).unwrap().get::<_, i64>(0), first);
    let later = format!(
        "SELECT verger.enqueue('mail', '{{\"to\": \"cy\"}}', due_at => {})",
        crate::START + 60_000
    );
    client.query_one(&later, &[]).unwrap();
    assert_eq!(verger.tick(verger.now()).unwrap().attempts.len(), 2);
    assert_eq!(
        verger.job(verger::JobId::from_number(id)).unwrap().unwrap().state,
        JobState::Completed
    );
    clock.advance(Duration::from_secs(60));
    assert_eq!(verger.tick(verger.now()).unwrap().attempts.len(), 1);
    for (sql, why) in [
        ("SELECT verger.enqueue('nobody')", "no worker is named `nobody`"),
        ("SELECT verger.enqueue('mail')", "lack to"),
        ("SELECT verger.enqueue('mail', '[]')", "must be a JSON object"),
        ("SELECT verger.enqueue('mail', '{\"to\": 1}', priority => 10)", "priority_must_be_0_to_9"),
        (
            "SELECT verger.enqueue('mail', '{\"to\": 1}', queue => '')",
            "queue_must_have_1_to_128_bytes",
        ),
    ] {
        let error = client.query(sql, &[]).unwrap_err();
        let said = error.as_db_error().unwrap().message();
        assert!(said.contains(why), "{sql}: {said}");
    }
    // A role that may do nothing else.
    client
        .batch_execute("CREATE ROLE app_of_sql LOGIN; GRANT USAGE ON SCHEMA verger TO app_of_sql; SET ROLE app_of_sql")
        .unwrap();
    client.query(enqueue, &[]).unwrap();
    assert!(client.query("SELECT * FROM verger.jobs", &[]).is_err());
    client
        .batch_execute(
            "RESET ROLE; REVOKE USAGE ON SCHEMA verger FROM app_of_sql; DROP ROLE app_of_sql",
        )
        .unwrap();
}

#[test]
fn the_loop_notices_what_sql_enqueued_within_a_second() {
    let Some(database) = database() else { return };
    let verger = effects(&database).open().unwrap();
    let working = verger.start().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    database.client().query_one("SELECT verger.enqueue('effect', '{\"n\": 1}')", &[]).unwrap();
    until("it is done", || database.one::<i64>("SELECT count(*) FROM effects") == 1);
    assert!(begun.elapsed() < Duration::from_millis(1_500), "{:?}", begun.elapsed());
    working.stop(Duration::from_secs(5)).unwrap();
}

#[test]
fn jobs_are_found_by_what_is_said_of_them() {
    let Some(database) = database() else { return };
    let clock = clock();
    let verger = effects(&database)
        .worker(worker("fails", |_, _| Err(WorkerError::new("No mail SERVER"))))
        .clock(clock.clone())
        .open()
        .unwrap();
    let first = verger
        .enqueue(
            NewJob::new("effect", json!({"n": 1, "lines": [{"sku": "a'b"}], "x": null, "f": 1.50}))
                .tag("blue"),
        )
        .unwrap()
        .id;
    let second = verger
        .enqueue(
            NewJob::new("fails", json!({"n": 2})).for_organization("acme", None).max_attempts(1),
        )
        .unwrap()
        .id;
    verger.tick(verger.now()).unwrap();
    let found = |filter: JobFilter| {
        let jobs = verger.jobs(&filter, 10).unwrap();
        assert_eq!(verger.count_jobs(&filter).unwrap(), jobs.len() as u64);
        jobs.into_iter().map(|job| job.id).collect::<Vec<_>>()
    };
    assert_eq!(found(JobFilter::new()), [second, first]);
    for (filter, id) in [
        (JobFilter::new().worker("effect"), first),
        (JobFilter::new().states([JobState::Discarded, JobState::Cancelled]), second),
        (JobFilter::new().tag("blue"), first),
        (JobFilter::new().organization("acme"), second),
        (JobFilter::new().arg("lines[0].sku", "a'b"), first),
        (JobFilter::new().arg("x", json!(null)), first),
        (JobFilter::new().arg("f", 1.5), first),
        (JobFilter::new().arg("n", 2), second),
        (JobFilter::new().error_contains("mail server"), second),
        (JobFilter::new().text_contains("A'B"), first),
        (JobFilter::new().before(second), first),
        (JobFilter::new().after(first), second),
        (
            JobFilter::new().since(JobTime::Created, verger.now()).queue("default").worker("fails"),
            second,
        ),
    ] {
        assert_eq!(found(filter.clone()), [id], "{filter:?}");
    }
    assert!(found(JobFilter::new().until(JobTime::Created, verger.now())).is_empty());
}

#[test]
fn the_audit_log_is_append_only_and_a_change_shows() {
    let Some(database) = database() else { return };
    let verger = effects(&database).clock(clock()).open().unwrap();
    for n in 0..5 {
        verger.enqueue(NewJob::new("effect", json!({"n": n}))).unwrap();
    }
    verger.tick(verger.now()).unwrap();
    verger.audit(&AuditEvent::success("app.started")).unwrap();
    assert_eq!(verger.verify_audit().unwrap().rows, 6);
    let lanes = database.one::<i64>("SELECT count(*) FROM verger.audit_lanes");
    assert_eq!(lanes, 2, "the app's, and that of the jobs");
    let mut client = database.client();
    for sql in [
        "UPDATE verger.audit SET action = 'x'",
        "DELETE FROM verger.audit",
        "TRUNCATE verger.audit",
        "DELETE FROM verger.audit_lanes",
        "TRUNCATE verger.audit_lanes",
        "UPDATE verger.audit_lanes SET seq = seq - 1",
        "UPDATE verger.audit_lanes SET anchor_seq = seq + 1",
        "UPDATE verger.audit_lanes SET anchor_seq = 1, anchor_hash = '\\x00'",
    ] {
        let error = client.batch_execute(sql).unwrap_err();
        assert!(error.as_db_error().unwrap().message().contains("append_only"), "{sql}: {error}");
    }
    // Who owns the tables can lift that, and it shows.
    let tampered = |sql: &str| {
        let mut client = database.client();
        client
            .batch_execute(&format!("BEGIN; SET LOCAL session_replication_role = replica; {sql}"))
            .unwrap();
        client.batch_execute("COMMIT").unwrap();
        verger.verify_audit().unwrap_err()
    };
    assert!(matches!(
        tampered("UPDATE verger.audit SET metadata = '{}' WHERE id = 3"),
        ChainError::Broken { id: 3 }
    ));
    tampered(
        "UPDATE verger.audit SET metadata = NULL WHERE id = 3; DELETE FROM verger.audit WHERE id = 2",
    );
    let error = tampered(
        "DELETE FROM verger.audit WHERE lane = 1; DELETE FROM verger.audit WHERE lane = 2",
    );
    assert!(matches!(error, ChainError::Missing { .. }), "{error}");
    tampered("DELETE FROM verger.audit_lanes WHERE lane = 1");
}

#[test]
fn the_audit_log_is_pruned_to_an_anchor() {
    let Some(database) = database() else { return };
    let clock = clock();
    let verger = effects(&database).clock(clock.clone()).open().unwrap();
    for n in 0..4 {
        verger.enqueue(NewJob::new("effect", json!({"n": n}))).unwrap();
        verger.tick(verger.now()).unwrap();
        clock.advance(Duration::from_secs(60));
    }
    assert_eq!(verger.prune_audit(crate::start() + Duration::from_secs(90)).unwrap(), 2);
    let verified = verger.verify_audit().unwrap();
    assert_eq!((verified.rows, verified.pruned), (2, 2));
    verger.enqueue(NewJob::new("effect", json!({"n": 5}))).unwrap();
    verger.tick(verger.now()).unwrap();
    assert_eq!(verger.verify_audit().unwrap().rows, 3);
    // Finished jobs and events go too, by their retention.
    clock.advance(Duration::from_secs(30 * 86_400));
    let report = verger.tick(verger.now()).unwrap();
    assert_eq!(report.pruned, 10, "five jobs and five events");
}

#[test]
fn a_cancel_is_kept_through_a_snooze() {
    let Some(database) = database() else { return };
    let begun = Arc::new(AtomicBool::new(false));
    let begins = Arc::clone(&begun);
    let verger = effects(&database)
        .worker(worker("snoozes", move |job, _| {
            job.query_all("SELECT count(*) FROM effects", vec![])?;
            begins.store(true, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(200));
            Ok(Outcome::Snooze(60))
        }))
        .open()
        .unwrap();
    // Asked on a node that cannot tell the worker itself.
    let elsewhere = effects(&database).open().unwrap();
    let id = verger.enqueue(NewJob::new("snoozes", json!({}))).unwrap().id;
    std::thread::scope(|scope| {
        scope.spawn(|| verger.tick(verger.now()).unwrap());
        until("it began", || begun.load(Ordering::SeqCst));
        assert!(elsewhere.cancel(id).unwrap());
    });
    assert_eq!(verger.job(id).unwrap().unwrap().state, JobState::Cancelled);
}

#[test]
fn a_queue_with_a_bound_does_not_wait_until_the_others_are_empty() {
    let Some(database) = database() else { return };
    let clock = clock();
    let verger = effects(&database)
        .queue(Queue::new("bounded").global(1))
        .clock(clock.clone())
        .open()
        .unwrap();
    for n in 0..20 {
        verger.enqueue(NewJob::new("effect", json!({"n": n}))).unwrap();
    }
    verger.enqueue(NewJob::new("effect", json!({"n": 100})).queue("bounded")).unwrap();
    verger.tick(verger.now()).unwrap();
    let before =
        "SELECT count(*) FROM effects WHERE ctid < (SELECT ctid FROM effects WHERE n = 100)";
    assert!(database.one::<i64>(before) <= 2);
}

#[test]
fn what_a_node_that_performs_nothing_enqueues_is_told_to_the_others() {
    let Some(database) = database() else { return };
    let (sends, performs) =
        (effects(&database).open().unwrap(), effects(&database).open().unwrap());
    let working = performs.start().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let mut waits = Vec::new();
    for n in 0..10 {
        // In the time in which nothing is told again.
        let begun = Instant::now();
        sends.enqueue(NewJob::new("effect", json!({"n": n}))).unwrap();
        until("it is done", || database.one::<i64>("SELECT count(*) FROM effects") == n + 1);
        waits.push(begun.elapsed());
    }
    working.stop(Duration::from_secs(5)).unwrap();
    waits.sort();
    assert!(waits[8] < Duration::from_millis(700), "{waits:?}");
}

#[test]
fn what_a_node_did_and_what_waits_is_counted() {
    let Some(database) = database() else { return };
    let clock = clock();
    let failing = worker("failing", |_, _| Err(WorkerError::new("no")));
    let verger = effects(&database).worker(failing).clock(clock.clone()).open().unwrap();
    for n in 0..3 {
        verger.enqueue(NewJob::new("effect", json!({"n": n}))).unwrap();
    }
    verger.enqueue(NewJob::new("failing", json!({}))).unwrap();
    clock.advance(Duration::from_secs(5));
    assert_eq!(verger.metrics().unwrap().waiting["default"], 4);
    verger.tick(verger.now()).unwrap();
    let metrics = verger.metrics().unwrap();
    let effect = &metrics.workers["effect"];
    assert_eq!((effect.started, effect.completed, effect.rows_changed), (3, 3, 3));
    assert_eq!((effect.run.count, effect.wait.count), (3, 3));
    assert!(effect.wait.sum_us >= 15_000_000, "{:?}", effect.wait);
    assert_eq!(metrics.workers["failing"].retried, 1);
    assert_eq!((metrics.waiting["default"], metrics.executing["default"]), (1, 0));
    let text = metrics.to_prometheus();
    assert!(text.contains(r#"verger_started_total{worker="effect"} 3"#), "{text}");
}
