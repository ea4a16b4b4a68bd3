//! Finding jobs by all that is known of them, and changing many at once.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::time::Duration;

use serde_json::{Value as Json, json};
use verger::testing::TestVerger;
use verger::verger_worker::prelude::*;
use verger::{
    AuditFilter, BulkMode, Error, EventPosition, Job, JobEdit, JobFilter, JobId, JobState, JobTime,
    NewJob, Schedule, Timestamp,
};

const START: Timestamp = TestVerger::START;

/// Fails unless it is told otherwise.
struct Moody(&'static str);

impl Worker for Moody {
    fn manifest(&self) -> Manifest {
        Manifest::new(self.0, "1.0.0")
    }

    fn perform(
        &self,
        _: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        Ok(match args.as_map().get("fail").and_then(Json::as_str) {
            Some(why) => Outcome::Failed(WorkerError::new(why)),
            None => Outcome::Done,
        })
    }
}

fn test() -> TestVerger {
    TestVerger::with(|builder| {
        builder.without_built_ins().worker(Moody("send")).worker(Moody("tidy")).schedule(
            Schedule::every("hourly", Duration::from_secs(3_600))
                .unwrap()
                .worker("tidy")
                .args(json!({})),
        )
    })
}

fn ids(test: &TestVerger, filter: &str) -> Vec<i64> {
    let filter: JobFilter = filter.parse().unwrap();
    let jobs = test.jobs(&filter, 1_000).unwrap();
    assert_eq!(test.count_jobs(&filter).unwrap(), jobs.len() as u64, "{filter}");
    let mut ids: Vec<_> = jobs.iter().map(|job| job.id.number()).collect();
    assert!(ids.is_sorted_by(|a, b| a > b), "newest first");
    ids.reverse();
    ids
}

fn job(test: &TestVerger, id: i64) -> Job {
    test.job(JobId::from_number(id)).unwrap().unwrap()
}

fn filter(text: &str) -> JobFilter {
    text.parse().unwrap()
}

#[test]
fn jobs_are_found_by_all_that_is_known_of_them() {
    let test = test();
    let args = json!({"customer": {"id": 4711, "name": "Ann"}, "lines": [{"sku": "A 1"}], "flag": true, "gone": null});
    for new in [
        NewJob::new("send", json!({"fail": "no mail server"})).max_attempts(1).queue("mail"),
        NewJob::new("send", json!({"fail": "No such address"})).max_attempts(2),
        NewJob::new("tidy", args).tag("monthly").tag("big"),
        NewJob::new("tidy", json!({"organization_id": "acme", "actor_id": null})).tag("monthly"),
        NewJob::new("send", json!({"half": 0.5})).after(Duration::from_secs(60)),
    ] {
        test.enqueue(new).unwrap();
    }
    test.tick(START).unwrap();
    test.run_for(Duration::from_secs(3_600));
    // What someone else wrote and nobody can read.
    test.sql("PRAGMA ignore_check_constraints = 1");
    test.sql("INSERT INTO verger_jobs (worker, state, args, errors, tags) VALUES ('odd', 'discarded', 'no json', '5', '{')");
    test.sql("PRAGMA ignore_check_constraints = 0");
    for (filter, expected) in [
        ("", vec![1, 2, 3, 4, 5, 6, 7]),
        ("state=discarded", vec![1, 2, 7]),
        ("state=discarded,completed worker=send", vec![1, 2, 5]),
        ("worker=tidy,odd", vec![3, 4, 6, 7]),
        ("queue=mail", vec![1]),
        ("schedule=hourly", vec![6]),
        ("tag=monthly", vec![3, 4]),
        ("tag=monthly,big", vec![3]),
        ("tag=other", vec![]),
        ("organization=acme", vec![4]),
        ("args.customer.id=4711", vec![3]),
        ("args.customer.id=4711.0", vec![3]),
        ("args.customer.id=\"\\\"4711\\\"\"", vec![]),
        ("args.customer.name=Ann args.flag=true", vec![3]),
        ("args.lines[0].sku=\"A 1\"", vec![3]),
        ("args.gone=null", vec![3]),
        ("args.nothing=null", vec![]),
        ("args.half=0.5", vec![5]),
        ("error~\"MAIL server\"", vec![1]),
        ("error~failed", vec![1, 2]),
        ("id>=2 id<4", vec![2, 3]),
        ("created>=2026-01-01 due>2026-01-01T00:00:30Z", vec![5, 6]),
        ("finished<2026-01-01T00:00:10Z", vec![1, 3, 4]),
        ("state=completed error~x", vec![]),
    ] {
        assert_eq!(ids(&test, filter), expected, "{filter}");
    }
    let since = JobFilter::new().since(JobTime::Due, START + Duration::from_secs(61));
    assert_eq!(test.count_jobs(&since).unwrap(), 1);
    let page = test.jobs(&JobFilter::new().before(JobId::from_number(4)), 2).unwrap();
    assert_eq!(page.iter().map(|job| job.id.number()).collect::<Vec<_>>(), [3, 2]);
    assert_eq!(job(&test, 3).tags, ["big", "monthly"]);
}

#[test]
fn many_are_retried_in_batches_and_each_batch_is_audited() {
    let test = test();
    let jobs = 1_001;
    for _ in 0..jobs / 91 {
        let failing = NewJob::new("send", json!({"fail": "no"})).max_attempts(1);
        test.enqueue_all((0..91).map(|_| failing.clone())).unwrap();
    }
    test.enqueue(NewJob::new("tidy", json!({}))).unwrap();
    test.drain();
    let failed = filter("state=discarded worker=send");
    let would = test.retry_all(&failed, BulkMode::DryRun).unwrap();
    assert_eq!((would.changed, would.first.len(), would.skipped), (jobs, 20, 0));
    assert_eq!(test.count_jobs(&failed).unwrap(), jobs, "a dry run changes nothing");
    assert!(test.audit_log(&AuditFilter::default(), 10).unwrap().is_empty());
    let did = test.retry_all(&failed, BulkMode::Apply).unwrap();
    assert_eq!((did.changed, did.first, did.skipped), (jobs, would.first, 0));
    assert_eq!(test.count_jobs(&filter("state=available")).unwrap(), jobs);
    let log = test.audit_log(&AuditFilter::default(), 10).unwrap();
    assert_eq!(log.len(), 3, "400 a transaction");
    let named: usize = log
        .iter()
        .map(|row| {
            assert_eq!(row.action, "jobs.retried");
            let after: Json = serde_json::from_str(row.after.as_deref().unwrap()).unwrap();
            after["jobs"].as_array().unwrap().len()
        })
        .sum();
    assert_eq!(named as u64, jobs);
    assert_eq!(test.verify_audit().unwrap().rows, 3);
}

#[test]
fn each_verb_changes_what_it_applies_to_and_says_what_it_left() {
    let test = test();
    for number in 0..4 {
        let due = START + Duration::from_secs(100 + number);
        test.enqueue(NewJob::new("send", json!({"n": number})).at(due)).unwrap();
    }
    let done = test.enqueue(NewJob::new("tidy", json!({}))).unwrap().id;
    test.drain();
    let all = JobFilter::new();
    let at = START + Duration::from_secs(5_000);
    assert_eq!(test.reschedule_all(&all, at, BulkMode::Apply).unwrap().changed, 4);
    assert_eq!(test.set_priority_all(&all, 0, BulkMode::Apply).unwrap().changed, 4);
    let first = job(&test, 1);
    assert_eq!((first.due_at, first.priority, first.state), (at, 0, JobState::Scheduled));
    assert_eq!(test.reschedule_all(&all, START, BulkMode::Apply).unwrap().changed, 4);
    assert_eq!(job(&test, 1).state, JobState::Available);
    assert_eq!(test.cancel_all(&filter("id<3"), BulkMode::Apply).unwrap().changed, 2);
    assert_eq!(job(&test, 2).state, JobState::Cancelled);
    assert!(matches!(test.set_priority_all(&all, 10, BulkMode::Apply), Err(Error::Invalid { .. })));
    assert!(matches!(
        test.reschedule_all(&all, Timestamp::from_millis(i64::MAX), BulkMode::Apply),
        Err(Error::Invalid { .. })
    ));
    assert_eq!(job(&test, done.number()).state, JobState::Completed);
}

#[test]
fn a_unique_job_that_cannot_be_retried_and_a_row_that_resists_keep_no_other() {
    let test = test();
    let unique = || NewJob::new("send", json!({"n": 1})).unique().after(Duration::from_secs(60));
    let first = test.enqueue(unique()).unwrap().id;
    test.cancel(first).unwrap();
    test.enqueue(unique()).unwrap();
    for _ in 0..3 {
        let id =
            test.enqueue(NewJob::new("send", json!({})).after(Duration::from_secs(60))).unwrap().id;
        test.cancel(id).unwrap();
    }
    test.sql(
        "CREATE TRIGGER held BEFORE UPDATE ON verger_jobs WHEN NEW.id = 4 BEGIN SELECT RAISE(ABORT, 'held by the app'); END",
    );
    let did = test.retry_all(&filter("state=cancelled"), BulkMode::Apply).unwrap();
    assert_eq!((did.changed, did.skipped), (2, 2), "{did:?}");
    assert!(did.reasons[0].reason.contains("unique"), "{did:?}");
    assert!(did.reasons[1].reason.contains("held by the app"), "{did:?}");
}

#[test]
fn one_waiting_job_is_edited_and_refused_with_the_reason() {
    let test = test();
    let later = NewJob::new("send", json!({"n": 1})).after(Duration::from_secs(60));
    let id = test.enqueue(later.clone().tag("old")).unwrap().id;
    let edit = JobEdit::new()
        .args(json!({"n": 2}))
        .priority(1)
        .queue("mail")
        .at(START + Duration::from_secs(10))
        .tags(["new"]);
    assert!(test.edit(id, &edit).unwrap());
    let row = job(&test, id.number());
    assert_eq!((row.args, row.priority, &*row.queue), (json!({"n": 2}), 1, "mail"));
    assert_eq!((row.due_at, row.tags), (START + Duration::from_secs(10), vec!["new".to_string()]));
    assert_eq!(test.audit_log(&AuditFilter::default(), 1).unwrap()[0].action, "job.edited");
    assert!(!test.edit(JobId::from_number(77), &edit).unwrap());
    let unique = test.enqueue(later.unique()).unwrap().id;
    let done = test.enqueue(NewJob::new("tidy", json!({}))).unwrap().id;
    test.tick(START).unwrap();
    for (job, edit) in [
        (unique, JobEdit::new().args(json!({}))),
        (unique, JobEdit::new().queue("mail")),
        (done, JobEdit::new().priority(1)),
        (id, JobEdit::new().priority(10)),
        (id, JobEdit::new().queue("")),
        (id, JobEdit::new().at(Timestamp::from_millis(i64::MAX))),
        (id, JobEdit::new().tags([""])),
    ] {
        assert!(matches!(test.edit(job, &edit), Err(Error::NotEdited { .. })), "{edit:?}");
    }
    assert!(matches!(test.edit(id, &JobEdit::new().args(json!([]))), Err(Error::Enqueue(_))));
    assert!(test.edit(unique, &JobEdit::new().priority(0)).unwrap());
}

#[test]
fn a_deleted_job_is_gone_and_its_id_is_never_given_again() {
    let test = test();
    let later = || NewJob::new("send", json!({"n": 1})).after(Duration::from_secs(60));
    let (first, second) = (test.enqueue(later()).unwrap().id, test.enqueue(later()).unwrap().id);
    assert!(test.delete(first).unwrap());
    assert!(!test.delete(first).unwrap());
    assert_eq!(test.job(first).unwrap(), None);
    assert!(test.delete(second).unwrap());
    let emptied = job(&test, second.number());
    assert_eq!((emptied.state, emptied.args), (JobState::Cancelled, json!({})));
    let third = test.enqueue(later()).unwrap().id;
    assert!(third > second);
    assert!(test.delete(second).unwrap());
    assert_eq!(test.job(second).unwrap(), None);
}

#[test]
fn what_is_no_tag_no_meta_and_no_trace_context_is_refused() {
    let test = test();
    let new = || NewJob::new("send", json!({}));
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for wrong in [
        new().tag(""),
        new().tag("x".repeat(129)),
        (0..17).fold(new(), |job, number| job.tag(number.to_string())),
        new().meta(json!([])),
        new().meta(json!({"text": "x".repeat(70_000)})),
        new().traceparent(""),
        new().traceparent("00-00000000000000000000000000000000-00f067aa0ba902b7-01"),
        new().traceparent(parent.to_uppercase()),
        new().traceparent(format!("{parent}-more")),
        new().traceparent(parent.replacen("00", "ff", 1)),
    ] {
        assert!(test.enqueue(wrong.clone()).is_err(), "{wrong:?}");
    }
    let id = test.enqueue(new().traceparent(parent).meta(json!({"from": "import"}))).unwrap().id;
    let row = test.job(id).unwrap().unwrap();
    assert_eq!(row.traceparent.as_deref(), Some(parent));
    assert_eq!(row.meta, Some(json!({"from": "import"})));
    assert!(test.events_since(EventPosition::START, 1).unwrap().is_empty());
}
