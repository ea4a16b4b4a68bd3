//! Workers that would keep the lock for long.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use verger::{Grant, Limits, PerformError};

use super::{Place, SLACK, puppets};
use crate::common::Kind;

/// How long the app, which waits as SQLite does, waits for its turns to write while something else
/// is under way.
fn longest_wait(place: &Place, is_under_way: impl Fn() -> bool) -> Duration {
    place.app.busy_timeout(Duration::from_secs(10)).unwrap();
    let mut longest = Duration::ZERO;
    while is_under_way() {
        let begun = Instant::now();
        place.app.execute("INSERT INTO other (secret) VALUES ('x')", []).unwrap();
        longest = longest.max(begun.elapsed());
        std::thread::sleep(Duration::from_millis(3));
    }
    longest
}

fn failure(place: &Place, steps: Json) -> (String, Duration, Duration) {
    let over = AtomicUsize::new(0);
    let verger = &place.verger;
    std::thread::scope(|scope| {
        let performing = scope.spawn(|| {
            let begun = Instant::now();
            let performed = verger.perform_now("puppet", json!({ "do": steps }));
            over.store(1, SeqCst);
            let code = match performed {
                Err(PerformError::Failed { source, .. }) => source.code,
                other => panic!("{other:?}"),
            };
            (code, begun.elapsed())
        });
        std::thread::sleep(Duration::from_millis(100));
        // A connection belongs to one thread at a time, and this is the one.
        let waited = longest_wait(place, || over.load(SeqCst) == 0);
        let (code, took) = performing.join().unwrap();
        (code, took, waited)
    })
}

#[test]
fn a_worker_that_reads_and_then_spins_keeps_no_writer_waiting() {
    let limits = Limits::new().time(Duration::from_millis(1_500));
    let place = puppets(Kind::Component, limits);
    let endless =
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n) SELECT max(n) FROM n";
    for steps in [
        json!([["query", "SELECT 1", []], ["spin"]]),
        json!([["savepoint"], ["query", "SELECT count(*) FROM things", []], ["spin"]]),
        json!([["query", endless, []]]),
    ] {
        let (code, took, waited) = failure(&place, steps.clone());
        println!("{code} after {took:.0?}; the app waited {waited:.1?}");
        assert_eq!(code, "deadline", "{steps}");
        assert!(waited < SLACK / 2, "{waited:?}");
    }
}

#[test]
fn a_worker_that_holds_the_lock_too_long_is_undone() {
    let limits = Limits::new().time(Duration::from_secs(30)).write_lock(Duration::from_millis(300));
    let place = puppets(Kind::Component, limits);
    let insert = json!(["execute", "INSERT INTO things (name) VALUES ('held')", []]);
    let endless =
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n) SELECT max(n) FROM n";
    for steps in [
        json!([insert, ["spin"]]),
        json!([insert, ["query", endless, []]]),
        json!([insert, ["checkpoint"], ["query", "SELECT 1", []], ["spin"]]),
        json!([insert, ["until-refused", insert], ["spin"]]),
    ] {
        let (code, took, waited) = failure(&place, steps.clone());
        println!("{code} after {took:.0?}; the app waited {waited:.1?}");
        assert_eq!(code, "lock-held", "{steps}");
        assert!(waited < Duration::from_millis(300) + SLACK, "{waited:?}");
    }
    let held = "SELECT count(*) FROM things WHERE name = 'held'";
    let kept: i64 = place.app.query_row(held, [], |row| row.get(0)).unwrap();
    assert_eq!(kept, 1, "only what was before a checkpoint");
}

#[test]
fn a_dropped_in_worker_has_a_second_and_one_that_is_granted_what_it_declares_its_time() {
    let place = puppets(Kind::Component, Limits::new().time(Duration::from_secs(20)));
    let steps = json!([["execute", "INSERT INTO things (name) VALUES ('held')", []], ["spin"]]);
    let (code, took, _) = failure(&place, steps.clone());
    assert_eq!(code, "lock-held");
    assert!(
        took >= Duration::from_secs(1) && took < Duration::from_secs(1) + 2 * SLACK,
        "{took:?}"
    );
    let limits = Limits::new().time(Duration::from_millis(1_300));
    let place =
        Place::with(|builder, _| Kind::Component.add(builder, Grant::as_declared().limits(limits)));
    assert_eq!(failure(&place, steps).0, "deadline");
}
