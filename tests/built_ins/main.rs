//! What each built-in worker promises, on real rows in a Verger: as the component that is shipped,
//! and as plain Rust.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod invitations;
mod mail;
mod memberships;
mod webhooks;

use std::time::Duration;

use cleanup_expired_invitations::CleanupExpiredInvitations;
use cleanup_tokens::CleanupTokens;
use prune_webhook_events::PruneWebhookEvents;
use reconcile_memberships::ReconcileMemberships;
use reconcile_webhook_events::ReconcileWebhookEvents;
use serde_json::{Value as Json, json};
use verger::testing::TestVerger;
use verger::{
    AuditFilter, Grant, Job, JobState, MembershipsReconciled, NewJob, Schedule, Timestamp,
    WebhookEventsReconciled, assert_audited, assert_enqueued,
};

use self::invitations::{invitations, invite};
use self::memberships::{join, states};
use self::webhooks::{deliver, orphan, told};

const NOW: i64 = TestVerger::START.as_millis();
const MINUTE: i64 = 60_000;
const DAY: i64 = 86_400_000;

const INVITATIONS: &str = "cleanup-expired-invitations";
const MEMBERSHIPS: &str = "reconcile-memberships";
const WEBHOOKS: &str = "reconcile-webhook-events";
const TOKENS: &str = "cleanup-tokens";
const PRUNING: &str = "prune-webhook-events";

/// On the reference tables, twice: the components, and the same code as part of the app.
fn both() -> [TestVerger; 2] {
    let native = TestVerger::with(|builder| {
        builder
            .without_built_ins()
            .worker(CleanupExpiredInvitations)
            .worker(ReconcileMemberships)
            .worker(ReconcileWebhookEvents)
            .worker(CleanupTokens)
            .worker(PruneWebhookEvents)
    });
    [TestVerger::new().reference_tables(), native.reference_tables()]
}

fn args(organization: Option<&str>, more: Json) -> Json {
    let mut args = json!({"organization_id": organization, "actor_id": "sweeper"});
    args.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    args
}

/// Performs it as a job: queue, claim, attempt, commit.
#[track_caller]
fn run(test: &TestVerger, worker: &str, args: Json) -> Job {
    let id = test.enqueue(NewJob::new(worker, args).max_attempts(1)).unwrap().id;
    test.drain();
    test.job(id).unwrap().unwrap()
}

#[track_caller]
fn result(test: &TestVerger, worker: &str, args: Json) -> Json {
    let job = run(test, worker, args);
    assert_eq!(job.state, JobState::Completed, "{:?}", job.errors);
    job.result.unwrap()
}

fn audited(test: &TestVerger) -> usize {
    test.audit_log(&AuditFilter::default(), u32::MAX).unwrap().len()
}

#[test]
fn component_and_plain_rust_leave_the_same_behind() {
    let left = both().map(|test| {
        for n in 0..25 {
            let organization = format!("o{}", n % 3);
            invite(&test, &format!("i{n:02}"), &organization, n % 5, (n % 7 == 0).then_some(1));
            join(
                &test,
                &format!("m{n:02}"),
                &organization,
                ["active", "suspended", "invited"][n as usize % 3],
                (n % 4 > 0).then_some(n),
            );
            orphan(
                &test,
                &format!("e{n:02}"),
                &organization,
                ["opened", "delivered", "odd"][n as usize % 3],
                &format!("msg{}", n % 6),
                NOW - DAY + n,
            );
            if n % 2 == 0 {
                deliver(&test, &format!("d{n:02}"), &organization, &format!("msg{n}"));
            }
        }
        // Small batches, so that there are checkpoints.
        let results = [INVITATIONS, MEMBERSHIPS, WEBHOOKS]
            .map(|worker| result(&test, worker, args(None, json!({"batch_size": 4}))));
        assert!(audited(&test) > 20);
        let mut left = test.everything();
        // Claims carry the name of their executor and a lease by its grant.
        left.remove("verger_jobs");
        (results, left)
    });
    assert_eq!(left[0], left[1]);
}

