//! The built-in sweeps: by component, natively, and the same statements in plain rusqlite.
//!
//! Plain SQLite runs the very texts of the workers, in transactions of the same size, with the
//! pragmas Verger sets on its own connections, and inserts the same columns into the audit log; it
//! does not compute the hash that chains it, and publishes no events. Every round of each has its
//! own fresh copy of a prepared file.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::{Contender, Goal, Result, interleave, median, ratio, seconds, table, thousands};
use serde_json::json;
use verger::rusqlite::types::Value;
use verger::rusqlite::{Connection, params, params_from_iter};
use verger::verger_worker::{self, Ident, TimeFormat, Walk};
use verger::{CompileCache, Verger};

const ROUNDS: usize = 7;

/// Rows changed between two commits: what the workers do by default.
const BATCH: i64 = 1_000;

const ORGANIZATIONS: i64 = 200;
const INVITATIONS: i64 = 600_000;
const MEMBERSHIPS: i64 = 400_000;
const DELIVERIES: i64 = 60_000;
/// Half of them find their delivery.
const ORPHANS: i64 = 40_000;

/// What the sweeps of one worker have in common.
struct Sweep {
    worker: &'static str,
    /// Rows that a sweep changes, deletes or links.
    rows: i64,
    plain: fn(&Connection, now: i64) -> Result<i64>,
    result: &'static str,
}

const SWEEPS: [Sweep; 3] = [
    Sweep {
        worker: "reconcile-memberships",
        rows: MEMBERSHIPS / 5,
        plain: plain_memberships,
        result: "updated",
    },
    Sweep {
        worker: "cleanup-expired-invitations",
        rows: INVITATIONS / 5,
        plain: plain_invitations,
        result: "deleted",
    },
    Sweep {
        worker: "reconcile-webhook-events",
        rows: ORPHANS / 2,
        plain: plain_webhooks,
        result: "linked",
    },
];

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let cache = CompileCache::Folder(folder.path().join("cache"));
    let prepared = prepare(folder.path())?;
    let mut rows = Vec::new();
    for sweep in &SWEEPS {
        let mut contenders: Vec<Contender<'_>> = vec![
            ("plain SQLite", Box::new(|| by_plain(sweep, &prepared))),
            (
                "native",
                Box::new(|| {
                    by_verger(sweep, &prepared, native(&prepared.with_file_name("sweep.db")))
                }),
            ),
            (
                "component",
                Box::new(|| {
                    by_verger(
                        sweep,
                        &prepared,
                        Verger::builder(prepared.with_file_name("sweep.db"))
                            .compile_cache(cache.clone()),
                    )
                }),
            ),
        ];
        let figures = interleave(ROUNDS, &mut contenders)?;
        for (place, ((name, _), own)) in contenders.iter().zip(&figures).enumerate() {
            let ratio = ratio(own, &figures[0]);
            let [goal, reached] =
                if place == 2 { Goal::AtMost(1.15) } else { Goal::None }.show(ratio);
            let rate = thousands(sweep.rows as f64 / median(own));
            rows.push(vec![
                format!("{}, {name}", sweep.worker),
                thousands(sweep.rows as f64),
                format!("{:.0}", median(own) * 1000.0),
                rate,
                format!("{ratio:.2}"),
                goal,
                reached,
            ]);
        }
    }
    table(
        "Sweeps, 1,000 rows per transaction",
        &["", "rows", "ms", "rows/s", "× plain", "goal", "reached"],
        &rows,
    );
    Ok(())
}

/// Milliseconds by the clock that both sides use.
fn now(verger: &Verger) -> i64 {
    verger.now().as_millis()
}

