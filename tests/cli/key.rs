//! `--key-command`: the key of an encrypted file comes from a command, and shows nowhere.
#![cfg(unix)]

use super::harness::{Folder, refusal};

const KEY: &str = "hunter2hunter2";

#[test]
fn a_command_that_gives_no_key_is_refused_and_nothing_is_made() {
    let folder = Folder::new();
    let db = folder.path("app.db");
    let digits = "raw:12345";
    for (command, says) in [
        ("exit 3", "the command failed"),
        ("true", "printed nothing"),
        (r"printf '\377'", "no UTF-8"),
        (&format!("echo {digits}"), "64 hexadecimal digits"),
        ("no-such-command-at-all", "the command failed"),
    ] {
        let said = refusal(&["migrate", "--db", db.to_str().unwrap(), "--key-command", command]);
        assert!(said.contains("--key-command") && said.contains(says), "{command}: {said}");
        assert!(!said.contains(digits), "{said}");
        assert!(!db.exists());
    }
    let demo = refusal(&["demo", "--db", db.to_str().unwrap(), "--key-command", "echo a"]);
    assert!(demo.contains("not encrypted"), "{demo}");
}

#[cfg(not(feature = "sqlcipher"))]
#[test]
fn without_an_sqlite_that_encrypts_a_key_is_refused_and_nothing_is_made() {
    let folder = Folder::new();
    let db = folder.path("app.db");
    let command = format!("echo {KEY}");
    let said = refusal(&["migrate", "--db", db.to_str().unwrap(), "--key-command", &command]);
    assert!(said.contains("cannot encrypt") && said.contains("sqlcipher"), "{said}");
    assert!(!said.contains(KEY), "{said}");
    assert!(!db.exists());
}

#[cfg(feature = "sqlcipher")]
#[test]
fn every_verb_opens_an_encrypted_file_with_the_key_that_a_command_prints() {
    use super::harness::{objects, text};

    for key in [KEY, &format!("raw:{}", "2a".repeat(32))] {
        let folder = Folder::new();
        let db = folder.path("app.db");
        let db = db.to_str().unwrap();
        let command = format!("echo {key}; echo another line");
        let with_key = ["--db", db, "--key-command", &command];
        text(&[&["migrate", "--reference"], &with_key[..]].concat());
        let args = r#"{"retention_days": 30}"#;
        text(&[&["enqueue", "cleanup-audit", "--args", args], &with_key[..]].concat());
        text(&[&["tick"], &with_key[..]].concat());
        let jobs = objects(&[&["jobs", "list"], &with_key[..]].concat());
        assert_eq!((jobs.len(), &jobs[0]["state"]), (1, &"completed".into()));
        for wrong in [&["jobs", "list", "--db", db][..], &["tick", "--db", db]] {
            assert!(refusal(wrong).contains("encrypted"));
            let other = refusal(&[wrong, &["--key-command", "echo other"]].concat());
            assert!(other.contains("the key does not open it"), "{other}");
            assert_eq!(other.trim().lines().count(), 1, "and SQLCipher says nothing: {other}");
        }
    }
}
