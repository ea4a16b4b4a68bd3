//! The books: they tell whether each job had its effect once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use verger::Verger;
use verger::rusqlite::Connection;
use verger::verger_worker::prelude::*;

use super::{STEPS, found};

/// What stands in the books.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Books {
    pub(crate) jobs: usize,
    pub(crate) unfinished: usize,
    pub(crate) effects: usize,
    pub(crate) crashed_attempts: usize,
}

/// Checks what has to be true at every instant, also between a kill and the next start: the file is
/// whole, and what each job left behind fits the state it is in. `told` are the tags whose enqueue
/// had returned.
pub(crate) fn check(app: &Connection, told: &BTreeSet<String>) -> Books {
    let integrity: String = app.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(integrity, "ok");
    // Each end is told of, once, and nothing is told that did not happen.
    for (end, told) in [
        (
            "SELECT id FROM verger_jobs WHERE state = 'completed' ORDER BY id",
            "SELECT value FROM verger_events, json_each(data) WHERE kind = 'completed' ORDER BY value",
        ),
        (
            "SELECT id FROM verger_jobs WHERE state = 'discarded' ORDER BY id",
            "SELECT data ->> '$.job.id' FROM verger_events WHERE kind = 'discarded' ORDER BY 1",
        ),
        (
            "SELECT id FROM verger_jobs WHERE state = 'cancelled' ORDER BY id",
            "SELECT data ->> '$.job.id' FROM verger_events WHERE kind = 'cancelled' ORDER BY 1",
        ),
    ] {
        let ids = |sql: &str| -> Vec<i64> {
            let mut select = app.prepare(sql).unwrap();
            let ids = select.query_map([], |row| row.get(0)).unwrap();
            ids.map(Result::unwrap).collect()
        };
        assert_eq!(ids(end), ids(told), "{end}");
    }
    let mut effects: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let mut select = app.prepare("SELECT name, value FROM things ORDER BY name, value").unwrap();
    let rows =
        select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))).unwrap();
    rows.map(Result::unwrap).for_each(|(name, step)| effects.entry(name).or_default().push(step));
    let mut audited: BTreeMap<String, usize> = BTreeMap::new();
    let mut select =
        app.prepare("SELECT subject_id FROM verger_audit WHERE action = 'thing.written'").unwrap();
    select
        .query_map([], |row| row.get(0))
        .unwrap()
        .for_each(|tag| *audited.entry(tag.unwrap()).or_default() += 1);

    let mut books = Books { effects: effects.values().map(Vec::len).sum(), ..Books::default() };
    let mut known = BTreeSet::new();
    let mut select = app
        .prepare(
            "SELECT coalesce(schedule || '-' || slot, args ->> '$.tag'), state, snoozes, errors, attempt, max_attempts, token, lease_until, \
             finished_at FROM verger_jobs WHERE worker IN ('chronicler', 'puppet')",
        )
        .unwrap();
    let mut rows = select.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let (tag, state, snoozes): (String, String, i64) =
            (row.get(0).unwrap(), row.get(1).unwrap(), row.get(2).unwrap());
        let (attempt, max_attempts, finished): (i64, i64, Option<i64>) =
            (row.get(4).unwrap(), row.get(5).unwrap(), row.get(8).unwrap());
        let errors: Option<String> = row.get(3).unwrap();
        let context =
            format!("{tag} is {state}, attempt {attempt} of {max_attempts}, errors {errors:?}");
        assert!(attempt <= max_attempts, "{context}");
        let ended = ["completed", "discarded", "cancelled"].contains(&state.as_str());
        assert_eq!(finished.is_some(), ended, "{context}");
        books.jobs += 1;
        books.unfinished += usize::from(!ended);
        books.crashed_attempts +=
            errors.as_deref().unwrap_or_default().matches("\"code\":\"crashed\"").count();

        let found = effects.remove(&tag).unwrap_or_default();
        let kind =
            if tag.starts_with("ordered-") { "plain" } else { tag.split(':').next().unwrap() };
        let all: Vec<i64> = match kind {
            "steps" | "component-steps" => (0..STEPS).collect(),
            "snoozes" => vec![0, 1],
            _ => vec![0],
        };
        let (expected, committed) = match (kind, state.as_str()) {
            ("cancels", "completed")
            | ("doomed" | "component-traps", "completed" | "cancelled") => panic!("{context}"),
            ("cancels", "cancelled") | (_, "completed") => (all, 1),
            // Every prefix of the steps was committed by a checkpoint.
            ("steps" | "component-steps", _) => (all.into_iter().take(found.len()).collect(), 0),
            ("snoozes", _) => ((0..snoozes).collect(), 0),
            _ => (Vec::new(), 0),
        };
        assert_eq!(found, expected, "effects of a job: {context}");
        assert_eq!(audited.remove(&tag).unwrap_or(0), committed, "audit rows of a job: {context}");
        assert!(known.insert(tag), "two jobs for one: {context}");
    }
    assert!(effects.is_empty(), "effects of no job: {effects:?}");
    assert!(audited.is_empty(), "audit rows of no job: {audited:?}");
    let lost: Vec<_> = told.difference(&known).collect();
    assert!(lost.is_empty(), "enqueued, acknowledged and gone: {lost:?}");

    // The app's order and its job are one transaction, and so are a slot of the ledger and its job.
    let one = |sql: &str| app.query_row::<i64, _, _>(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(
        one("SELECT count(*) FROM orders"),
        known.iter().filter(|tag| tag.starts_with("ordered-")).count() as i64
    );
    assert_eq!(
        one(
            "SELECT count(*) FROM orders WHERE tag NOT IN (SELECT args ->> '$.tag' FROM verger_jobs WHERE args ->> '$.tag' IS NOT NULL)"
        ),
        0
    );
    let of_slots = "SELECT count(*) FROM verger_jobs j WHERE schedule IS NOT NULL AND NOT EXISTS (SELECT 1 FROM verger_fires f WHERE \
                    f.schedule = j.schedule AND f.slot = j.slot AND f.job = j.id)";
    assert_eq!(one(of_slots), 0, "jobs of a schedule without their line in the ledger");
    assert_eq!(
        one(
            "SELECT count(*) FROM verger_fires WHERE job IS NOT NULL AND job NOT IN (SELECT id FROM verger_jobs)"
        ),
        0
    );
    books
}

/// Lets everything come to its end, and checks the books once more.
pub(crate) fn settle(verger: &Verger, app: &Connection, told: &BTreeSet<String>) -> Books {
    let begun = std::time::Instant::now();
    loop {
        verger.tick(verger.now()).unwrap();
        let waiting: i64 = app
            .query_row(
                "SELECT count(*) FROM verger_jobs WHERE finished_at IS NULL AND schedule IS NULL",
                [],
                |row| row.get(0),
            )
            .unwrap();
        if waiting == 0 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{waiting} jobs do not come to an end");
        std::thread::sleep(Duration::from_millis(5));
    }
    for schedule in ["often", "alone"] {
        assert!(verger.remove_schedule(schedule).unwrap());
    }
    while app
        .query_row("SELECT count(*) FROM verger_jobs WHERE finished_at IS NULL", [], |row| {
            row.get::<_, i64>(0)
        })
        .unwrap()
        > 0
    {
        verger.tick(verger.now()).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
    let books = check(app, told);
    assert_eq!(books.unfinished, 0);
    let held: i64 = app
        .query_row("SELECT count(*) FROM verger_jobs WHERE state = 'executing'", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(held, 0);
    verger.verify_audit().unwrap();
    books
}
