//! What is in the folder: links, files that can be no plugin, folders that come and go.

use std::time::Instant;

use serde_json::json;
use verger::testing::{ManualClock, TestVerger, capture_logs};

use super::{PATIENCE, Site, enqueue, refused, running, until, until_done, version, worker};

#[cfg(unix)]
#[test]
fn what_can_be_no_plugin_is_told_of_and_the_loop_goes_on() {
    let site = Site::new();
    let own = worker("own", "1");
    let clock = ManualClock::at(TestVerger::START);
    let test = TestVerger::open(site.builder().component("own.wasm", own), &clock).unwrap();
    let ticking = running(&test);
    std::fs::create_dir(site.plugin("folder.wasm")).unwrap();
    let pipe = std::process::Command::new("mkfifo").arg(site.plugin("pipe.wasm")).status();
    assert!(pipe.unwrap().success());
    std::os::unix::fs::symlink("loop.wasm", site.plugin("loop.wasm")).unwrap();
    std::os::unix::fs::symlink("nowhere", site.plugin("nowhere.wasm")).unwrap();
    std::fs::File::create(site.plugin("large.wasm")).unwrap().set_len(200 << 20).unwrap();
    std::fs::write(site.plugin("empty.wasm"), "").unwrap();
    site.drop_in("own.wasm", &worker("own", "2"));
    site.drop_in("twin-a.wasm", &worker("twin", "1"));
    site.drop_in("twin-b.wasm", &worker("twin", "2"));
    site.drop_in("good.wasm", &worker("good", "1"));
    until("all are looked at", || refused(&test).len() == 9);
    let told = refused(&test);
    for (file, phrase) in [
        ("empty.wasm", "does not begin as WebAssembly does"),
        ("folder.wasm", "is a folder, not a file: put the .wasm itself in its place"),
        ("large.wasm", "has 209715200 bytes, more than the 67108864 a plugin may have"),
        ("loop.wasm", "it is a symbolic link that leads to no file"),
        ("nowhere.wasm", "it is a symbolic link that leads to no file"),
        ("own.wasm", "is named `own`, and so is a worker the app has already"),
        ("pipe.wasm", "is a pipe, not a file"),
        ("twin-a.wasm", "remove all but one"),
        ("twin-b.wasm", "remove all but one"),
    ] {
        let is_told = |reason: &&String| reason.contains(file) && reason.contains(phrase);
        assert!(told.iter().any(|reason| is_told(&reason)), "{file}: {told:#?}");
    }
    assert_eq!(version(&test, "own").as_deref(), Some("1"));
    until_done(&test, enqueue(&test, "good"));
    ticking.stop(PATIENCE).unwrap();
}

#[test]
fn a_link_that_leads_to_another_version_is_a_new_version() {
    let site = Site::new();
    for number in ["1", "2"] {
        std::fs::create_dir(site.path(number)).unwrap();
        std::fs::write(site.path(number).join("acme.wasm"), worker("acme", number)).unwrap();
    }
    let point = |number: &str| {
        let _ = std::fs::remove_file(site.plugin("acme.wasm"));
        let to = site.path(number).join("acme.wasm");
        #[cfg(unix)]
        std::os::unix::fs::symlink(to, site.plugin("acme.wasm")).unwrap();
        #[cfg(not(unix))]
        std::fs::copy(to, site.plugin("acme.wasm")).unwrap();
    };
    point("1");
    let test = site.open();
    assert_eq!(version(&test, "acme").as_deref(), Some("1"));
    point("2");
    test.refresh_plugins().unwrap();
    assert_eq!((version(&test, "acme").as_deref(), refused(&test)), (Some("2"), Vec::new()));
}

#[test]
fn a_folder_that_appears_or_goes_is_a_folder_that_is_empty() {
    let site = Site::new();
    std::fs::remove_dir(site.path("plugins")).unwrap();
    let test = site.open();
    test.refresh_plugins().unwrap();
    std::fs::create_dir(site.path("plugins")).unwrap();
    site.drop_in("acme.wasm", &worker("acme", "1"));
    test.tick(TestVerger::START).unwrap();
    assert_eq!(version(&test, "acme").as_deref(), Some("1"));
    std::fs::rename(site.path("plugins"), site.path("elsewhere")).unwrap();
    test.tick(TestVerger::START).unwrap();
    assert!(test.workers().is_empty());
    std::fs::rename(site.path("elsewhere"), site.path("plugins")).unwrap();
    test.tick(TestVerger::START).unwrap();
    assert_eq!(version(&test, "acme").as_deref(), Some("1"));
}

#[test]
fn a_known_file_is_not_loaded_before_it_is_needed() {
    let site = Site::new();
    // Names of its own: no other test has the same components, and replaces them.
    site.drop_in("acme.wasm", &worker("known-a", "1"));
    site.drop_in("other.wasm", &worker("known-b", "1"));
    drop(site.open());
    let loads = |lines: &[verger::testing::LogLine]| {
        lines.iter().filter(|line| line.message == "described").count()
    };
    let begun = Instant::now();
    let (test, lines) = capture_logs(|| site.open());
    println!("opened with two known plugins in {:?}", begun.elapsed());
    assert_eq!((loads(&lines), test.workers().len()), (0, 2));
    assert_eq!(version(&test, "known-a").as_deref(), Some("1"));
    let (_, lines) = capture_logs(|| test.perform_now("known-a", json!({})).unwrap());
    assert_eq!(loads(&lines), 1, "the one that is needed, and no other");
    drop(test);
    // A file that was changed behind its back is not taken for what it was.
    let test = site.open();
    std::fs::write(site.plugin("acme.wasm"), worker("known-a", "2")).unwrap();
    let error = test.perform_now("known-a", json!({})).unwrap_err();
    assert!(error.to_string().contains("was replaced since it was looked at"), "{error}");
    test.refresh_plugins().unwrap();
    test.perform_now("known-a", json!({})).unwrap();
}
