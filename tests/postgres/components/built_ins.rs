//! The built-in workers leave the same rows, results and audit trail on both stores.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use verger::postgres::{REFERENCE_TABLES, Verger};
use verger::testing::TestVerger;
use verger::{AuditFilter, AuditRow, CapabilityCall, NewJob};

use super::open;
use crate::cluster::database;
use crate::{START, clock};

const DAY: i64 = 86_400_000;

const WORKERS: [&str; 7] = [
    "cleanup-expired-invitations",
    "cleanup-tokens",
    "deliver-email",
    "evict-cache",
    "prune-webhook-events",
    "reconcile-memberships",
    "reconcile-webhook-events",
];

/// The same rows for both stores, as SQL that both understand.
fn rows() -> String {
    let mut sql = String::new();
    for n in 0..300_i64 {
        let (org, at) = (n % 7, START - n * DAY / 2);
        let accepted = if n % 5 == 0 { START.to_string() } else { "NULL".to_string() };
        sql.push_str(&format!(
            "INSERT INTO organization_invitations (id, organization_id, email, created_at, expires_at, accepted_at) \
             VALUES ('i{n}', 'org{org}', 'a@b', 1, {at}, {accepted});"
        ));
        let state = ["active", "suspended", "invited", "expired"][usize::try_from(n % 4).unwrap()];
        let expires = if n % 11 == 0 {
            "NULL".to_string()
        } else {
            (START - 50 * DAY + n * DAY / 3).to_string()
        };
        sql.push_str(&format!(
            "INSERT INTO memberships (id, organization_id, user_id, state, expires_at, created_at, updated_at) \
             VALUES ('m{n}', 'org{org}', 'u', '{state}', {expires}, 1, 1);"
        ));
        let context = ["session", "confirm", "api_refresh", "own"][usize::try_from(n % 4).unwrap()];
        sql.push_str(&format!("INSERT INTO tokens (id, user_id, context, token_hash, inserted_at) VALUES ('t{n}', 'u', '{context}', HASH{n}, {at});"));
        let status = ["succeeded", "failed", "dead"][usize::try_from(n % 3).unwrap()];
        sql.push_str(&format!(
            "INSERT INTO webhook_events (id, organization_id, delivery_id, type, provider, status, occurred_at, inserted_at) \
             VALUES ('e{n}', 'org{org}', 'd', 'sent', 'p', '{status}', {at}, {at});"
        ));
        sql.push_str(&format!("INSERT INTO cache_entries (id, bytes, created_at, used_at) VALUES ('c{n}', {}, 1, {at});", n * 100));
    }
    for n in 0..6_i64 {
        let at = START - n * 1_000;
        sql.push_str(&format!(
            "INSERT INTO email_outbox (id, organization_id, recipient, subject, body, next_attempt_at, created_at, updated_at) \
             VALUES ('mail{n}', 'org{n}', 'to{n}@b.c', 's', 'b', {at}, 1, 1);"
        ));
    }
    for n in 0..60_i64 {
        let (org, at) = (n % 3, START - 3_600_000 - n * 1_000);
        sql.push_str(&format!(
            "INSERT INTO deliveries (id, organization_id, provider, provider_message_id, created_at, updated_at) VALUES ('d{n}', 'org{org}', 'mail', 'msg{n}', 1, 1);"
        ));
        let said = match n % 4 {
            0 => format!(r#"{{"provider": "mail", "provider_message_id": "msg{n}"}}"#),
            1 => "no json".to_string(),
            2 => r#"{"provider": 7}"#.to_string(),
            _ => "{}".to_string(),
        };
        let payload =
            format!(r#"{{"provider": "mail", "provider_message_id": "msg{}"}}"#, n / 2 * 2);
        let kind = ["delivered", "opened", "bounced"][usize::try_from(n % 3).unwrap()];
        sql.push_str(&format!(
            "INSERT INTO webhook_events (id, organization_id, type, provider, payload, metadata, needs_reconciliation, occurred_at, inserted_at) \
             VALUES ('o{n}', 'org{org}', '{kind}', 'mail', '{payload}', '{said}', 1, {at}, {at});"
        ));
    }
    sql
}

fn args(worker: &str, organization: Option<&str>) -> Json {
    match worker {
        "evict-cache" => {
            json!({"max_age_seconds": 100 * 86_400, "max_bytes": 1_000_000, "batch_size": 20})
        }
        "deliver-email" => json!({}),
        "cleanup-tokens" | "prune-webhook-events" => json!({"batch_size": 20}),
        _ => json!({"organization_id": organization, "actor_id": "sweeper", "batch_size": 20}),
    }
}

/// What the audit log says, without the numbers that each store gives. What is counted by batches is
/// added up, because a batch ends when others write.
fn trail(rows: Vec<AuditRow>) -> BTreeMap<String, [i64; 4]> {
    let mut trail = BTreeMap::new();
    for row in rows {
        let mut metadata: Json =
            row.metadata.map_or(Json::Null, |text| serde_json::from_str(&text).unwrap());
        let mut take = |key: &str| {
            let count = metadata.as_object_mut().and_then(|object| object.remove(key));
            count.and_then(|count| count.as_i64()).unwrap_or(0)
        };
        let counts = ["deleted", "evicted", "linked", "bytes"].map(&mut take);
        let said = json!([
            row.action,
            row.outcome,
            row.organization_id,
            row.actor_id,
            row.worker,
            row.subject_type,
            row.subject_id,
            row.before,
            row.after,
            metadata,
            row.occurred_at.as_millis(),
        ]);
        let sums: &mut [i64; 4] = trail.entry(said.to_string()).or_default();
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    trail
}

fn mailer(call: &CapabilityCall<'_>) -> Result<Json, String> {
    match call.request["to"].as_str() {
        Some("to1@b.c") => Err("no route to host".into()),
        Some("to2@b.c") => Ok(json!({"sent": false, "reason": "550 no such user"})),
        _ => Ok(json!({"provider_message_id": "p1"})),
    }
}

#[test]
fn rows_results_and_audit_trail_are_the_same_on_both_stores() {
    let Some(database) = database() else { return };
    database.client().batch_execute(REFERENCE_TABLES).unwrap();
    let with_hashes = |to: &dyn Fn(i64) -> String| {
        let mut sql = rows();
        // From the last, because 1 is the beginning of 10.
        for n in (0..300).rev() {
            sql = sql.replace(&format!("HASH{n},"), &format!("{},", to(n)));
        }
        sql
    };
    database.client().batch_execute(&with_hashes(&|n| format!("'\\x{n:08x}'"))).unwrap();
    let mut builder =
        Verger::builder(database.url()).clock(clock()).slow_capability("mailer", mailer);
    for worker in WORKERS {
        builder = builder.built_in(worker);
    }
    let postgres = open(&database, builder);

    let sqlite = TestVerger::with(|builder| builder.slow_capability("mailer", mailer));
    let sqlite = sqlite.reference_tables();
    sqlite.clock().set(crate::start());
    sqlite.sql(&with_hashes(&|n| format!("x'{n:08x}'")));

    for worker in WORKERS {
        for organization in [Some("org2"), None] {
            let there =
                postgres.enqueue(NewJob::new(worker, args(worker, organization))).unwrap().id;
            let report = postgres.tick(postgres.now()).unwrap();
            assert_eq!(report.attempts.len(), 1);
            let there = postgres.job(there).unwrap().unwrap();
            let here = sqlite.enqueue(NewJob::new(worker, args(worker, organization))).unwrap().id;
            sqlite.drain();
            let here = sqlite.job(here).unwrap().unwrap();
            assert_eq!(there.state, here.state, "{worker}: {:?}, {:?}", there.errors, here.errors);
            assert_eq!(there.result, here.result, "{worker}");
            println!("{worker} {organization:?}: {}", there.result.unwrap_or_default());
        }
    }
    for (table, columns) in [
        ("organization_invitations", "id"),
        ("memberships", "id || state || updated_at"),
        ("tokens", "id"),
        ("cache_entries", "id"),
        (
            "email_outbox",
            "id || status || attempts || next_attempt_at || coalesce(provider_message_id, '') || coalesce(last_error, '')",
        ),
        (
            "webhook_events",
            "id || coalesce(delivery_id, '') || type || coalesce(idempotency_key, '') || metadata || inserted_at",
        ),
        (
            "deliveries",
            "id || status || terminal || lock_version || coalesce(delivered_at, 0) || coalesce(opened_at, 0) || coalesce(bounced_at, 0)",
        ),
    ] {
        // The reconciling events have ids by chance.
        let columns = if table == "webhook_events" {
            columns.replacen("id", "CASE type WHEN 'reconciled' THEN '' ELSE id END", 1)
        } else {
            columns.to_string()
        };
        let sql = format!("SELECT {columns} AS it FROM {table}");
        let mut there: Vec<String> =
            database.client().query(&sql, &[]).unwrap().iter().map(|row| row.get(0)).collect();
        let mut statement = sqlite.connection().prepare(&sql).unwrap();
        let rows = statement.query_map((), |row| row.get::<_, String>(0)).unwrap();
        let mut here: Vec<String> = rows.map(Result::unwrap).collect();
        there.sort();
        here.sort();
        assert_eq!(there, here, "{table}");
    }
    let there = postgres.audit_log(&AuditFilter::default(), u32::MAX).unwrap();
    let here = sqlite.audit_log(&AuditFilter::default(), u32::MAX).unwrap();
    assert!(there.len() > 50, "{} events", there.len());
    let (there, here) = (trail(there), trail(here));
    let differs = there.iter().zip(&here).find(|(there, here)| there != here);
    assert!(differs.is_none() && there.len() == here.len(), "{differs:?}");
    postgres.verify_audit().unwrap();
}
