//! What each built-in worker promises, on real rows in a Verger: as the component that is shipped,
//! and as plain Rust.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::time::Duration;

use cleanup_expired_invitations::CleanupExpiredInvitations;
use cleanup_tokens::CleanupTokens;
use deliver_email::DeliverEmail;
use prune_webhook_events::PruneWebhookEvents;
use reconcile_memberships::ReconcileMemberships;
use reconcile_webhook_events::ReconcileWebhookEvents;
use serde_json::{Value as Json, json};
use verger::testing::TestVerger;
use verger::{
    AuditFilter, Event, Grant, Job, JobState, MembershipsReconciled, NewJob, Schedule, Timestamp,
    WebhookEventsReconciled, assert_audited, assert_enqueued, normalized_membership_state,
    refute_audited,
};

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

fn invite(
    test: &TestVerger,
    id: &str,
    organization: &str,
    expires_at: i64,
    accepted_at: Option<i64>,
) {
    let sql = "INSERT INTO organization_invitations (id, organization_id, email, created_at, expires_at, accepted_at) VALUES (?1, ?2, 'a@b.c', 0, ?3, ?4)";
    test.connection().execute(sql, (id, organization, expires_at, accepted_at)).unwrap();
}

fn invitations(test: &TestVerger) -> String {
    test.one("SELECT coalesce(group_concat(id, ' '), '') FROM (SELECT id FROM organization_invitations ORDER BY id)")
}

#[test]
fn invitations_past_their_retention_go_and_accepted_ones_stay_for_ever() {
    for test in both() {
        for days in [30, 1] {
            let cutoff = NOW - days * DAY;
            invite(&test, "accepted", "o1", 0, Some(1));
            invite(&test, "at", "o1", cutoff, None);
            invite(&test, "before", "o1", cutoff - 1, None);
            invite(&test, "old", "o2", 0, None);
            invite(&test, "open", "o1", NOW + DAY, None);
            let more = if days == 30 { json!({}) } else { json!({"retention_days": days}) };
            assert_eq!(result(&test, INVITATIONS, args(None, more.clone())), json!({"deleted": 2}));
            assert_eq!(invitations(&test), "accepted at open");
            for organization in ["o1", "o2"] {
                let told = json!({"deleted": 1, "retention_days": days, "cutoff": cutoff});
                let row = assert_audited!(
                    test, action: "organization_invitation.deleted", outcome: "success", organization: organization, worker: INVITATIONS,
                    actor: "sweeper", metadata: told
                );
                assert!(row.job.is_some());
            }
            let before = audited(&test);
            assert_eq!(
                result(&test, INVITATIONS, args(None, more)),
                json!({"deleted": 0}),
                "a second run finds nothing"
            );
            assert_eq!(audited(&test), before, "and has nothing to tell");
            test.sql("DELETE FROM organization_invitations");
        }
    }
}

#[test]
fn a_sweep_for_one_tenant_leaves_the_others_alone() {
    for test in both() {
        for organization in ["o1", "o2"] {
            invite(&test, &format!("i{organization}"), organization, 0, None);
            join(&test, &format!("m{organization}"), organization, "active", Some(0));
            orphan(
                &test,
                &format!("e{organization}"),
                organization,
                "delivered",
                "msg",
                NOW - 2 * MINUTE,
            );
            deliver(&test, &format!("d{organization}"), organization, "msg");
        }
        assert_eq!(result(&test, INVITATIONS, args(Some("o1"), json!({}))), json!({"deleted": 1}));
        assert_eq!(invitations(&test), "io2");
        assert_eq!(
            result(&test, MEMBERSHIPS, args(Some("o1"), json!({}))),
            json!({"scanned": 1, "updated": 1, "errors": 0})
        );
        assert_eq!(states(&test), "mo1=expired mo2=active");
        assert_eq!(
            result(&test, WEBHOOKS, args(Some("o1"), json!({}))),
            json!({"scanned": 1, "linked": 1})
        );
        assert_eq!(
            test.one::<String>(
                "SELECT group_concat(id) FROM deliveries WHERE status = 'delivered'"
            ),
            "do1"
        );
        refute_audited!(test, organization: "o2");
        refute_audited!(test, organization: None);
        assert_audited!(test, organization: "o1", actor: "sweeper", effective_user: "sweeper", impersonating_from: None);
        join(&test, "late", "o1", "active", Some(1));
        result(&test, MEMBERSHIPS, args(Some("o1"), json!({"impersonating_from": "admin"})));
        assert_audited!(
            test, subject: ("membership", "late"), organization: "o1", actor: "admin", effective_user: "sweeper", impersonating_from: "admin"
        );
        assert_eq!(
            result(&test, INVITATIONS, args(Some("nobody"), json!({}))),
            json!({"deleted": 0})
        );
    }
}

