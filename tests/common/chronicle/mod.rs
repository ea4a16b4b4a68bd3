//! A life to be interrupted: jobs of every kind, and books that tell afterwards whether each had
//! its effect once.
//!
//! Every effect is a row of `things`, keyed by the job's tag. Nothing in the table refuses a second
//! row, so a second effect would show.

mod books;

use std::path::Path;
use std::time::Duration;

use serde_json::{Value as Json, json};
use verger::rusqlite::{Connection, TransactionBehavior};
use verger::verger_worker::prelude::*;
use verger::{
    Backoff, Builder, CompileCache, Durability, Grant, Missed, NewJob, Overlap, Retention,
    Schedule, Verger,
};

pub(crate) use self::books::{Books, check, settle};
use super::PUPPET;

/// Steps of a job with checkpoints.
const STEPS: i64 = 5;

/// A worker that does what its kind says.
pub(crate) struct Chronicler;

impl Worker for Chronicler {
    fn manifest(&self) -> Manifest {
        Manifest::new("chronicler", "1.0.0")
            .arg("kind", ArgSpec::default_value("plain"))
            .arg("tag", ArgSpec::default_value(Json::Null))
            .table(TableAsk::named("things").read().insert())
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let kind: String = args.get("kind")?;
        let tag = match job.job().scheduled {
            Some(slot) => format!("{}-{}", slot.schedule, slot.at),
            None => args.get("tag")?,
        };
        let write = |step: i64| {
            job.execute(
                "INSERT INTO things (name, value) VALUES (?1, ?2)",
                params![tag.as_str(), step],
            )
        };
        let written: i64 = job
            .query("SELECT count(*) FROM things WHERE name = ?1", params![tag.as_str()])?
            .rows()
            .next()
            .unwrap()?
            .take(0)?;
        match kind.as_str() {
            "steps" => {
                for step in written..STEPS {
                    write(step)?;
                    job.progress(step as u64 + 1, STEPS as u64);
                    job.checkpoint()?;
                }
            }
            "snoozes" if written == 0 => {
                write(0)?;
                return Ok(Outcome::Snooze(1));
            }
            "snoozes" => drop(write(1)?),
            "slow" => {
                write(0)?;
                std::thread::sleep(Duration::from_millis(8));
            }
            _ => drop(write(0)?),
        }
        job.audit(AuditEvent::success("thing.written").subject("thing", tag.as_str()))?;
        Ok(match kind.as_str() {
            "flaky" if job.job().attempt == 1 => Outcome::Failed(WorkerError::new("not yet")),
            "doomed" => Outcome::Failed(WorkerError::new("never")),
            "cancels" => Outcome::Cancel("it says so itself".into()),
            _ => Outcome::Done,
        })
    }
}

/// Ends its process.
pub(crate) struct Poison;

impl Worker for Poison {
    fn manifest(&self) -> Manifest {
        Manifest::new("poison", "1.0.0").table(TableAsk::named("things").insert())
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        _: &Args,
    ) -> Result<Outcome, WorkerError> {
        job.execute("INSERT INTO things (name, value) VALUES ('poison', 0)", params![])?;
        std::process::abort()
    }
}

/// A connection of the app's. With the feature `sqlcipher` every file of this life is encrypted.
pub(crate) fn open(file: &Path) -> Connection {
    let app = Connection::open(file).unwrap();
    #[cfg(feature = "sqlcipher")]
    app.pragma_update(None, "key", "x'".to_string() + &"2a".repeat(32) + "'").unwrap();
    app
}

/// Makes the app's tables in a new file.
pub(crate) fn found(file: &Path) {
    let app = open(file);
    app.execute_batch(
        "PRAGMA journal_mode = WAL; CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT, value); CREATE INDEX things_by_name ON things (name);
         CREATE TABLE orders (tag TEXT);",
    )
    .unwrap();
}

/// Whether the jobs of a life share transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Groups {
    Off,
    /// Those that are known to be short, as everywhere.
    On,
    /// All that can, whatever is known of them, and right after a crash.
    Always,
}

impl Groups {
    pub(crate) const ALL: [Self; 3] = [Self::Off, Self::On, Self::Always];

    /// The variable that tells another process.
    pub(crate) const VARIABLE: &str = "VERGER_TEST_GROUPS";

    /// As another process was told.
    pub(crate) fn told() -> Self {
        let told = std::env::var(Self::VARIABLE).unwrap_or_default();
        Self::ALL.into_iter().find(|groups| format!("{groups:?}") == told).unwrap_or(Self::On)
    }

