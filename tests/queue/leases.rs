//! Executors that died, and leases that ran out.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::json;
use verger::testing::{ManualClock, TestVerger};
use verger::{AttemptOutcome, Clock as _, JobState, Timestamp, Verger};

use super::{MINUTE, START, insert, named, names, on_file};
use crate::common::{BOTH, TABLES, grant, job, last_error, puppet, row};

/// As a process that died left it: claimed, its lease running.
pub(super) fn abandon(test: &TestVerger, ids: &[i64], lease_until: Timestamp) {
    for id in ids {
        let sql = "UPDATE verger_jobs SET state = 'executing', attempt = attempt + 1, token = token + 1, claimed_by = 'dead', \
             attempted_at = ?2, lease_until = ?3 WHERE id = ?1";
        test.connection().execute(sql, (id, START.as_millis(), lease_until.as_millis())).unwrap();
    }
}

#[test]
fn jobs_of_an_executor_that_died_are_taken_back_when_its_lease_is_over() {
    let test = puppet();
    let [first, second, last] = ["first", "second", "last"].map(|name| {
        let attempts = if name == "last" { 1 } else { 3 };
        test.enqueue(named(name).max_attempts(attempts)).unwrap().id
    });
    let until = START + Duration::from_secs(120);
    abandon(&test, &[first.number(), second.number()], until);
    test.run_until(until);
    assert_eq!(names(&test), "last", "a live lease is respected to its end");
    let report = test.run_for(MINUTE);
    assert_eq!((report.rescued, names(&test).as_str()), (2, "last second first"));
    let begun = row(&test, first);
    assert_eq!((begun.state, begun.attempt), (JobState::Completed, 2));
    assert_eq!(begun.errors[0].code, "crashed");
    assert_eq!(begun.errors[0].at, until + Duration::from_millis(1), "as soon as it may be");
    let waiting = row(&test, second);
    assert_eq!(
        (waiting.attempt, waiting.errors.len()),
        (1, 0),
        "what was claimed and not begun lost no attempt"
    );
    abandon(&test, &[last.number()], test.now() + MINUTE);
    test.run_for(MINUTE * 2);
    let spent = row(&test, last);
    assert_eq!((spent.state, last_error(&spent).0), (JobState::Discarded, "crashed"));
}

#[test]
fn opened_again_alone_a_file_gives_its_jobs_back_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    let clock = ManualClock::at(START);
    let test = on_file(&file, &clock);
    test.sql(TABLES);
    let id = test.enqueue(named("again")).unwrap().id;
    abandon(&test, &[id.number()], START + Duration::from_secs(3_600));
    {
        let other = on_file(&file, &clock);
        assert_eq!(
            row(&other, id).state,
            JobState::Executing,
            "someone else has it open, and may be at it"
        );
    }
    drop(test);
    let test = on_file(&file, &clock);
    let taken = row(&test, id);
    assert_eq!((taken.state, last_error(&taken).0), (JobState::Retryable, "crashed"));
    test.drain();
    assert_eq!(names(&test), "again");
}

#[test]
fn an_attempt_whose_lease_ran_out_changes_nothing() {
    for kind in BOTH {
        let clock = ManualClock::at(START);
        let meanwhile: Arc<OnceLock<Verger>> = Arc::default();
        let (shared, moved) = (Arc::clone(&meanwhile), clock.clone());
        // While the job is performed, its lease runs out and another executor takes it over and
        // completes it.
        let builder = kind.add(Verger::in_memory(), grant()).capability("absent", move |_| {
            let verger = shared.get().unwrap();
            if moved.now() == START {
                moved.advance(Duration::from_secs(3_600));
                verger.tick(moved.now()).unwrap();
            }
            Ok(json!(null))
        });
        let test = TestVerger::open(builder, &clock).unwrap();
        test.sql(TABLES);
        meanwhile.set(Verger::clone(&test)).unwrap();
        let id = test.enqueue(job(json!([["call", "absent", "{}"], insert("row"), ["audit", [{"action": "thing.made"}]]]))).unwrap().id;
        let report = test.drain();
        let AttemptOutcome::Lost(error) = &report.attempts[0].outcome else {
            panic!("{kind:?}: {report:?}")
        };
        assert_eq!(error.code, "lease-lost");
        let job = row(&test, id);
        assert_eq!(
            (job.state, job.attempt, job.errors.len()),
            (JobState::Completed, 2, 1),
            "{kind:?}"
        );
        assert_eq!(test.one::<i64>("SELECT count(*) FROM things"), 1, "{kind:?}");
        assert_eq!(test.verify_audit().unwrap().rows, 1);
    }
}