fn join(test: &TestVerger, id: &str, organization: &str, state: &str, expires_at: Option<i64>) {
    let sql = "INSERT INTO memberships (id, organization_id, user_id, state, expires_at, created_at, updated_at) VALUES (?1, ?2, 'u', ?3, ?4, 0, 0)";
    test.connection().execute(sql, (id, organization, state, expires_at)).unwrap();
}

fn states(test: &TestVerger) -> String {
    test.one("SELECT coalesce(group_concat(id || '=' || state, ' '), '') FROM (SELECT id, state FROM memberships ORDER BY id)")
}

#[test]
fn memberships_that_ran_out_expire_as_the_read_time_check_says() {
    for test in both() {
        let mut expected = Vec::new();
        for state in ["invited", "active", "suspended", "expired"] {
            for (place, expires_at) in
                [None, Some(0), Some(NOW - 1), Some(NOW), Some(NOW + 1)].into_iter().enumerate()
            {
                let id = format!("{state}{place}");
                join(&test, &id, "o1", state, expires_at);
                let expires_at = expires_at.map(Timestamp::from_millis);
                expected.push(format!(
                    "{id}={}",
                    normalized_membership_state(state, expires_at, TestVerger::START)
                ));
            }
        }
        expected.sort();
        assert_eq!(
            result(&test, MEMBERSHIPS, args(None, json!({}))),
            json!({"scanned": 4, "updated": 4, "errors": 0})
        );
        assert_eq!(states(&test), expected.join(" "));
        for (id, before) in [
            ("active1", "active"),
            ("active2", "active"),
            ("suspended1", "suspended"),
            ("suspended2", "suspended"),
        ] {
            assert_audited!(
                test, action: "membership.updated", outcome: "success", organization: "o1", subject: ("membership", id),
                before: json!({"state": before}), after: json!({"state": "expired"}), worker: MEMBERSHIPS
            );
        }
        assert_eq!(audited(&test), 4);
        assert_eq!(
            result(&test, MEMBERSHIPS, args(None, json!({}))),
            json!({"scanned": 0, "updated": 0, "errors": 0})
        );
        assert_eq!(audited(&test), 4);
    }
}

#[test]
fn a_row_the_app_holds_back_is_counted_and_audited_and_the_others_go_through() {
    for test in both() {
        test.sql(
            "CREATE TRIGGER owner_stays BEFORE UPDATE ON memberships WHEN OLD.id = 'm2' BEGIN SELECT RAISE(ABORT, 'the owner stays'); END;
             CREATE TRIGGER keep BEFORE DELETE ON organization_invitations WHEN OLD.id = 'i2' BEGIN SELECT RAISE(ABORT, 'kept by the app'); END;",
        );
        for n in 1..=3 {
            join(&test, &format!("m{n}"), "o1", "active", Some(n));
            invite(&test, &format!("i{n}"), "o1", n, None);
        }
        assert_eq!(
            result(&test, MEMBERSHIPS, args(None, json!({}))),
            json!({"scanned": 3, "updated": 2, "errors": 1})
        );
        assert_eq!(states(&test), "m1=expired m2=active m3=expired");
        let told = json!({"code": "constraint", "message": "the owner stays"});
        assert_audited!(test, action: "membership.updated", outcome: "error", subject: ("membership", "m2"), metadata: told);
        assert_eq!(
            result(&test, INVITATIONS, args(None, json!({}))),
            json!({"deleted": 2, "errors": 1})
        );
        assert_eq!(invitations(&test), "i2");
        assert_audited!(test, outcome: "error", subject: ("organization_invitation", "i2"), metadata: json!({"message": "kept by the app"}));
    }
}

