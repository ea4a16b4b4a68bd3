//! `verger plugin inspect`: what may this `.wasm` do?

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value as Json, json};
use verger::{Manifest, PluginError, Verger, Withheld, WrittenGrant};

use super::asks::{Asks, Granted};
use super::component::{Component, Loaded, load, refused};
use super::known::Known;
use super::{TENANT_KEYS, expression};
use crate::escape::{shown, to_paste};
use crate::grants::Grants;
use crate::options::Options;
use crate::output::{count, print, print_json};

/// Examines a component. One that Verger refuses is described as far as possible, and then the
/// refusal is the error.
pub(super) fn inspect(file: &Path, database: Option<&Path>, options: &Options) -> Result<()> {
    let grants = options.grants()?;
    // A grant for another file would be refused here, but it is to be examined.
    let builder = grants.iter().fold(Verger::in_memory(), |builder, (worker, given)| {
        builder.grant(worker, given.to_grant_for_any_file())
    });
    let loaded = load(file, builder)?;
    let component = Component::read(file, &loaded)?;
    let mut report = Report::of(file, &component, &loaded, &grants, options);
    if let (Some(database), Some(manifest)) = (database, report.manifest) {
        report.known = Some(Known::of(manifest, &component.sha256, database, options)?);
    }
    match options.json {
        true => print_json(&report.to_json())?,
        false => print(report.to_text().lines()),
    }
    loaded.map(drop).map_err(|refusal| refused(&refusal))
}

struct Report<'a> {
    file: &'a Path,
    component: &'a Component,
    refusal: Option<&'a PluginError>,
    /// What it says of itself, when it is not refused.
    manifest: Option<&'a Manifest>,
    granted: Granted<'a>,
    asks: Asks,
    withheld: Option<Withheld>,
    /// What the named database knows of it.
    known: Option<Known>,
}

impl<'a> Report<'a> {
    fn of(
        file: &'a Path,
        component: &'a Component,
        loaded: &'a Result<Loaded, PluginError>,
        grants: &'a Grants,
        options: &Options,
    ) -> Self {
        let (manifest, refusal) =
            (loaded.as_ref().ok().map(|loaded| &loaded.manifest), loaded.as_ref().err());
        let granted = manifest
            .map_or(Granted::Nothing, |manifest| Granted::to(&manifest.name, grants, options));
        let withheld = match (&granted, loaded) {
            (Granted::AsDeclared, _) | (_, Err(_)) => None,
            (_, Ok(loaded)) => loaded.verger.withheld().pop(),
        };
        let asks = manifest
            .map(|manifest| Asks::of(manifest, granted, withheld.as_ref()))
            .unwrap_or_default();
        Self { file, component, refusal, manifest, granted, asks, withheld, known: None }
    }

    fn to_json(&self) -> Json {
        let withheld = self.withheld.as_ref();
        json!({
            "file": self.file,
            "bytes": self.component.bytes,
            "sha256": self.component.sha256,
            "imports": self.component.imports,
            "exports": self.component.exports,
            "manifest": self.manifest,
            "grant": self.granted.to_json(),
            "grant_is_for_this_file": self.granted.given().map(|_| self.is_for_this_file()),
            "limits": self.granted.limits().into_iter().collect::<BTreeMap<_, _>>(),
            "tables": self.asks.tables,
            "capabilities": self.asks.capabilities,
            "enqueues": self.asks.enqueues,
            "withheld": {
                "tables": withheld.map(|withheld| withheld.tables.iter().cloned().collect::<BTreeMap<_, _>>()).unwrap_or_default(),
                "capabilities": withheld.map(|withheld| withheld.capabilities.as_slice()).unwrap_or_default(),
                "enqueues": withheld.map(|withheld| withheld.enqueues.as_slice()).unwrap_or_default(),
                "unconfined": withheld.is_some_and(|withheld| withheld.unconfined),
                "scope_defaults": self.manifest.map(|manifest| manifest.ignored_defaults().collect::<Vec<_>>()).unwrap_or_default(),
            },
            "unasked": self.asks.unasked,
            "database": self.known.as_ref().map(Known::to_json),
            "refused": self.refusal.map(ToString::to_string),
        })
    }

