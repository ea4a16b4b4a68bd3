//! The app's side of the demo: what it writes over its own connection, one transaction for each
//! slot.

use anyhow::{Context, Result, bail, ensure};
use verger::rusqlite::types::Value;

use super::database::{Database, Found, integer};
use super::diary::Act;
use super::mail;
use super::people;
use super::place::Place;
use super::world::World;

/// How far a demo is, as a table beside its own says. A slot's rows and that row commit together, so
/// that a run that was killed goes on exactly where it stopped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    pub(crate) world: World,
    pub(crate) slot: i64,
}

/// Begins a demo in a new place, or goes on with the one that is there.
pub(crate) fn begin(
    app: &mut Database,
    place: &Place,
    seed: Option<u64>,
    scale: Option<u64>,
    default: World,
) -> Result<Progress> {
    let found = app.what_is_there().with_context(|| place.unreadable())?;
    let asked = |known: World| World {
        seed: seed.unwrap_or(known.seed),
        scale: scale.unwrap_or(known.scale),
    };
    match found {
        Found::Nothing => {}
        Found::Demo => {
            let progress = read(app)?.with_context(|| {
                format!(
                    "{place} is a demo whose progress was deleted: name another place with --db"
                )
            })?;
            let begun = progress.world;
            ensure!(
                begun == asked(begun),
                "{place} was begun with --seed {}: go on with that seed, or name another place with --db to begin with another",
                begun.seed
            );
            return Ok(progress);
        }
        Found::Other => bail!(
            "{place} is there and is no demo: name another with --db, so that nothing of yours is touched"
        ),
    }
    let world = asked(default);
    let seed = i64::try_from(world.seed).context("the seed is too large")?;
    let scale = i64::try_from(world.scale)?;
    match app {
        // The demo is the app, and an app chooses the journal mode of its file.
        Database::Sqlite(connection) => {
            connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        }
        #[cfg(feature = "postgres")]
        Database::Postgres(_) => {}
    }
    app.transaction(|app| {
        app.batch(app.words().progress)?;
        let sql = "INSERT INTO demo_progress (id, seed, scale, slot) VALUES (1, ?1, ?2, -1)";
        app.execute(sql, &[seed.into(), scale.into()]).map(drop)
    })?;
    Ok(Progress { world, slot: -1 })
}

fn read(app: &mut Database) -> Result<Option<Progress>> {
    let rows = app.rows("SELECT seed, scale, slot + 1 FROM demo_progress WHERE id = 1", &[])?;
    let Some([seed, scale, next]) = rows.first().map(Vec::as_slice) else { return Ok(None) };
    let world = World { seed: integer(seed), scale: integer(scale).max(1) };
    Ok(Some(Progress { world, slot: i64::try_from(integer(next))? - 1 }))
}

/// Writes all that was there before the start.
pub(crate) fn write_base(app: &mut Database, world: World, acts: &[(i64, Act)]) -> Result<()> {
    app.transaction(|app| {
        advance(app, 0)?;
        write_people(app, world)?;
        perform(app, world, acts)
    })
}

/// Organizations, invitations and memberships.
fn write_people(app: &mut Database, world: World) -> Result<()> {
    let sql = "INSERT INTO organizations (id, name, created_at) VALUES (?1, ?2, ?3)";
    for row in (0..world.organizations()).map(|index| people::organization(world, index)) {
        app.execute(sql, &[row.id.into(), row.name.into(), row.created_at.into()])?;
    }
    let sql = "INSERT INTO organization_invitations (id, organization_id, email, role, created_at, expires_at, accepted_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    for row in (0..world.invitations()).map(|index| people::invitation(world, index)) {
        let params = [
            row.id.into(),
            row.organization_id.into(),
            row.email.into(),
            text(row.role),
            row.created_at.into(),
            row.expires_at.into(),
            row.accepted_at.into(),
        ];
        app.execute(sql, &params)?;
    }
    let sql = "INSERT INTO memberships (id, organization_id, user_id, role, state, expires_at, created_at, updated_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    for row in (0..world.memberships()).map(|index| people::membership(world, index)) {
        let params = [
            row.id.into(),
            row.organization_id.into(),
            row.user_id.into(),
            text(row.role),
            text(row.state),
            row.expires_at.into(),
            row.created_at.into(),
            row.updated_at.into(),
        ];
        app.execute(sql, &params)?;
    }
    Ok(())
}

