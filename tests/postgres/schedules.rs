//! Schedules over several nodes: each slot is decided once, by whichever comes first.

use std::time::Duration;

use serde_json::json;
use verger::postgres::Verger;
use verger::{FireOutcome, Missed, Overlap, Reason, Schedule, ScheduleError, SlotOutcome};

use crate::cluster::database;
use crate::{START, clock, effect, effects, until};

fn minutely() -> Schedule {
    Schedule::cron("minutely", "* * * * *")
        .unwrap()
        .worker("effect")
        .args(json!({"n": 1}))
        .overlap(Overlap::Allow)
}

#[test]
fn each_slot_is_decided_once_whoever_ticks() {
    let Some(database) = database() else { return };
    let clock = clock();
    let open = || effects(&database).schedule(minutely()).clock(clock.clone()).open().unwrap();
    let nodes = [open(), open(), open()];
    let mut fired = 0;
    for _ in 0..10 {
        clock.advance(Duration::from_secs(60));
        let reports = std::thread::scope(|scope| {
            let ticks: Vec<_> =
                nodes.iter().map(|node| scope.spawn(|| node.tick(node.now()).unwrap())).collect();
            ticks.into_iter().map(|tick| tick.join().unwrap()).collect::<Vec<_>>()
        });
        fired += reports.iter().map(|report| report.fired.len()).sum::<usize>();
    }
    // Jobs that another node was just performing.
    nodes[0].tick(nodes[0].now()).unwrap();
    assert_eq!(fired, 10);
    assert_eq!(nodes[0].fires("minutely", 100).unwrap().len(), 10);
    assert_eq!(database.one::<i64>("SELECT count(*) FROM effects"), 10);
}

#[test]
fn missed_slots_are_made_up_for_by_their_rule() {
    let Some(database) = database() else { return };
    let clock = clock();
    let verger = effects(&database)
        .schedule(minutely())
        .schedule(
            Schedule::cron("replayed", "* * * * *")
                .unwrap()
                .worker("effect")
                .args(json!({"n": 2}))
                .missed(Missed::Replay(3))
                .overlap(Overlap::Allow),
        )
        .schedule(
            Schedule::cron("skipped", "* * * * *")
                .unwrap()
                .worker("effect")
                .args(json!({"n": 3}))
                .missed(Missed::Skip),
        )
        .clock(clock.clone())
        .open()
        .unwrap();
    clock.advance(Duration::from_secs(3_600 + 90));
    let report = verger.tick(verger.now()).unwrap();
    let of =
        |name: &str| report.fired.iter().filter(|fired| fired.schedule == name).collect::<Vec<_>>();
    assert!(
        matches!(of("minutely")[..], [fired] if matches!(fired.outcome, FireOutcome::Coalesced(_, 60)))
    );
    assert_eq!(of("replayed").len(), 4, "one line for those that are not replayed");
    assert_eq!(of("skipped").len(), 2);
    assert_eq!(report.attempts.len(), 5);
    let jobs = verger.jobs(&verger::JobFilter::new().schedule("minutely"), 10).unwrap();
    assert_eq!((jobs.len(), jobs[0].missed), (1, 60));
}

