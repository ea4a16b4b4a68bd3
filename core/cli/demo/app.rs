//! The app's side of the demo: its own connection to the file, and what it writes there, one
//! transaction for each slot.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use verger::rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::diary::Act;
use super::mail;
use super::people;
use super::world::World;

/// How far the demo is, in its own file. A slot's rows and this row commit together, so that a run
/// that was killed goes on exactly where it stopped.
const PROGRESS: &str = "CREATE TABLE demo_progress (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    seed INTEGER NOT NULL,
    scale INTEGER NOT NULL,
    slot INTEGER NOT NULL                           -- the last slot the app has written; 0: the data from before the start; -1: nothing
) STRICT";

/// The progress of a demo, as its file has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    pub(crate) world: World,
    pub(crate) slot: i64,
}

/// Begins a demo in a new file, or goes on with the one that is there.
pub(crate) fn begin(
    file: &Path,
    seed: Option<u64>,
    scale: Option<u64>,
    default: World,
) -> Result<Progress> {
    let name = file.display();
    ensure!(!file.is_dir(), "{name} is a folder, not a database");
    let mut connection = Connection::open(file).with_context(|| format!("cannot open {name}"))?;
    connection.busy_timeout(Duration::from_secs(10))?;
    let transaction = connection.transaction().with_context(|| format!("cannot read {name}"))?;
    let table = |pattern: &str| -> Result<bool> {
        let count: i64 = transaction
            .query_row(
                "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name GLOB ?1",
                [pattern],
                |row| row.get(0),
            )
            .with_context(|| {
                format!("{name} is no SQLite database: name another file with --db")
            })?;
        Ok(count > 0)
    };
    if table("demo_progress")? {
        let progress = read(&transaction)?.with_context(|| {
            format!("{name} is a demo whose progress was deleted: name another file with --db")
        })?;
        let (begun, world) = (
            progress.world,
            World {
                seed: seed.unwrap_or(progress.world.seed),
                scale: scale.unwrap_or(progress.world.scale),
            },
        );
        ensure!(
            begun == world,
            "{name} was begun with --seed {}: go on with that seed, or name another file with --db to begin with another",
            begun.seed
        );
        return Ok(progress);
    }
    ensure!(
        !table("*")?,
        "{name} is there and is no demo: name another file with --db, so that nothing of yours is touched"
    );
    drop(transaction);
    // The demo is the app, and an app chooses the journal mode of its file.
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    let world = World { seed: seed.unwrap_or(default.seed), scale: scale.unwrap_or(default.scale) };
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(PROGRESS)?;
    let seed = i64::try_from(world.seed).context("the seed is too large")?;
    transaction.execute(
        "INSERT INTO demo_progress (id, seed, scale, slot) VALUES (1, ?1, ?2, -1)",
        (seed, i64::try_from(world.scale)?),
    )?;
    transaction.commit()?;
    Ok(Progress { world, slot: -1 })
}

fn read(connection: &Connection) -> Result<Option<Progress>> {
    let row = connection.query_row(
        "SELECT seed, scale, slot FROM demo_progress WHERE id = 1",
        [],
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)),
    );
    let Some((seed, scale, slot)) = row.optional()? else { return Ok(None) };
    Ok(Some(Progress {
        world: World { seed: u64::try_from(seed)?, scale: u64::try_from(scale)?.max(1) },
        slot,
    }))
}

/// Writes all that was there before the start.
pub(crate) fn write_base(app: &mut Connection, world: World, acts: &[(i64, Act)]) -> Result<()> {
    let transaction = advance(app, 0)?;
    write_people(&transaction, world)?;
    perform(&transaction, world, acts)?;
    Ok(transaction.commit()?)
}

/// Organizations, invitations and memberships.
fn write_people(transaction: &Transaction<'_>, world: World) -> Result<()> {
    let mut insert = transaction
        .prepare("INSERT INTO organizations (id, name, created_at) VALUES (?1, ?2, ?3)")?;
    for organization in (0..world.organizations()).map(|index| people::organization(world, index)) {
        insert.execute((organization.id, organization.name, organization.created_at))?;
    }
    let mut insert = transaction.prepare(
        "INSERT INTO organization_invitations (id, organization_id, email, role, created_at, expires_at, accepted_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for row in (0..world.invitations()).map(|index| people::invitation(world, index)) {
        insert.execute((
            row.id,
            row.organization_id,
            row.email,
            row.role,
            row.created_at,
            row.expires_at,
            row.accepted_at,
        ))?;
    }
    let mut insert = transaction.prepare(
        "INSERT INTO memberships (id, organization_id, user_id, role, state, expires_at, created_at, updated_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    for row in (0..world.memberships()).map(|index| people::membership(world, index)) {
        insert.execute((
            row.id,
            row.organization_id,
            row.user_id,
            row.role,
            row.state,
            row.expires_at,
            row.created_at,
            row.updated_at,
        ))?;
    }
    Ok(())
}