fn issue(test: &TestVerger, id: &str, context: &str, inserted_at: i64) {
    let sql = "INSERT INTO tokens (id, user_id, context, token_hash, inserted_at) VALUES (?1, 'u', ?2, CAST(?1 AS BLOB), ?3)";
    test.connection().execute(sql, (id, context, inserted_at)).unwrap();
}

fn tokens(test: &TestVerger) -> String {
    test.one("SELECT coalesce(group_concat(id, ' '), '') FROM (SELECT id FROM tokens ORDER BY id)")
}

#[test]
fn tokens_go_when_they_are_older_than_their_context_allows() {
    for test in both() {
        let hour = 60 * MINUTE;
        for (context, age) in [
            ("confirm", 48 * hour),
            ("reset_password", hour),
            ("magic_link", 15 * MINUTE),
            ("session", 60 * DAY),
            ("api_refresh", 30 * DAY),
            ("invite", 0),
        ] {
            issue(&test, &format!("{context}-at"), context, NOW - age);
            issue(&test, &format!("{context}-before"), context, NOW - age - 1);
        }
        assert_eq!(result(&test, TOKENS, json!({})), json!({"deleted": 5}));
        assert_eq!(
            tokens(&test),
            "api_refresh-at confirm-at invite-at invite-before magic_link-at reset_password-at session-at"
        );
        let told = json!({"context": "session", "deleted": 1, "max_age_seconds": 60 * 86_400});
        assert_audited!(test, action: "token.deleted", outcome: "success", organization: None, worker: TOKENS, metadata: told);
        assert_eq!(audited(&test), 5);
        assert_eq!(result(&test, TOKENS, json!({})), json!({"deleted": 0}));
        assert_eq!(audited(&test), 5);
        let ages = json!({"max_age_seconds": {"session": null, "confirm": 60, "invite": 1}});
        issue(&test, "session-old", "session", 0);
        test.sql("CREATE TRIGGER kept BEFORE DELETE ON tokens WHEN OLD.id = 'invite-at' BEGIN SELECT RAISE(ABORT, 'kept by the app'); END");
        assert_eq!(result(&test, TOKENS, ages), json!({"deleted": 1}));
        assert_eq!(
            tokens(&test),
            "api_refresh-at invite-at invite-before magic_link-at reset_password-at session-at session-old"
        );
        test.clock().advance(Duration::from_secs(2));
        let ages = json!({"max_age_seconds": {"session": null, "invite": 1, "magic_link": 3600, "reset_password": 7200, "api_refresh": null}});
        assert_eq!(result(&test, TOKENS, ages), json!({"deleted": 1, "errors": 1}));
        assert_audited!(test, outcome: "error", subject: ("token", "invite-at"), metadata: json!({"message": "kept by the app"}));
    }
}

#[test]
fn webhook_events_go_by_how_they_ended_and_the_append_only_table_is_shut_again() {
    for test in both() {
        for status in ["succeeded", "dead", "failed"] {
            for days in [14, 90] {
                for (when, at) in [("at", NOW - days * DAY), ("before", NOW - days * DAY - 1)] {
                    let sql = "INSERT INTO webhook_events (id, organization_id, type, provider, status, occurred_at, inserted_at) VALUES (?1, 'o1', 'opened', 'p', ?2, 0, ?3)";
                    let id = format!("{status}-{days}-{when}");
                    test.connection().execute(sql, (id, status, at)).unwrap();
                }
            }
        }
        let left = "SELECT group_concat(id, ' ') FROM (SELECT id FROM webhook_events ORDER BY id)";
        assert_eq!(result(&test, PRUNING, json!({"batch_size": 1})), json!({"deleted": 4}));
        assert_eq!(
            test.one::<String>(left),
            "dead-14-at dead-14-before dead-90-at failed-14-at failed-14-before failed-90-at failed-90-before succeeded-14-at"
        );
        let told =
            json!({"status": "dead", "deleted": 1, "retention_days": 90, "cutoff": NOW - 90 * DAY});
        assert_audited!(test, action: "webhook_event.deleted", outcome: "success", organization: None, worker: PRUNING, metadata: told);
        assert_eq!(test.one::<i64>("SELECT count(*) FROM webhook_events_retention"), 0);
        let refused = test.connection().execute("DELETE FROM webhook_events", []).unwrap_err();
        assert!(refused.to_string().contains("webhook_events_append_only"), "{refused}");
        assert_eq!(result(&test, PRUNING, json!({})), json!({"deleted": 0}));
        let all = json!({"succeeded_days": 1, "dead_days": null, "failed_days": 15});
        assert_eq!(result(&test, PRUNING, all), json!({"deleted": 3}));
        assert_eq!(
            test.one::<String>(left),
            "dead-14-at dead-14-before dead-90-at failed-14-at failed-14-before"
        );
        let bad = run(&test, PRUNING, json!({"dead_days": 0}));
        assert_eq!(bad.state, JobState::Discarded);
        assert!(bad.errors[0].message.contains("`dead_days`"), "{bad:?}");
    }
}

