//! A plugin's name is its own. No other file takes it, or the grant that goes with it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use std::path::{Path, PathBuf};

use common::puppet_as;
use serde_json::json;
use verger::{Builder, Grant, PluginError, Verger};

/// A component named `payroll`; another version is another digest.
fn payroll(version: &str) -> Vec<u8> {
    puppet_as(&json!({"name": "payroll", "version": version, "args": {"do": {"default": []}}}))
}

/// An app with a file and a folder for plugins.
struct App(tempfile::TempDir);

impl App {
    fn new() -> Self {
        let app = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(app.path("plugins")).unwrap();
        app
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn drop_in(&self, file: &str, component: &[u8]) {
        std::fs::write(self.path("plugins").join(file), component).unwrap();
    }

    fn remove(&self, file: &str) {
        std::fs::remove_file(self.path("plugins").join(file)).unwrap();
    }

    fn builder(&self) -> Builder {
        Verger::builder(self.path("app.db")).without_built_ins().plugins(self.path("plugins"))
    }

    /// The version of `payroll` that an open takes, and the files that it refuses.
    fn open(&self) -> (Option<String>, Vec<String>) {
        told(&self.builder().open().unwrap())
    }
}

fn told(verger: &Verger) -> (Option<String>, Vec<String>) {
    let version = verger.manifest("payroll").ok().map(|manifest| manifest.version);
    let kind = |refused: &PluginError| {
        let (kind, what) = match refused {
            PluginError::NameTaken { what, .. } => ("taken", what),
            PluginError::NameContested { what, .. } => ("contested", what),
            PluginError::Copy { what, .. } => ("copy", what),
            PluginError::Duplicate { what, .. } => ("duplicate", what),
            PluginError::OtherDigest { what, .. } => ("other digest", what),
            other => panic!("{other}"),
        };
        format!("{kind} {}", Path::new(what).file_name().unwrap().to_str().unwrap())
    };
    (version, verger.refused_plugins().iter().map(kind).collect())
}

fn is(version: &str, refused: &[&str]) -> (Option<String>, Vec<String>) {
    (Some(version.to_string()), refused.iter().map(ToString::to_string).collect())
}

fn none(refused: &[&str]) -> (Option<String>, Vec<String>) {
    (None, refused.iter().map(ToString::to_string).collect())
}

#[test]
fn a_file_that_sorts_first_does_not_take_the_name_of_another() {
    let app = App::new();
    app.drop_in("p.wasm", &payroll("genuine"));
    assert_eq!(app.open(), is("genuine", &[]));
    app.drop_in("aaa.wasm", &payroll("forged"));
    assert_eq!(app.open(), is("genuine", &["taken aaa.wasm"]));
    let verger = app.builder().open().unwrap();
    let said = verger.refused_plugins()[0].to_string();
    let genuine = verger.digest("payroll").unwrap().unwrap();
    assert!(said.contains(&genuine) && said.contains("p.wasm") && said.contains("aaa.wasm"));
    drop(verger);
    // Neither when the genuine one is gone, until the app lets it.
    app.remove("p.wasm");
    assert_eq!(app.open(), none(&["taken aaa.wasm"]));
    let verger = app.builder().read_only().open().unwrap();
    assert_eq!(told(&verger), none(&["taken aaa.wasm"]));
    drop(verger);
    assert!(app.builder().open().unwrap().forget_plugin("payroll").unwrap());
    assert_eq!(app.open(), is("forged", &[]));
    assert!(!app.builder().open().unwrap().forget_plugin("nobody").unwrap());
}

#[test]
fn of_two_strangers_of_one_name_neither_gets_it() {
    let app = App::new();
    app.drop_in("a.wasm", &payroll("1"));
    app.drop_in("b.wasm", &payroll("2"));
    assert_eq!(app.open(), none(&["contested a.wasm", "contested b.wasm"]));
    let in_memory = Verger::in_memory().plugins(app.path("plugins")).open().unwrap();
    assert_eq!(told(&in_memory), none(&["contested a.wasm", "contested b.wasm"]));
    app.remove("a.wasm");
    assert_eq!(app.open(), is("2", &[]));
}

#[test]
fn a_file_with_new_bytes_is_a_new_version_and_a_copy_is_told() {
    let app = App::new();
    app.drop_in("p.wasm", &payroll("1"));
    assert_eq!(app.open(), is("1", &[]));
    app.drop_in("p.wasm", &payroll("2"));
    assert_eq!(app.open(), is("2", &[]));
    app.drop_in("copy.wasm", &payroll("2"));
    assert_eq!(app.open(), is("2", &["copy copy.wasm"]));
    app.remove("copy.wasm");
    // The same file by two ways is one file.
    let twice = app.builder().plugin(app.path("plugins").join("p.wasm")).open().unwrap();
    assert_eq!(told(&twice), is("2", &[]));
    drop(twice);
    // The folder moves, and the version changes with it.
    std::fs::rename(app.path("plugins"), app.path("moved")).unwrap();
    std::fs::create_dir(app.path("plugins")).unwrap();
    std::fs::write(app.path("moved/p.wasm"), payroll("3")).unwrap();
    let moved = app.builder().plugins(app.path("moved")).open().unwrap();
    assert_eq!(told(&moved), is("3", &[]));
}

#[test]
fn a_grant_for_one_digest_is_above_who_was_first() {
    let app = App::new();
    app.drop_in("p.wasm", &payroll("1"));
    let old = app.builder().open().unwrap().digest("payroll").unwrap().unwrap();
    app.drop_in("new.wasm", &payroll("2"));
    let alone = Verger::in_memory().plugin(app.path("plugins/new.wasm")).open().unwrap();
    let new = alone.digest("payroll").unwrap().unwrap();
    let pinned = |digest: &str| {
        let grant = Grant::new().for_digest(digest);
        told(&app.builder().grant("payroll", grant).open().unwrap())
    };
    assert_eq!(pinned(&new), is("2", &["taken p.wasm"]));
    assert_eq!(pinned(&old), is("1", &["taken new.wasm"]));
    assert_eq!(app.open(), is("1", &["taken new.wasm"]), "the file's own word stays");
    let neither = pinned(&"00".repeat(32));
    assert_eq!(neither, none(&["other digest new.wasm", "other digest p.wasm"]));
}

#[test]
fn the_apps_own_workers_keep_their_names() {
    let app = App::new();
    app.drop_in("p.wasm", &payroll("dropped in"));
    assert_eq!(app.open(), is("dropped in", &[]));
    let own = app.builder().component("own.wasm", payroll("own")).open().unwrap();
    assert_eq!(told(&own), is("own", &["duplicate p.wasm"]));
}
