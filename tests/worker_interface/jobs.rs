//! Jobs that a worker enqueues.

use std::time::Duration;

use serde_json::{Value as Json, json};
use verger::JobState;
use verger::testing::TestVerger;
use verger::verger_worker::prelude::*;

use super::{NOW, jobs, refusal};
use crate::common;
use crate::common::{BOTH, Kind, answers, failure, grant, job, row, run};

#[test]
fn a_job_that_a_worker_enqueues_is_there_when_its_transaction_commits() {
    for kind in BOTH {
        let test = kind.open();
        let two = json!(["enqueue", [["puppet", {"do": []}], ["puppet", {"do": [["done"]]}]]]);
        let done = run(&test, job(json!([two])));
        assert_eq!(done.result, Some(json!([{"ok": [[2, false], [3, false]]}])), "{kind:?}");
        assert_eq!(row(&test, verger::JobId::from_number(3)).state, JobState::Completed, "drained");
        let none = |steps: Json| {
            let before = jobs(&test, "id").len();
            let ended = test.perform_job("puppet", json!({ "do": steps }));
            assert_eq!(jobs(&test, "id").len(), before, "{kind:?}: {steps} ended {ended:?}");
        };
        none(json!([two, ["failed", "no"]]));
        none(json!([two, ["discard", "no"]]));
        none(json!([two, ["trap"]]));
        none(json!([["must", ["savepoint"]], two, ["rollback", 0]]));
        // All or none: the second is refused.
        none(
            json!([["enqueue", [["puppet", {"do": []}], ["puppet", {"do": []}, {"priority": 10}]]]]),
        );
        let kept = json!([two, ["checkpoint"], ["failed", "after it"]]);
        failure(&test, kept);
        assert_eq!(jobs(&test, "id").len(), 5);
    }
}

#[test]
fn the_options_of_a_job_are_those_of_the_apps_own_and_a_bad_one_is_named() {
    let columns = "queue, priority, max_attempts, due_at, state";
    for kind in BOTH {
        let test = kind.open();
        let enqueue = |options: Json| {
            let args = json!({"do": [["enqueue", [["puppet", {"do": []}, options]]]]});
            refusal(&test, args)
        };
        for (options, expected) in [
            (json!(""), json!(["default", 5, 20, NOW, "available"])),
            (
                json!({"queue": "mail", "priority": 0, "max_attempts": 1}),
                json!(["mail", 0, 1, NOW, "available"]),
            ),
            (json!({"at": NOW + 5}), json!(["default", 5, 20, NOW + 5, "scheduled"])),
            (json!({"at": 0}), json!(["default", 5, 20, 0, "available"])),
            (json!({"after_ms": 70_000}), json!(["default", 5, 20, NOW + 70_000, "scheduled"])),
            (json!({"unique": ["do"], "queue": null}), json!(["default", 5, 20, NOW, "available"])),
        ] {
            if options == json!("") && kind == Kind::Native {
                continue;
            }
            assert_eq!(enqueue(options.clone()), (String::new(), String::new()), "{options}");
            let row = jobs(&test, columns).pop().unwrap();
            let found: Vec<&Json> =
                ["queue", "priority", "max_attempts", "due_at", "state"].map(|c| &row[c]).into();
            assert_eq!(json!(found), expected, "{kind:?}: {options}");
        }
        let before = jobs(&test, "id").len();
        for (options, names) in [
            (json!({"prio": 1}), "no option `prio`"),
            (json!({"priority": 10}), "from 0, first, to 9"),
            (json!({"priority": -1}), "`priority` must be"),
            (json!({"priority": "high"}), "`priority` must be"),
            (json!({"max_attempts": 0}), "at least 1"),
            (json!({"queue": 7}), "`queue` must be a name"),
            (json!({"queue": ""}), "1 to 128 bytes"),
            (json!({"at": "tomorrow"}), "`at` must be"),
            (json!({"at": i64::MAX}), "9999"),
            (json!({"after_ms": -1}), "`after_ms` must be"),
            (json!({"at": 1, "after_ms": 1}), "exclude each other"),
            (json!({"unique": "do"}), "`unique` must be"),
            (json!({"unique": []}), "`unique` must be"),
            (json!({"unique": ["absent"]}), "`absent`"),
            (json!({"unique_for_ms": "long"}), "`unique_for_ms` must be"),
            (json!([1]), "no JSON object"),
            (json!("{"), "no JSON"),
        ] {
            let (code, message) = enqueue(options.clone());
            assert_eq!(code, "invalid", "{kind:?}: {options}: {message}");
            assert!(message.contains(names), "{kind:?}: {options}: {message}");
        }
        assert_eq!(jobs(&test, "id").len(), before);
    }
}

#[test]
fn a_unique_job_is_enqueued_once_and_its_id_comes_back() {
    for kind in BOTH {
        let test = kind.open();
        let unique = json!(["enqueue", [["puppet", {"do": [], "n": 1}, {"unique": true, "after_ms": 1000}]]]);
        assert_eq!(
            answers(&test, json!([unique, unique])),
            json!([{"ok": [[1, false]]}, {"ok": [[1, true]]}]),
            "{kind:?}"
        );
        test.clock().advance(Duration::from_secs(2));
        test.drain();
        let period = json!(["enqueue", [["puppet", {"do": [], "n": 2}, {"unique": ["n"], "unique_for_ms": 60_000}]]]);
        assert_eq!(answers(&test, json!([period])), json!([{"ok": [[2, false]]}]));
        test.drain();
        assert_eq!(answers(&test, json!([period])), json!([{"ok": [[2, true]]}]));
    }
}

