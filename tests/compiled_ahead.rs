//! Components that were compiled before the app shipped. They load without a compiler, and are used
//! only for the component they were made from, and only if they fit.
#![cfg(feature = "compile")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unsafe_code,
    reason = "a test stops at the first surprise"
)]

mod common;

use std::path::Path;
use std::time::Duration;

use common::PUPPET;
use serde_json::json;
use verger::{
    Builder, CompileCache, CompiledComponent, Verger, built_in_components, compile_component,
};

fn compiled() -> CompiledComponent {
    compile_component("puppet.wasm", PUPPET, None).unwrap()
}

/// A Verger that has a plugin, and no time to compile it.
fn hurried(plugin: &Path) -> Builder {
    Verger::in_memory()
        .without_built_ins()
        .plugin(plugin)
        .compile_cache(CompileCache::Off)
        .compile_limit(Duration::ZERO)
}

fn puppet_in(folder: &Path) -> std::path::PathBuf {
    let plugin = folder.join("puppet.wasm");
    std::fs::write(&plugin, PUPPET).unwrap();
    plugin
}

fn performs(builder: Builder) -> bool {
    let verger = builder.open().unwrap();
    if !verger.workers().contains(&"puppet".to_string()) {
        return false;
    }
    verger.perform_now("puppet", json!({ "do": [] })).unwrap();
    true
}

#[test]
fn an_artefact_that_the_app_brings_is_used_for_its_component() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = puppet_in(folder.path());
    assert!(!performs(hurried(&plugin)), "there is no time to compile it");
    // SAFETY: it was made a line ago.
    let with = |bytes: Vec<u8>| performs(unsafe { hurried(&plugin).compiled(bytes) });
    assert!(with(compiled().as_bytes().to_vec()));
    let (_, other) = built_in_components().next().unwrap();
    let other = compile_component("other", other, None).unwrap();
    assert!(!with(other.as_bytes().to_vec()), "that one is of another component");
}

#[test]
fn an_artefact_that_is_damaged_or_for_other_machines_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = puppet_in(folder.path());
    // SAFETY: what is not whole is not run.
    let with = |bytes: &[u8]| performs(unsafe { hurried(&plugin).compiled(bytes.to_vec()) });
    let whole = compiled().as_bytes().to_vec();
    for place in [0, 31, 32, 100, whole.len() / 2, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[place] ^= 1;
        assert!(!with(&damaged), "{place}");
        assert!(!with(&whole[..place]), "{place}");
    }
    let other = if cfg!(target_os = "windows") { "linux-gnu" } else { "pc-windows-msvc" };
    let target = format!("{}-{other}", std::env::consts::ARCH);
    let for_others = compile_component("puppet.wasm", PUPPET, Some(&target)).unwrap();
    assert!(!with(for_others.as_bytes()), "{target}");
}

#[test]
fn an_artefact_in_the_apps_folder_is_found_and_not_in_one_that_others_can_write() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = puppet_in(folder.path());
    let compiled = compiled();
    assert!(compiled.file_name().ends_with(".cwasm"));
    std::fs::write(folder.path().join(compiled.file_name()), compiled.as_bytes()).unwrap();
    let at = || hurried(&plugin).compile_cache(CompileCache::Folder(folder.path().to_path_buf()));
    assert!(performs(at()));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o775)).unwrap();
        assert!(!performs(at()), "the group can write it");
    }
}

#[test]
fn what_cannot_be_compiled_is_refused_with_a_sentence() {
    for (bytes, target, says) in [
        (&b"\0asm\x01\0\0\0"[..], None, "verger plugin pack"),
        (b"hello", None, "it does not begin as WebAssembly does"),
        (PUPPET, Some("no-such-machine"), "cannot be compiled for no-such-machine"),
        (&PUPPET[..900], None, "no valid WebAssembly component"),
    ] {
        let refused = compile_component("p.wasm", bytes, target).unwrap_err().to_string();
        assert!(refused.contains(says) && refused.contains("p.wasm"), "{refused}");
    }
}
