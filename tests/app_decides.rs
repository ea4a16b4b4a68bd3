//! The app decides for whom a job runs and how far it reaches. Nothing a worker says of itself
//! lifts a wall.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use common::{puppet_as, row};
use serde_json::{Value as Json, json};
use verger::testing::{TestVerger, capture_logs};
use verger::verger_worker::prelude::*;
use verger::verger_worker::{ArgSpec, ManifestError};
use verger::{
    EnqueueError, Error, Grant, NewJob, OpenError, PluginError, Schedule, ScheduleError, Verger,
    assert_audited, refute_audited,
};

const SCHEMA: &str = "CREATE TABLE orders (id INTEGER PRIMARY KEY, organization_id TEXT);
    INSERT INTO orders VALUES (1, 'a'), (2, 'b'), (3, '7');";

/// What the worker of this test says of itself.
fn manifest(tenant_aware: bool, args: Json) -> Json {
    let mut all = json!({"do": {"default": []}});
    all.as_object_mut().unwrap().extend(args.as_object().unwrap().clone());
    json!({"name": "stranger", "version": "1", "tenant_aware": tenant_aware, "args": all,
        "tables": [{"table": "orders", "verbs": ["read"]}]})
}

/// The app grants it the orders of one tenant.
fn confined() -> Grant {
    Grant::new().read("orders").tenant_column("organization_id")
}

fn open(manifest: &Json, grant: Grant) -> TestVerger {
    let component = puppet_as(manifest);
    let test = TestVerger::with(|builder| {
        builder.without_built_ins().component("stranger.wasm", component).grant("stranger", grant)
    });
    test.sql(SCHEMA);
    test
}

fn with_steps(args: Json, steps: Json) -> Json {
    let mut args = args;
    args["do"] = steps;
    args
}

fn of(organization: Json) -> Json {
    json!({"organization_id": organization, "actor_id": null})
}

/// The rows of `orders` that one job reaches, by its queue and called directly alike.
#[track_caller]
fn reached(test: &TestVerger, args: Json) -> Json {
    let args = with_steps(args, json!([["query", "SELECT id FROM orders ORDER BY id", []]]));
    let direct = test.perform_now("stranger", args.clone()).unwrap();
    let id = test.enqueue(NewJob::new("stranger", args)).unwrap().id;
    test.drain();
    assert_eq!(row(test, id).result.as_ref(), direct.result());
    direct.result().unwrap()[0]["ok"].clone()
}

#[test]
fn a_tenant_column_confines_a_worker_that_says_it_knows_no_tenants() {
    for tenant_aware in [true, false] {
        let test = open(&manifest(tenant_aware, json!({})), confined());
        assert_eq!(reached(&test, of(json!("a"))), json!([[1]]), "{tenant_aware}");
        assert_eq!(reached(&test, of(json!(7))), json!([[3]]), "an id may be a number");
        assert_eq!(reached(&test, of(Json::Null)), json!([[1], [2], [3]]), "as the app said");
    }
}

#[test]
fn a_confined_worker_audits_for_its_tenant_and_no_other() {
    let test = open(&manifest(false, json!({})), confined());
    let audit = |organization: Json| {
        let events = json!([{"action": "a.b", "organization_id": organization}]);
        let args = with_steps(of(json!("a")), json!([["audit", events]]));
        test.perform_now("stranger", args).unwrap().result().unwrap()[0].clone()
    };
    assert_eq!(audit(json!("victim"))["err"], "denied");
    assert_eq!(audit(Json::Null), json!({"ok": [1]}));
    assert_audited!(test, organization: "a", worker: "stranger");
    refute_audited!(test, organization: "victim");
}