    /// Whether the grant is for any file, or for this one.
    fn is_for_this_file(&self) -> bool {
        self.granted
            .given()
            .and_then(WrittenGrant::sha256)
            .is_none_or(|sha256| sha256 == self.component.sha256)
    }

    fn to_text(&self) -> String {
        let Component { bytes, sha256, .. } = self.component;
        let mut text = match self.manifest {
            Some(manifest) => format!("{} {}\n", manifest.name, shown(&manifest.version)),
            None => String::new(),
        };
        if let Some(manifest) = self.manifest.filter(|manifest| !manifest.description.is_empty()) {
            text.push_str(&format!("{}\n\n", shown(&manifest.description)));
        }
        text.push_str(&format!(
            "{}: {} bytes\nSHA-256 {sha256}\n",
            shown(&self.file.display().to_string()),
            count(*bytes as u64)
        ));
        text.push_str(&self.surface());
        if let Some(manifest) = self.manifest {
            text.push_str(&self.asked(manifest));
            text.push_str(&self.known.as_ref().map(Known::to_text).unwrap_or_default());
            text.push_str(&args(manifest));
            text.push_str("\nThe limits of an attempt\n");
            for (name, most) in self.granted.limits() {
                text.push_str(&format!("  {name:17}  {}\n", count(most)));
            }
            if let Some(suggested) = &manifest.schedule {
                let told = expression(suggested).map_or_else(
                    |error| error.to_string(),
                    |read| format!("{} ({read})", read.describe()),
                );
                text.push_str(&format!("\nIt suggests to run\n  {}\n", shown(&told)));
            }
        }
        text
    }

    /// What it imports and exports.
    fn surface(&self) -> String {
        let Component { imports, exports, .. } = self.component;
        let mut text = "\nIt imports\n".to_string();
        let names: Vec<String> = imports.iter().map(|import| shown(import.short_name())).collect();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        for (import, name) in imports.iter().zip(&names) {
            let means = match (import.refused, import.means) {
                (true, _) => "REFUSED: Verger does not provide it",
                (false, means) => means.unwrap_or("not looked at, for the file is refused before"),
            };
            text.push_str(&format!("  {name:width$}  {means}\n"));
        }
        text.push_str(match (imports.is_empty(), self.component.refused().is_empty()) {
            (true, _) => "  nothing\n",
            (_, true) => {
                "and nothing else: no files, no network, no environment, no clock of its own.\n"
            }
            (_, false) => "",
        });
        let exports: Vec<String> = exports.iter().map(|export| shown(export)).collect();
        text.push_str(&format!(
            "\nIt exports\n  {}\n",
            if exports.is_empty() { "nothing".to_string() } else { exports.join(", ") }
        ));
        text
    }

    /// What it asks for, and what of that is granted.
    fn asked(&self, manifest: &Manifest) -> String {
        let mut text = "\nIt asks for\n".to_string();
        if self.asks.is_empty() {
            text.push_str("  nothing: it can compute, and log\n");
        } else {
            self.asks.to_text().lines().for_each(|line| text.push_str(&format!("  {line}\n")));
        }
        let mut notes = Vec::new();
        match &self.granted {
            Granted::Nothing if !self.asks.is_empty() => {
                notes.push("Without --grant or --trust this is an empty grant, and an empty grant grants nothing.".to_string());
            }
            Granted::Given(given) => {
                if let Some(withheld) = &self.withheld {
                    notes.push(format!("{}. It would run without.", shown(&withheld.to_string())));
                }
                if !self.asks.unasked.is_empty() {
                    notes.push(format!(
                        "Granted and not asked for, so it stays closed: {}.",
                        shown(&self.asks.unasked.join("; "))
                    ));
                }
                if let (Some(granted), false) = (given.sha256(), self.is_for_this_file()) {
                    notes.push(format!(
                        "THE GRANT IS FOR ANOTHER FILE, with SHA-256 {granted}: an app refuses this one until it is granted anew."
                    ));
                }
                notes.extend(confinement(manifest, given));
            }
            Granted::AsDeclared => notes.extend(confinement(manifest, &WrittenGrant::default())),
            Granted::Nothing => {}
        }
        if !self.asks.are_all_granted() {
            let all = Grants::all_of(manifest, &self.component.sha256).ok();
            if let Some(all) = all.and_then(|all| serde_json::to_string(&all).ok()) {
                notes.push(format!(
                    "To grant all of it, to this very file:\n  --grant {}",
                    to_paste(&all)
                ));
            }
        }
        if !notes.is_empty() {
            text.push_str(&format!("\n{}\n", notes.join("\n")));
        }
        text
    }
}

