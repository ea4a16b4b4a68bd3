//! The connection to the server is cut after the first message, the second, the third, … wherever
//! that is. Nothing is half-written, every error is a sentence, and the work goes on afterwards.
//!
//! Every fifth place is tried; `VERGER_LONG=1` tries each.

mod proxy;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use verger::postgres::{Builder, Verger};
use verger::testing::ManualClock;
use verger::{AttemptOutcome, JobState, NewJob, Overlap, Schedule};

use crate::cluster::{Database, database};
use crate::{clock, effect, sandboxed, sandboxed_args};
use proxy::Proxy;

/// More messages than any of this needs.
const MESSAGES_MAX: usize = 1_000;

/// After how many messages to cut: every fifth place, and with `VERGER_LONG` every one.
fn places() -> impl Iterator<Item = i64> {
    let step = if std::env::var_os("VERGER_LONG").is_some() { 1 } else { 5 };
    (1..).step_by(step).take(MESSAGES_MAX)
}

fn url(database: &Database, proxy: &Proxy) -> String {
    format!("host={} user=postgres dbname={}", proxy.socket(), database.name)
}

fn open(url: &str, clock: &ManualClock) -> Result<Verger, verger::OpenError> {
    builder(url, clock, false).open()
}

/// With the effect as a native worker, or as a component.
fn builder(url: &str, clock: &ManualClock, is_sandboxed: bool) -> Builder {
    let schedule = Schedule::cron("minutely", "* * * * *").unwrap().worker("effect");
    let schedule = schedule.args(args(-1, is_sandboxed)).overlap(Overlap::Allow);
    let builder = Verger::builder(url).schedule(schedule).clock(clock.clone());
    if !is_sandboxed {
        return builder.worker(effect());
    }
    let (component, grant) = sandboxed("effect", "effects");
    builder.component("effect", component).grant("effect", grant)
}

fn args(n: i64, is_sandboxed: bool) -> serde_json::Value {
    if is_sandboxed { sandboxed_args("effects", n) } else { json!({"n": n}) }
}

/// One line that says what could not be done.
fn assert_is_sentence(error: &dyn std::error::Error) {
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        said = format!("{said}: {cause}");
        source = cause.source();
    }
    assert!(said.contains("could not") && !said.contains('\n') && said.len() < 500, "{said}");
}

#[test]
fn an_open_that_is_cut_off_anywhere_can_be_repeated() {
    let Some(database) = database() else { return };
    let mut client = database.client();
    let proxy = Proxy::start(&database.cluster.socket());
    let (url, clock) = (url(&database, &proxy), clock());
    for messages in places() {
        proxy.cut_after(messages);
        let opened = open(&url, &clock);
        let was_cut = proxy.cut_no_more();
        match opened {
            Ok(_) if !was_cut => {
                println!("{messages} messages open a fresh database");
                return;
            }
            // What other nodes are told may be lost.
            Ok(_) => {}
            Err(error) => assert_is_sentence(&error),
        }
        // All tables or none; and what is there can be used.
        let verger = open(&url, &clock).unwrap_or_else(|error| panic!("{messages}: {error}"));
        assert_eq!(verger.schedules().unwrap().len(), 1);
        drop(verger);
        // Its goodbye may still be on the way.
        client.batch_execute("DROP SCHEMA verger CASCADE").unwrap();
    }
    panic!("it does not open within {MESSAGES_MAX} messages");
}

#[test]
fn a_connection_that_dies_at_any_message_costs_no_job_and_doubles_none() {
    let Some(database) = database() else { return };
    die_at_any_message(&database, false);
}

#[test]
fn a_connection_of_a_component_that_dies_at_any_message_costs_no_job_and_doubles_none() {
    let Some(database) = database() else { return };
    die_at_any_message(&database, true);
}

fn die_at_any_message(database: &Database, is_sandboxed: bool) {
    database.client().batch_execute("CREATE TABLE effects (n bigint NOT NULL)").unwrap();
    if is_sandboxed {
        let roles = builder(&database.url(), &clock(), true).role_grants().unwrap();
        database.client().batch_execute(&roles).unwrap();
    }
    let proxy = Proxy::start(&database.cluster.socket());
    let (url, clock) = (url(database, &proxy), clock());
    let (mut told, mut lost, mut refused) = (BTreeSet::new(), 0, 0);
    let mut is_over = false;
    for messages in places() {
        let verger = builder(&url, &clock, is_sandboxed).open().unwrap();
        clock.advance(Duration::from_secs(60));
        proxy.cut_after(messages);
        let enqueued = verger.enqueue(NewJob::new("effect", args(messages, is_sandboxed)));
        let ticked = verger.tick(verger.now());
        let was_cut = proxy.cut_no_more();
        match enqueued {
            Ok(_) => drop(told.insert(messages)),
            Err(error) => {
                refused += 1;
                assert_is_sentence(&error);
            }
        }
        match ticked {
            Ok(report) => {
                let is_lost = |outcome: &AttemptOutcome| {
                    matches!(outcome, AttemptOutcome::Lost(_) | AttemptOutcome::Retryable(..))
                };
                lost += report.attempts.iter().filter(|of| is_lost(&of.outcome)).count();
            }
            Err(error) => {
                refused += 1;
                assert_is_sentence(&error);
            }
        }
        let mut client = database.client();
        let mut pair = |sql: &str| {
            let row = client.query_one(sql, &[]).unwrap();
            (row.get::<_, i64>(0), row.get::<_, i64>(1))
        };
        // The server may still be busy with the last message of the connection that was cut.
        crate::until("the books agree", || {
            let (effects, completed) = pair_of(database);
            effects == completed
        });
        let (fires, jobs) = pair(
            "SELECT (SELECT count(DISTINCT job) FROM verger.fires), (SELECT count(*) FROM verger.jobs WHERE schedule IS NOT NULL)",
        );
        assert_eq!(fires, jobs, "{messages}: a slot and its job are there together");
        verger.verify_audit().unwrap();
        if !was_cut {
            println!(
                "{messages} messages enqueue and tick; {refused} calls refused, {lost} attempts lost"
            );
            is_over = true;
            break;
        }
    }
    assert!(is_over && lost > 0 && refused > 0, "{lost} {refused}");
    let verger = builder(&url, &clock, is_sandboxed).open().unwrap();
    while verger.count_jobs(&verger::JobFilter::new().states(UNFINISHED)).unwrap() > 0 {
        verger.tick(verger.now()).unwrap();
        clock.advance(Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(1));
    }
    let (effects, completed) = pair_of(database);
    assert_eq!(effects, completed);
    let rows = database.client().query("SELECT n FROM effects WHERE n > 0", &[]).unwrap();
    let once: BTreeSet<i64> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(once.len(), rows.len(), "an effect is there twice");
    assert!(once.is_superset(&told), "lost: {:?}", told.difference(&once));
    assert_eq!(verger.verify_audit().unwrap().rows, effects.unsigned_abs());
    let discarded = verger::JobFilter::new().state(JobState::Discarded);
    assert_eq!(verger.count_jobs(&discarded).unwrap(), 0);
}

const UNFINISHED: [JobState; 4] =
    [JobState::Scheduled, JobState::Available, JobState::Executing, JobState::Retryable];

/// The effects, and the jobs that are completed.
fn pair_of(database: &Database) -> (i64, i64) {
    let sql = "SELECT (SELECT count(*) FROM effects), (SELECT count(*) FROM verger.jobs WHERE state = 'completed')";
    let row = database.client().query_one(sql, &[]).unwrap();
    (row.get(0), row.get(1))
}
