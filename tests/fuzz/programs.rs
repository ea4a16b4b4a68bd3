//! The calls of a worker to its host. Any program of calls, under any grant, confined or not, ends
//! as its job says it did, and a failed one leaves what its last checkpoint left.

use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value as Json, json};
use verger::testing::{ManualClock, TestVerger};
use verger::{AttemptOutcome, Grant, Job, JobState, Limits, NewJob, Verger};

use crate::common::PUPPET;
use crate::honest::{Honest, goes_on};
use crate::json::{json, text};
use crate::sql::sql;
use crate::surface::{Surface, Verdict};

/// Of two tenants; one name ends the statement, another the transaction.
const TABLES: &str = "
    CREATE TABLE things (id INTEGER PRIMARY KEY, organization_id TEXT, name TEXT CHECK (name <> 'bad'), value);
    CREATE TABLE other (id INTEGER PRIMARY KEY, organization_id TEXT, secret TEXT);
    CREATE TABLE withheld (id INTEGER PRIMARY KEY, word TEXT);
    CREATE TABLE log (what TEXT);
    CREATE TRIGGER logged AFTER INSERT ON things BEGIN INSERT INTO log VALUES (NEW.name); END;
    CREATE TRIGGER abort BEFORE INSERT ON things WHEN NEW.name = 'abort' BEGIN SELECT RAISE(ABORT, 'aborted'); END;
    CREATE TRIGGER rollback BEFORE INSERT ON things WHEN NEW.name = 'rollback' BEGIN SELECT RAISE(ROLLBACK, 'rolled back'); END;
    INSERT INTO things VALUES (1, 'a', 'one', 1), (2, 'a', 'two', NULL), (3, 'b', 'three', x'00'), (4, 'b', 'four', 4.5);
    INSERT INTO other VALUES (1, 'a', 's1'), (2, 'b', 's2');
    INSERT INTO withheld VALUES (1, 'hidden');";

const DUMPED: [&str; 7] = [
    "things",
    "other",
    "withheld",
    "log",
    "verger_audit",
    "verger_state",
    "(SELECT worker, queue, priority, args, due_at, max_attempts, id AS rowid FROM verger_jobs WHERE id > 1)",
];

fn value() -> impl Strategy<Value = Json> {
    prop_oneof![
        4 => json(),
        2 => select(vec!["nan", "inf", "-inf"]).prop_map(|real| json!({ "real": real })),
        2 => prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| json!({ "blob": bytes })),
        1 => (0..300_000_u32).prop_map(|length| json!({ "x": length })),
        2 => (0..6_i64).prop_map(Json::from),
    ]
}

fn event() -> impl Strategy<Value = Json> {
    let action = prop_oneof![6 => Just("thing.done".to_string()), 1 => text()];
    let states = || prop_oneof![4 => Just(Json::Null), 2 => json().prop_map(|state| state.to_string().into()), 1 => text().prop_map(Json::from)];
    let organization = prop_oneof![4 => Just(Json::Null), 1 => Just(json!("a")), 1 => Just(json!("b")), 1 => text().prop_map(Json::from)];
    (action, select(vec!["success", "failure", "error"]), organization, text(), states(), states(), states()).prop_map(
        |(action, outcome, organization, subject, before, after, metadata)| {
            json!({"action": action, "outcome": outcome, "organization_id": organization, "subject_type": subject, "subject_id": subject,
                "before": before, "after": after, "metadata": metadata})
        },
    )
}

/// What cursors stand on: they may outlive what they read.
const OPENED: [&str; 4] = [
    "SELECT * FROM things",
    "SELECT value, zeroblob(2000) FROM json_each('[1,2,3,4,5,6,7,8,9]')",
    "INSERT INTO things (name) VALUES ('p'), ('q') RETURNING id, name",
    "SELECT 9e999, CAST(x'ff' AS TEXT), x'', '' WHERE 1 / (SELECT count(*) FROM json_each('[1]')) = 1",
];

