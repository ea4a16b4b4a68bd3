//! The command, started as a person or a program starts it, and the files it works on.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value as Json;
use tempfile::TempDir;
use verger::rusqlite::Connection;

/// The args of a job for all organizations.
pub(crate) const NULL_TENANT: &str = r#"{"organization_id": null, "actor_id": null}"#;

/// The command. What it compiles is kept for the other tests of this build, and nowhere else.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_verger"));
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    command.args(args).env("XDG_CACHE_HOME", cache).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

pub(crate) fn verger(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What a verb prints on stdout and on stderr when it ends with this status.
#[track_caller]
pub(crate) fn said(status: i32, args: &[&str]) -> (String, String) {
    let output = verger(args);
    let (out, err) = (stdout(&output), stderr(&output));
    assert_eq!(output.status.code(), Some(status), "{args:?}: {out}{err}");
    (out, err)
}

/// What a verb prints that must succeed.
#[track_caller]
pub(crate) fn text(args: &[&str]) -> String {
    said(0, args).0
}

/// The object that a verb prints with `--json` when it ends with this status.
#[track_caller]
pub(crate) fn object(status: i32, args: &[&str]) -> Json {
    serde_json::from_str(&said(status, &[args, &["--json"]].concat()).0).unwrap()
}

/// The objects that a verb prints with `--json`, one a line.
#[track_caller]
pub(crate) fn objects(args: &[&str]) -> Vec<Json> {
    let text = text(&[args, &["--json"]].concat());
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What a verb says that is refused as bad usage or input: it has printed nothing.
#[track_caller]
pub(crate) fn refusal(args: &[&str]) -> String {
    let (out, err) = said(2, args);
    assert_eq!(out, "", "{args:?}");
    err
}

pub(crate) fn keys(object: &Json) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

/// A file of the repository.
pub(crate) fn repository(path: &str) -> String {
    format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn puppet() -> String {
    repository("tests/guests/puppet.wasm")
}

pub(crate) fn prebuilt(name: &str) -> String {
    repository(&format!("plugins/prebuilt/{name}.wasm"))
}

/// A folder for files of a test.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A file with this in it: its name.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name).to_str().unwrap().to_string()
    }
}

/// A folder with a database that has the reference tables.
pub(crate) struct Site {
    pub(crate) folder: Folder,
    pub(crate) db: PathBuf,
}

impl Site {
    pub(crate) fn new() -> Self {
        let folder = Folder::new();
        let site = Self { db: folder.path("app.db"), folder };
        text(&["migrate", "--db", site.db(), "--reference"]);
        site
    }

    pub(crate) fn db(&self) -> &str {
        self.db.to_str().unwrap()
    }

    pub(crate) fn sql(&self, sql: &str) {
        self.open().execute_batch(sql).unwrap();
    }

    pub(crate) fn open(&self) -> Connection {
        Connection::open(&self.db).unwrap()
    }
}
