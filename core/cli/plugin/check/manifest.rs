//! What a person should know or change about a manifest. Its form was checked when it was read.

use std::path::Path;

use serde_json::Value as Json;
use verger::Manifest;
use verger::verger_worker::TableName;

use super::super::{TENANT_KEYS, expression};
use super::finding::Findings;

pub(super) fn examine(manifest: &Manifest, file: &Path, findings: &mut Findings) {
    name(manifest, file, findings);
    args(manifest, findings);
    tables(manifest, findings);
    schedule(manifest, findings);
}

fn name(manifest: &Manifest, file: &Path, findings: &mut Findings) {
    let stem =
        file.file_stem().map(|stem| stem.to_string_lossy().replace('_', "-")).unwrap_or_default();
    let name = &manifest.name;
    if stem == *name {
        findings.ok("name", format!("it is `{name}`, as its file is"));
    } else {
        findings.advice(
            "name",
            format!(
                "it calls itself `{name}` and its file is {}: name the file {name}.wasm",
                file.display()
            ),
        );
    }
    if manifest.version.chars().any(|c| c.is_whitespace() || c.is_control()) {
        findings.advice(
            "version",
            format!("the version {:?} has white space in it: write it as 1.2.3", manifest.version),
        );
    } else {
        findings.ok("version", format!("version {}", manifest.version));
    }
    if manifest.description.trim().is_empty() {
        findings.advice("description", "it has no description: say in one sentence what it does");
    }
}

fn args(manifest: &Manifest, findings: &mut Findings) {
    let before = findings.all().len();
    for key in TENANT_KEYS {
        let Some(spec) = manifest.args.get(key) else { continue };
        if !manifest.tenant_aware {
            findings.advice(
                "args",
                format!("it takes the arg `{key}` and is not tenant-aware, so its jobs have no scope and are confined to no organization: set `tenant_aware`"),
            );
        } else if spec.default.is_some() {
            findings
                .advice("args", format!("its default for `{key}` never counts: a tenant-aware worker's jobs must name it, null included"));
        }
    }
    for (key, spec) in &manifest.args {
        if spec.required && spec.default.is_some() {
            findings.advice("args", format!("the arg `{key}` is required and has a default: it is filled in, so leave `required` out"));
        }
    }
    let unexplained: Vec<&str> = manifest
        .args
        .iter()
        .filter(|(_, spec)| spec.description.is_empty())
        .map(|(key, _)| key.as_str())
        .collect();
    if !unexplained.is_empty() {
        findings.advice(
            "args",
            format!(
                "say in a description what each arg means; without one: `{}`",
                unexplained.join("`, `")
            ),
        );
    }
    if findings.all().len() == before {
        let aware = if manifest.tenant_aware {
            "tenant-aware; its jobs name organization_id and actor_id"
        } else {
            "not tenant-aware"
        };
        findings.ok("args", format!("{aware}; {} of its own", manifest.args.len()));
    }
}

fn tables(manifest: &Manifest, findings: &mut Findings) {
    let mut seen = Vec::new();
    for ask in &manifest.tables {
        if let TableName::FromArg { arg, default } = &ask.table {
            let known = manifest.args.get(arg).and_then(|spec| spec.default.as_ref());
            if known.and_then(Json::as_str).is_some_and(|known| known != default) {
                findings.must_fix(
                    "tables",
                    format!(
                        "it asks for `{default}` where the arg `{arg}` names no table, but the arg's default is {}: make the two the same, or a person grants the wrong table",
                        known.unwrap_or(&Json::Null)
                    ),
                );
            }
        }
        let (TableName::Named { table } | TableName::FromArg { default: table, .. }) = &ask.table;
        if ask.verbs.is_empty() {
            findings.advice("tables", format!("it asks for the table `{table}` to do nothing with it: name the verbs, or leave it out"));
        }
        if seen.contains(&&ask.table) {
            findings.advice(
                "tables",
                format!("it asks for the table `{table}` twice: put all verbs into one"),
            );
        }
        seen.push(&ask.table);
    }
}

