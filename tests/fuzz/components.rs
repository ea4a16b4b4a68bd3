//! The bytes of a component. Whatever they are, the app opens, and the file is refused with a
//! reason or is a worker like any other.

use std::io::Write;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;
use verger::testing::{ManualClock, TestVerger};
use verger::{AttemptOutcome, CompileCache, EnqueueError, Grant, NewJob, PluginError, Verger};

use crate::common::{PUPPET, TABLES};
use crate::handmade::{Handmade, cases};
use crate::honest::{HONEST, Honest, goes_on};
use crate::mutation::mutation;
use crate::surface::{Surface, Verdict};

const BUILT_INS: [&str; 8] = [
    "cleanup-audit",
    "cleanup-expired-invitations",
    "cleanup-tokens",
    "deliver-email",
    "evict-cache",
    "prune-webhook-events",
    "reconcile-memberships",
    "reconcile-webhook-events",
];

/// What is changed, and how often: small ones mostly, since they compile fast.
fn originals() -> Vec<(u32, BoxedStrategy<Vec<u8>>)> {
    let hostile = cases::all()
        .into_iter()
        .filter(|case| case.code != "refused")
        .map(|case| (2, case.component));
    let built_ins = BUILT_INS.map(|name| {
        std::fs::read(format!("{}/plugins/prebuilt/{name}.wasm", env!("CARGO_MANIFEST_DIR")))
            .unwrap()
    });
    let all = hostile
        .chain(built_ins.map(|bytes| (2, bytes)))
        .chain([(10, PUPPET.to_vec()), (30, Handmade::new("handmade").bytes())]);
    all.map(|(weight, bytes)| (weight, Just(bytes).boxed())).collect()
}

fn inputs() -> BoxedStrategy<Vec<u8>> {
    let mutations = prop_oneof![4 => prop::collection::vec(mutation(), 1), 1 => prop::collection::vec(mutation(), 2..5)];
    let mutants = (prop::strategy::Union::new_weighted(originals()), mutations).prop_map(
        |(mut bytes, mutations)| {
            mutations.iter().for_each(|mutation| mutation.apply(&mut bytes));
            bytes
        },
    );
    let noise = prop::collection::vec(any::<u8>(), 0..200);
    let headed =
        |header: &'static [u8]| noise.clone().prop_map(move |noise| [header, &noise].concat());
    prop_oneof![
        20 => mutants,
        1 => noise.clone(),
        1 => headed(b"\0asm\x0d\0\x01\0"),
        1 => headed(b"\0asm\x01\0\0\0"),
    ]
    .boxed()
}

fn check(bytes: &[u8]) -> Verdict {
    let mut file = tempfile::Builder::new().suffix(".wasm").tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let builder = Verger::in_memory()
        .without_built_ins()
        .compile_cache(CompileCache::Off)
        .clock(ManualClock::at(TestVerger::START))
        .worker(Honest)
        .plugin(file.path());
    let known = [&["handmade", "puppet"][..], &BUILT_INS].concat();
    let builder = known.iter().fold(builder, |builder, name| {
        builder.grant(*name, Grant::as_declared().time_limit(Duration::from_millis(200)))
    });
    let verger = builder.open().map_err(|error| format!("the app does not open: {error}"))?;
    verger.migrate_reference().unwrap();
    let app = verger.connect().unwrap();
    app.execute_batch(TABLES).unwrap();
    let kind = match (
        verger.refused_plugins().as_slice(),
        verger.workers().into_iter().find(|name| name != HONEST),
    ) {
        ([refusal], None) => {
            let reason = refusal.to_string();
            if !reason.contains(&file.path().display().to_string()) {
                return Err(format!("the refusal does not name the file: {reason}"));
            }
            format!("refused: {}", variant(refusal))
        }
        // Its time is not bounded by the grants above.
        ([], Some(name)) if !known.contains(&name.as_str()) => "renamed".to_string(),
        ([], Some(name)) => perform(&verger, &name)?,
        other => return Err(format!("neither refused nor a worker: {other:?}")),
    };
    goes_on(&verger, &app)?;
    Ok(kind)
}

fn perform(verger: &Verger, name: &str) -> Verdict {
    let steps = json!([
        ["execute", "INSERT INTO things (name) VALUES ('x')", []],
        ["audit", [{"action": "thing.made"}]],
        ["query", "SELECT * FROM things", []],
    ]);
    let job = NewJob::new(
        name,
        json!({"organization_id": null, "actor_id": null, "retention_days": 1, "do": steps}),
    )
    .max_attempts(1);
    let id = match verger.enqueue(job) {
        Ok(enqueued) => enqueued.id,
        Err(EnqueueError::Manifest(_)) => return Ok("asks for other args".to_string()),
        Err(error) => return Err(error.to_string()),
    };
    let report = verger.tick(verger.now()).map_err(|error| format!("a tick failed: {error}"))?;
    let attempt =
        report.attempts.iter().find(|attempt| attempt.job == id).ok_or("it was not performed")?;
    match &attempt.outcome {
        AttemptOutcome::Completed(_) => Ok("completed".to_string()),
        AttemptOutcome::Snoozed(_) => Ok("snoozed".to_string()),
        AttemptOutcome::Cancelled(_) => Ok("cancelled".to_string()),
        AttemptOutcome::Discarded(error) if error.code != "panic" && !error.message.is_empty() => {
            Ok(format!("failed: {}", error.code))
        }
        other => Err(format!("it ended as {other:?}")),
    }
}

fn variant(refusal: &PluginError) -> String {
    let debug = format!("{refusal:?}");
    debug.chars().take_while(char::is_ascii_alphanumeric).collect()
}

#[test]
fn a_component_of_any_bytes_is_refused_or_performed_and_the_rest_goes_on() {
    Surface { name: "components", cases: 150, inputs: inputs(), check: &check }.attack();
}