#[test]
fn batches_commit_one_by_one_and_progress_shows() {
    for test in both() {
        for n in 0..10 {
            invite(&test, &format!("i{n}"), "o1", n, None);
        }
        test.sql("CREATE TRIGGER full BEFORE DELETE ON organization_invitations WHEN OLD.id = 'i7' BEGIN SELECT zeroblob(2000000000); END");
        let failed = run(&test, INVITATIONS, args(None, json!({"batch_size": 3})));
        assert_eq!(failed.state, JobState::Discarded);
        assert_eq!(invitations(&test), "i6 i7 i8 i9", "two batches were kept");
        assert_eq!((audited(&test), failed.progress_done), (2, Some(6)));
        test.sql("DROP TRIGGER full");
        assert_eq!(
            result(&test, INVITATIONS, args(None, json!({"batch_size": 3}))),
            json!({"deleted": 4})
        );
        assert_eq!(test.verify_audit().unwrap().rows, 4);
    }
}

#[test]
fn the_apps_own_table_or_view_serves_under_another_name() {
    for test in both() {
        test.sql(
            "CREATE TABLE members (id TEXT PRIMARY KEY, organization_id TEXT, state TEXT, expires_at INTEGER);
             INSERT INTO members VALUES ('m1', 'o1', 'active', 1), ('m2', 'o1', 'active', NULL);
             CREATE TABLE base (id TEXT PRIMARY KEY, tenant TEXT, ends INTEGER, accepted INTEGER);
             INSERT INTO base VALUES ('i1', 'o1', 1, NULL), ('i2', 'o1', 1, 1);
             CREATE VIEW invites AS SELECT id, tenant AS organization_id, ends AS expires_at, accepted AS accepted_at FROM base;
             CREATE TRIGGER invites_delete INSTEAD OF DELETE ON invites BEGIN DELETE FROM base WHERE id = OLD.id; END;",
        );
        let expired = result(&test, MEMBERSHIPS, args(None, json!({"table": "members"})));
        assert_eq!(expired, json!({"scanned": 1, "updated": 1, "errors": 0}));
        assert_eq!(
            result(&test, INVITATIONS, args(None, json!({"table": "invites"}))),
            json!({"deleted": 1})
        );
        assert_eq!(test.one::<String>("SELECT group_concat(id) FROM base"), "i2");
    }
}

