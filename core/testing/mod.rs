//! The test kit: a Verger in memory under a clock that a test moves, and assertions on what was
//! enqueued, run and audited.
//!
//! ```
//! use std::time::Duration;
//! use serde_json::json;
//! use verger::testing::TestVerger;
//! use verger::{NewJob, Schedule, assert_audited, assert_enqueued, refute_enqueued};
//!
//! let sweep = Schedule::every("memberships", Duration::from_secs(300))?
//!     .worker("reconcile-memberships")
//!     .args(json!({"organization_id": null, "actor_id": null}));
//! let test = TestVerger::with(|builder| builder.schedule(sweep)).reference_tables();
//! test.sql("INSERT INTO memberships (id, organization_id, user_id, state, expires_at, created_at, updated_at)
//!     VALUES ('m1', 'acme', 'u1', 'active', 5, 0, 0)");
//!
//! refute_enqueued!(test, worker: "reconcile-memberships");
//! test.run_for(Duration::from_secs(300)); // no sleep: the clock jumps from due instant to due instant
//! assert_eq!(test.one::<String>("SELECT state FROM memberships"), "expired");
//! assert_audited!(test, action: "membership.updated", organization: "acme", after: json!({"state": "expired"}));
//!
//! test.enqueue(NewJob::new("reconcile-memberships", json!({"organization_id": "acme", "actor_id": "u9"})))?;
//! assert_enqueued!(test, worker: "reconcile-memberships", args: json!({"actor_id": "u9"}));
//! test.drain();
//! refute_enqueued!(test);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! To test a worker that is a `.wasm`, without an app, see [`WorkerTest`].
//!
//! If something goes wrong in the kit itself, as when the test's SQL fails or a Verger does not
//! open, the test stops with the reason.

mod audit;
mod clock;
mod example;
mod harness;
mod job;
mod logs;
mod rows;
mod test_verger;
mod time;

pub use crate::statement_steps::statement_steps;
pub use audit::AuditMatch;
pub use clock::ManualClock;
pub use example::example;
pub use harness::{Performed, TestedWorker, WorkerTest};
pub use job::JobMatch;
pub use logs::{LogLine, capture_logs};
pub use rows::contains;
pub use test_verger::TestVerger;

pub use crate::failpoint::Failpoint;

pub use crate::{assert_audited, assert_enqueued, refute_audited, refute_enqueued};

/// Stops the test.
#[track_caller]
#[expect(clippy::panic, reason = "a test kit stops the test")]
fn stop(reason: &str) -> ! {
    panic!("{reason}")
}