/// Writes what happened in a slot.
pub(crate) fn write_slot(
    app: &mut Connection,
    world: World,
    slot: i64,
    acts: &[(i64, Act)],
) -> Result<()> {
    let transaction = advance(app, slot)?;
    perform(&transaction, world, acts)?;
    Ok(transaction.commit()?)
}

/// Begins the transaction of a slot, which must follow the last one, whoever wrote that.
fn advance(app: &mut Connection, slot: i64) -> Result<Transaction<'_>> {
    let transaction = app.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let advanced = transaction
        .prepare_cached("UPDATE demo_progress SET slot = ?1 WHERE slot = ?1 - 1")?
        .execute([slot])?;
    if advanced != 1 {
        bail!(
            "another demo is living through this file at the same time: let one of them end first"
        );
    }
    Ok(transaction)
}

fn perform(transaction: &Transaction<'_>, world: World, acts: &[(i64, Act)]) -> Result<()> {
    for (at, act) in acts {
        match act {
            Act::Commit(message) => commit_delivery(transaction, world, *message, *at)?,
            Act::Report(event) => take_in(transaction, world, *event)?,
            Act::Renew(index) => {
                let Some((_, expires_at)) = people::membership(world, *index).will_renew else {
                    continue;
                };
                transaction
                    .prepare_cached("UPDATE memberships SET state = 'active', expires_at = ?2, updated_at = ?3 WHERE id = ?1")?
                    .execute((people::membership_id(*index), expires_at, at))?;
            }
            Act::Accept(index) => {
                transaction
                    .prepare_cached("UPDATE organization_invitations SET accepted_at = ?2 WHERE id = ?1 AND accepted_at IS NULL")?
                    .execute((people::invitation_id(*index), at))?;
            }
        }
    }
    Ok(())
}

fn commit_delivery(
    transaction: &Transaction<'_>,
    world: World,
    message: u64,
    at: i64,
) -> Result<()> {
    let message = mail::message(world, message);
    transaction
        .prepare_cached(
            "INSERT INTO deliveries (id, organization_id, provider, provider_message_id, status, sent_at, created_at, updated_at) \
             VALUES (?1, ?2, ?3, ?4, 'sent', ?5, ?5, ?5)",
        )?
        .execute((message.delivery_id, message.organization_id, message.provider, message.provider_message_id, at))?;
    Ok(())
}

/// Stores a webhook event as the app's endpoint does: with its delivery if that is known, otherwise
/// as an orphan.
fn take_in(transaction: &Transaction<'_>, world: World, event: u64) -> Result<()> {
    let report = mail::report(world, event);
    let delivery_id = report.delivery_id();
    transaction
        .prepare_cached(
            "INSERT INTO webhook_events (id, organization_id, delivery_id, type, provider, payload, metadata, needs_reconciliation, \
             idempotency_key, occurred_at, inserted_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            report.id,
            report.message.organization_id,
            delivery_id,
            report.kind,
            report.message.provider,
            report.payload,
            report.metadata,
            delivery_id.is_none(),
            report.idempotency_key,
            report.occurred_at,
            report.inserted_at,
        ])?;
    if let Some(delivery) = delivery_id {
        transaction.prepare_cached(projection(report.kind))?.execute((
            delivery,
            report.occurred_at,
            report.inserted_at,
        ))?;
    }
    Ok(())
}

/// What an event does to its delivery: the status moves forward, and its time is set once.
fn projection(kind: &str) -> &'static str {
    macro_rules! project {
        ($status:literal, after $before:literal, $time:literal) => {
            concat!(
                "UPDATE deliveries SET status = CASE WHEN status IN (",
                $before,
                ") THEN '",
                $status,
                "' ELSE status END, terminal = CASE WHEN '",
                $status,
                "' IN ('opened', 'clicked') THEN terminal ELSE 1 END, ",
                $time,
                " = coalesce(",
                $time,
                ", ?2), lock_version = lock_version + 1, updated_at = ?3 WHERE id = ?1"
            )
        };
    }
    match kind {
        "bounced" => {
            project!("bounced", after "'queued', 'sent', 'delivered', 'opened', 'clicked'", "bounced_at")
        }
        "rejected" => {
            project!("rejected", after "'queued', 'sent', 'delivered', 'opened', 'clicked'", "failed_at")
        }
        "failed" => {
            project!("failed", after "'queued', 'sent', 'delivered', 'opened', 'clicked'", "failed_at")
        }
        "opened" => project!("opened", after "'queued', 'sent', 'delivered'", "opened_at"),
        "clicked" => {
            project!("clicked", after "'queued', 'sent', 'delivered', 'opened'", "clicked_at")
        }
        "complained" => {
            project!("complained", after "'queued', 'sent', 'delivered', 'opened', 'clicked'", "complained_at")
        }
        _ => project!("delivered", after "'queued', 'sent'", "delivered_at"),
    }
}
