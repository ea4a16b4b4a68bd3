//! Four nodes on one database. Every 200 ms one of them is killed without warning and started again.
//!
//! 12 kills by default; `VERGER_LONG=1` goes on until 10,000 jobs are done.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use postgres::Client;
use serde_json::json;
use verger::postgres::Verger;
use verger::{JobId, NewJob, Timestamp};

use super::{UNDONE, check, count, node, numbers, set_up, start};
use crate::cluster::Cluster;

const NODES: usize = 4;
const KILL_EVERY: Duration = Duration::from_millis(200);

/// How soon an interrupted job is taken back by another node. When it runs again is a matter of how
/// much waits before it on how busy a machine, and the run says how soon it was.
const BACK_WITHIN: Duration = Duration::from_secs(3);

/// An attempt that was under way when its process was killed.
struct Interrupted {
    job: i64,
    attempt: i64,
    killed_at: Timestamp,
}

#[test]
fn four_nodes_that_are_killed_lose_nothing_and_double_nothing() {
    // A server of its own: the others' connections would be counted in its load.
    let Some(cluster) = Cluster::start(&[]) else { return };
    let database = std::sync::Arc::new(cluster).database("");
    let is_long = std::env::var_os("VERGER_LONG").is_some();
    // As many as there are, and never more at a time than the nodes keep up with.
    let (jobs, at_once, kills) = if is_long { (10_000, 60, i64::MAX) } else { (120, 30, 12) };
    let mut client = database.client();
    set_up(&database);
    let verger = node(&database.url()).open().unwrap();
    let begun = Instant::now();
    let name = |node: usize| format!("node-{node}");
    let mut nodes: Vec<_> = (0..NODES).map(|node| start(&database.url(), &name(node))).collect();
    let (mut acknowledged, mut interrupted) = (BTreeSet::new(), Vec::new());
    let (mut kill, mut next, mut ordered) = (0, 0, 0);
    while kill < kills && next < jobs {
        let due = Instant::now() + KILL_EVERY;
        let room = at_once - count(&mut client, UNDONE);
        let until = (next + room.clamp(0, 20)).min(jobs);
        let new = (next..until).map(|n| NewJob::new("effect", json!({"n": n})).max_attempts(1_000));
        verger.enqueue_all(new).unwrap();
        let sandboxed = (next..until).step_by(2).map(|n| {
            let args = crate::sandboxed_args("sandboxed", n);
            NewJob::new("sandboxed", args).max_attempts(1_000)
        });
        verger.enqueue_all(sandboxed).unwrap();
        acknowledged.extend(next..until);
        next = until;
        if room > 0 {
            let job = NewJob::new("ordered", json!({"n": ordered})).queue("ordered");
            verger.enqueue(job.max_attempts(1_000)).unwrap();
            ordered += 1;
        }
        let victim = usize::try_from(kill).unwrap() % NODES;
        // Some while they open the database, most in the middle of things.
        if kill % 6 != 5 {
            assert!(nodes[victim].hear("ready", Duration::from_secs(30)).is_some());
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let numbers = numbers_of(&mut client, &name(victim));
        let killed_at = verger.now();
        let fresh = start(&database.url(), &name(victim));
        std::mem::replace(&mut nodes[victim], fresh).kill();
        let held = "SELECT id, attempt FROM verger.jobs WHERE state = 'executing' AND claimed_by = ANY ($1)";
        let held = client.query(held, &[&numbers]).unwrap();
        interrupted.extend(held.iter().map(|row| Interrupted {
            job: row.get(0),
            attempt: row.get(1),
            killed_at,
        }));
        kill += 1;
        if kill % 100 == 0 {
            println!("{kill} kills, {next} jobs, {:.0?}", begun.elapsed());
        }
    }
    let until = Instant::now() + Duration::from_secs(60);
    while count(&mut client, UNDONE) > 0 {
        assert!(Instant::now() < until, "{} jobs are left", count(&mut client, UNDONE));
        std::thread::sleep(Duration::from_millis(20));
    }
    let elapsed = begun.elapsed();
    // Nobody fires or performs while the books are read.
    nodes.into_iter().for_each(|node| drop(node.kill()));
    while verger.tick(verger.now()).unwrap().rescued > 0 || count(&mut client, UNDONE) > 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
    check(&verger, &mut client, &acknowledged);
    check_order(&mut client, ordered);
    let waits = waits(&verger, &interrupted);
    let back = waits.iter().map(|(back, _)| *back).max().unwrap_or_default();
    let again = waits.iter().map(|(_, again)| *again).max().unwrap_or_default();
    println!(
        "{kill} kills in {elapsed:.1?}: {} effects, {} of a component, {} slots, {} audit rows in {} lanes; {} attempts interrupted, \
         {} attempts crashed, taken back within {back:.0?}, run again after {:.0?} in the mean and {again:.0?} at most",
        count(&mut client, "SELECT count(*) FROM effects"),
        count(&mut client, "SELECT count(*) FROM sandboxed"),
        count(&mut client, "SELECT count(*) FROM verger.fires"),
        count(&mut client, "SELECT count(*) FROM verger.audit"),
        count(&mut client, "SELECT count(*) FROM verger.audit_lanes"),
        interrupted.len(),
        count(
            &mut client,
            "SELECT count(*) FROM verger.jobs, jsonb_array_elements(errors) AS error WHERE error ->> 'code' = 'crashed'"
        ),
        waits.iter().map(|(_, again)| *again).sum::<Duration>()
            / u32::try_from(waits.len().max(1)).unwrap(),
    );
    assert!(!interrupted.is_empty() && !waits.is_empty());
    assert!(back < BACK_WITHIN, "an interrupted job was taken back after {back:?}");
}

/// The numbers of a node, as claims have them: by the advisory locks of its sessions.
fn numbers_of(client: &mut Client, name: &str) -> Vec<i64> {
    let sql = "SELECT objid::bigint FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND classid = 1449488999 \
         AND application_name = $1";
    client.query(sql, &[&name]).unwrap().iter().map(|row| row.get(0)).collect()
}

/// How long after the kill each interrupted job was taken back, and performed again, of those whose
/// next attempt was not killed too.
fn waits(verger: &Verger, interrupted: &[Interrupted]) -> Vec<(Duration, Duration)> {
    let mut waits = Vec::new();
    for Interrupted { job, attempt, killed_at } in interrupted {
        let job = verger.job(JobId::from_number(*job)).unwrap().unwrap();
        let crash = job.errors.iter().find(|error| i64::from(error.attempt) == *attempt);
        if let (true, Some(crash), Some(again)) =
            (i64::from(job.attempt) == attempt + 1, crash, job.attempted_at)
        {
            waits.push((crash.at.since(*killed_at), again.since(*killed_at)));
        }
    }
    waits
}

/// One at a time over all nodes, and in order, but for those that had to run again.
fn check_order(client: &mut Client, count: i64) {
    let rows = client.query("SELECT n, attempt, begun, ended FROM ordered ORDER BY begun", &[]);
    let rows = rows.unwrap();
    let mut ended = 0;
    for row in &rows {
        let (begins, ends): (i64, i64) = (row.get(2), row.get(3));
        assert!(ended < begins, "two of the queue at a time");
        ended = ends;
    }
    let first = rows.iter().filter(|row| row.get::<_, i64>(1) == 1).map(|row| row.get(0));
    let first: Vec<i64> = first.collect();
    assert!(first.is_sorted(), "{first:?}");
    assert_eq!(numbers(client, "SELECT n FROM ordered ORDER BY n"), (0..count).collect::<Vec<_>>());
}