/// How far a job of one organization reaches.
fn confinement(manifest: &Manifest, given: &WrittenGrant) -> Option<String> {
    let shared: Vec<&str> = given.shared().collect();
    Some(match (given.tenant_column(), manifest.tenant_aware) {
        (None, false) => return None,
        (Some(column), false) => format!(
            "It says it is not tenant-aware, and is confined all the same, by `{column}`: its jobs must carry organization_id and actor_id."
        ),
        (None, true) => {
            "It is tenant-aware, and no tenant column is granted: a job of one organization reaches the rows of all.".to_string()
        }
        (Some(column), true) => {
            let apart = if shared.is_empty() { String::new() } else { format!(", the tables {} apart", shared.join(", ")) };
            format!("A job of one organization reaches only the rows that have it in `{column}`{apart}; a job of none reaches all.")
        }
    })
}

fn args(manifest: &Manifest) -> String {
    let tenant_keys: &[&str] = if manifest.tenant_aware { &TENANT_KEYS } else { &[] };
    let mut lines: Vec<(String, String)> = tenant_keys
        .iter()
        .map(|key| ((*key).to_string(), "must be there, and may be null".to_string()))
        .collect();
    for (name, spec) in &manifest.args {
        let need = match &spec.default {
            Some(_) if manifest.ignored_defaults().any(|key| key == name) => {
                "from the job alone: the default of the manifest is ignored".to_string()
            }
            Some(default) => format!("default {}", shown(&default.to_string())),
            None if spec.required => "must be there".to_string(),
            None => "may be left out".to_string(),
        };
        let means = if spec.description.is_empty() {
            String::new()
        } else {
            format!(". {}", shown(&spec.description))
        };
        let kind = spec.value_type.and_then(|kind| serde_json::to_value(kind).ok());
        let kind = kind.as_ref().and_then(serde_json::Value::as_str);
        let kind = kind.map_or_else(String::new, |kind| format!("{kind}, "));
        lines.push((shown(name), kind + &need + &means));
    }
    let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let lines: String =
        lines.iter().map(|(name, means)| format!("  {name:width$}  {means}\n")).collect();
    let version = match manifest.args_version {
        1 => String::new(),
        version => format!(", version {version}"),
    };
    format!("\nIts args{version}\n{}", if lines.is_empty() { "  none\n" } else { &lines })
}

#[cfg(test)]
mod tests {
    use super::*;
    use verger::verger_worker::{ArgSpec, ArgType};

    #[test]
    fn the_args_are_told_with_their_types_and_their_version() {
        let manifest = Manifest::new("w", "1")
            .args_version(2)
            .arg("days", ArgSpec::default_value(30).of(ArgType::Integer))
            .arg("month", ArgSpec::required().of(ArgType::String))
            .arg("note", ArgSpec::optional());
        let told = args(&manifest);
        for line in [
            "Its args, version 2",
            "  days   integer, default 30",
            "  month  string, must be there",
            "  note   may be left out",
        ] {
            assert!(told.lines().any(|told| told == line), "{line}: {told}");
        }
    }

    #[test]
    fn a_job_of_one_organization_is_told_of_as_it_is_confined() {
        let (plain, aware) = (Manifest::new("w", "1"), Manifest::new("w", "1").tenant_aware());
        let given = |json: &str| serde_json::from_str::<WrittenGrant>(json).unwrap_or_default();
        assert_eq!(confinement(&plain, &given("{}")), None);
        assert!(
            confinement(&aware, &given("{}"))
                .is_some_and(|note| note.contains("reaches the rows of all"))
        );
        let confined = given(r#"{"tenant_column": "org", "shared": ["log"]}"#);
        assert!(
            confinement(&plain, &confined)
                .is_some_and(|note| note.contains("confined all the same, by `org`"))
        );
        assert!(
            confinement(&aware, &confined)
                .is_some_and(|note| note.contains("in `org`, the tables log apart"))
        );
    }
}