fn step() -> BoxedStrategy<Json> {
    let params = || prop_oneof![1 => Just(json!([])), 2 => prop::collection::vec(value(), 0..3).prop_map(Json::from)];
    let events = || prop::collection::vec(event(), 0..3).prop_map(Json::from);
    let place = || 0..3_u32;
    let number = || prop_oneof![0..5_u64, any::<u64>()];
    let words = |words: &[&'static str]| select(words.to_vec());
    let payload = || prop_oneof![4 => json().prop_map(|json| json.to_string()), 1 => text()];
    let step = prop_oneof![
        8 => (sql(), params()).prop_map(|(sql, params)| json!(["execute", sql, params])),
        6 => (sql(), params()).prop_map(|(sql, params)| json!(["query", sql, params])),
        4 => (sql(), prop::collection::vec(params(), 0..4)).prop_map(|(sql, sets)| json!(["execute-many", sql, sets])),
        4 => words(&OPENED).prop_map(|sql| json!(["must", ["open", sql, []]])),
        4 => (place(), number()).prop_map(|(place, rows)| json!(["next", place, rows])),
        2 => place().prop_map(|place| json!(["columns", place])),
        1 => place().prop_map(|place| json!(["close", place])),
        2 => Just(json!(["must", ["savepoint"]])),
        3 => Just(json!(["checkpoint"])),
        4 => (words(&["release", "rollback"]), place()).prop_map(|(what, place)| json!([what, place])),
        4 => (words(&["audit", "audit-safe"]), events()).prop_map(|(what, events)| json!([what, events])),
        2 => (text(), payload()).prop_map(|(topic, payload)| json!(["publish", topic, payload])),
        2 => (prop_oneof![words(&["echo", "broken", "absent", "verger.prune-audit"]).prop_map(String::from), text()], payload())
            .prop_map(|(name, request)| json!(["call", name, request])),
        1 => (words(&["trace", "debug", "info", "warn", "error"]), text()).prop_map(|(level, line)| json!(["log", level, line])),
        2 => (number(), number()).prop_map(|(done, total)| json!(["progress", done, total])),
        1 => words(&["now", "is-cancelled", "job", "scope"]).prop_map(|what| json!([what])),
        2 => (sql(), params()).prop_map(|(sql, params)| json!(["query-all", sql, params])),
        3 => (state_key(), prop_oneof![Just(Json::Null), value()]).prop_map(|(key, value)| json!(["set-state", key, value])),
        2 => state_key().prop_map(|key| json!(["state", key])),
        3 => prop::collection::vec(new_job(), 0..3).prop_map(|jobs| json!(["enqueue", jobs])),
    ];
    let step = step.boxed();
    prop_oneof![
        12 => step.clone(),
        1 => step.clone().prop_map(|step| json!(["must", step])),
        1 => (0..40_u32, step).prop_map(|(times, step)| json!(["repeat", times, step])),
    ]
    .boxed()
}

fn state_key() -> impl Strategy<Value = String> {
    prop_oneof![3 => select(vec!["a", "b", "seen"]).prop_map(String::from), 1 => text()]
}

/// A job for a day later, when nobody looks any more; or one that is refused.
fn new_job() -> impl Strategy<Value = Json> {
    let worker =
        prop_oneof![4 => Just("puppet".to_string()), 1 => Just("noop".to_string()), 1 => text()];
    let args = prop_oneof![
        4 => json().prop_map(|arg| json!({"do": [], "arg": arg}).to_string()),
        1 => Just(json!({"organization_id": "b"}).to_string()),
        1 => text(),
    ];
    let options = prop_oneof![
        4 => Just(json!({"after_ms": 86_400_000}).to_string()),
        2 => (0..12_u8).prop_map(|priority| json!({"after_ms": 86_400_000, "priority": priority, "unique": true}).to_string()),
        1 => json().prop_map(|value| json!({"after_ms": 86_400_000, "queue": value}).to_string()),
        1 => text().prop_filter("due at once", |text| !text.trim().is_empty() && !text.contains('{')),
    ];
    (worker, args, options).prop_map(|(worker, args, options)| json!([worker, args, options]))
}

/// Makes places those of a cursor or savepoint that was opened before, for the puppet traps at
/// others, and nothing after is tried.
fn placed(steps: Vec<Json>) -> Vec<Json> {
    let (mut cursors, mut savepoints) = (0, 0);
    let placed = steps.into_iter().filter_map(|mut step| {
        let opened = match step[0].as_str()? {
            "must" if step[1][0] == "open" => return Some((step, cursors += 1).0),
            "must" if step[1][0] == "savepoint" => return Some((step, savepoints += 1).0),
            "next" | "columns" | "close" => cursors,
            "release" | "rollback" => savepoints,
            _ => return Some(step),
        };
        step[1] = json!(step[1].as_u64()?.checked_rem(opened)?);
        Some(step)
    });
    placed.collect()
}

/// How it ends; a program that does not say is done.
fn end() -> impl Strategy<Value = Option<Json>> {
    let ends = prop_oneof![
        json().prop_map(|result| json!(["done-with", result.to_string()])),
        text().prop_map(|result| json!(["done-with", result])),
        text().prop_map(|reason| json!(["failed", reason])),
        prop_oneof![0..5_u64, any::<u64>()].prop_map(|seconds| json!(["snooze", seconds])),
        text().prop_map(|reason| json!(["cancel", reason])),
        select(vec!["trap", "eat", "recurse"]).prop_map(|misdeed| json!([misdeed])),
    ];
    prop_oneof![1 => Just(None), 2 => ends.prop_map(Some)]
}

fn inputs() -> BoxedStrategy<Vec<u8>> {
    let verbs = prop::sample::subsequence(vec!["read", "insert", "update", "delete"], 0..=4);
    let grant = (
        prop_oneof![2 => Just(vec!["read", "insert", "update", "delete"]), 1 => verbs],
        any::<bool>(),
        any::<bool>(),
        0..3_u8,
    );
    let world = (any::<bool>(), grant, 1..3_u32);
    (world, prop::collection::vec(step(), 0..10), end())
        .prop_map(|((confined, (verbs, columns, capabilities, tightness), attempts), mut steps, end)| {
            steps = placed(steps);
            steps.extend(end);
            let world = json!({"confined": confined, "verbs": verbs, "columns": columns, "capabilities": capabilities, "tightness": tightness,
                "attempts": attempts, "do": steps});
            world.to_string().into_bytes()
        })
        .boxed()
}

fn grant(world: &Json) -> Grant {
    let verbs = world["verbs"].as_array().unwrap();
    let grant = verbs.iter().fold(Grant::new(), |grant, verb| match verb.as_str().unwrap() {
        "read" => grant.read("things"),
        "insert" => grant.insert("things"),
        "update" => grant.update("things"),
        _ => grant.delete("things"),
    });
    let grant = if world["columns"] == true {
        grant.read_columns("other", ["id"])
    } else {
        grant.read("other")
    };
    let grant = if world["capabilities"] == true {
        grant.capability("echo").capability("broken").capability("absent")
    } else {
        grant
    };
    let grant =
        if world["confined"] == true { grant.tenant_column("organization_id") } else { grant };
    let (statements, rows, chunk) = match world["tightness"].as_u64() {
        Some(0) => (1_000_000, 1_000, 4 << 20),
        Some(1) => (20, 10, 100_000),
        _ => (3, 1, 1_000),
    };
    grant.limits(
        Limits::new()
            .time(Duration::from_secs(2))
            .memory_bytes(8 << 20)
            .sql_memory_bytes(64 << 20)
            .chunk_bytes(chunk)
            .statements(statements)
            .audit_rows(rows)
            .events(usize::try_from(rows).unwrap())
            .log_lines(5),
    )
}

/// The puppet, its manifest changed to ask for a tenant.
fn tenant_aware() -> Vec<u8> {
    let (from, to) = (b"\"tenant_aware\": false", b"\"tenant_aware\": true ");
    let at = PUPPET.windows(from.len()).position(|window| window == from).unwrap();
    [&PUPPET[..at], to, &PUPPET[at + from.len()..]].concat()
}

/// What a program left, and how it ended.
struct Left {
    rows: Vec<Vec<Json>>,
    messages: Vec<String>,
    outcome: AttemptOutcome,
}

/// Runs a program as a job in a world of its own.
fn run(world: &Json, steps: &[Json]) -> Result<Left, String> {
    let puppet = if world["confined"] == true { tenant_aware() } else { PUPPET.to_vec() };
    let builder = Verger::in_memory()
        .without_built_ins()
        .worker(Honest)
        .component("puppet.wasm", puppet)
        .grant("puppet", grant(world));
    let builder = builder
        .capability("echo", |call| Ok(call.request.clone()))
        .capability("broken", |_| Err("no mail server".to_string()));
    let test = TestVerger::open(builder, &ManualClock::at(TestVerger::START))
        .map_err(|error| error.to_string())?;
    test.sql(TABLES);
    let messages = test.subscribe();
    let args = json!({"organization_id": "a", "actor_id": null, "do": steps});
    let before = test.everything();
    let tried = test.dry_run("puppet", args.clone());
    if test.everything() != before || messages.try_next().is_some() {
        return Err(format!("a dry run left something behind; it ended as {tried:?}"));
    }
    let attempts = world["attempts"].as_u64().unwrap() as u32;
    let id = test
        .enqueue(NewJob::new("puppet", args).max_attempts(attempts))
        .map_err(|error| error.to_string())?
        .id;
    let report = test.tick(test.now()).map_err(|error| format!("a tick failed: {error}"))?;
    let outcome = report.attempts.into_iter().next().ok_or("it was not performed")?.outcome;
    agrees(&outcome, &test.job(id).map_err(|error| error.to_string())?.ok_or("the job is gone")?)?;
    let messages = std::iter::from_fn(|| messages.try_next())
        .map(|event| format!("{}: {}", event.topic, event.payload))
        .collect();
    let rows =
        DUMPED.map(|table| test.rows(&format!("SELECT * FROM {table} ORDER BY rowid"))).to_vec();
    goes_on(&test, test.connection())?;
    Ok(Left { rows, messages, outcome })
}

/// That the row of a job says what its attempt is reported as.
fn agrees(outcome: &AttemptOutcome, job: &Job) -> Result<(), String> {
    let last = job.errors.last().map(|error| (error.code.as_str(), error.message.as_str()));
    let same = match outcome {
        AttemptOutcome::Completed(result) => {
            job.state == JobState::Completed && job.result == *result && last.is_none()
        }
        AttemptOutcome::Snoozed(until) => {
            job.state == JobState::Scheduled && job.due_at == *until && job.attempt == 0
        }
        AttemptOutcome::Cancelled(_) => job.state == JobState::Cancelled,
        AttemptOutcome::Retryable(error, at) => {
            job.state == JobState::Retryable
                && job.due_at == *at
                && last == Some((&error.code, &error.message))
        }
        AttemptOutcome::Discarded(error) => {
            job.state == JobState::Discarded && last == Some((&error.code, &error.message))
        }
        _ => false,
    };
    if same {
        Ok(())
    } else {
        Err(format!("it ended as {outcome:?}, and its row says {:?}, {last:?}", job.state))
    }
}

fn check(input: &[u8]) -> Verdict {
    let world: Json = serde_json::from_slice(input).map_err(|error| error.to_string())?;
    let steps = world["do"].as_array().ok_or("no steps")?;
    let before = run(&world, &[])?;
    let left = run(&world, steps)?;
    walls_stood(&world, &before, &left)?;
    let error = match &left.outcome {
        AttemptOutcome::Retryable(error, _) | AttemptOutcome::Discarded(error) => error,
        AttemptOutcome::Completed(_) => return Ok("completed".to_string()),
        other => {
            return Ok(format!("{other:?}")
                .chars()
                .take_while(char::is_ascii_alphanumeric)
                .collect());
        }
    };
    if error.code == "panic" || (error.message.is_empty() && error.code != "failed") {
        return Err(format!("it failed with {error:?}"));
    }
    left_by_a_checkpoint(&world, steps, before, &left, error.code == "deadline")?;
    Ok(format!("failed: {}", error.code))
}

/// That nothing changed that the grant does not reach.
fn walls_stood(world: &Json, before: &Left, after: &Left) -> Result<(), String> {
    let [things, other, withheld, log] = [0, 1, 2, 3];
    let same = |table: usize| before.rows[table] == after.rows[table];
    let of_b = |left: &Left| {
        left.rows[things]
            .iter()
            .filter(|row| row["organization_id"] == "b")
            .cloned()
            .collect::<Vec<_>>()
    };
    if !same(other) || !same(withheld) {
        return Err("a table changed that it may not write".to_string());
    }
    if world["confined"] == true && of_b(before) != of_b(after) {
        return Err("rows of another tenant changed".to_string());
    }
    let reads_only = world["verbs"].as_array().unwrap().iter().all(|verb| verb == "read");
    if reads_only && !(same(things) && same(log)) {
        return Err("a table changed though nothing may be written".to_string());
    }
    Ok(())
}

/// That a failed program left what it leaves when it ends well at its last checkpoint; one that was
/// stopped by the clock, at any of them.
fn left_by_a_checkpoint(
    world: &Json,
    steps: &[Json],
    before: Left,
    left: &Left,
    timed: bool,
) -> Result<(), String> {
    let mut possible = vec![before];
    for (place, _) in steps.iter().enumerate().filter(|(_, step)| ends_at_a_checkpoint(step)) {
        let until = run(world, &steps[..=place])?;
        match &until.outcome {
            AttemptOutcome::Completed(_) => possible.push(until),
            // Slower than the first time: nothing can be said.
            AttemptOutcome::Retryable(error, _) | AttemptOutcome::Discarded(error)
                if error.code == "deadline" =>
            {
                return Ok(());
            }
            _ => break,
        }
    }
    let same = |one: &Left| one.rows == left.rows && one.messages == left.messages;
    let found = if timed { possible.iter().any(same) } else { possible.last().is_some_and(same) };
    if found {
        Ok(())
    } else {
        Err(format!("it failed and left something behind: {:?}, {:?}", left.rows, left.messages))
    }
}

fn ends_at_a_checkpoint(step: &Json) -> bool {
    match step[0].as_str() {
        Some("checkpoint") => true,
        Some("must") => ends_at_a_checkpoint(&step[1]),
        Some("repeat") => step[1] != 0 && ends_at_a_checkpoint(&step[2]),
        _ => false,
    }
}

#[test]
fn a_program_of_any_calls_ends_as_its_job_says_and_leaves_no_more() {
    Surface { name: "programs", cases: 150, inputs: inputs(), check: &check }.attack();
}