fn schedule(manifest: &Manifest, findings: &mut Findings) {
    match manifest.schedule.as_ref().map(|suggested| (suggested, expression(suggested))) {
        None => {}
        Some((_, Ok(read))) => {
            findings.ok("schedule", format!("it suggests to run {} ({read})", read.describe()))
        }
        Some((suggested, Err(error))) => {
            findings.must_fix(
                "schedule",
                format!("the schedule it suggests, {suggested:?}, cannot be used: {error}"),
            );
        }
    }
}

/// Fields that nobody reads. Each is a typing error, or from a later Verger.
pub(super) fn unknown_fields(text: &str, findings: &mut Findings) {
    for (place, meant) in unknown(text) {
        match meant {
            Some(meant) => findings.must_fix(
                "manifest",
                format!("it has no field `{place}`, so that says nothing: write `{meant}`"),
            ),
            None => findings.advice(
                "manifest",
                format!(
                    "nothing reads its field `{place}`: leave it out, or is it of a later Verger?"
                ),
            ),
        }
    }
}

/// The paths of unknown fields, each with the field that may be meant.
fn unknown(text: &str) -> Vec<(String, Option<String>)> {
    let mut found = Vec::new();
    let mut reader = serde_json::Deserializer::from_str(text);
    let _: Result<Manifest, _> = serde_ignored::deserialize(&mut reader, |path| {
        found.push(path.to_string().replace(".?", ""));
    });
    let json: Json = serde_json::from_str(text).unwrap_or_default();
    // A table is read by the keys it has, whatever else is in it.
    for (place, ask) in json["tables"].as_array().into_iter().flatten().enumerate() {
        let keys = ask.as_object().into_iter().flat_map(|ask| ask.keys());
        found.extend(
            keys.filter(|key| !TABLE_FIELDS.contains(&key.as_str()))
                .map(|key| format!("tables.{place}.{key}")),
        );
    }
    let meant = |place: &String| {
        let key = place.rsplit('.').next().unwrap_or_default();
        let known = FIELDS.iter().chain(&TABLE_FIELDS);
        known.copied().find(|known| is_alike(known, key)).map(str::to_string)
    };
    found.into_iter().map(|place| (place.clone(), meant(&place))).collect()
}

const FIELDS: [&str; 16] = [
    "name",
    "version",
    "description",
    "tenant_aware",
    "args",
    "args_version",
    "tables",
    "capabilities",
    "enqueues",
    "reasons",
    "schedule",
    "default",
    "required",
    "type",
    "cron",
    "every_ms",
];

const TABLE_FIELDS: [&str; 5] = ["table", "arg", "default", "verbs", "reason"];

