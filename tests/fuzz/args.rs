//! The args of a job, from the app or from a person who writes rows. They are refused at once with
//! nothing written, or reach the worker as they were sent. A row that cannot be read ends, and
//! holds nothing up.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use verger::rusqlite::Connection;
use verger::rusqlite::types::{ToSqlOutput, ValueRef};
use verger::testing::{ManualClock, TestVerger};
use verger::{
    EnqueueError, Error, JobFilter, JobId, JobState, NewJob, PerformError, Schedule, ScheduleError,
    Verger,
};

use crate::honest::{HONEST, Honest, goes_on};
use crate::json::{json, scribbled};
use crate::surface::{Surface, Verdict};

struct World {
    verger: Verger,
    app: Connection,
}

/// Whether an object's own keys are not all different.
fn has_a_key_twice(text: &[u8]) -> bool {
    struct Keys(bool);
    impl<'de> serde::de::Visitor<'de> for Keys {
        type Value = bool;

        fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            to.write_str("an object")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(mut self, mut map: A) -> Result<bool, A::Error> {
            let mut seen = std::collections::HashSet::new();
            while let Some(key) = map.next_key::<String>()? {
                self.0 |= !seen.insert(key);
                map.next_value::<serde::de::IgnoredAny>()?;
            }
            Ok(self.0)
        }
    }
    let mut json = serde_json::Deserializer::from_slice(text);
    serde::Deserializer::deserialize_map(&mut json, Keys(false)).unwrap_or_default()
}

impl World {
    fn open() -> Self {
        let builder = Verger::in_memory()
            .without_built_ins()
            .clock(ManualClock::at(TestVerger::START))
            .worker(Honest);
        let verger = builder.open().unwrap();
        let app = verger.connect().unwrap();
        Self { verger, app }
    }

    fn count(&self, table: &str) -> i64 {
        self.app.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    }

    /// How a job came to its end.
    fn end_of(&self, id: JobId) -> Result<(JobState, Option<Json>), String> {
        for _ in 0..3 {
            self.verger
                .tick(self.verger.now())
                .map_err(|error| format!("a tick failed: {error}"))?;
        }
        let job = self
            .verger
            .job(id)
            .map_err(|error| format!("the job cannot be read: {error}"))?
            .ok_or("the job is gone")?;
        Ok((job.state, job.result))
    }

    fn check(&self, text: &[u8]) -> Verdict {
        let value: Option<Json> = serde_json::from_slice(text).ok();
        let sent = value.as_ref().map_or(Ok("no JSON"), |value| self.send(value))?;
        let by_hand = self.write_by_hand(text, value)?;
        self.verger
            .jobs(&JobFilter::default(), 9)
            .map_err(|error| format!("the jobs cannot be listed: {error}"))?;
        goes_on(&self.verger, &self.app)?;
        Ok(format!("{sent}; by hand: {by_hand}"))
    }

