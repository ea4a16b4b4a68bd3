//! Without a compiler: what was compiled ahead runs, and what was not is refused by name. Start it
//! by hand: `verger plugin compile --built-ins tests/guests/puppet.wasm -o DIR`, then the test with
//! VERGER_COMPILED=DIR.
#![cfg(all(feature = "builtins", feature = "testing", not(feature = "compile")))]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

use std::path::PathBuf;

use serde_json::json;
use verger::{CompileCache, Verger};

fn folder() -> PathBuf {
    std::env::var_os("VERGER_COMPILED").expect("the folder that `plugin compile` wrote").into()
}

#[test]
#[ignore = "needs artefacts in the folder VERGER_COMPILED: started by hand"]
fn workers_that_were_compiled_ahead_run_without_a_compiler() {
    let puppet = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guests/puppet.wasm");
    let noop = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guests/noop.wasm");
    let verger = Verger::in_memory()
        .plugin(puppet)
        .plugin(noop)
        .compile_cache(CompileCache::Folder(folder()))
        .open()
        .unwrap();
    verger.migrate_reference().unwrap();
    verger.perform_now("puppet", json!({ "do": [] })).unwrap();
    verger.cleanup_audit(Some(30)).unwrap();
    assert_eq!(verger.reconcile_memberships("memberships").unwrap().scanned, 0);
    let refused: Vec<String> = verger.refused_plugins().iter().map(ToString::to_string).collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(refused[0].contains("noop.wasm") && refused[0].contains("no compiler"), "{refused:?}");
}