/// Whether one may be meant by the other: written in another way, in the plural or not, or with one
/// letter added, missing or changed.
fn is_alike(known: &str, found: &str) -> bool {
    let plain = |text: &str| -> Vec<char> {
        let letters = text.chars().filter(|c| c.is_alphanumeric());
        letters.flat_map(char::to_lowercase).collect()
    };
    let (known, found) = (plain(known), plain(found));
    let same = known.iter().zip(&found).take_while(|(a, b)| a == b).count();
    let ends = |a: &[char], b: &[char]| a.ends_with(b) || b.is_empty();
    let (a, b) = (&known[same..], &found[same..]);
    let (skip_a, skip_b) = (a.get(1..).unwrap_or_default(), b.get(1..).unwrap_or_default());
    known.len() > 2
        && (a == b
            || (skip_a == b && ends(a, b))
            || (a == skip_b && ends(b, a))
            || skip_a == skip_b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::check::finding::Level;
    use verger::verger_worker::{ArgSpec, Suggested, TableAsk};

    fn levels(manifest: &Manifest) -> Vec<(Level, &'static str, String)> {
        let mut findings = Findings::default();
        examine(manifest, Path::new("plugins/close_orders.wasm"), &mut findings);
        findings
            .all()
            .iter()
            .filter(|finding| finding.level != Level::Ok)
            .map(|finding| (finding.level, finding.check, finding.says.clone()))
            .collect()
    }

    fn good() -> Manifest {
        Manifest::new("close-orders", "1.0.0")
            .description("Closes orders.")
            .tenant_aware()
            .arg("table", ArgSpec::default_value("orders").describe("The table."))
            .table(TableAsk::from_arg("table", "orders").read())
            .schedule(Suggested::Cron("0 3 * * *".to_string()))
    }

    #[test]
    fn a_field_that_nobody_reads_is_named_with_the_one_that_may_be_meant() {
        let text = r#"{"name": "w", "version": "1", "tenantAware": true, "table": [], "desription": "x", "wings": 2,
            "args": {"n": {"defualt": 1, "require": true, "Default": 1}},
            "tables": [{"table": "t", "verb": ["read"], "verbs": [], "colour": "red"}], "schedule": {"cron": "* * * * *"}}"#;
        let named: Vec<(String, Option<String>)> = unknown(text);
        let meant = |place: &str| {
            named.iter().find(|(found, _)| found == place).map(|(_, meant)| meant.as_deref())
        };
        assert_eq!(meant("tenantAware"), Some(Some("tenant_aware")));
        assert_eq!(meant("table"), Some(Some("tables")));
        assert_eq!(meant("desription"), Some(Some("description")));
        assert_eq!(meant("wings"), Some(None));
        assert_eq!(meant("args.n.require"), Some(Some("required")));
        assert_eq!(meant("args.n.Default"), Some(Some("default")));
        assert_eq!(meant("tables.0.verb"), Some(Some("verbs")));
        assert_eq!(meant("tables.0.colour"), Some(None));
        assert_eq!(unknown(r#"{"name": "w", "version": "1", "args": {"any": {}}}"#), []);
    }

    #[test]
    fn a_good_manifest_needs_nothing() {
        assert_eq!(levels(&good()), []);
    }

    #[test]
    fn each_fault_is_named() {
        let named = |name: &str| Manifest { name: name.to_string(), ..good() };
        let spec = || ArgSpec::default_value(1).describe("It.");
        let both = ArgSpec { required: true, ..spec() };
        for (manifest, level, check, names) in [
            (named("other"), Level::Advice, "name", "other.wasm"),
            (
                Manifest { version: "one two".to_string(), ..good() },
                Level::Advice,
                "version",
                "white space",
            ),
            (good().description(""), Level::Advice, "description", "one sentence"),
            (
                Manifest { tenant_aware: false, ..good() }.arg("organization_id", spec()),
                Level::Advice,
                "args",
                "not tenant-aware",
            ),
            (good().arg("actor_id", spec()), Level::Advice, "args", "never counts"),
            (good().arg("n", both), Level::Advice, "args", "leave `required` out"),
            (good().arg("n", ArgSpec::optional()), Level::Advice, "args", "without one: `n`"),
            (
                good().arg("table", ArgSpec::default_value("order").describe("It.")),
                Level::MustFix,
                "tables",
                "grants the wrong table",
            ),
            (good().table(TableAsk::named("log")), Level::Advice, "tables", "to do nothing"),
            (
                good().table(TableAsk::from_arg("table", "orders").update()),
                Level::Advice,
                "tables",
                "twice",
            ),
            (
                good().schedule(Suggested::Cron("0 25 * * *".to_string())),
                Level::MustFix,
                "schedule",
                "hour field",
            ),
            (good().schedule(Suggested::EveryMs(1)), Level::MustFix, "schedule", "1 second"),
        ] {
            let found = levels(&manifest);
            assert!(
                found.len() == 1
                    && found[0].0 == level
                    && found[0].1 == check
                    && found[0].2.contains(names),
                "{names}: {found:?}"
            );
        }
    }
}