#[test]
fn each_has_a_typed_way_to_call_it_directly() {
    for test in both() {
        invite(&test, "i1", "o1", NOW - 8 * DAY, None);
        join(&test, "m1", "o1", "suspended", Some(0));
        orphan(&test, "e1", "o1", "bounced", "msg", NOW - DAY);
        orphan(&test, "e2", "o2", "bounced", "msg", NOW - DAY);
        deliver(&test, "d1", "o1", "msg");
        let events = test.subscribe();
        assert_eq!(test.cleanup_expired_invitations("organization_invitations", 30).unwrap(), 0);
        assert_eq!(test.cleanup_expired_invitations("organization_invitations", 7).unwrap(), 1);
        assert_eq!(
            test.reconcile_memberships("memberships").unwrap(),
            MembershipsReconciled { scanned: 1, updated: 1, errors: 0 }
        );
        let linked = |organization: Option<&str>| {
            test.reconcile_webhook_events("webhook_events", organization, 10_080).unwrap()
        };
        assert_eq!(linked(Some("o2")), WebhookEventsReconciled { scanned: 1, linked: 0 });
        assert_eq!(linked(None), WebhookEventsReconciled { scanned: 2, linked: 1 });
        issue(&test, "t1", "magic_link", NOW - DAY);
        assert_eq!(test.cleanup_tokens("tokens").unwrap(), 1);
        assert_eq!(test.prune_webhook_events("webhook_events").unwrap(), 0);
        assert_eq!(told(&events)[0].job, None);
        let row = assert_audited!(test, action: "webhook_event.reconciled", actor: None);
        assert_eq!((row.job, row.attempt), (None, None));
        assert_eq!(test.one::<i64>("SELECT count(*) FROM verger_jobs"), 0);
        for failed in [
            test.cleanup_expired_invitations("nowhere", 30).unwrap_err(),
            test.reconcile_memberships("nowhere").unwrap_err(),
            test.reconcile_webhook_events("nowhere", None, 10).unwrap_err(),
            test.reconcile_webhook_events("webhook_events", None, 0).unwrap_err(),
            test.cleanup_tokens("nowhere").unwrap_err(),
            test.prune_webhook_events("nowhere").unwrap_err(),
        ] {
            assert!(
                failed.to_string().contains("worker `") && failed.to_string().contains("failed"),
                "{failed}"
            );
        }
    }
}

#[test]
fn a_weeks_schedules_keep_the_tables_in_order() {
    let schedules = [
        Schedule::cron("invitations", "0 3 * * *").unwrap().worker(INVITATIONS),
        Schedule::every("memberships", Duration::from_secs(300)).unwrap().worker(MEMBERSHIPS),
        Schedule::cron("webhooks", "*/5 * * * *").unwrap().worker(WEBHOOKS),
    ];
    let test = TestVerger::with(|builder| {
        schedules.into_iter().fold(builder, |builder, schedule| {
            builder.schedule(schedule.args(args(None, json!({}))))
        })
    });
    let test = test.reference_tables();
    invite(&test, "i1", "o1", NOW - 29 * DAY, None);
    join(&test, "m1", "o1", "active", Some(NOW + 2 * 3_600_000));
    let report = test.run_for(Duration::from_secs(86_400));
    assert_eq!(report.fired.len(), 1 + 288 + 288);
    assert!(report.attempts.iter().all(|attempt| attempt.outcome.error().is_none()));
    assert_eq!((invitations(&test).as_str(), states(&test).as_str()), ("i1", "m1=expired"));
    let row = assert_audited!(test, subject: ("membership", "m1"));
    assert_eq!(
        row.occurred_at,
        TestVerger::START + Duration::from_secs(2 * 3_600 + 300),
        "at the first slot after it ran out"
    );
    test.run_for(Duration::from_secs(86_400 * 2));
    assert_eq!(invitations(&test), "");
    assert_enqueued!(test, schedule: "invitations", state: JobState::Completed, at: Timestamp::from_millis(NOW + 3 * 3_600_000));
    assert_eq!(test.verify_audit().unwrap().rows, 2);
}

#[test]
fn a_narrower_grant_narrows_a_built_in() {
    let test =
        TestVerger::with(|builder| builder.grant(MEMBERSHIPS, Grant::new().read("memberships")))
            .reference_tables();
    join(&test, "m1", "o1", "active", Some(0));
    let refused = run(&test, MEMBERSHIPS, args(None, json!({})));
    assert_eq!(refused.state, JobState::Discarded);
    assert!(refused.errors[0].message.contains("update denied"), "{refused:?}");
    assert_eq!(states(&test), "m1=active");
}
