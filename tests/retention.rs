//! Retention of the audit log: only retention removes rows, the old ones, and what stays still
//! verifies.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use std::time::Duration;

use cleanup_audit::CleanupAudit;
use serde_json::json;
use verger::testing::{ManualClock, TestVerger};
use verger::verger_worker::prelude::*;
use verger::{
    AuditFilter, ChainError, Grant, PerformError, Schedule, Verger, assert_audited, refute_audited,
};

const DAY: Duration = Duration::from_secs(86_400);

/// One row a day, for so many days.
fn days(test: &TestVerger, count: u32) {
    for day in 0..count {
        test.audit(&AuditEvent::success(format!("day.no_{day}"))).unwrap();
        test.clock().advance(DAY);
    }
}

fn ids(test: &TestVerger) -> Vec<i64> {
    test.audit_log(&AuditFilter::default(), 1_000).unwrap().iter().rev().map(|row| row.id).collect()
}

fn both(check: impl Fn(&TestVerger)) {
    check(&TestVerger::new());
    check(&TestVerger::with(|builder| builder.without_built_ins().worker(CleanupAudit)));
}

#[test]
fn rows_past_their_time_go_and_what_stays_verifies() {
    both(|test| {
        days(test, 10);
        assert_eq!(
            test.cleanup_audit(Some(4)).unwrap(),
            6,
            "strictly older: the seventh is four days old to the millisecond"
        );
        assert_eq!(ids(test), [7, 8, 9, 10, 11]);
        assert_audited!(test, action: "audit.pruned", worker: "cleanup-audit", metadata: json!({"deleted": 6, "retention_days": 4}));
        let verified = test.verify_audit().unwrap();
        assert_eq!((verified.rows, verified.pruned), (5, 6));
        assert_eq!(test.cleanup_audit(Some(4)).unwrap(), 0);
        assert_eq!(ids(test), [7, 8, 9, 10, 11], "a pass with nothing to do writes nothing");
        days(test, 3);
        assert_eq!(test.verify_audit().unwrap().rows, 8);
        test.clock().advance(DAY * 300);
        assert_eq!(test.cleanup_audit(Some(4)).unwrap(), 8);
        assert_eq!(ids(test), [15], "numbered on after all are gone");
        assert_eq!(test.verify_audit().unwrap().rows, 1);
    });
}

#[test]
fn null_keeps_for_ever_and_less_than_a_day_is_an_error() {
    both(|test| {
        days(test, 3);
        test.clock().advance(DAY * 10_000);
        assert_eq!(test.cleanup_audit(None).unwrap(), 0);
        for bad in [json!(0), json!(-1)] {
            let error =
                test.perform_job("cleanup-audit", json!({"retention_days": bad})).unwrap_err();
            assert!(matches!(error, PerformError::Failed { .. }), "{error:?}");
            assert!(error.to_string().contains("retention_days"), "{error}");
        }
        assert_eq!(ids(test), [1, 2, 3]);
    });
}

#[test]
fn ten_thousand_go_at_a_time() {
    let test = TestVerger::new();
    let event = AuditEvent::success("a.b");
    for _ in 0..25 {
        test.audit(&event).unwrap();
    }
    // A long log, made short: the chain over the copies is not checked before they are gone.
    test.sql(
        "INSERT INTO verger_audit (id, occurred_at, action, outcome, hash)
         SELECT 25 + value, (SELECT max(occurred_at) FROM verger_audit), 'a.b', 'success', zeroblob(32)
         FROM (WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 24975) SELECT value FROM n);
         UPDATE verger_audit_head SET id = 25000, hash = zeroblob(32)",
    );
    test.clock().advance(DAY * 31);
    assert_eq!(test.cleanup_audit(Some(30)).unwrap(), 25_000);
    let batches = test.audit_log(&AuditFilter::default(), 10).unwrap();
    let deleted: Vec<_> = batches.iter().rev().map(|row| row.metadata.clone().unwrap()).collect();
    assert!(
        deleted[0].contains("\"deleted\":10000")
            && deleted[1].contains("\"deleted\":10000")
            && deleted[2].contains("\"deleted\":5000")
    );
    let verified = test.verify_audit().unwrap();
    assert_eq!((verified.rows, verified.pruned), (3, 25_000));
}