#[test]
fn a_schedule_is_changed_paused_retired_and_removed() {
    let Some(database) = database() else { return };
    let clock = clock();
    let open = |schedules: &[Schedule]| {
        let builder = effects(&database).clock(clock.clone());
        schedules
            .iter()
            .cloned()
            .fold(builder, |builder, schedule| builder.schedule(schedule))
            .open()
    };
    let daily = Schedule::cron("daily", "@daily").unwrap().worker("effect").args(json!({"n": 9}));
    let verger = open(&[minutely(), daily.clone()]).unwrap();
    let names = |verger: &Verger| {
        verger.schedules().unwrap().into_iter().map(|row| row.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&verger), ["daily", "minutely"]);
    // Paused: the ledger says why there is no job.
    assert!(verger.pause_schedule("minutely").unwrap());
    clock.advance(Duration::from_secs(60));
    let report = verger.tick(verger.now()).unwrap();
    assert_eq!(report.fired[0].outcome, FireOutcome::Skipped(Reason::Paused));
    assert!(verger.resume_schedule("minutely").unwrap());
    // The code has one of them no more.
    let verger = open(std::slice::from_ref(&daily)).unwrap();
    assert_eq!(names(&verger), ["daily"]);
    let line = &verger.fires("minutely", 1).unwrap()[0];
    assert_eq!((line.outcome, &line.reason), (SlotOutcome::Skipped, &Some(Reason::Retired)));
    // An unchanged expression keeps its slot, a changed one starts anew.
    let next = verger.schedules().unwrap()[0].next_fire_at;
    clock.advance(Duration::from_secs(3_600));
    let verger = open(&[daily.clone().priority(1)]).unwrap();
    assert_eq!(verger.schedules().unwrap()[0].next_fire_at, next);
    verger.add_schedule(&daily.clone().set_cron("0 5 * * *").unwrap()).unwrap();
    assert_ne!(verger.schedules().unwrap()[0].next_fire_at, next);
    let made = verger.run_schedule_now("daily").unwrap().unwrap();
    assert!(verger.run_schedule_now("daily").unwrap().unwrap().existing, "it forbids overlap");
    assert_eq!(verger.job(made.id).unwrap().unwrap().schedule.as_deref(), Some("daily"));
    assert!(verger.remove_schedule("daily").unwrap() && !verger.remove_schedule("daily").unwrap());
    assert_eq!(verger.run_schedule_now("daily").unwrap(), None);
}

#[test]
fn a_schedule_that_a_cluster_cannot_have_is_refused() {
    let Some(database) = database() else { return };
    let at_start =
        Schedule::cron("start", "@reboot").unwrap().worker("effect").args(json!({"n": 1}));
    let refused = effects(&database).schedule(at_start).open().unwrap_err();
    assert!(refused.to_string().contains("a cluster of nodes has none"), "{refused}");
    let unknown = minutely().worker("nobody");
    let refused = effects(&database).schedule(unknown).open().unwrap_err();
    assert!(refused.to_string().contains("which is not there: known are `effect`"), "{refused}");
    let lacking = minutely().args(json!({}));
    let verger = Verger::builder(database.url()).worker(effect()).open().unwrap();
    // The worker says nothing of its args, so a job that lacks them fails when it is performed.
    verger.add_schedule(&lacking).unwrap();
    let replayed = minutely().missed(Missed::Replay(0));
    assert!(matches!(
        verger.add_schedule(&replayed),
        Err(verger::Error::Schedule(ScheduleError::Invalid { .. }))
    ));
}

#[test]
fn the_loops_of_two_nodes_fire_each_slot_once() {
    let Some(database) = database() else { return };
    let schedule = Schedule::cron("secondly", "* * * * * *")
        .unwrap()
        .worker("effect")
        .args(json!({"n": 1}))
        .overlap(Overlap::Allow);
    let open = || effects(&database).schedule(schedule.clone()).open().unwrap();
    let (one, two) = (open(), open());
    let (working, also) = (one.start().unwrap(), two.start().unwrap());
    until("five slots", || one.fires("secondly", 100).unwrap().len() >= 5);
    working.stop(Duration::from_secs(5)).unwrap();
    also.stop(Duration::from_secs(5)).unwrap();
    let lines = one.fires("secondly", 100).unwrap();
    let late: Vec<i64> =
        lines.iter().map(|line| line.fired_at.as_millis() - line.slot.as_millis()).collect();
    println!("slots decided after {late:?} ms");
    one.tick(one.now()).unwrap();
    let jobs = database.one::<i64>("SELECT count(*) FROM verger.jobs");
    assert_eq!(jobs, one.fires("secondly", 100).unwrap().len() as i64);
    assert!(START < lines[0].slot.as_millis());
}