fn deliver(test: &TestVerger, id: &str, organization: &str, message: &str) {
    let sql = "INSERT INTO deliveries (id, organization_id, provider, provider_message_id, status, created_at, updated_at) VALUES (?1, ?2, 'p', ?3, 'sent', 0, 0)";
    test.connection().execute(sql, (id, organization, message)).unwrap();
}

fn orphan(
    test: &TestVerger,
    id: &str,
    organization: &str,
    kind: &str,
    message: &str,
    inserted_at: i64,
) {
    let sql = "INSERT INTO webhook_events (id, organization_id, type, provider, metadata, needs_reconciliation, occurred_at, inserted_at) \
         VALUES (?1, ?2, ?3, 'p', ?4, 1, ?5, ?5)";
    let metadata = json!({"provider": "p", "provider_message_id": message}).to_string();
    test.connection().execute(sql, (id, organization, kind, metadata, inserted_at)).unwrap();
}

fn told(test: &verger::Subscription) -> Vec<Event> {
    std::iter::from_fn(|| test.try_next()).collect()
}

#[test]
fn an_orphan_is_linked_once_its_delivery_is_there_and_the_app_is_told_after_the_commit() {
    for test in both() {
        let events = test.subscribe();
        orphan(&test, "e1", "o1", "delivered", "msg", NOW - 2 * MINUTE);
        orphan(&test, "e2", "o1", "opened", "msg", NOW - 2 * MINUTE + 1);
        let orphans = test.rows("SELECT * FROM webhook_events ORDER BY id");
        assert_eq!(
            result(&test, WEBHOOKS, args(None, json!({}))),
            json!({"scanned": 2, "linked": 0})
        );
        assert_eq!((audited(&test), told(&events)), (0, vec![]));

        deliver(&test, "d1", "o1", "msg");
        assert_eq!(
            result(&test, WEBHOOKS, args(None, json!({}))),
            json!({"scanned": 2, "linked": 2})
        );
        let delivery = &test.rows("SELECT * FROM deliveries")[0];
        assert_eq!(
            (&delivery["status"], &delivery["terminal"], &delivery["lock_version"]),
            (&json!("opened"), &json!(1), &json!(2))
        );
        assert_eq!(
            (&delivery["delivered_at"], &delivery["opened_at"]),
            (&json!(NOW - 2 * MINUTE), &json!(NOW - 2 * MINUTE + 1))
        );
        let made = test.rows("SELECT id, type, delivery_id, organization_id, idempotency_key, needs_reconciliation FROM webhook_events WHERE type = 'reconciled'");
        assert_eq!(made.len(), 2);
        assert_eq!(
            made[0],
            json!({"id": "reconciled:e1", "type": "reconciled", "delivery_id": "d1", "organization_id": "o1", "idempotency_key": "reconciled:e1", "needs_reconciliation": 0})
        );
        assert_eq!(
            test.rows("SELECT * FROM webhook_events WHERE type <> 'reconciled' ORDER BY id"),
            orphans,
            "an orphan is never changed"
        );
        let messages = told(&events);
        assert_eq!(messages.len(), 2);
        assert_eq!(
            (messages[0].topic.as_str(), messages[0].worker.as_str()),
            ("delivery.reconciled", WEBHOOKS)
        );
        assert_eq!(
            messages[0].payload,
            json!({"organization_id": "o1", "delivery_id": "d1", "event_id": "e1", "reconciled_event_id": "reconciled:e1", "type": "delivered"})
        );
        assert_audited!(test, action: "webhook_event.reconciled", organization: "o1", metadata: json!({"linked": 2}));

        assert_eq!(
            result(&test, WEBHOOKS, args(None, json!({}))),
            json!({"scanned": 0, "linked": 0}),
            "not yet reconciled means once"
        );
        assert_eq!((audited(&test), told(&events).len()), (1, 0));
    }
}