#[test]
fn rows_from_when_the_clock_was_wrong_neither_block_nor_hurry_retention() {
    let test = TestVerger::new();
    days(&test, 2);
    let right = test.now();
    // Far ahead for a while, then set right.
    test.clock().advance(DAY * 10_000);
    test.audit(&AuditEvent::success("from.the_future")).unwrap();
    test.clock().set(right);
    days(&test, 10);
    assert_eq!(
        test.cleanup_audit(Some(5)).unwrap(),
        8,
        "the one from the future goes with those around it"
    );
    // Far behind for a while: a young row that says it is old stays as long as older ones before it
    // do.
    let right = test.now();
    test.clock().set(TestVerger::START - DAY * 5_000);
    test.audit(&AuditEvent::success("from.the_past")).unwrap();
    test.clock().set(right);
    assert_eq!(test.cleanup_audit(Some(5)).unwrap(), 0);
    assert_audited!(test, action: "from.the_past");
    test.verify_audit().unwrap();
}

#[test]
fn nothing_younger_than_the_app_allows_goes_whatever_the_worker_is_told() {
    let test = TestVerger::with(|builder| builder.keep_audit(DAY * 30));
    days(&test, 40);
    assert_eq!(test.cleanup_audit(Some(1)).unwrap(), 10);
    assert_eq!(test.cleanup_audit(Some(1)).unwrap(), 0);
}

#[test]
fn a_run_that_fails_prunes_nothing_and_a_dry_run_says_what_it_would() {
    let test = TestVerger::new();
    days(&test, 10);
    let before = test.everything();
    let dry = test.dry_run("cleanup-audit", json!({"retention_days": 4})).unwrap();
    assert_eq!(dry.result(), Some(&json!({"deleted": 6})));
    assert_eq!(
        dry.changes
            .iter()
            .map(|change| (change.table.as_str(), change.deleted))
            .collect::<Vec<_>>(),
        [("verger_audit", 6)]
    );
    assert_eq!(test.everything(), before);
}

