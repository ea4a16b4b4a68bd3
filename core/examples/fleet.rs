//! Two devices and a hub, each with its own file and its own Verger. `cargo run --example fleet`
//!
//! A device writes a note, the change for the hub and the job that pushes it in one transaction.
//! Offline the job snoozes. A change that arrives twice is one change, because its key says which
//! device made it and which of its changes it is. No table of Verger's leaves its file.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::time::Duration;

use serde_json::{Value as Json, json};
use verger::rusqlite::{TransactionBehavior, params};
use verger::verger_worker::params as sql;
use verger::verger_worker::prelude::*;
use verger::{CapabilityCall, NewJob, Schedule, Verger};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;
type Ended = Result<Outcome, WorkerError>;

const NOTES: &str = "CREATE TABLE notes (id TEXT PRIMARY KEY, text TEXT, written_at INTEGER);";
const OUTBOX: &str = "CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, note TEXT,
    text TEXT, written_at INTEGER, pushed_at INTEGER);";
const INBOX: &str = "CREATE TABLE inbox (change TEXT PRIMARY KEY, note TEXT, text TEXT,
    written_at INTEGER, merged_at INTEGER);";

/// On a device: sends what the hub does not have yet.
struct PushChanges(&'static str);

impl Worker for PushChanges {
    fn manifest(&self) -> Manifest {
        let manifest = Manifest::new("push-changes", "1.0.0").capability("hub");
        manifest.table(TableAsk::named("outbox").read().update())
    }

    fn perform(&self, job: &Context<'_>, _: Option<&Scope>, _: &Args) -> Ended {
        let next = "SELECT max(id), json_group_array(json_object('change', ?1 || '-' || id,
                'note', note, 'text', text, 'written_at', written_at))
            FROM (SELECT * FROM outbox WHERE pushed_at IS NULL ORDER BY id LIMIT 50)";
        while let Some(mut row) = job.query_row(next, sql![self.0])? {
            let (last, changes): (Option<i64>, String) = (row.take(0)?, row.take(1)?);
            let Some(last) = last else { break };
            job.checkpoint()?; // Nobody waits for the write lock while the hub is asked.
            if let Err(error) = job.call("hub", &json!(changes)) {
                job.log(LogLevel::Info, &error.message);
                return Ok(Outcome::Snooze(30)); // It costs no attempt to be offline.
            }
            let pushed = "UPDATE outbox SET pushed_at = ?1 WHERE pushed_at IS NULL AND id <= ?2";
            let count = json!({ "changes": job.execute(pushed, sql![job.now(), last])? });
            job.audit(AuditEvent::success("changes.pushed").metadata(count))?;
        }
        Ok(Outcome::Done)
    }
}

/// On the hub: takes the changes of all devices into its notes. The latest of a note counts.
struct MergeChanges;

impl Worker for MergeChanges {
    fn manifest(&self) -> Manifest {
        Manifest::new("merge-changes", "1.0.0")
            .table(TableAsk::named("inbox").read().update())
            .table(TableAsk::named("notes").read().insert().update())
    }

    fn perform(&self, job: &Context<'_>, _: Option<&Scope>, _: &Args) -> Ended {
        let merge = "INSERT INTO notes SELECT note, text, written_at FROM inbox
            WHERE merged_at IS NULL ORDER BY rowid ON CONFLICT (id) DO UPDATE
            SET text = excluded.text, written_at = excluded.written_at
            WHERE excluded.written_at >= notes.written_at";
        job.execute(merge, sql![])?;
        let merged = "UPDATE inbox SET merged_at = ?1 WHERE merged_at IS NULL";
        let count = json!({ "changes": job.execute(merged, sql![job.now()])? });
        job.audit(AuditEvent::success("changes.merged").metadata(count))?;
        Ok(Outcome::Done)
    }
}

/// What the hub's server does with a push. A change that it has already is no news.
fn receive(hub: &Verger, changes: &Json) -> Result<usize> {
    let insert = "INSERT OR IGNORE INTO inbox (change, note, text, written_at)
        SELECT value ->> 'change', value ->> 'note', value ->> 'text', value ->> 'written_at'
        FROM json_each(?1)";
    Ok(hub.connect()?.execute(insert, [changes.as_str()])?)
}

