//! Versions that are rolled back, added and removed.

use serde_json::json;
use verger::testing::{TestVerger, capture_logs};
use verger::{Error, JobState, NewJob, Verger};

use super::{Site, enqueue, job, refused, version, worker};

#[test]
fn a_version_is_rolled_back_and_stays_so() {
    let site = Site::new();
    site.drop_in("acme.wasm", &worker("acme", "1"));
    let test = site.open();
    let error = test.rollback_plugin("acme").unwrap_err();
    assert!(matches!(error, Error::NotRolledBack { .. }), "{error}");
    assert!(test.rollback_plugin("nobody").is_err());
    let (_, lines) = capture_logs(|| {
        site.drop_in("acme.wasm", &worker("acme", "2"));
        test.refresh_plugins().unwrap();
        for _ in 0..4 {
            let args = json!({"do": [["failed", "no"]]});
            test.enqueue(NewJob::new("acme", args).max_attempts(1)).unwrap();
            test.drain();
        }
    });
    let told: Vec<_> =
        lines.iter().filter(|line| line.message.contains("plugin rollback acme")).collect();
    assert_eq!(told.len(), 1, "{lines:#?}");
    assert_eq!(told[0].fields["before"], "1");

    assert_eq!(test.rollback_plugin("acme").unwrap().version, "1");
    let says_so = |verger: &Verger| {
        let refused = refused(verger);
        assert_eq!(version(verger, "acme").as_deref(), Some("1"));
        assert!(refused[0].contains("version 2 of `acme`"), "{refused:?}");
        assert!(refused[0].contains("was rolled back"), "{refused:?}");
    };
    says_so(&test);
    let id = enqueue(&test, "acme");
    test.drain();
    assert_eq!(job(&test, id).worker_version.as_deref(), Some("1"));
    // Another process follows, and so does the next start.
    let other = site.open();
    says_so(&other);
    assert_eq!(test.rollback_plugin("acme").unwrap().version, "2");
    other.tick(TestVerger::START).unwrap();
    assert_eq!((version(&other, "acme").as_deref(), refused(&other).len()), (Some("2"), 0));
    assert_eq!(test.rollback_plugin("acme").unwrap().version, "1");
    drop((test, other));
    let test = site.open();
    says_so(&test);
    // The next version that is dropped in is taken.
    site.drop_in("acme.wasm", &worker("acme", "3"));
    test.refresh_plugins().unwrap();
    assert_eq!((version(&test, "acme").as_deref(), refused(&test).len()), (Some("3"), 0));
    let audited = test.audit_log(&verger::AuditFilter::default(), 10).unwrap();
    assert_eq!(audited.len(), 3);
    assert!(audited.iter().all(|row| row.action == "plugin.rolled_back"));
    test.verify_audit().unwrap();
}

#[test]
fn a_plugin_is_added_and_taken_out_by_the_app() {
    let site = Site::new();
    let test = site.open();
    std::fs::write(site.path("acme.wasm"), worker("acme", "1")).unwrap();
    let added = test.add_plugin(site.path("acme.wasm")).unwrap();
    assert_eq!((added.name.as_str(), added.version.as_str()), ("acme", "1"));
    assert_eq!(test.plugins(), std::slice::from_ref(&added));
    assert_eq!(test.digest("acme").unwrap(), Some(added.digest));
    // It is looked at from now on.
    std::fs::write(site.path("acme.wasm"), worker("acme", "2")).unwrap();
    test.tick(TestVerger::START).unwrap();
    assert_eq!(version(&test, "acme").as_deref(), Some("2"));
    // What is refused changes nothing.
    std::fs::write(site.path("twin.wasm"), worker("acme", "3")).unwrap();
    std::fs::write(site.path("text.wasm"), "no component").unwrap();
    for (file, phrase) in [
        ("twin.wasm", "that name belongs to"),
        ("text.wasm", "is no valid WebAssembly component"),
        ("none.wasm", "cannot read the plugin"),
        ("plugins", "is a folder, not a file"),
    ] {
        let error = test.add_plugin(site.path(file)).unwrap_err();
        assert!(matches!(error, Error::Plugin(_)), "{error:?}");
        assert!(error.to_string().contains(phrase), "{error}");
    }
    test.refresh_plugins().unwrap();
    assert_eq!((test.workers(), refused(&test)), (vec!["acme".to_string()], Vec::new()));

    let id = enqueue(&test, "acme");
    assert!(test.remove_plugin("acme").unwrap());
    assert!(!test.remove_plugin("acme").unwrap());
    test.drain();
    assert!(job(&test, id).parked);
    test.add_plugin(site.path("acme.wasm")).unwrap();
    test.drain();
    assert_eq!(job(&test, id).state, JobState::Completed);
    // One in the folder stays out until it changes.
    site.drop_in("other.wasm", &worker("other", "1"));
    test.refresh_plugins().unwrap();
    assert!(test.remove_plugin("other").unwrap());
    test.refresh_plugins().unwrap();
    assert_eq!(version(&test, "other"), None);
    assert!(refused(&test)[0].contains("other.wasm was taken out by the app"));
    site.drop_in("other.wasm", &worker("other", "2"));
    test.refresh_plugins().unwrap();
    assert_eq!(version(&test, "other").as_deref(), Some("2"));
}