    pub(crate) fn set(self, builder: Builder) -> Builder {
        match self {
            Self::Off => builder.group_commit(false),
            Self::On => builder.group_commit(true),
            Self::Always => builder.group_commit_always(),
        }
    }
}

/// This life on this file.
pub(crate) fn builder(file: &Path) -> Builder {
    let keep = Retention::for_ever();
    let schedule = |name: &str, overlap| {
        Schedule::cron(name, "* * * * * *")
            .unwrap()
            .worker("chronicler")
            .missed(Missed::Replay(3))
            .overlap(overlap)
    };
    let builder = Verger::builder(file);
    #[cfg(feature = "sqlcipher")]
    let builder = builder.key(verger::Key::raw([0x2a; 32]));
    builder
        .without_built_ins()
        .worker(Chronicler)
        .worker(Poison)
        .component("puppet.wasm", PUPPET)
        .grant("puppet", Grant::new().write("things"))
        .compile_cache(CompileCache::Folder(std::env::temp_dir().join("verger-test-cache-crash")))
        .retention(keep)
        .durability(Durability::Normal)
        .backoff(Backoff { base: Duration::from_millis(10), max: Duration::from_millis(50) })
        .schedule(schedule("often", Overlap::Allow))
        .schedule(schedule("alone", Overlap::Forbid))
}

/// A sequence of numbers that looks random and is the same each time.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % most
    }
}

const KINDS: [&str; 12] = [
    "plain",
    "plain",
    "plain",
    "steps",
    "flaky",
    "doomed",
    "cancels",
    "snoozes",
    "slow",
    "component",
    "component-steps",
    "component-traps",
];

/// A job of some kind, and what it is called in the books.
pub(crate) fn some_job(dice: &mut Dice, seed: u64, number: u64) -> (String, NewJob) {
    let kind = KINDS[dice.below(KINDS.len() as u64) as usize];
    let tag = format!("{kind}:{seed}.{number}");
    let once = |step: i64| {
        let sql = "INSERT INTO things (name, value) SELECT ?1, ?2 WHERE NOT EXISTS (SELECT 1 FROM things WHERE name = ?1 AND value = ?2)";
        json!(["must", ["execute", sql, [tag, step]]])
    };
    let write =
        json!(["must", ["execute", "INSERT INTO things (name, value) VALUES (?1, 0)", [tag]]]);
    let audit = json!(["must", ["audit", [{"action": "thing.written", "subject_type": "thing", "subject_id": tag}]]]);
    let job = match kind {
        "component" => NewJob::new("puppet", json!({"tag": tag, "do": [write, audit]})),
        "component-steps" => {
            let steps: Vec<Json> = (0..STEPS)
                .flat_map(|step| [once(step), json!(["must", ["checkpoint"]])])
                .chain([audit])
                .collect();
            NewJob::new("puppet", json!({"tag": tag, "do": steps}))
        }
        "component-traps" => {
            NewJob::new("puppet", json!({"tag": tag, "do": [write, audit, ["trap"]]}))
                .max_attempts(2)
        }
        "doomed" => NewJob::new("chronicler", json!({"tag": tag, "kind": kind})).max_attempts(2),
        _ => NewJob::new("chronicler", json!({"tag": tag, "kind": kind})),
    };
    let job = job.priority(dice.below(3) as u8 + 4);
    let job =
        if dice.below(8) == 0 { job.after(Duration::from_millis(dice.below(150))) } else { job };
    (tag, job)
}

/// Enqueues in one of three ways: alone, many at once, or in the app's own transaction together
/// with an order.
pub(crate) fn enqueue_some(
    verger: &Verger,
    app: &mut Connection,
    dice: &mut Dice,
    seed: u64,
    number: &mut u64,
) -> Vec<String> {
    let mut next = |dice: &mut Dice| {
        *number += 1;
        some_job(dice, seed, *number)
    };
    match dice.below(4) {
        0 => {
            let (tags, jobs): (Vec<_>, Vec<_>) =
                (0..1 + dice.below(10)).map(|_| next(dice)).unzip();
            verger.enqueue_all(jobs).unwrap();
            tags
        }
        1 => {
            let tag = format!("ordered-{}", next(dice).0);
            let transaction =
                app.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
            transaction.execute("INSERT INTO orders (tag) VALUES (?1)", [&tag]).unwrap();
            let job = NewJob::new("chronicler", json!({"tag": tag, "kind": "plain"}))
                .priority(dice.below(9) as u8);
            verger.enqueue_in(&transaction, job).unwrap();
            transaction.commit().unwrap();
            vec![tag]
        }
        _ => {
            let (tag, job) = next(dice);
            verger.enqueue(job).unwrap();
            vec![tag]
        }
    }
}