    /// Through every door an app has.
    fn send(&self, args: &Json) -> Result<&'static str, String> {
        let good = args.is_object() && args.to_string().len() <= 1 << 20;
        let job = || NewJob::new(HONEST, args.clone());
        let schedule = Schedule::every("s", Duration::from_secs(60))
            .unwrap()
            .worker(HONEST)
            .args(args.clone());
        let added = self.verger.add_schedule(&schedule);
        let performed = self.verger.perform_now(HONEST, args.clone());
        let before = self.count("verger_jobs");
        match (self.verger.enqueue(job().unique()), good) {
            (Ok(first), true) => {
                let second =
                    self.verger.enqueue(job().unique()).map_err(|error| error.to_string())?;
                let (state, result) = self.end_of(first.id)?;
                if !second.existing
                    || second.id != first.id
                    || state != JobState::Completed
                    || result.as_ref() != Some(args)
                {
                    return Err(format!("{second:?}, {state:?} with {result:?}"));
                }
                if performed.as_ref().ok().and_then(|performed| performed.result()) != Some(args)
                    || added.is_err()
                {
                    return Err(format!("enqueued, but {performed:?}, {added:?}"));
                }
                let stored =
                    self.verger.schedules().map_err(|error| error.to_string())?.remove(0).args;
                if serde_json::from_str::<Json>(&stored).ok().as_ref() != Some(args) {
                    return Err(format!("the schedule keeps {stored}"));
                }
                self.verger.remove_schedule("s").map_err(|error| error.to_string())?;
                Ok("performed")
            }
            (Err(EnqueueError::Args { .. } | EnqueueError::Invalid { .. }), false) => {
                // What is too much for a row is not for a direct call.
                let called = match &performed {
                    Err(PerformError::Refused(_)) => !args.is_object(),
                    performed => args.is_object() && performed.is_ok(),
                };
                let scheduled =
                    !matches!(added, Err(Error::Schedule(ScheduleError::Invalid { .. })));
                if !called
                    || scheduled
                    || self.count("verger_jobs") != before
                    || self.count("verger_schedules") != 0
                {
                    return Err(format!("refused, but {performed:?}, {added:?}"));
                }
                Ok("refused")
            }
            (enqueued, _) => Err(format!("{enqueued:?}")),
        }
    }

    /// As a row, past every check but the table's own.
    fn write_by_hand(&self, text: &[u8], value: Option<Json>) -> Result<&'static str, String> {
        let sql = "INSERT INTO verger_jobs (worker, queue, priority, state, args, tenant_aware, due_at, max_attempts, created_at) \
             VALUES ('honest', 'default', 5, 'available', ?1, 0, 0, 1, 0)";
        if self.app.execute(sql, [ToSqlOutput::Borrowed(ValueRef::Text(text))]).is_err() {
            return Ok("refused");
        }
        // Of two values of one key nobody can say which was meant.
        let value = value.filter(|_| !has_a_key_twice(text));
        match (self.end_of(JobId::from_number(self.app.last_insert_rowid()))?, value) {
            ((JobState::Completed, result), Some(value)) if result.as_ref() == Some(&value) => {
                Ok("performed")
            }
            ((JobState::Discarded, _), None) => Ok("discarded"),
            (ended, value) => Err(format!("a row made by hand, {value:?}, ended as {ended:?}")),
        }
    }
}

#[test]
fn args_of_any_text_are_refused_or_arrive_as_they_were_sent() {
    let objects = proptest::collection::vec((crate::json::text(), json()), 0..6)
        .prop_map(|fields| Json::Object(fields.into_iter().collect()));
    let values = prop_oneof![6 => objects, 1 => json()];
    Surface {
        name: "args",
        cases: 600,
        inputs: scribbled(values),
        check: &|text| World::open().check(text),
    }
    .attack();
}

#[test]
fn args_that_nest_deeper_than_can_be_read_again_are_refused() {
    let world = World::open();
    for depth in [1, 100, 125, 126, 127, 128, 129, 500, 999, 1_000, 1_001] {
        let args = json!({"nested": (1..depth).fold(json!([]), |inner, _| json!([inner]))});
        world.app.execute_batch("DELETE FROM verger_jobs").unwrap();
        match world.verger.enqueue(NewJob::new(HONEST, args.clone())) {
            Ok(enqueued) => assert_eq!(
                world.end_of(enqueued.id),
                Ok((JobState::Completed, Some(args))),
                "{depth}"
            ),
            Err(EnqueueError::Args { .. } | EnqueueError::Invalid { .. }) => {
                assert_eq!(world.count("verger_jobs"), 0, "{depth}")
            }
            Err(other) => panic!("{depth}: {other}"),
        }
        goes_on(&world.verger, &world.app).unwrap();
    }
}

#[test]
fn a_row_made_by_hand_that_counts_what_nobody_can_holds_nothing_up() {
    let numbers = [-1, 4_294_967_296, i64::MIN];
    let columns = ["attempt", "max_attempts", "missed", "snoozes", "slot", "created_at", "due_at"];
    let changes =
        columns.iter().flat_map(|column| numbers.map(|number| format!("{column} = {number}")));
    for change in changes.chain(["worker = CAST(x'ff' AS TEXT)".to_string()]) {
        let world = World::open();
        let id = world.verger.enqueue(NewJob::new(HONEST, json!({})).max_attempts(1)).unwrap().id;
        // The table itself refuses some.
        if world.app.execute(&format!("UPDATE verger_jobs SET {change}"), []).is_ok() {
            let (state, _) = world.end_of(id).unwrap_or_else(|reason| panic!("{change}: {reason}"));
            assert!(state.is_final() || change.contains("4294967296"), "{change}: {state}");
            assert_eq!(world.verger.jobs(&JobFilter::default(), 9).unwrap().len(), 1, "{change}");
        }
        goes_on(&world.verger, &world.app).unwrap_or_else(|reason| panic!("{change}: {reason}"));
    }
}