/// What lies between a device and the hub: nothing, or one of these.
const NO_NETWORK: u8 = 1;
const ANSWER_IS_LOST: u8 = 2;

fn device(path: &Path, name: &'static str, hub: &Verger) -> Result<(Verger, Arc<AtomicU8>)> {
    let trouble = Arc::new(AtomicU8::new(0));
    let (between, hub) = (Arc::clone(&trouble), hub.clone());
    let push = move |call: &CapabilityCall<'_>| match between.load(SeqCst) {
        NO_NETWORK => Err("there is no network".to_string()),
        _ => match (receive(&hub, call.request), between.swap(0, SeqCst)) {
            (Err(error), _) => Err(error.to_string()),
            (Ok(_), ANSWER_IS_LOST) => Err("the answer was lost".to_string()),
            (Ok(received), _) => Ok(json!(received)),
        },
    };
    let builder = Verger::builder(path).without_built_ins().worker(PushChanges(name));
    let device = builder.slow_capability("hub", push).open()?;
    device.connect()?.execute_batch(&[NOTES, OUTBOX].concat())?;
    Ok((device, trouble))
}

fn write(device: &Verger, note: &str, text: &str) -> Result<()> {
    let (mut app, row) = (device.connect()?, params![note, text, device.now().as_millis()]);
    let transaction = app.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute("INSERT OR REPLACE INTO notes VALUES (?1, ?2, ?3)", row)?;
    let change = "INSERT INTO outbox (note, text, written_at) VALUES (?1, ?2, ?3)";
    transaction.execute(change, row)?;
    device.enqueue_in(&transaction, NewJob::new("push-changes", json!({})).unique())?;
    Ok(transaction.commit()?)
}

/// One column, in one line.
fn list(verger: &Verger, select: &str) -> Result<String> {
    let list = format!("SELECT coalesce(group_concat(it, '; '), '') FROM ({select})");
    Ok(verger.connect()?.query_row(&list, [], |row| row.get(0))?)
}

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = |name: &str| folder.path().join(name);
    let merge = Schedule::every("merge", Duration::from_secs(60))?.worker("merge-changes");
    let hub = Verger::builder(file("hub.db")).without_built_ins().worker(MergeChanges);
    let hub = hub.schedule(merge).open()?;
    hub.connect()?.execute_batch(&[NOTES, INBOX].concat())?;
    let (phone, trouble) = device(&file("phone.db"), "phone", &hub)?;
    let (laptop, _) = device(&file("laptop.db"), "laptop", &hub)?;
    let (start, second) = (hub.now(), Duration::from_secs(1));

    trouble.store(NO_NETWORK, SeqCst);
    write(&laptop, "shopping", "bread")?;
    write(&phone, "shopping", "bread, milk")?;
    write(&phone, "call", "Ada at ten")?;
    laptop.tick(start)?;
    phone.tick(start)?;
    hub.tick(start + 61 * second)?;
    let notes = "SELECT id || ': ' || text AS it FROM notes ORDER BY id";
    println!("while the phone is offline  {}", list(&hub, notes)?);
    assert_eq!(list(&hub, notes)?, "shopping: bread");

    trouble.store(ANSWER_IS_LOST, SeqCst);
    let unsent = "SELECT note AS it FROM outbox WHERE pushed_at IS NULL ORDER BY id";
    phone.tick(start + 31 * second)?; // The hub has it all, and the phone does not know.
    assert_eq!(list(&phone, unsent)?, "shopping; call");
    phone.tick(start + 62 * second)?; // It sends the same again.
    assert_eq!(list(&phone, unsent)?, "");
    let inbox = "SELECT change AS it FROM inbox ORDER BY change";
    assert_eq!(list(&hub, inbox)?, "laptop-1; phone-1; phone-2");
    hub.tick(start + 122 * second)?;
    println!("when it has caught up       {}", list(&hub, notes)?);
    assert_eq!(list(&hub, notes)?, "call: Ada at ten; shopping: bread, milk");
    for (name, verger) in [("hub", &hub), ("phone", &phone), ("laptop", &laptop)] {
        println!("audit log of the {name}: {} rows, whole", verger.verify_audit()?.rows);
    }
    Ok(())
}

#[test]
fn a_device_that_was_offline_catches_up_and_nothing_arrives_twice() -> Result<()> {
    main()
}
