//! Schedules that are registered, changed, paused and removed.

use std::time::Duration;

use serde_json::json;
use verger::testing::{ManualClock, TestVerger};
use verger::{
    Builder, Error, JobState, Missed, OpenError, Overlap, Schedule, ScheduleError, Verger,
};

use super::{DAY, HOUR, MINUTE, Nothing, daily, every, jobs, ledger, next_of, test};

/// Opens the file as an app with these schedules.
pub(super) fn app(
    file: &std::path::Path,
    clock: &ManualClock,
    schedules: impl IntoIterator<Item = Schedule>,
) -> TestVerger {
    let builder = schedules
        .into_iter()
        .fold(Verger::builder(file).without_built_ins().worker(Nothing), Builder::schedule);
    TestVerger::open(builder, clock).unwrap()
}

#[test]
fn a_new_schedule_never_backfills_and_an_unchanged_one_keeps_its_next_slot() {
    let folder = tempfile::tempdir().unwrap();
    let (file, clock) = (folder.path().join("app.db"), ManualClock::at(TestVerger::START));
    let next = next_of(&app(&file, &clock, [every("s", 5), daily("d")]), "s");
    clock.advance(4 * MINUTE);
    let test =
        app(&file, &clock, [every("s", 5).args(json!({"a": 1})).missed(Missed::Skip), daily("d")]);
    assert_eq!(next_of(&test, "s"), next, "other settings do not move it either");
    drop(test);
    clock.advance(10 * DAY);
    let test = app(&file, &clock, [every("s", 5), daily("d"), every("new", 5)]);
    test.drain();
    assert_eq!(ledger(&test, "d"), ["10 03:00 coalesced +9"], "what was missed while closed");
    assert_eq!(ledger(&test, "s").len(), 1);
    assert!(ledger(&test, "new").is_empty());
}

#[test]
fn a_schedule_changed_while_the_app_was_closed_never_backfills() {
    let folder = tempfile::tempdir().unwrap();
    let (file, clock) = (folder.path().join("app.db"), ManualClock::at(TestVerger::START));
    drop(app(&file, &clock, [daily("s"), daily("zone")]));
    clock.advance(10 * DAY);
    let changed = Schedule::cron("s", "0 4 * * *").unwrap().worker("nothing");
    let test = app(&file, &clock, [changed, daily("zone").time_zone("Asia/Tokyo").unwrap()]);
    assert!(test.drain().fired.is_empty());
    // The old rule's slots have their line.
    assert_eq!(ledger(&test, "s"), ["10 03:00 skipped changed +9"]);
    assert_eq!(ledger(&test, "zone"), ["10 03:00 skipped changed +9"]);
    test.run_for(DAY);
    assert_eq!(ledger(&test, "s").last().unwrap(), "11 04:00 enqueued");
    assert_eq!(ledger(&test, "zone").last().unwrap(), "11 18:00 enqueued");
}

#[test]
fn a_schedule_removed_and_added_again_makes_no_slot_twice() {
    let test = test([every("other", 60)]);
    let hourly = Schedule::cron("s", "0 * * * *").unwrap().worker("nothing");
    test.add_schedule(&hourly).unwrap();
    test.run_for(3 * HOUR + MINUTE);
    test.set_clock_back(2 * HOUR);
    assert!(test.remove_schedule("s").unwrap());
    assert!(!test.remove_schedule("s").unwrap());
    test.add_schedule(&hourly).unwrap();
    test.run_for(3 * HOUR);
    assert_eq!(
        ledger(&test, "s"),
        ["01 01:00 enqueued", "01 02:00 enqueued", "01 03:00 enqueued", "01 04:00 enqueued"]
    );
    assert_eq!(jobs(&test, "s").len(), 4);
}

#[test]
fn removing_a_schedule_leaves_a_line_for_what_was_due() {
    let test = test([daily("s")]);
    test.clock().advance(3 * DAY);
    test.remove_schedule("s").unwrap();
    assert_eq!(ledger(&test, "s"), ["03 03:00 skipped removed +2"]);
    assert!(test.drain().fired.is_empty());
}

#[test]
fn the_ledger_of_a_removed_schedule_is_pruned_too_and_a_live_one_keeps_its_last_line() {
    let test = test([daily("gone"), daily("yearly"), every("other", 720)]);
    test.run_for(DAY);
    test.remove_schedule("gone").unwrap();
    test.add_schedule(&Schedule::cron("yearly", "@yearly").unwrap().worker("nothing")).unwrap();
    test.run_for(100 * DAY);
    assert!(ledger(&test, "gone").is_empty());
    assert_eq!(ledger(&test, "yearly"), ["01 03:00 enqueued"]);
    assert!(test.fires("other", 1_000).unwrap().len() <= 182);
}

#[test]
fn a_paused_schedule_makes_no_job_and_the_ledger_says_so() {
    let test = test([daily("s")]);
    assert!(test.pause_schedule("s").unwrap() && !test.pause_schedule("unknown").unwrap());
    test.run_for(2 * DAY);
    assert_eq!(ledger(&test, "s"), ["01 03:00 skipped paused", "02 03:00 skipped paused"]);
    // Due while it is paused, resumed before anything ticked: still skipped.
    test.clock().advance(2 * DAY);
    assert!(test.resume_schedule("s").unwrap() && !test.resume_schedule("unknown").unwrap());
    test.drain();
    assert_eq!(ledger(&test, "s")[2..], ["04 03:00 skipped paused +1"]);
    test.run_for(DAY);
    assert_eq!(ledger(&test, "s")[3..], ["05 03:00 enqueued"]);
}