struct Other;

impl Worker for Other {
    fn manifest(&self) -> Manifest {
        Manifest::new("other-worker", "1").tenant_aware().arg("month", ArgSpec::required())
    }

    fn perform(
        &self,
        _: &Context<'_>,
        _: Option<&Scope>,
        _: &Args,
    ) -> Result<Outcome, WorkerError> {
        Ok(Outcome::Done)
    }
}

#[test]
fn a_worker_enqueues_for_itself_and_for_those_its_grant_names() {
    for kind in BOTH {
        let test = TestVerger::with(|builder| {
            kind.add(builder.worker(Other), grant().enqueue("other-worker").enqueue("noop"))
        });
        let enqueue = |worker: &str, args: Json| {
            refusal(&test, json!({"do": [["enqueue", [[worker, args]]]]}))
        };
        for (worker, args, code, names) in [
            ("puppet", json!({}), "", ""),
            ("withheld-worker", json!({}), "denied", "jobs for worker `withheld-worker`"),
            ("verger", json!({}), "denied", "`verger`"),
            ("", json!({}), "denied", "``"),
            ("noop", json!({}), "invalid", "no worker is named `noop`"),
            ("other-worker", json!({}), "invalid", "`organization_id`, `actor_id`, `month`"),
            ("other-worker", json!([]), "invalid", "no JSON object"),
            ("other-worker", json!({"organization_id": {}}), "invalid", "organization_id"),
            ("other-worker", json!({"organization_id": "acme", "month": 1}), "", ""),
        ] {
            let (found, message) = enqueue(worker, args);
            assert_eq!(found, code, "{kind:?}, {worker}: {message}");
            let named = names.split(", ").all(|name| message.contains(name.trim_matches('`')));
            assert!(named, "{kind:?}, {worker}: {message}");
        }
        let last = jobs(&test, "worker, args").pop().unwrap();
        assert_eq!(last["worker"], "other-worker");
        let args: Json = serde_json::from_str(last["args"].as_str().unwrap()).unwrap();
        assert_eq!(args, json!({"organization_id": "acme", "actor_id": null, "month": 1}));
    }
    // What the manifest asks for, an app's own worker has without a grant.
    let test = TestVerger::with(|builder| builder.worker(common::Marionette).worker(Other));
    let args = json!({"organization_id": null, "actor_id": null, "do": [["enqueue", [["other-worker", {"month": 1}]]]]});
    assert_eq!(refusal(&test, args).0, "");
}

#[test]
fn the_scope_is_passed_on_and_no_other_can_be_named() {
    for kind in BOTH {
        let test = kind.open();
        let enqueue = |scope: Json, args: Json| {
            let mut own = scope;
            own["do"] = json!([["enqueue", [["puppet", args]]]]);
            let (code, message) = refusal(&test, own);
            let last = jobs(&test, "args").pop().map(|row| row["args"].clone());
            (code, message, last.and_then(|args| serde_json::from_str(args.as_str()?).ok()))
        };
        let acme =
            || json!({"organization_id": "acme", "actor_id": "u1", "impersonating_from": "boss"});
        let (code, message, args) = enqueue(acme(), json!({"n": 1}));
        assert_eq!(code, "", "{message}");
        let expected = json!({"organization_id": "acme", "actor_id": "u1", "impersonating_from": "boss", "n": 1});
        assert_eq!(args, Some(expected), "{kind:?}");
        // Ids stay what they are.
        let numbers = json!({"organization_id": 7, "actor_id": null});
        let passed: (_, _, Option<Json>) = enqueue(numbers.clone(), json!({}));
        assert_eq!(passed.2, Some(numbers.clone()));
        assert_eq!(enqueue(numbers.clone(), json!({"organization_id": 7})).0, "");
        assert_eq!(enqueue(numbers, json!({"organization_id": "7"})).0, "", "the same id");
        for (scope, forged) in [
            (acme(), json!({"organization_id": "other"})),
            (acme(), json!({"actor_id": "u2"})),
            (acme(), json!({"impersonating_from": "u2"})),
            (json!({"organization_id": "acme", "actor_id": null}), json!({"actor_id": "u2"})),
            (json!({"organization_id": null, "actor_id": "u1"}), json!({"actor_id": "u2"})),
            (json!({}), json!({"actor_id": "u2"})),
            (json!({}), json!({"organization_id": "acme", "impersonating_from": "u2"})),
        ] {
            let before = jobs(&test, "id").len();
            let (code, message, _) = enqueue(scope.clone(), forged.clone());
            assert_eq!(code, "denied", "{kind:?}: {scope} {forged}: {message}");
            assert_eq!(jobs(&test, "id").len(), before);
        }
        // A job of no organization does something for each.
        let (code, _, args) = enqueue(
            json!({"organization_id": null, "actor_id": "u1"}),
            json!({"organization_id": "acme"}),
        );
        assert_eq!(
            (code.as_str(), args),
            ("", Some(json!({"organization_id": "acme", "actor_id": "u1"})))
        );
    }
}