#[test]
fn a_job_of_a_confined_worker_says_for_whom_it_runs_or_is_refused() {
    let test = open(&manifest(false, json!({})), confined());
    let lacks = |error: EnqueueError, expected: &[&str]| match error {
        EnqueueError::Manifest(ManifestError::MissingKeys { keys, .. }) => {
            assert_eq!(keys, expected);
        }
        other => panic!("{other:?}"),
    };
    let both = ["organization_id", "actor_id"];
    lacks(test.enqueue(NewJob::new("stranger", json!({}))).unwrap_err(), &both);
    // Only this spelling is the key.
    let close = json!({"Organization_ID": "a", "organization_id ": "a", "actor_id": null,
        "scope": {"organization_id": "a"}});
    lacks(test.enqueue(NewJob::new("stranger", close)).unwrap_err(), &both[..1]);
    let schedule = Schedule::cron("hourly", "0 * * * *").unwrap().worker("stranger");
    match test.add_schedule(&schedule).unwrap_err() {
        Error::Schedule(ScheduleError::Args { .. }) => {}
        other => panic!("{other:?}"),
    }
    // Past the app's own enqueue: the table lets it in, the attempt does not begin.
    for args in [
        r#"{"do": [["done"]]}"#,
        r#"{"organization_id": "a", "do": [["done"]]}"#,
        r#"{"organization_id": "a", "organization_id": "b", "actor_id": null, "do": [["done"]]}"#,
        r#"{"organization_id": "a", "actor_id": null, "\u0061ctor_id": 1, "do": [["done"]]}"#,
        r#"{"organization_id": ["a"], "actor_id": null, "do": [["done"]]}"#,
    ] {
        test.sql(&format!(
            "INSERT INTO verger_jobs (worker, queue, priority, state, args, tenant_aware, due_at, max_attempts, created_at) \
             VALUES ('stranger', 'default', 5, 'available', '{args}', 0, 0, 1, 0)"
        ));
        test.drain();
        let ended: String = test.one(
            "SELECT state || ' ' || json_extract(errors, '$[0].code') FROM verger_jobs ORDER BY id DESC LIMIT 1",
        );
        assert_eq!(ended, "discarded args", "{args}");
    }
}

#[test]
fn an_id_of_a_scope_is_a_text_or_a_whole_number() {
    for (tenant_aware, grant) in [(true, Grant::new()), (false, confined()), (false, Grant::new())]
    {
        let test = open(&manifest(tenant_aware, json!({})), grant);
        for key in ["organization_id", "actor_id", "impersonating_from"] {
            for odd in [json!(true), json!(1.5), json!(1e300), json!(["a"]), json!({"a": 1})] {
                let mut args = of(Json::Null);
                args[key] = odd.clone();
                match test.enqueue(NewJob::new("stranger", args)).unwrap_err() {
                    EnqueueError::Manifest(ManifestError::WrongKey { key: named, .. }) => {
                        assert_eq!(named, key, "{odd}");
                    }
                    other => panic!("{key} {odd}: {other:?}"),
                }
            }
        }
    }
}

#[test]
fn no_default_of_a_manifest_gets_into_the_scope_or_stands_in_for_a_missing_key() {
    let forged = json!({"impersonating_from": {"default": "ceo"}, "actor_id": {"default": "ceo"},
        "organization_id": {"default": "b"}});
    let steps = json!([["scope"], ["audit", [{"action": "money.moved"}]]]);
    for tenant_aware in [true, false] {
        let test = open(&manifest(tenant_aware, forged.clone()), confined());
        let args = with_steps(of(json!("a")), steps.clone());
        let done = test.perform_now("stranger", args.clone()).unwrap();
        let id = test.enqueue(NewJob::new("stranger", args)).unwrap().id;
        test.drain();
        let seen = json!({"organization_id": "a", "actor_id": null, "impersonating_from": null});
        for result in [done.result().cloned(), row(&test, id).result] {
            assert_eq!(result.unwrap()[0]["ok"], seen, "{tenant_aware}");
        }
        assert_audited!(test, organization: "a", actor: None, impersonating_from: None);
        refute_audited!(test, actor: "ceo");
        refute_audited!(test, organization: "b");
        assert!(test.enqueue(NewJob::new("stranger", json!({"do": []}))).is_err());
    }
    // With no grant of a tenant there is no scope to forge either.
    let test = open(&manifest(false, forged), Grant::new());
    let done = test.perform_now("stranger", json!({ "do": steps })).unwrap();
    assert_eq!(done.result().unwrap()[0], json!({"ok": null}));
    assert_audited!(test, organization: None, actor: None, impersonating_from: None);
}

