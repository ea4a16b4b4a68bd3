//! What Verger does without WebAssembly: native workers run, and one warning names the components
//! that were asked for.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use serde_json::json;
use verger::verger_worker::prelude::*;
use verger::{AttemptOutcome, NewJob, Verger};

struct Echo;

impl Worker for Echo {
    fn manifest(&self) -> Manifest {
        Manifest::new("echo", "1.0.0")
    }

    fn perform(
        &self,
        _: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        Ok(Outcome::DoneWith(json!(args.as_map())))
    }
}

#[test]
fn native_workers_run_with_or_without_wasm() {
    let verger = Verger::in_memory().worker(Echo).open().unwrap();
    verger.enqueue(NewJob::new("echo", json!({"a": 1}))).unwrap();
    let report = verger.tick(verger.now()).unwrap();
    assert_eq!(report.attempts[0].outcome, AttemptOutcome::Completed(Some(json!({"a": 1}))));
    assert_eq!(Verger::wasm_available(), cfg!(feature = "wasm"));
}

#[cfg(not(feature = "wasm"))]
#[test]
fn without_wasm_configured_components_do_not_keep_the_app_from_opening() {
    let verger = Verger::in_memory()
        .worker(Echo)
        .plugins("no-such-folder")
        .component("acme", vec![0])
        .open()
        .unwrap();
    assert_eq!(verger.workers(), ["echo"]);
}