/// A file with every sweep's rows in it, checkpointed and closed.
fn prepare(folder: &Path) -> Result<PathBuf> {
    let file = folder.join("prepared.db");
    let verger = Verger::builder(&file).without_built_ins().open()?;
    verger.migrate_reference()?;
    let mut app = verger.connect()?;
    let now = now(&verger);
    let transaction = app.transaction()?;
    let day = 86_400_000;
    for place in 0..INVITATIONS {
        // One in five expired long ago.
        let expires = if place % 5 == 0 {
            now - 40 * day - scatter(place) % (300 * day)
        } else {
            now + scatter(place) % (30 * day)
        };
        transaction
            .prepare_cached(
                "INSERT INTO organization_invitations (id, organization_id, email, created_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?4)",
            )?
            .execute((id("inv", place), organization(place), format!("someone.{place}@example.org"), expires))?;
    }
    for place in 0..MEMBERSHIPS {
        let expires = if place % 5 == 0 {
            now - 1 - scatter(place) % (30 * day)
        } else {
            now + day + scatter(place) % (300 * day)
        };
        transaction
            .prepare_cached(
                "INSERT INTO memberships (id, organization_id, user_id, state, expires_at, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, 0, 0)",
            )?
            .execute((id("mem", place), organization(place), id("user", place), if place % 3 == 0 { "suspended" } else { "active" }, expires))?;
    }
    for place in 0..DELIVERIES {
        transaction
            .prepare_cached(
                "INSERT INTO deliveries (id, organization_id, provider, provider_message_id, status, created_at, updated_at) \
                 VALUES (?1, ?2, 'postmark', ?3, 'sent', 0, 0)",
            )?
            .execute((id("del", place), organization(place), format!("message-{place}")))?;
    }
    for place in 0..ORPHANS {
        // Those with an odd number belong to no delivery.
        let message = if place % 2 == 0 { place } else { DELIVERIES + place };
        let metadata =
            format!(r#"{{"provider":"postmark","provider_message_id":"message-{message}"}}"#);
        let inserted = now - 3_600_000 - scatter(place) % day;
        transaction
            .prepare_cached(
                "INSERT INTO webhook_events (id, organization_id, type, provider, metadata, needs_reconciliation, occurred_at, inserted_at) \
                 VALUES (?1, ?2, 'delivered', 'postmark', ?3, 1, ?4, ?4)",
            )?
            .execute((id("evt", place), organization(message), metadata, inserted))?;
    }
    transaction.commit()?;
    app.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(file)
}

/// A number far from its neighbours' but the same in every run.
fn scatter(place: i64) -> i64 {
    (place.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64.cast_signed()) >> 1).rem_euclid(1 << 40)
}

/// Ids in no order, as those of apps are.
fn id(kind: &str, place: i64) -> String {
    format!("{kind}_{:010x}{place:06x}", scatter(place))
}

fn organization(place: i64) -> String {
    format!("org_{:04}", place % ORGANIZATIONS)
}

fn copied(prepared: &Path) -> Result<PathBuf> {
    let file = prepared.with_file_name("sweep.db");
    for rest in ["sweep.db-wal", "sweep.db-shm"] {
        let _ = std::fs::remove_file(prepared.with_file_name(rest));
    }
    std::fs::copy(prepared, &file)?;
    Ok(file)
}

fn native(file: &Path) -> verger::Builder {
    Verger::builder(file)
        .without_built_ins()
        .worker(reconcile_memberships::ReconcileMemberships)
        .worker(cleanup_expired_invitations::CleanupExpiredInvitations)
        .worker(reconcile_webhook_events::ReconcileWebhookEvents)
}

/// Seconds of one sweep, everything opened and loaded before.
fn by_verger(sweep: &Sweep, prepared: &Path, builder: verger::Builder) -> Result<f64> {
    copied(prepared)?;
    let verger = builder.open()?;
    verger.manifest(sweep.worker)?;
    let mut result = None;
    let took = seconds(|| {
        result = verger
            .perform_now(sweep.worker, json!({"organization_id": null, "actor_id": null}))?
            .result()
            .cloned();
        Ok(())
    })?;
    let done = result.as_ref().and_then(|result| result[sweep.result].as_i64());
    anyhow::ensure!(done == Some(sweep.rows), "{}: {result:?}", sweep.worker);
    Ok(took)
}