#[test]
fn the_scope_of_a_job_does_not_depend_on_what_the_worker_says() {
    let args = json!({"organization_id": "a", "actor_id": "u", "impersonating_from": "admin",
        "do": [["scope"], ["audit", [{"action": "a.b", "organization_id": "victim"}]]]});
    for tenant_aware in [true, false] {
        let test = open(&manifest(tenant_aware, json!({})), Grant::new());
        let done = test.perform_now("stranger", args.clone()).unwrap();
        let answers = done.result().unwrap();
        assert_eq!(answers[0]["ok"]["organization_id"], "a", "{tenant_aware}");
        assert_eq!(answers[1]["err"], "denied", "{tenant_aware}");
    }
}

#[test]
fn what_a_manifest_would_lift_is_told_at_open_and_by_withheld() {
    let forged = manifest(false, json!({"actor_id": {"default": "ceo"}}));
    let (test, lines) = capture_logs(|| open(&forged, confined()));
    let [withheld] = &test.withheld()[..] else { panic!("{:?}", test.withheld()) };
    assert!(withheld.unconfined);
    assert_eq!(withheld.scope_defaults, ["actor_id"]);
    assert!(withheld.tables.is_empty());
    let told = "worker `stranger` asks for what it is not granted: to run unconfined, as not tenant-aware; a default for `actor_id`";
    assert!(lines.iter().any(|line| line.fields.get("withheld").is_some_and(|said| said == told)));
    let honest = open(&manifest(true, json!({})), confined());
    assert_eq!(honest.withheld(), []);
}

/// A native worker is the app's own, and held like any other by the grant it is given.
struct Native;

impl Worker for Native {
    fn manifest(&self) -> Manifest {
        Manifest::new("stranger", "1")
            .arg("impersonating_from", ArgSpec::default_value("ceo"))
            .table(TableAsk::named("orders").read())
    }

    fn perform(
        &self,
        job: &Context<'_>,
        scope: Option<&Scope>,
        _: &Args,
    ) -> Result<Outcome, WorkerError> {
        let rows = job.query("SELECT id FROM orders", params![])?.rows().count();
        let scope = scope.map(|scope| {
            json!([scope.organization_id(), scope.actor_id(), scope.impersonating_from()])
        });
        Ok(Outcome::DoneWith(json!([rows, scope])))
    }
}

#[test]
fn the_apps_own_worker_is_confined_by_the_grant_it_is_given() {
    let test = TestVerger::with(|builder| builder.worker(Native).grant("stranger", confined()));
    test.sql(SCHEMA);
    let done = test.perform_now("stranger", of(json!("a"))).unwrap();
    assert_eq!(done.result(), Some(&json!([1, ["a", null, null]])));
    assert!(test.perform_now("stranger", json!({})).is_err());
}

#[test]
fn a_manifest_that_says_two_things_at_once_is_refused() {
    let mut twice = manifest(false, json!({"table": {"default": "orders"}}));
    let mut dashed = manifest(false, json!({}));
    twice["tables"] = json!([{"arg": "table", "default": "harmless", "verbs": ["read"]}]);
    dashed["name"] = json!("-stranger");
    for (manifest, names) in
        [(twice, "another default than the table it names"), (dashed, "begin and end with no `-`")]
    {
        let component = puppet_as(&manifest);
        let builder = Verger::in_memory().component("stranger.wasm", component);
        match builder.open().unwrap_err() {
            OpenError::Worker(PluginError::Manifest { source, .. }) => {
                assert!(source.to_string().contains(names), "{source}");
            }
            other => panic!("{other:?}"),
        }
    }
    let cased = ["Stranger", "stränger", "ѕtranger", "stranger ", "str_anger", ""];
    for name in cased {
        assert!(Manifest::new(name, "1").check().is_err(), "{name:?}");
    }
}
