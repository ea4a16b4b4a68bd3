//! Of unique jobs at most one is unfinished, whatever is done to them and in whatever order.
//! Numbers in args are kept exactly, or refused by name.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use verger::testing::{ManualClock, TestVerger};
use verger::verger_worker::prelude::*;
use verger::{
    EnqueueError, Error, JobFilter, JobId, JobState, NewJob, Retention, Schedule, Verger,
    parse_args,
};

struct Does;

impl Worker for Does {
    fn manifest(&self) -> Manifest {
        Manifest::new("does", "1.0.0").arg("how", ArgSpec::default_value("well"))
    }

    fn perform(
        &self,
        _: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        Ok(match args.get::<String>("how")?.as_str() {
            "fails" => Outcome::Failed(WorkerError::new("as told")),
            "snoozes" => Outcome::Snooze(60),
            "cancels" => Outcome::Cancel("as told".into()),
            _ => Outcome::Done,
        })
    }
}

fn test() -> TestVerger {
    TestVerger::with(|builder| builder.without_built_ins().worker(Does))
}

fn job(args: Json) -> NewJob {
    NewJob::new("does", args).unique()
}

#[derive(Debug, Clone)]
enum Step {
    Enqueue { how: usize, for_seconds: Option<u64> },
    Cancel(usize),
    Retry(usize),
    Tick,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..2_usize, prop::option::of(1..200_000_u64))
            .prop_map(|(how, for_seconds)| Step::Enqueue { how, for_seconds }),
        2 => (0..12_usize).prop_map(Step::Cancel),
        3 => (0..12_usize).prop_map(Step::Retry),
        2 => Just(Step::Tick),
        2 => (1..100_000_u64).prop_map(Step::Wait),
    ]
}

const HOWS: [&str; 4] = ["well", "fails", "snoozes", "cancels"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn at_most_one_of_a_key_is_unfinished_through_any_order_of_things(
        start in 0..4_usize,
        steps in prop::collection::vec((any::<bool>(), step()), 1..60),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (file, clock) = (folder.path().join("app.db"), ManualClock::at(TestVerger::START));
        // Short, so that pruning takes part.
        let keep = Some(Duration::from_secs(86_400));
        let open = || {
            let retention = Retention::new().completed(keep).cancelled(keep).discarded(keep);
            let builder = Verger::builder(&file).without_built_ins().worker(Does);
            TestVerger::open(builder.retention(retention), &clock).unwrap()
        };
        let both = [open(), open()];
        for (which, step) in steps {
            let test = &both[usize::from(which)];
            let newest = |place: usize| {
                let jobs = test.jobs(&JobFilter::new(), 12).unwrap();
                jobs.get(place).map_or(JobId::from_number(0), |job| job.id)
            };
            match step {
                Step::Enqueue { how, for_seconds } => {
                    let mut job = job(json!({"how": HOWS[(start + how) % 4]})).max_attempts(2);
                    if let Some(seconds) = for_seconds {
                        job = job.unique_for(Duration::from_secs(seconds));
                    }
                    test.enqueue(job).unwrap();
                }
                Step::Cancel(place) => drop(test.cancel(newest(place)).unwrap()),
                Step::Retry(place) => match test.retry(newest(place)) {
                    Ok(_) | Err(Error::NotUnique { .. }) => {}
                    Err(other) => panic!("{other}"),
                },
                Step::Tick => drop(test.tick(test.now()).unwrap()),
                Step::Wait(seconds) => clock.advance(Duration::from_secs(seconds)),
            }
            let twice = test.rows(
                "SELECT args, count(*) AS n FROM verger_jobs WHERE finished_at IS NULL GROUP BY args HAVING n > 1",
            );
            prop_assert!(twice.is_empty(), "{twice:?}");
        }
    }
}

#[test]
fn a_job_that_was_cancelled_or_discarded_blocks_no_new_one_unless_its_period_is_asked_for() {
    for how in ["cancels", "fails", "well"] {
        for period in [None, Some(Duration::from_secs(3_600))] {
            let test = test();
            let job = || {
                let job = job(json!({"how": how})).max_attempts(1);
                match period {
                    Some(period) => job.unique_for(period),
                    None => job,
                }
            };
            let first = test.enqueue(job()).unwrap().id;
            test.drain();
            assert!(test.job(first).unwrap().unwrap().state.is_final());
            assert_eq!(test.enqueue(job()).unwrap().existing, period.is_some(), "{how}");
            test.clock().advance(Duration::from_secs(3_600));
            assert_eq!(test.enqueue(job()).unwrap().existing, period.is_none(), "{how}");
        }
    }
}

