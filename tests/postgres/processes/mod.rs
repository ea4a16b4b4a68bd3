//! Nodes that are processes of their own: this test binary, started again. They are killed, stopped
//! in the middle of things, or lose their server.

mod failover;
mod frozen;
mod kills;

use std::collections::BTreeSet;
use std::time::Duration;

use postgres::Client;
use serde_json::json;
use verger::postgres::{Builder, Verger};
use verger::verger_worker::prelude::*;
use verger::{Backoff, Overlap, Queue, Schedule};

use crate::cluster::Database;
use crate::process::Process;
use crate::scripted::{scripted, worker};

const URL: &str = "VERGER_TEST_URL";

/// What the number of a job that another job enqueued is greater by.
const CHILD: i64 = 1_000_000;

/// The tables of the app. No constraint hides what is done twice.
const TABLES: &str = "CREATE TABLE effects (n bigint NOT NULL, job bigint NOT NULL); \
     CREATE TABLE ordered (n bigint NOT NULL, job bigint NOT NULL, attempt bigint NOT NULL, begun bigint NOT NULL, ended bigint NOT NULL); \
     CREATE TABLE slots (slot bigint NOT NULL, job bigint NOT NULL); \
     CREATE TABLE counter (n bigint NOT NULL); INSERT INTO counter VALUES (0); CREATE TABLE sandboxed (n bigint NOT NULL)";

/// Makes the tables, and the roles of the components.
fn set_up(database: &Database) {
    database.client().batch_execute(TABLES).unwrap();
    let roles = node(&database.url()).role_grants().unwrap();
    database.client().batch_execute(&roles).unwrap();
}

/// Not a test of its own: a node that works until it is killed.
#[test]
#[ignore = "a process of its own, which the tests here start"]
fn work_until_killed() {
    let verger = node(&std::env::var(URL).unwrap()).open().unwrap();
    let _working = verger.start().unwrap();
    println!("\nready {}", std::process::id());
    loop {
        std::thread::park();
    }
}

/// Starts a node. The server knows its sessions by this name.
fn start(url: &str, name: &str) -> Process {
    let url = format!("{url} application_name={name}");
    Process::start("processes::work_until_killed", &[(URL, url)])
}

/// What every node runs.
fn node(url: &str) -> Builder {
    let secondly = Schedule::cron("secondly", "* * * * * *").unwrap();
    let (component, grant) = crate::sandboxed("sandboxed", "sandboxed");
    Verger::builder(url)
        .component("sandboxed", component)
        .grant("sandboxed", grant)
        .worker(scripted(Manifest::new("effect", "1.0.0").enqueues("effect"), effect))
        .worker(worker("ordered", ordered))
        .worker(worker("slot", slot))
        .worker(worker("freezing", frozen::perform))
        .limits("freezing", verger::Limits::new().time(frozen::TIME))
        .queue(Queue::new("default").concurrency(4))
        .queue(Queue::new("ordered").global(1))
        .schedule(secondly.worker("slot").args(json!({})).overlap(Overlap::Allow))
        .backoff(Backoff { base: Duration::from_millis(200), max: Duration::from_secs(1) })
        .threads(6)
}

/// Writes its `n`, and takes its time before the commit, so that a kill comes in between. Every
/// tenth enqueues another.
fn effect(job: &Context<'_>, _: Option<&Scope>, args: &Args) -> Result<Outcome, WorkerError> {
    let n: i64 = args.get("n")?;
    let row = vec![n.into(), Value::Integer(job.job().id.unwrap_or_default().cast_signed())];
    job.execute("INSERT INTO effects (n, job) VALUES (?1, ?2)", row)?;
    job.audit(AuditEvent::success("effect.made").subject("effect", n.to_string()))?;
    if n % 10 == 0 && n < CHILD {
        let child = json!({"n": n + CHILD});
        job.enqueue(verger::verger_worker::NewJob::new("effect", child))?;
    }
    std::thread::sleep(Duration::from_millis(n.unsigned_abs() % 30));
    Ok(Outcome::Done)
}

