//! Opening the app takes a bounded time, whatever file was dropped in: what could keep the compiler busy is refused by its shape, what does
//! keep it busy by the clock, and the other workers run.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod handmade;

use std::path::Path;
use std::time::Duration;

use handmade::Handmade;
use serde_json::json;
use verger::testing::TestVerger;
use verger::{CompileCache, OpenError, PerformError, PluginError, Verger};

const WASI: &[u8] = include_bytes!("guests/wasi.wasm");
const NOOP: &[u8] = include_bytes!("guests/noop.wasm");

fn drop_in(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    std::fs::create_dir_all(folder.join("plugins")).unwrap();
    std::fs::write(folder.join("plugins").join(name), bytes).unwrap();
}

fn open(folder: &Path, limit: Duration) -> Result<Verger, OpenError> {
    Verger::builder(folder.join("app.db"))
        .plugins(folder.join("plugins"))
        .compile_cache(CompileCache::Folder(folder.join("cache")))
        .compile_limit(limit)
        .without_built_ins()
        .open()
}

const LONG: Duration = Duration::from_secs(600);

fn worker(main: impl Into<String>) -> Vec<u8> {
    Handmade::new("hostile").main(main).bytes()
}

/// A function of this code.
fn function(code: &str) -> Vec<u8> {
    worker(format!("(func (param i32) (result i32) {code})"))
}

#[test]
fn what_could_keep_the_compiler_busy_is_refused_by_its_shape() {
    let nested = |open: &str, times: usize| function(&format!("{} {} local.get 0", open.repeat(times), "end ".repeat(times)));
    let variables = "(local i64) ".repeat(40_000);
    let shapes = [
        (
            "a function of a million additions",
            function(&format!("local.get 0 {}", "local.get 0 i32.add ".repeat(400_000))),
            "units of code in function",
        ),
        ("loops in loops", nested("loop ", 3_000), "blocks and branches in function"),
        ("blocks in blocks", nested("block ", 45_000), "blocks and branches in function"),
        (
            "a jump to a hundred thousand places",
            function(&format!("block local.get 0 br_table {}0 end local.get 0", "0 ".repeat(100_000))),
            "blocks and branches in function",
        ),
        (
            "variables that live across branches",
            worker(format!("(func (param i32) {variables} {})", "local.get 0 if end ".repeat(200))),
            "in function",
        ),
        ("functions without end", worker("(func) ".repeat(100_001)), "functions and function types"),
        ("tables", worker("(table 1000001 funcref)"), "elements in its tables"),
    ];
    for (what, bytes, says) in shapes {
        let folder = tempfile::tempdir().unwrap();
        drop_in(folder.path(), "hostile.wasm", bytes);
        drop_in(folder.path(), "noop.wasm", NOOP);
        let verger = open(folder.path(), LONG).unwrap();
        let [refused @ PluginError::TooComplex { .. }] = verger.refused_plugins() else { panic!("{what}: {:?}", verger.refused_plugins()) };
        let message = refused.to_string();
        assert!(message.contains("hostile.wasm is not compiled") && message.contains(says), "{what}: {message}");
        // The others work.
        verger.perform_now("noop", json!({})).unwrap();
    }
}

#[test]
fn what_keeps_the_compiler_busy_is_left_when_the_time_is_over() {
    let folder = tempfile::tempdir().unwrap();
    drop_in(folder.path(), "noop.wasm", NOOP);
    // The smaller file comes first.
    drop_in(folder.path(), "wasi.wasm", WASI);
    let none = Duration::from_nanos(1);
    let verger = open(folder.path(), none).unwrap();
    let [PluginError::TooSlow { .. } | PluginError::NoTimeLeft { .. }, PluginError::TooSlow { .. } | PluginError::NoTimeLeft { .. }] =
        verger.refused_plugins()
    else {
        panic!("{:?}", verger.refused_plugins())
    };
    let told: Vec<String> = verger.refused_plugins().iter().map(ToString::to_string).collect();
    assert!(
        told.iter().any(|told| told.contains("noop.wasm was not compiled within the 1ns") && told.contains("longer compile_limit")),
        "{told:?}"
    );
    assert!(
        told.iter().any(|told| told.contains("wasi.wasm was not compiled, for") && told.contains("noop.wasm took what was left")),
        "{told:?}"
    );
    assert!(matches!(verger.perform_now("noop", json!({})), Err(PerformError::Refused(_))), "it is not there");
    drop(verger);
    // With time it is compiled; and what is compiled takes none.
    assert!(open(folder.path(), LONG).unwrap().refused_plugins().is_empty());
    let verger = open(folder.path(), none).unwrap();
    assert!(verger.refused_plugins().is_empty(), "{:?}", verger.refused_plugins());
    verger.perform_now("noop", json!({})).unwrap();
}

#[test]
fn the_built_in_workers_are_compiled_however_long_it_takes() {
    let cache = tempfile::tempdir().unwrap();
    let test = TestVerger::with(|builder| {
        builder.compile_cache(CompileCache::Folder(cache.path().to_path_buf())).compile_limit(Duration::from_nanos(1))
    })
    .reference_tables();
    test.perform_job("reconcile-memberships", json!({"organization_id": null, "actor_id": null})).unwrap();
}
