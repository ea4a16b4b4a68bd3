//! The built-in sweeps: as components, natively, and as the same statements in plain rusqlite.
//!
//! Plain SQLite runs the workers' very statements, in transactions of the same size, with the
//! pragmas Verger sets on its own connections. It inserts the same columns into the audit log, but
//! does not compute the hash that chains it, and publishes no events. Every round of each has its
//! own fresh copy of a prepared file.

#[path = "../common/mod.rs"]
mod common;
mod plain;

use std::path::{Path, PathBuf};

use common::{Contender, Goal, Result, interleave, median, ratio, seconds, table, thousands};
use serde_json::json;
use verger::rusqlite::Connection;
use verger::{CompileCache, Verger};

use self::plain::{plain_invitations, plain_memberships, plain_webhooks};

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