#[test]
fn only_orphans_between_the_grace_and_the_greatest_age_are_linked_and_only_within_their_tenant() {
    for test in both() {
        let cases = [
            ("young", "o1", NOW - MINUTE, false),
            ("ripe", "o1", NOW - MINUTE - 1, true),
            ("old", "o1", NOW - 7 * DAY, true),
            ("too-old", "o1", NOW - 7 * DAY - 1, false),
            ("foreign", "o2", NOW - DAY, false),
        ];
        for (id, organization, at, _) in cases {
            orphan(&test, id, organization, "delivered", id, at);
            deliver(&test, id, "o1", id);
        }
        let malformed = "INSERT INTO webhook_events (id, organization_id, type, provider, metadata, payload, needs_reconciliation, occurred_at, inserted_at) \
             VALUES ('malformed', 'o1', 'delivered', 'p', 'no json', '{\"provider\": \"p\"}', 1, 0, ?1)";
        test.connection().execute(malformed, [NOW - DAY]).unwrap();
        assert_eq!(
            result(&test, WEBHOOKS, args(None, json!({}))),
            json!({"scanned": 4, "linked": 2, "malformed": 1})
        );
        for (id, _, _, linked) in cases {
            let status: String =
                test.one(&format!("SELECT status FROM deliveries WHERE id = '{id}'"));
            assert_eq!(status, if linked { "delivered" } else { "sent" }, "{id}");
        }
        assert_eq!(
            test.one::<i64>("SELECT count(*) FROM webhook_events WHERE type = 'reconciled'"),
            2
        );
        let shorter = args(None, json!({"max_age_minutes": 1}));
        assert_eq!(result(&test, WEBHOOKS, shorter)["scanned"], 0);
    }
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

const MAIL: &str = "deliver-email";

/// As [`both`], with a mailer of the app's.
fn both_with_mailer(
    mailer: impl Fn(&verger::CapabilityCall<'_>) -> Result<Json, String> + Clone + Send + Sync + 'static,
) -> [TestVerger; 2] {
    let other = mailer.clone();
    let native = TestVerger::with(|builder| {
        builder.without_built_ins().worker(DeliverEmail).slow_capability("mailer", mailer)
    });
    let component = TestVerger::with(|builder| builder.slow_capability("mailer", other));
    [component.reference_tables(), native.reference_tables()]
}

fn mail(test: &TestVerger, id: &str, recipient: &str) {
    let sql = "INSERT INTO email_outbox (id, organization_id, recipient, subject, body, max_attempts, next_attempt_at, created_at, updated_at) VALUES (?1, 'o1', ?2, 's', 'b', 3, 0, 0, 0)";
    test.connection().execute(sql, (id, recipient)).unwrap();
}

fn outbox(test: &TestVerger) -> String {
    test.one("SELECT group_concat(id || ' ' || status || ' ' || attempts, ', ') FROM (SELECT * FROM email_outbox ORDER BY id)")
}

/// What a mailer was asked to send: by the Verger that asked, which is told by its job's worker.
type Requests = std::sync::Arc<std::sync::Mutex<Vec<Json>>>;

#[test]
fn mail_is_sent_once_tried_again_when_it_fails_and_given_up_in_the_end() {
    let asked = Requests::default();
    let requests = asked.clone();
    let tests = both_with_mailer(move |call| {
        requests.lock().unwrap().push(call.request.clone());
        match call.request["to"].as_str() {
            Some("down@b.c") => Err("no route to host".into()),
            Some("never@b.c") => Ok(json!({"sent": false, "reason": "550 no such user"})),
            _ => Ok(json!({"provider_message_id": "p1"})),
        }
    });
    for test in tests {
        asked.lock().unwrap().clear();
        for (id, recipient) in [("a", "x@b.c"), ("b", "down@b.c"), ("c", "never@b.c")] {
            mail(&test, id, recipient);
        }
        let told = |sent, failed, dead| json!({"sent": sent, "failed": failed, "dead": dead});
        assert_eq!(result(&test, MAIL, json!({})), told(1, 1, 1));
        assert_eq!(outbox(&test), "a sent 1, b pending 1, c dead 1");
        assert_audited!(test, action: "email.sent", organization: "o1", subject: ("email", "a"), worker: MAIL);
        assert_audited!(test, action: "email.dead", outcome: "error", subject: ("email", "c"));
        for expected in [told(0, 1, 0), told(0, 0, 1), told(0, 0, 0)] {
            test.clock().advance(Duration::from_secs(3_600));
            assert_eq!(result(&test, MAIL, json!({})), expected);
        }
        assert_eq!(outbox(&test), "a sent 1, b dead 3, c dead 1");
        let asked = asked.lock().unwrap();
        assert_eq!(asked.len(), 5);
        let ids = asked.iter().filter(|request| request["to"] == "down@b.c");
        assert!(
            ids.into_iter().all(|request| request["message_id"] == "<outbox-b@verger.invalid>")
        );
    }
}

#[test]
fn a_success_that_was_heard_is_written_down_though_the_job_is_cancelled_meanwhile() {
    use std::sync::{Arc, Mutex};
    let verger: Arc<Mutex<Option<verger::Verger>>> = Arc::default();
    let asked = Requests::default();
    let (app, requests) = (verger.clone(), asked.clone());
    let tests = both_with_mailer(move |call| {
        requests.lock().unwrap().push(call.request.clone());
        let app = app.lock().unwrap();
        app.as_ref().unwrap().cancel(call.job.unwrap()).unwrap();
        Ok(Json::Null)
    });
    for test in tests {
        *verger.lock().unwrap() = Some((*test).clone());
        asked.lock().unwrap().clear();
        mail(&test, "a", "x@b.c");
        mail(&test, "b", "x@b.c");
        let job = run(&test, MAIL, json!({}));
        assert_eq!(job.state, JobState::Cancelled, "{job:?}");
        assert_eq!(
            (outbox(&test).as_str(), asked.lock().unwrap().len()),
            ("a sent 1, b pending 0", 1)
        );
        assert_audited!(test, action: "email.sent", subject: ("email", "a"));
        *verger.lock().unwrap() = None;
    }
}

#[test]
fn sent_and_then_lost_is_sent_again_under_the_same_id_once_its_claim_is_over() {
    let asked = Requests::default();
    let requests = asked.clone();
    let tests = both_with_mailer(move |call| {
        requests.lock().unwrap().push(call.request["message_id"].clone());
        Ok(Json::Null)
    });
    for test in tests {
        asked.lock().unwrap().clear();
        mail(&test, "a", "x@b.c");
        // As if the power failed behind the sending: nothing of how it ended is kept.
        test.sql("CREATE TRIGGER lost BEFORE UPDATE ON email_outbox WHEN NEW.status IN ('sent', 'dead') BEGIN SELECT RAISE(ABORT, 'the power failed'); END");
        assert_eq!(run(&test, MAIL, json!({})).state, JobState::Discarded);
        assert_eq!(outbox(&test), "a sending 1");
        test.sql("DROP TRIGGER lost");
        test.clock().advance(Duration::from_secs(899));
        assert_eq!(result(&test, MAIL, json!({}))["sent"], 0, "its claim is not over");
        test.clock().advance(Duration::from_secs(1));
        assert_eq!(result(&test, MAIL, json!({}))["sent"], 1);
        assert_eq!(*asked.lock().unwrap(), vec![json!("<outbox-a@verger.invalid>"); 2]);
        assert_eq!(outbox(&test), "a sent 2");
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
