//! `verger plugin diff`: what a new version asks for beyond the old one, and what it changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use serde_json::{Value as Json, json};
use verger::verger_worker::{ArgSpec, TableName};
use verger::{Manifest, Verger};

use super::component::{Component, load, refused};
use crate::escape::shown;
use crate::options::Options;
use crate::output::{count, print, print_json};

/// A version of a worker.
struct Side {
    component: Component,
    manifest: Manifest,
}

impl Side {
    fn read(file: &Path) -> Result<Self> {
        let loaded = load(file, Verger::in_memory())?;
        let component = Component::read(file, &loaded)?;
        let manifest = loaded.map_err(|refusal| refused(&refusal))?.manifest;
        Ok(Self { component, manifest })
    }

    /// What it asks for, one line each.
    fn asks(&self) -> BTreeSet<String> {
        asks(&self.manifest)
    }

    fn imports(&self) -> BTreeSet<String> {
        self.component.imports.iter().map(|import| import.short_name().to_string()).collect()
    }
}

/// What a worker asks for, one line each.
pub(super) fn asks(manifest: &Manifest) -> BTreeSet<String> {
    let Manifest { tables, capabilities, enqueues, tenant_aware, .. } = manifest;
    let tables = tables.iter().flat_map(|ask| {
        let table = match &ask.table {
            TableName::Named { table } => format!("table {table}"),
            TableName::FromArg { arg, default } => {
                format!("the table that the arg `{arg}` names, {default} by default")
            }
        };
        ask.verbs.iter().map(move |verb| format!("{verb} on {table}"))
    });
    let functions = capabilities.iter().map(|name| format!("call the function {name}"));
    let jobs = enqueues.iter().map(|name| format!("enqueue jobs for the worker {name}"));
    let unconfined = (!tenant_aware).then(|| "run for all organizations at once".to_string());
    let defaults = manifest.ignored_defaults().map(|key| format!("a default for `{key}`"));
    tables.chain(functions).chain(jobs).chain(unconfined).chain(defaults).collect()
}

/// What differs.
struct Difference {
    more: Vec<String>,
    less: Vec<String>,
    changed: Vec<String>,
}

impl Difference {
    fn of(old: &Side, new: &Side) -> Self {
        let (before, after) = (old.asks(), new.asks());
        let mut changed = Vec::new();
        let mut told = |what: &str, before: String, after: String| {
            if before != after {
                changed.push(format!("{what}: {before} → {after}"));
            }
        };
        let (a, b) = (&old.manifest, &new.manifest);
        told("name", a.name.clone(), b.name.clone());
        told("version", a.version.clone(), b.version.clone());
        told("version of its args", a.args_version.to_string(), b.args_version.to_string());
        told("description", a.description.clone(), b.description.clone());
        let suggested = |manifest: &Manifest| {
            manifest.schedule.as_ref().map_or("none".to_string(), |when| json!(when).to_string())
        };
        told("suggested schedule", suggested(a), suggested(b));
        changed.extend(args(&a.args, &b.args));
        for import in new.imports().difference(&old.imports()) {
            changed.push(format!("it imports {import}, which it did not"));
        }
        for import in old.imports().difference(&new.imports()) {
            changed.push(format!("it does not import {import} any more"));
        }
        Self {
            more: after.difference(&before).cloned().collect(),
            less: before.difference(&after).cloned().collect(),
            changed,
        }
    }
}

/// What became of the args, and what that means for waiting jobs.
fn args(old: &BTreeMap<String, ArgSpec>, new: &BTreeMap<String, ArgSpec>) -> Vec<String> {
    let mut lines = Vec::new();
    let needs = |spec: &ArgSpec| spec.required && spec.default.is_none();
    for (key, spec) in new {
        match old.get(key) {
            None if needs(spec) => lines.push(format!(
                "the arg `{key}` is new and required: a waiting job without it is discarded"
            )),
            None => lines.push(format!("the arg `{key}` is new: {}", value(spec))),
            Some(before) if needs(spec) && !needs(before) => lines.push(format!(
                "the arg `{key}` is required now: a waiting job without it is discarded"
            )),
            Some(before) if value(before) != value(spec) => {
                lines.push(format!("the arg `{key}`: {} → {}", value(before), value(spec)));
            }
            Some(_) => {}
        }
    }
    let gone = old.keys().filter(|key| !new.contains_key(*key));
    lines.extend(
        gone.map(|key| format!("the arg `{key}` is gone: a job that has it is told nothing")),
    );
    lines
}

fn value(spec: &ArgSpec) -> String {
    match &spec.default {
        Some(default) => format!("default {default}"),
        None if spec.required => "required".to_string(),
        None => "may be left out".to_string(),
    }
}

pub(super) fn diff(old: &Path, new: &Path, options: &Options) -> Result<()> {
    let (before, after) = (Side::read(old)?, Side::read(new)?);
    let Difference { more, less, changed } = Difference::of(&before, &after);
    let same = before.component.sha256 == after.component.sha256;
    if options.json {
        let side = |file: &Path, side: &Side| {
            json!({"file": file, "worker": side.manifest.name, "version": side.manifest.version,
                "bytes": side.component.bytes, "sha256": side.component.sha256})
        };
        let answer: Json = json!({"old": side(old, &before), "new": side(new, &after), "same": same,
            "asks_for_more": more, "asks_for_less": less, "changed": changed});
        return print_json(&answer);
    }
    if same {
        print(["They are the same file, byte for byte.".to_string()]);
        return Ok(());
    }
    let mut lines = vec![format!(
        "{} {} ({} bytes) → {} {} ({} bytes)",
        before.manifest.name,
        shown(&before.manifest.version),
        count(before.component.bytes as u64),
        after.manifest.name,
        shown(&after.manifest.version),
        count(after.component.bytes as u64),
    )];
    for (title, empty, found) in [
        ("It asks for more", "It asks for no more.", &more),
        ("It asks for less", "", &less),
        ("It changed", "Nothing else changed but its code.", &changed),
    ] {
        match found.is_empty() {
            true if empty.is_empty() => {}
            true => lines.push(format!("\n{empty}")),
            false => {
                lines.push(format!("\n{title}"));
                lines.extend(found.iter().map(|line| format!("  {}", shown(line))));
            }
        }
    }
    print(lines.join("\n").lines());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_each_arg_is_told_with_what_it_means_for_waiting_jobs() {
        let old = BTreeMap::from([
            ("days".to_string(), ArgSpec::default_value(30)),
            ("size".to_string(), ArgSpec::optional()),
            ("gone".to_string(), ArgSpec::required()),
            ("same".to_string(), ArgSpec::required()),
        ]);
        let new = BTreeMap::from([
            ("days".to_string(), ArgSpec::default_value(10)),
            ("size".to_string(), ArgSpec::required()),
            ("month".to_string(), ArgSpec::required()),
            ("same".to_string(), ArgSpec::required()),
        ]);
        let lines = args(&old, &new);
        for part in [
            "`days`: default 30 → default 10",
            "`size` is required now",
            "`month` is new and required",
            "`gone` is gone",
        ] {
            assert!(lines.iter().any(|line| line.contains(part)), "{part}: {lines:?}");
        }
        assert_eq!(lines.len(), 4);
    }
}