#[test]
fn a_period_outlives_pruning() {
    let test = test();
    let job = || job(json!({})).unique_for(Duration::from_secs(30 * 86_400));
    let id = test.enqueue(job()).unwrap().id;
    test.drain();
    test.enqueue(NewJob::new("does", json!({}))).unwrap();
    test.run_for(Duration::from_secs(29 * 86_400));
    assert_eq!(test.enqueue(job()).unwrap().id, id, "completed jobs are kept for 7 days otherwise");
    test.run_for(Duration::from_secs(2 * 86_400));
    assert!(test.job(id).unwrap().is_none());
    assert!(!test.enqueue(job()).unwrap().existing);
}

#[test]
fn a_unique_job_is_not_retried_beside_another_like_it() {
    let test = test();
    let old = test.enqueue(job(json!({}))).unwrap().id;
    test.cancel(old).unwrap();
    let new = test.enqueue(job(json!({}))).unwrap().id;
    match test.retry(old).unwrap_err() {
        Error::NotUnique { job, other } => assert_eq!((job, other), (old, new)),
        other => panic!("{other}"),
    }
    assert_eq!(test.job(old).unwrap().unwrap().state, JobState::Cancelled);
    test.drain();
    assert!(test.retry(old).unwrap(), "the other has come to its end");
    assert_eq!(test.enqueue(job(json!({}))).unwrap().id, old);
}

#[test]
fn the_order_of_keys_makes_no_other_job_and_a_fraction_is_no_whole_number() {
    let test = test();
    let enqueue = |args: Json| test.enqueue(job(args)).unwrap().id;
    let first = enqueue(json!({"a": {"x": 1, "y": [{"p": 1, "q": 2}]}, "b": 2}));
    assert_eq!(enqueue(json!({"b": 2, "a": {"y": [{"q": 2, "p": 1}], "x": 1}})), first);
    assert_ne!(enqueue(json!({"n": 1})), enqueue(json!({"n": 1.0})));
    let by = |keys: [&str; 2]| {
        let job = NewJob::new("does", json!({"a": 1, "b": 2, "c": 3})).unique_by(keys);
        test.enqueue(job).unwrap().id
    };
    assert_eq!(by(["a", "b"]), by(["b", "a"]));
}

#[test]
fn a_key_that_no_arg_has_is_an_error_that_names_those_there_are() {
    let test = test();
    let error =
        test.enqueue(NewJob::new("does", json!({"organization": 1})).unique_by(["organisation"]));
    let error = error.unwrap_err();
    assert!(matches!(&error, EnqueueError::UniqueBy { key, .. } if key == "organisation"));
    assert!(error.to_string().contains("`organization`"), "{error}");
    assert!(test.jobs(&JobFilter::new(), 1).unwrap().is_empty());
}

#[test]
fn a_number_arrives_as_it_was_sent_or_is_refused_by_name() {
    let sent = r#"{"chat":9007199254740993,"least":-9223372036854775808,"most":18446744073709551615,"rate":0.1}"#;
    let test = test();
    let id = test.enqueue(NewJob::new("does", parse_args(sent).unwrap())).unwrap().id;
    assert_eq!(test.one::<String>("SELECT args FROM verger_jobs"), sent);
    test.drain();
    assert_eq!(test.job(id).unwrap().unwrap().state, JobState::Completed);
    for (text, path) in [
        (r#"{"chat": 123456789012345678901}"#, "`$.chat`"),
        (r#"{"a": [{"amount": 0.1234567890123456789}]}"#, "`$.a[0].amount`"),
        (r#"{"a": 1e400}"#, "`$.a`"),
    ] {
        assert!(parse_args(text).unwrap_err().to_string().contains(path), "{text}");
        // A row made by hand.
        test.sql(&format!(
            "INSERT INTO verger_jobs (worker, args, max_attempts) VALUES ('does', '{text}', 1)"
        ));
        test.drain();
        let job = test.jobs(&JobFilter::new(), 1).unwrap().remove(0);
        assert_eq!((job.state, job.errors[0].code.as_str()), (JobState::Discarded, "args"));
        if !text.contains("1e400") {
            assert!(job.errors[0].message.contains(path), "{:?}", job.errors);
        }
    }
}

#[test]
fn the_tenant_of_a_job_and_of_a_schedule_is_said_in_words() {
    let job = |job: NewJob| {
        let test = test();
        let id = test.enqueue(job).unwrap().id;
        test.job(id).unwrap().unwrap().args
    };
    assert_eq!(
        job(NewJob::new("does", json!({"a": 1})).for_organization("acme", Some("u"))),
        json!({"a": 1, "organization_id": "acme", "actor_id": "u"})
    );
    assert_eq!(
        job(NewJob::new("does", json!({})).for_all_organizations()),
        json!({"organization_id": null, "actor_id": null})
    );
    let schedule = Schedule::cron("s", "@daily").unwrap().worker("does");
    let test = TestVerger::with(|builder| {
        let builder = builder.without_built_ins().worker(Does);
        builder.schedule(schedule.for_organization("acme", None))
    });
    let args: Json = serde_json::from_str(&test.schedules().unwrap()[0].args).unwrap();
    assert_eq!(args, json!({"organization_id": "acme", "actor_id": null}));
}