/// Asks for what only the built-in has.
struct Pretender(&'static str);

impl Worker for Pretender {
    fn manifest(&self) -> Manifest {
        Manifest::new(self.0, "1.0.0").capability("verger.prune-audit")
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let reply = job.call("verger.prune-audit", &json!({"before": i64::MAX, "limit": 1_000}));
        if args.as_map().contains_key("fail") {
            return Ok(Outcome::Failed(WorkerError::new("after it pruned")));
        }
        Ok(Outcome::DoneWith(reply?))
    }
}

#[test]
fn no_other_worker_prunes_and_what_a_failed_attempt_pruned_is_there_again() {
    let test = TestVerger::with(|builder| {
        builder.worker(Pretender("pretender")).grant("pretender", Grant::as_declared())
    });
    days(&test, 5);
    let error = test.perform_job("pretender", json!({})).unwrap_err().to_string();
    assert!(
        error.contains("call denied: `verger.prune-audit` is for `cleanup-audit` alone"),
        "{error}"
    );
    assert_eq!(ids(&test).len(), 5);

    let test =
        TestVerger::with(|builder| builder.without_built_ins().worker(Pretender("cleanup-audit")));
    days(&test, 5);
    let before = test.everything();
    test.perform_job("cleanup-audit", json!({"fail": true})).unwrap_err();
    assert_eq!(test.everything(), before);
    assert_eq!(
        test.perform_job("cleanup-audit", json!({})).unwrap().result(),
        Some(&json!({"deleted": 4})),
        "never less than a day"
    );
    test.verify_audit().unwrap();
}

#[test]
fn the_door_of_retention_opens_for_nothing_else() {
    let test = TestVerger::new();
    days(&test, 10);
    test.cleanup_audit(Some(4)).unwrap();
    let before = test.everything();
    for sql in [
        "DELETE FROM verger_audit WHERE id = 7",
        "DELETE FROM verger_audit",
        "DELETE FROM verger_audit_anchor",
        "UPDATE verger_audit_anchor SET id = 0",
        "UPDATE verger_audit_anchor SET id = 8",
        "UPDATE verger_audit_anchor SET hash = zeroblob(32)",
        "UPDATE verger_audit_anchor SET id = 99, hash = zeroblob(32)",
        "INSERT INTO verger_audit_anchor (one, id, hash) VALUES (1, 0, zeroblob(32))",
        "INSERT OR REPLACE INTO verger_audit_anchor (one, id, hash) VALUES (1, 9, zeroblob(32))",
        "UPDATE verger_audit_head SET id = 7, hash = (SELECT hash FROM verger_audit WHERE id = 7)",
    ] {
        let error = test.connection().execute(sql, []).unwrap_err().to_string();
        assert!(error.contains("verger_audit_append_only"), "{sql}: {error}");
    }
    assert_eq!(test.everything(), before);
}

#[test]
fn a_row_put_back_or_taken_from_the_beginning_shows() {
    for (sql, broken) in [
        (
            "INSERT INTO verger_audit (id, occurred_at, action, outcome, hash) SELECT 6, occurred_at, action, outcome, hash FROM verger_audit WHERE id = 7",
            6,
        ),
        ("DROP TRIGGER verger_audit_no_delete; DELETE FROM verger_audit WHERE id = 7", 8),
        ("DROP TRIGGER verger_audit_anchor_forward; UPDATE verger_audit_anchor SET id = 7", 7),
    ] {
        let test = TestVerger::new();
        days(&test, 10);
        test.cleanup_audit(Some(4)).unwrap();
        test.sql(sql);
        match test.verify_audit() {
            Err(ChainError::Broken { id }) => assert_eq!(id, broken, "{sql}"),
            other => panic!("{sql}: {other:?}"),
        }
    }
}

#[test]
fn newest_rows_removed_behind_what_retention_took_are_missed() {
    for (kept, gone) in [(8, 9), (6, 7)] {
        let test = TestVerger::new();
        days(&test, 10);
        test.cleanup_audit(Some(4)).unwrap();
        test.sql(&format!(
            "DROP TRIGGER verger_audit_no_delete; DELETE FROM verger_audit WHERE id >= {gone}"
        ));
        match test.verify_audit() {
            Err(ChainError::Missing { kept: found, last: 11 }) => assert_eq!(found, kept),
            other => panic!("{other:?}"),
        }
    }
}

/// Prunes everything, a while after it wrote a row itself.
struct Hasty(ManualClock);

impl Worker for Hasty {
    fn manifest(&self) -> Manifest {
        Manifest::new("cleanup-audit", "1.0.0").capability("verger.prune-audit")
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        _: &Args,
    ) -> Result<Outcome, WorkerError> {
        job.audit(AuditEvent::success("a.b"))?;
        self.0.advance(DAY);
        Ok(Outcome::DoneWith(
            job.call("verger.prune-audit", &json!({"before": i64::MAX, "limit": 1_000}))?,
        ))
    }
}

#[test]
fn what_a_run_writes_itself_is_not_old_whatever_the_clock_does() {
    let clock = ManualClock::at(TestVerger::START);
    let builder = Verger::in_memory()
        .without_built_ins()
        .worker(Hasty(clock.clone()))
        .keep_audit(Duration::ZERO);
    let test = TestVerger::open(builder, &clock).unwrap();
    assert_eq!(
        test.perform_now("cleanup-audit", json!({})).unwrap().result(),
        Some(&json!({"deleted": 0}))
    );
    assert_eq!((ids(&test), test.verify_audit().unwrap().rows), (vec![1], 1));
    assert_eq!(
        test.perform_now("cleanup-audit", json!({})).unwrap().result(),
        Some(&json!({"deleted": 1}))
    );
    assert_eq!((ids(&test), test.verify_audit().unwrap().rows), (vec![2], 1));
}

#[test]
fn on_its_schedule_the_log_stays_bounded_and_verifies_every_night() {
    let nightly = Schedule::cron("audit", "30 3 * * *")
        .unwrap()
        .worker("cleanup-audit")
        .args(json!({"retention_days": 30}));
    let test = TestVerger::with(|builder| builder.schedule(nightly));
    for day in 0..400 {
        for _ in 0..5 {
            test.audit(&AuditEvent::success(format!("day.no_{day}"))).unwrap();
        }
        test.run_for(DAY);
        test.verify_audit().unwrap();
    }
    assert!(test.one::<i64>("SELECT count(*) FROM verger_audit") <= 6 * 32);
    refute_audited!(test, action: "day.no_300");
}
