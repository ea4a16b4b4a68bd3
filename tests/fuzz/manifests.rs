//! The manifest a component gives of itself is taken whole, or refused with the position of the
//! fault.

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use verger::testing::{ManualClock, TestVerger};
use verger::verger_worker::{Args, Manifest, ManifestError};
use verger::{CompileCache, PluginError, Verger};

use crate::handmade::Handmade;
use crate::json::{json, scribbled, text};
use crate::surface::{Surface, Verdict};

/// Each field: mostly as it should be, at times something else, or absent.
fn manifest() -> impl Strategy<Value = Json> {
    let field = |good: BoxedStrategy<Json>| prop_oneof![20 => good.prop_map(Some), 1 => json().prop_map(Some), 1 => Just(None)];
    let strings = |texts: &[&str]| {
        prop::sample::select(texts.iter().map(|text| json!(text)).collect::<Vec<_>>()).boxed()
    };
    let name =
        prop_oneof![10 => "[a-z0-9-]{1,20}".prop_map(Json::from), 1 => text().prop_map(Json::from)]
            .boxed();
    let arg = prop_oneof![
        4 => (json(), any::<bool>(), text()).prop_map(|(default, required, description)| json!({"default": default, "required": required, "description": description})),
        1 => json(),
    ];
    let args = prop::collection::vec((text(), arg), 0..4)
        .prop_map(|args| Json::Object(args.into_iter().collect()));
    let verbs = || {
        prop::sample::subsequence(vec!["read", "insert", "update", "delete"], 0..=4)
            .prop_map(|verbs| json!(verbs))
    };
    let table = prop_oneof![
        8 => ("[a-z_]{1,8}", verbs()).prop_map(|(table, verbs)| json!({"table": table, "verbs": verbs})),
        2 => (text(), text(), verbs()).prop_map(|(arg, default, verbs)| json!({"arg": arg, "default": default, "verbs": verbs})),
        1 => (text(), json()).prop_map(|(table, verbs)| json!({"table": table, "verbs": verbs})),
    ];
    let schedule = prop_oneof![
        Just(json!({"cron": "0 3 * * *"})),
        any::<u64>().prop_map(|ms| json!({"every_ms": ms})),
        Just(Json::Null)
    ];
    let fields = (
        field(name),
        field(strings(&["1", "0.1.0", "", "x"])),
        field(text().prop_map(Json::from).boxed()),
        field(any::<bool>().prop_map(Json::from).boxed()),
        field(args.boxed()),
        field(prop::collection::vec(table, 0..4).prop_map(Json::from).boxed()),
        field(prop::collection::vec(text(), 0..4).prop_map(Json::from).boxed()),
        field(schedule.boxed()),
        field(json().boxed()),
    );
    fields.prop_map(
        |(
            name,
            version,
            description,
            tenant_aware,
            args,
            tables,
            capabilities,
            schedule,
            unknown,
        )| {
            let names = [
                "name",
                "version",
                "description",
                "tenant_aware",
                "args",
                "tables",
                "capabilities",
                "schedule",
                "unknown",
            ];
            let values = [
                name,
                version,
                description,
                tenant_aware,
                args,
                tables,
                capabilities,
                schedule,
                unknown,
            ];
            let fields = names
                .into_iter()
                .zip(values)
                .filter_map(|(name, value)| Some((name.to_string(), value?)));
            Json::Object(fields.collect())
        },
    )
}

fn check(bytes: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(bytes) else { return through_a_component(bytes, false) };
    let parsed = Manifest::parse(text);
    // A component costs much more than the parser it ends at.
    if bytes.len().is_multiple_of(16) {
        through_a_component(bytes, parsed.is_ok())?;
    }
    match parsed {
        Ok(manifest) => {
            let again = serde_json::to_string(&manifest).map_err(|error| error.to_string())?;
            if Manifest::parse(&again).as_ref() != Ok(&manifest) {
                return Err(format!("it does not survive its own JSON: {again}"));
            }
            let complete = manifest.complete(&Args::default());
            Ok(if complete.is_ok() { "taken" } else { "taken, and asks for args" }.to_string())
        }
        Err(error @ (ManifestError::Unreadable(_) | ManifestError::Invalid(_))) => {
            names_its_field(text, &error.to_string())
        }
        Err(other) => Err(format!("{other:?}")),
    }
}

/// That the reason for a JSON object to be refused has the name of a field in it, or the place
/// where it stops being JSON.
fn names_its_field(text: &str, reason: &str) -> Verdict {
    let fields = [
        "name",
        "version",
        "description",
        "tenant_aware",
        "args",
        "tables",
        "table",
        "capabilities",
        "schedule",
    ];
    match serde_json::from_str::<Json>(text) {
        _ if fields.iter().any(|field| reason.contains(field)) => {
            Ok("a field is wrong".to_string())
        }
        Err(_) if reason.contains("line") => Ok("no JSON".to_string()),
        Ok(other) if !other.is_object() => Ok("no object".to_string()),
        _ => Err(format!("the reason names no field: {reason}")),
    }
}

/// What the parser says of a manifest is what becomes of the component that gives it.
fn through_a_component(manifest: &[u8], good: bool) -> Verdict {
    let component = Handmade::described(manifest).bytes();
    let builder = Verger::in_memory()
        .without_built_ins()
        .compile_cache(CompileCache::Off)
        .clock(ManualClock::at(TestVerger::START));
    match (builder.component("handmade.wasm", component).open(), good) {
        (Ok(_), true) => Ok("taken".to_string()),
        (Err(verger::OpenError::Worker(PluginError::Manifest { .. })), false) => {
            Ok("refused".to_string())
        }
        (Err(verger::OpenError::Worker(PluginError::Describe { .. })), false) => {
            Ok("no text".to_string())
        }
        (opened, _) => Err(format!(
            "the parser says {good}, the component ended as {:?}",
            opened.map(|verger| verger.workers())
        )),
    }
}

#[test]
fn a_manifest_of_any_text_is_taken_whole_or_refused_with_the_field() {
    Surface { name: "manifests", cases: 2_000, inputs: scribbled(manifest()), check: &check }
        .attack();
}