/// Writes when it began and when it ended, by the server's clock.
fn ordered(job: &Context<'_>, args: &Args) -> Result<Outcome, WorkerError> {
    const NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    let begun: i64 = job.query_all(NOW, vec![])?[0].take(0)?;
    std::thread::sleep(Duration::from_millis(5));
    let n: i64 = args.get("n")?;
    let row = vec![
        n.into(),
        Value::Integer(job.job().id.unwrap_or_default().cast_signed()),
        Value::Integer(job.job().attempt.into()),
        begun.into(),
    ];
    let sql = "INSERT INTO ordered SELECT ?1, ?2, ?3, ?4, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    job.execute(sql, row)?;
    Ok(Outcome::Done)
}

fn slot(job: &Context<'_>, _: &Args) -> Result<Outcome, WorkerError> {
    let slot = job.job().scheduled.as_ref().map_or(0, |of| of.at);
    let row = vec![slot.into(), Value::Integer(job.job().id.unwrap_or_default().cast_signed())];
    job.execute("INSERT INTO slots (slot, job) VALUES (?1, ?2)", row)?;
    Ok(Outcome::Done)
}

fn count(client: &mut Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).unwrap().get(0)
}

fn numbers(client: &mut Client, sql: &str) -> Vec<i64> {
    client.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

/// The jobs that have not ended well.
const UNDONE: &str = "SELECT count(*) FROM verger.jobs WHERE state <> 'completed'";

/// Checks the books when all is done: of the numbers that were acknowledged none is missing, and of
/// all that there are none came twice.
fn check(verger: &Verger, client: &mut Client, acknowledged: &BTreeSet<i64>) {
    assert_eq!(count(client, UNDONE), 0);
    let effects = numbers(client, "SELECT n FROM effects ORDER BY n");
    let once: BTreeSet<i64> = effects.iter().copied().collect();
    assert_eq!(once.len(), effects.len(), "an effect is there twice");
    let with_children = acknowledged.iter().filter(|n| *n % 10 == 0).map(|n| n + CHILD);
    let expected: BTreeSet<i64> = acknowledged.iter().copied().chain(with_children).collect();
    let lost: Vec<_> = expected.difference(&once).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    let jobs = "SELECT (args ->> 'n')::bigint FROM verger.jobs WHERE worker = 'effect' ORDER BY 1";
    assert_eq!(numbers(client, jobs), effects, "each job has its effect");
    // One row of the audit log for each effect, and the whole log holds together.
    let audited =
        "SELECT subject_id::bigint FROM verger.audit WHERE action = 'effect.made' ORDER BY 1";
    assert_eq!(numbers(client, audited), effects);
    // Those of the component.
    let sandboxed = numbers(client, "SELECT n FROM sandboxed ORDER BY n");
    let jobs =
        "SELECT (args ->> 'n')::bigint FROM verger.jobs WHERE worker = 'sandboxed' ORDER BY 1";
    assert_eq!(numbers(client, jobs), sandboxed, "each job of the component has its effect once");
    let audited =
        "SELECT subject_id::bigint FROM verger.audit WHERE action = 'sandboxed.made' ORDER BY 1";
    assert_eq!(numbers(client, audited), sandboxed);
    let rows = effects.len() + sandboxed.len();
    assert_eq!(verger.verify_audit().unwrap().rows, rows as u64);
    check_slots(client);
}

/// Each slot was decided once, and made one job at most, which was performed once.
fn check_slots(client: &mut Client) {
    let made = numbers(client, "SELECT job FROM verger.fires WHERE job IS NOT NULL ORDER BY job");
    let jobs = "SELECT id FROM verger.jobs WHERE schedule = 'secondly' ORDER BY id";
    assert_eq!(numbers(client, jobs), made, "each job of the schedule is the job of one slot");
    assert_eq!(numbers(client, "SELECT job FROM slots ORDER BY job"), made);
    let slots = numbers(client, "SELECT slot FROM slots ORDER BY slot");
    let once: BTreeSet<i64> = slots.iter().copied().collect();
    assert_eq!(once.len(), slots.len(), "a slot was performed twice");
    // None was passed over: what was late is counted by the slot that made up for it.
    let (first, last) = (slots[0], slots[slots.len() - 1]);
    let decided = format!(
        "SELECT (count(*) + coalesce(sum(missed), 0))::bigint FROM verger.fires WHERE slot > {first} AND slot <= {last}"
    );
    assert_eq!(count(client, &decided), (last - first) / 1_000);
}
