//! What the sweeps are compared with: the same statements by rusqlite alone.

use std::collections::BTreeMap;

use serde_json::json;
use verger::rusqlite::types::Value;
use verger::rusqlite::{Connection, params, params_from_iter};
use verger::verger_worker::{self, Ident, TimeFormat, Walk};

use super::BATCH;
use crate::common::Result;

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
pub(super) fn rows(
    connection: &Connection,
    sql: &str,
    params: Vec<Value>,
) -> Result<Vec<Vec<Value>>> {
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

pub(super) fn commit(connection: &Connection) -> Result<()> {
    connection.prepare_cached("COMMIT")?.execute([])?;
    Ok(())
}

pub(super) fn plain_memberships(connection: &Connection, now: i64) -> Result<i64> {
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

pub(super) fn plain_invitations(connection: &Connection, now: i64) -> Result<i64> {
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

pub(super) fn plain_webhooks(connection: &Connection, now: i64) -> Result<i64> {
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
