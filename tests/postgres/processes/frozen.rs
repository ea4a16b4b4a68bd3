//! A node that stands still in the middle of an attempt, for longer than its lease.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use verger::verger_worker::prelude::*;
use verger::{Clock, JobState, NewJob, SystemClock, Timestamp};

use super::{count, node, set_up, start};
use crate::cluster::database;
use crate::until;

/// How long an attempt of the worker may take.
pub(super) const TIME: Duration = Duration::from_secs(2);

/// Writes, holds a lock that everyone needs, and works on for a while without asking anything of
/// the host: there it freezes.
pub(super) fn perform(job: &Context<'_>, _: &Args) -> Result<Outcome, WorkerError> {
    job.execute("UPDATE counter SET n = n + 1", vec![])?;
    if job.job().attempt == 1 {
        println!("\nin the attempt");
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(Outcome::Done)
}

/// A clock by which every lease of the others is over.
struct Ahead;

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        SystemClock.now() + Duration::from_secs(120)
    }
}

fn signal(process: &str, signal: &str) {
    assert!(Command::new("kill").args([signal, process]).status().unwrap().success());
}

#[test]
fn a_frozen_node_holds_nobody_up_and_changes_nothing_when_it_wakes() {
    let Some(database) = database() else { return };
    let mut client = database.client();
    set_up(&database);
    let other = node(&database.url()).clock(Ahead).open().unwrap();
    other.pause_schedule("secondly").unwrap();
    let frozen = start(&database.url(), "frozen");
    let process = frozen.hear("ready", Duration::from_secs(30)).unwrap();
    // Due at once, whatever the clock of this process says.
    let enqueue = "SELECT verger.enqueue('freezing', '{}')";
    let id = client.query_one(enqueue, &[]).unwrap().get(0);
    let id = verger::JobId::from_number(id);
    assert!(frozen.hear("in the attempt", Duration::from_secs(30)).is_some());
    signal(&process, "-STOP");
    let begun = Instant::now();
    assert_eq!(other.tick(other.now()).unwrap().rescued, 1, "its lease is over");
    // What it had locked is locked until the server ends its session.
    until("another node performs the job", || {
        other.tick(other.now()).unwrap();
        other.job(id).unwrap().unwrap().state == JobState::Completed
    });
    println!("performed {:.1?} after its first node froze", begun.elapsed());
    assert!(begun.elapsed() < TIME + Duration::from_secs(20), "{:?}", begun.elapsed());
    let performed = other.job(id).unwrap().unwrap();
    signal(&process, "-CONT");
    // It goes on, finds its claim stale, and works for others.
    let next = client.query_one("SELECT verger.enqueue('effect', '{\"n\": 1}')", &[]).unwrap();
    let next = verger::JobId::from_number(next.get(0));
    until("the node works again", || {
        other.job(next).unwrap().unwrap().state == JobState::Completed
    });
    frozen.kill();
    assert_eq!(other.job(id).unwrap().unwrap(), performed);
    assert_eq!(count(&mut client, "SELECT n FROM counter"), 1);
    other.verify_audit().unwrap();
}

type Perform = dyn Fn(&Context<'_>) -> Result<Outcome, WorkerError> + Send + Sync;

#[test]
fn a_claim_that_the_server_lost_in_a_crash_changes_nothing_either() {
    // Claims are not waited for, so a server that dies may not remember the newest ones.
    let Some(cluster) = crate::cluster::Cluster::start(&["wal_writer_delay=10s"]) else { return };
    let cluster = std::sync::Arc::new(cluster);
    let database = cluster.database("");
    set_up(&database);
    let (begins, has_begun) = std::sync::mpsc::channel();
    let (goes_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let (begins, may_go_on) = (std::sync::Mutex::new(begins), std::sync::Mutex::new(may_go_on));
    let open = |perform: Box<Perform>| {
        let held = crate::scripted::worker("held", move |job, _| perform(job));
        verger::postgres::Verger::builder(database.url()).worker(held).open().unwrap()
    };
    let first = open(Box::new(move |job| {
        begins.lock().unwrap().send(()).unwrap();
        may_go_on.lock().unwrap().recv().unwrap();
        job.execute("UPDATE counter SET n = n + 1", vec![])?;
        job.checkpoint()?;
        Ok(Outcome::Done)
    }));
    let let_go = goes_on.clone();
    let goes_on = std::sync::Mutex::new(goes_on);
    let second = open(Box::new(move |job| {
        // While the second claim is live, the first goes on.
        goes_on.lock().unwrap().send(()).unwrap();
        std::thread::sleep(Duration::from_millis(500));
        job.execute("UPDATE counter SET n = n + 10", vec![])?;
        job.checkpoint()?;
        Ok(Outcome::Done)
    }));
    let id = first.enqueue(NewJob::new("held", json!({}))).unwrap().id;
    std::thread::scope(|scope| {
        let ticking = scope.spawn(|| first.tick(first.now()).unwrap());
        has_begun.recv().unwrap();
        cluster.stop("immediate");
        cluster.start_again(&["wal_writer_delay=10s"]);
        until("the app's calls work again", || second.job(id).is_ok());
        let job = second.job(id).unwrap().unwrap();
        if job.state != JobState::Available {
            // The server's writer was quicker than its end.
            println!("skipped: the server remembers the claim");
            let_go.send(()).unwrap();
            return;
        }
        assert_eq!(job.attempt, 0, "the claim was lost");
        second.tick(second.now()).unwrap();
        let lost = ticking.join().unwrap();
        let outcome = &lost.attempts[0].outcome;
        assert!(matches!(outcome, verger::AttemptOutcome::Lost(_)), "{outcome:?}");
    });
    // Once, whichever of the two it was.
    until("it is done", || {
        second.tick(second.now()).unwrap();
        second.job(id).unwrap().unwrap().state == JobState::Completed
    });
    let n = database.one::<i64>("SELECT n FROM counter");
    assert!(n == 10 || n == 1, "{n}");
}