fn by_plain(sweep: &Sweep, prepared: &Path) -> Result<f64> {
    let file = copied(prepared)?;
    let now = now(&Verger::in_memory().without_built_ins().open()?);
    let connection = Connection::open(file)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.execute_batch(
        "PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -32768; PRAGMA wal_autocheckpoint = 4000;",
    )?;
    let mut done = 0;
    let took = seconds(|| {
        done = (sweep.plain)(&connection, now)?;
        Ok(())
    })?;
    anyhow::ensure!(done == sweep.rows, "{}: {done} rows", sweep.worker);
    Ok(took)
}

/// What an audit event says, beside when and by whom.
struct Event<'a> {
    action: &'a str,
    organization: &'a Value,
    subject: Option<(&'a str, &'a Value)>,
    before: Option<&'a str>,
    after: Option<&'a str>,
    metadata: Option<String>,
}

fn audit(connection: &Connection, now: i64, worker: &str, event: &Event<'_>) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO verger_audit (occurred_at, action, outcome, organization_id, actor_id, effective_user_id, impersonating_from, worker, \
             worker_version, job, attempt, subject_type, subject_id, before, after, metadata, hash) \
             VALUES (?1, ?2, 'success', ?3, NULL, NULL, NULL, ?4, '0.1.0', NULL, NULL, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            now,
            event.action,
            event.organization,
            worker,
            event.subject.map(|(kind, _)| kind),
            event.subject.map(|(_, id)| id),
            event.before,
            event.after,
            event.metadata,
            [7_u8; 32],
        ])?;
    Ok(())
}

/// The values of every row of a query.
fn rows(connection: &Connection, sql: &str, params: Vec<Value>) -> Result<Vec<Vec<Value>>> {
    let mut statement = connection.prepare_cached(sql)?;
    let columns = statement.column_count();
    let rows = statement.query_map(params_from_iter(params), |row| {
        (0..columns).map(|column| row.get(column)).collect()
    })?;
    Ok(rows.collect::<verger::rusqlite::Result<_>>()?)
}

/// The next batch of a walk, after the row with this key.
fn page(
    connection: &Connection,
    walk: &Walk,
    params: &[Value],
    place: &[Value],
) -> Result<Vec<Vec<Value>>> {
    let sql = match place {
        [] => walk.first_batch(),
        // What the text depends on is whether a part of it is NULL. None is here.
        _ => walk.batch_after(&vec![verger_worker::Value::Integer(0); place.len()]),
    };
    rows(connection, &sql, [params, place, &[BATCH.into()]].concat())
}

fn begin(connection: &Connection) -> Result<()> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    Ok(())
}

fn commit(connection: &Connection) -> Result<()> {
    connection.prepare_cached("COMMIT")?.execute([])?;
    Ok(())
}

fn plain_memberships(connection: &Connection, now: i64) -> Result<i64> {
    use reconcile_memberships::{ACTION, sql};
    let (memberships, times) = (Ident::parse("memberships")?, TimeFormat::UnixMillis);
    let mut updated = 0;
    for state in sql::STATES {
        let stale = sql::stale(&memberships, state, times, false);
        let expire = sql::expire(&memberships, state, times, None);
        let (before, after) =
            (json!({"state": state}).to_string(), json!({"state": "expired"}).to_string());
        let mut place = Vec::new();
        loop {
            begin(connection)?;
            let batch = page(connection, &stale, &[now.into()], &place)?;
            let mut update = connection.prepare_cached(&expire)?;
            let mut changed = Vec::with_capacity(batch.len());
            for row in &batch {
                if update.execute((&row[1], &row[2], now))? == 1 {
                    changed.push(row);
                }
            }
            for row in &changed {
                let subject = Some(("membership", &row[1]));
                let event = Event {
                    action: ACTION,
                    organization: &row[2],
                    subject,
                    before: Some(&before),
                    after: Some(&after),
                    metadata: None,
                };
                audit(connection, now, "reconcile-memberships", &event)?;
            }
            commit(connection)?;
            updated += i64::try_from(changed.len())?;
            match batch.last() {
                Some(last) if i64::try_from(batch.len())? == BATCH => place = last[..3].to_vec(),
                _ => break,
            }
        }
    }
    Ok(updated)
}

