//! What a worker keeps from one run to the next.

use std::sync::Mutex;

use serde_json::{Value as Json, json};
use verger::Verger;
use verger::rusqlite::Connection;
use verger::verger_worker::code;
use verger::verger_worker::prelude::*;

use super::{limited, refusal};
use crate::common::{BOTH, answers};

#[test]
fn what_a_worker_keeps_commits_with_its_job_and_is_its_own() {
    let seen = |organization: Json, steps: Json| json!({"organization_id": organization, "actor_id": null, "do": steps});
    for kind in BOTH {
        let test = kind.open();
        let perform =
            |args: Json| test.perform_job("puppet", args).map(|done| done.result().cloned());
        let read = |organization: Json| {
            perform(seen(organization, json!([["state", "at"]]))).unwrap().unwrap()[0]["ok"].clone()
        };
        for value in
            [json!(i64::MAX), json!(1.5), json!("ä\u{0}b"), json!(""), json!({"blob": [0, 255]})]
        {
            let steps = json!([["set-state", "at", value], ["state", "at"]]);
            assert_eq!(answers(&test, steps), json!([{"ok": null}, {"ok": value}]), "{kind:?}");
        }
        perform(seen(json!("a"), json!([["set-state", "at", 1]]))).unwrap();
        perform(seen(json!("b"), json!([["set-state", "at", 2]]))).unwrap();
        perform(seen(Json::Null, json!([["set-state", "at", 3]]))).unwrap();
        assert_eq!(
            [read(json!("a")), read(json!("b")), read(Json::Null)],
            [json!(1), json!(2), json!(3)]
        );
        assert_eq!(
            answers(&test, json!([["state", "at"]])),
            json!([{"ok": 3}]),
            "no scope, no organization"
        );
        // Undone with what else it wrote.
        for steps in [
            json!([["set-state", "at", 9], ["failed", "no"]]),
            json!([["set-state", "at", 9], ["set-state", "other", 9], ["trap"]]),
            json!([["must", ["savepoint"]], ["set-state", "at", 9], ["rollback", 0]]),
        ] {
            let _ = perform(seen(json!("a"), steps));
            assert_eq!(read(json!("a")), json!(1), "{kind:?}");
        }
        perform(seen(json!("a"), json!([["set-state", "at", null]]))).unwrap();
        assert_eq!([read(json!("a")), read(json!("b"))], [Json::Null, json!(2)]);
        assert_eq!(test.one::<i64>("SELECT count(*) FROM verger_state"), 2);
        // A worker's SQL does not reach it.
        let (code, message) =
            refusal(&test, json!({"do": [["query", "SELECT * FROM verger_state", []]]}));
        assert_eq!(code, "denied", "{message}");
    }
}

#[test]
fn state_and_jobs_are_bounded_in_number_and_bytes() {
    let flood =
        |count: usize| json!([["enqueue", {"times": count, "job": ["puppet", {"do": []}]}]]);
    for kind in BOTH {
        let test =
            kind.open_with(limited(|limits| limits.jobs(3).job_bytes(1_000).state_bytes(100)));
        for (steps, code, names) in [
            (flood(3), "", ""),
            (flood(4), "limit", "3 jobs"),
            (
                json!([["enqueue", [["puppet", {"do": [], "long": "x".repeat(1_000)}]]]]),
                "limit",
                "1000 bytes of jobs",
            ),
            (json!([["set-state", "k", {"x": 99}]]), "", ""),
            (json!([["set-state", "k", {"x": 100}]]), "limit", "100 bytes of state"),
            (json!([["set-state", "l", 1]]), "limit", "put more into a table"),
            (json!([["set-state", "", 1]]), "invalid", "1 to 128 bytes"),
            (json!([["set-state", {"x": 129}, 1]]), "invalid", "1 to 128 bytes"),
            (json!([["state", {"x": 129}]]), "invalid", "1 to 128 bytes"),
        ] {
            let steps: Json = steps;
            let (found, message) = refusal(&test, json!({ "do": steps }));
            assert_eq!(found, code, "{kind:?}: {steps}: {message}");
            assert!(message.contains(names), "{kind:?}: {message}");
        }
        // All of a run count, committed or not.
        let rest = answers(&test, json!([flood(2)[0], ["checkpoint"], flood(2)[0]]));
        assert_eq!(rest[2]["err"], "limit", "{kind:?}");
        let test = kind.open();
        let fill: Vec<Json> = (0..65).map(|n| json!(["set-state", format!("k{n}"), n])).collect();
        let filled = answers(&test, Json::from(fill));
        assert_eq!((&filled[63], &filled[64]["err"]), (&json!({"ok": null}), &json!("limit")));
        let replaced = answers(&test, json!([["set-state", "k0", "new"], ["set-state", "k64", 1]]));
        assert_eq!((&replaced[0], &replaced[1]["err"]), (&json!({"ok": null}), &json!("limit")));
    }
}

/// Keeps a count of its jobs, and lets someone else in between reading and writing.
struct Counts(Mutex<Option<Connection>>);

impl Worker for Counts {
    fn manifest(&self) -> Manifest {
        Manifest::new("counts", "1")
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        _: &Args,
    ) -> Result<Outcome, WorkerError> {
        let seen = job.state("n")?;
        if let Some(other) = self.0.lock().unwrap().take() {
            other.execute("UPDATE verger_state SET value = 41", [])?;
        }
        let n = match seen {
            Value::Integer(n) => n + 1,
            _ => 1,
        };
        job.set_state("n", n).inspect_err(|error| {
            assert_eq!(error.code, code::CONFLICT, "it is undone and performed again");
        })?;
        Ok(Outcome::DoneWith(json!(n)))
    }
}

#[test]
fn what_was_read_of_the_state_still_holds_when_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    let open = |other: Option<Connection>| {
        let worker = Counts(Mutex::new(other));
        Verger::builder(&file).without_built_ins().worker(worker).open().unwrap()
    };
    let count = |verger: &Verger| {
        verger.perform_now("counts", json!({})).unwrap().result().cloned().unwrap()
    };
    assert_eq!(count(&open(None)), 1);
    let other = Connection::open(&file).unwrap();
    assert_eq!(count(&open(Some(other))), 42, "performed again from its start");
}