/// Writes what happened in a slot.
pub(crate) fn write_slot(
    app: &mut Database,
    world: World,
    slot: i64,
    acts: &[(i64, Act)],
) -> Result<()> {
    app.transaction(|app| {
        advance(app, slot)?;
        perform(app, world, acts)
    })
}

/// Says that this slot is written. It must follow the last one, whoever wrote that.
fn advance(app: &mut Database, slot: i64) -> Result<()> {
    let sql = "UPDATE demo_progress SET slot = ?1 WHERE slot = ?2";
    let advanced = app.execute(sql, &[slot.into(), (slot - 1).into()])?;
    ensure!(
        advanced == 1,
        "another demo is living through this place at the same time: let one of them end first"
    );
    Ok(())
}

fn perform(app: &mut Database, world: World, acts: &[(i64, Act)]) -> Result<()> {
    for (at, act) in acts {
        match act {
            Act::Commit(message) => commit_delivery(app, world, *message, *at)?,
            Act::Report(event) => take_in(app, world, *event)?,
            Act::Renew(index) => {
                let Some((_, expires_at)) = people::membership(world, *index).will_renew else {
                    continue;
                };
                app.execute(
                    "UPDATE memberships SET state = 'active', expires_at = ?2, updated_at = ?3 WHERE id = ?1",
                    &[people::membership_id(*index).into(), expires_at.into(), (*at).into()],
                )?;
            }
            Act::Accept(index) => {
                app.execute(
                    "UPDATE organization_invitations SET accepted_at = ?2 WHERE id = ?1 AND accepted_at IS NULL",
                    &[people::invitation_id(*index).into(), (*at).into()],
                )?;
            }
        }
    }
    Ok(())
}

fn commit_delivery(app: &mut Database, world: World, message: u64, at: i64) -> Result<()> {
    let message = mail::message(world, message);
    let sql = "INSERT INTO deliveries (id, organization_id, provider, provider_message_id, status, sent_at, created_at, updated_at) \
         VALUES (?1, ?2, ?3, ?4, 'sent', ?5, ?5, ?5)";
    let params = [
        message.delivery_id.into(),
        message.organization_id.into(),
        text(message.provider),
        message.provider_message_id.into(),
        at.into(),
    ];
    app.execute(sql, &params).map(drop)
}

/// Stores a webhook event as the app's endpoint does: with its delivery if that is known, otherwise
/// as an orphan.
fn take_in(app: &mut Database, world: World, event: u64) -> Result<()> {
    let report = mail::report(world, event);
    let delivery_id = report.delivery_id().map(str::to_string);
    let sql = "INSERT INTO webhook_events (id, organization_id, delivery_id, type, provider, payload, metadata, needs_reconciliation, \
         idempotency_key, occurred_at, inserted_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    let params = [
        report.id.into(),
        report.message.organization_id.into(),
        delivery_id.clone().into(),
        text(report.kind),
        text(report.message.provider),
        report.payload.into(),
        report.metadata.into(),
        i64::from(delivery_id.is_none()).into(),
        report.idempotency_key.into(),
        report.occurred_at.into(),
        report.inserted_at.into(),
    ];
    app.execute(sql, &params)?;
    if let Some(delivery) = delivery_id {
        let params = [delivery.into(), report.occurred_at.into(), report.inserted_at.into()];
        app.execute(projection(report.kind), &params)?;
    }
    Ok(())
}

fn text(text: &str) -> Value {
    text.to_string().into()
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