fn plain_invitations(connection: &Connection, now: i64) -> Result<i64> {
    use cleanup_expired_invitations::{ACTION, sql};
    let (invitations, times) = (Ident::parse("organization_invitations")?, TimeFormat::UnixMillis);
    let (expired, delete) =
        (sql::expired(&invitations, times, false), sql::delete(&invitations, times));
    let cutoff = now - 30 * 86_400_000;
    let mut place = Vec::new();
    let mut deleted = 0;
    loop {
        begin(connection)?;
        let batch = page(connection, &expired, &[cutoff.into()], &place)?;
        let mut statement = connection.prepare_cached(&delete)?;
        let mut counts: BTreeMap<String, (Value, i64)> = BTreeMap::new();
        for row in &batch {
            if statement.execute((&row[1], &row[2], cutoff))? == 1 {
                counts.entry(text(&row[2])).or_insert_with(|| (row[2].clone(), 0)).1 += 1;
            }
        }
        for (organization, count) in counts.values() {
            let metadata =
                json!({"deleted": count, "retention_days": 30, "cutoff": cutoff}).to_string();
            let event = Event {
                action: ACTION,
                organization,
                subject: None,
                before: None,
                after: None,
                metadata: Some(metadata),
            };
            audit(connection, now, "cleanup-expired-invitations", &event)?;
            deleted += count;
        }
        commit(connection)?;
        match batch.last() {
            Some(last) if i64::try_from(batch.len())? == BATCH => place = last[..3].to_vec(),
            _ => return Ok(deleted),
        }
    }
}

fn plain_webhooks(connection: &Connection, now: i64) -> Result<i64> {
    use reconcile_webhook_events::{ACTION, EVENT_PREFIX, sql};
    let (events, deliveries, times) =
        (Ident::parse("webhook_events")?, Ident::parse("deliveries")?, TimeFormat::UnixMillis);
    let orphans = sql::orphans(&events, &deliveries, times, false);
    let (append, project) = (sql::append(&events, times), sql::project(&deliveries, times));
    let mut place = Vec::new();
    let mut linked = 0;
    loop {
        begin(connection)?;
        let limits = [(now - 60_000).into(), (now - 10_080 * 60_000).into()];
        let batch = page(connection, &orphans, &limits, &place)?;
        let found: Vec<&Vec<Value>> = batch.iter().filter(|row| row[7] != Value::Null).collect();
        connection.prepare_cached("SAVEPOINT links")?.execute([])?;
        let mut insert = connection.prepare_cached(&append)?;
        for row in &found {
            let metadata = json!({
                "orphan_id": text(&row[1]), "type": text(&row[3]), "provider": text(&row[5]), "provider_message_id": text(&row[6]),
            });
            let key = format!("{EVENT_PREFIX}{}", text(&row[1]));
            insert.execute(params![key, row[2], row[7], row[5], metadata.to_string(), now, key])?;
        }
        let mut update = connection.prepare_cached(&project)?;
        for row in &found {
            update.execute(params![row[7], row[2], row[3], row[4], now])?;
        }
        connection.prepare_cached("RELEASE links")?.execute([])?;
        let mut counts: BTreeMap<String, (&Value, i64)> = BTreeMap::new();
        for row in &found {
            counts.entry(text(&row[2])).or_insert((&row[2], 0)).1 += 1;
        }
        for (organization, count) in counts.values() {
            let metadata = Some(json!({"linked": count}).to_string());
            let event = Event {
                action: ACTION,
                organization,
                subject: None,
                before: None,
                after: None,
                metadata,
            };
            audit(connection, now, "reconcile-webhook-events", &event)?;
            linked += count;
        }
        commit(connection)?;
        match batch.last() {
            Some(last) if i64::try_from(batch.len())? == BATCH => place = last[..3].to_vec(),
            _ => return Ok(linked),
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        other => format!("{other:?}"),
    }
}