#[test]
fn pausing_survives_a_restart_of_the_app() {
    let folder = tempfile::tempdir().unwrap();
    let (file, clock) = (folder.path().join("app.db"), ManualClock::at(TestVerger::START));
    app(&file, &clock, [daily("s")]).pause_schedule("s").unwrap();
    let test = app(&file, &clock, [daily("s").missed(Missed::Skip)]);
    test.run_for(DAY);
    assert_eq!(ledger(&test, "s"), ["01 03:00 skipped paused"]);
}

#[test]
fn a_schedule_that_was_mended_by_hand_goes_on_when_it_is_registered() {
    let folder = tempfile::tempdir().unwrap();
    let (file, clock) = (folder.path().join("app.db"), ManualClock::at(TestVerger::START));
    let test = app(&file, &clock, [daily("s")]);
    test.sql("UPDATE verger_schedules SET expression = 'never mind'");
    test.run_for(DAY);
    assert_eq!(next_of(&test, "s"), None);
    test.sql("UPDATE verger_schedules SET expression = '0 3 * * *'");
    drop(test);
    let test = app(&file, &clock, [daily("s")]);
    test.run_for(DAY);
    assert_eq!(ledger(&test, "s").last().unwrap(), "02 03:00 enqueued");
}

#[test]
fn a_schedule_whose_rows_are_refused_by_the_file_does_not_keep_the_others_from_theirs() {
    let test = test([daily("a"), daily("b")]);
    test.sql("CREATE TRIGGER no BEFORE INSERT ON verger_fires WHEN NEW.schedule = 'a' BEGIN SELECT RAISE(ABORT, 'not today'); END");
    test.clock().advance(DAY);
    let error = test.tick(test.now()).unwrap_err();
    assert!(matches!(error, Error::Store(_)), "{error}");
    assert_eq!(ledger(&test, "b"), ["01 03:00 enqueued"]);
    assert_eq!(jobs(&test, "b")[0].state, JobState::Completed);
    assert!(jobs(&test, "a").is_empty(), "half of it was not kept");
    test.sql("DROP TRIGGER no");
    test.drain();
    assert_eq!(ledger(&test, "a"), ["01 03:00 enqueued"]);
}

#[test]
fn schedules_are_registered_all_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    let bad = [
        (vec![daily("a"), daily("a")], "another schedule has the same name"),
        (vec![daily("a"), daily("b").worker("gone")], "wants worker `gone`"),
        (vec![daily("a"), daily("b").missed(Missed::Replay(0))], "replay 0 missed slots"),
        (vec![daily("a"), daily("b").missed(Missed::Replay(1_000_000))], "1 to 10000"),
        (vec![daily("a"), daily("b").priority(10)], "priority"),
        (vec![daily("a"), daily("b").args(json!([1]))], "args"),
    ];
    for (schedules, expected) in bad {
        let builder = Verger::builder(&file).without_built_ins().worker(Nothing);
        let error = schedules.into_iter().fold(builder, Builder::schedule).open().unwrap_err();
        assert!(
            matches!(error, OpenError::Schedule(_)) && error.to_string().contains(expected),
            "{error}"
        );
        let verger = Verger::builder(&file).without_built_ins().open().unwrap();
        assert!(verger.schedules().unwrap().is_empty(), "{expected}");
    }
    assert!(matches!(Schedule::cron("", "* * * * *"), Err(ScheduleError::Invalid { .. })));
    assert!(matches!(Schedule::every("s", Duration::ZERO), Err(ScheduleError::Expression { .. })));
    assert!(matches!(Schedule::every("s", Duration::MAX), Err(ScheduleError::Expression { .. })));
    assert!(
        daily("s").time_zone("Europe/Berin").unwrap_err().to_string().contains("Europe/Berlin")
    );
}

#[test]
fn a_schedule_that_the_user_changed_is_not_put_back_when_the_app_opens_again() {
    let folder = tempfile::tempdir().unwrap();
    let open = |expression: &str| {
        let ours = Schedule::cron("sweep", expression)
            .unwrap()
            .worker("cleanup-audit")
            .args(json!({"retention_days": null}))
            .queue("quiet")
            .priority(7)
            .max_attempts(3)
            .time_zone("Europe/Berlin")
            .unwrap()
            .missed(Missed::Replay(4))
            .overlap(Overlap::Allow)
            .start_deadline(Duration::from_secs(90))
            .jitter(Duration::from_secs(5))
            .user_may_change();
        Verger::builder(folder.path().join("app.db")).schedule(ours).open().unwrap()
    };
    let stored = |verger: &Verger| verger.schedules().unwrap().remove(0);
    let verger = open("0 3 * * *");
    drop(verger);
    // Until then it is what the code says.
    let verger = open("0 4 * * *");
    assert_eq!(stored(&verger).expression, "0 4 * * *");
    let before = stored(&verger);
    let earlier = before.to_schedule().unwrap().set_cron("30 1 * * *").unwrap();
    verger.add_schedule(&earlier).unwrap();
    drop(verger);
    let verger = open("0 5 * * *");
    let changed = stored(&verger);
    assert_eq!(changed.expression, "30 1 * * *");
    // One field was changed, and whose it is.
    let mut expected = before;
    expected.expression = changed.expression.clone();
    expected.registered_by = None;
    (expected.anchor, expected.next_fire_at) = (changed.anchor, changed.next_fire_at);
    assert_eq!(changed, expected);
    assert_eq!(changed.deadline(), Some(Duration::from_secs(90)));
    assert_eq!(changed.jitter(), Duration::from_secs(5));
    // Taken out, the code's own comes back.
    verger.remove_schedule("sweep").unwrap();
    drop(verger);
    assert_eq!(stored(&open("0 6 * * *")).expression, "0 6 * * *");
}
