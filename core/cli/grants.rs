//! `--grant`: what a person grants workers on the command line. All verbs take the same form: JSON,
//! by the worker's name.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use verger::{Manifest, WrittenGrant};

use crate::input;

/// What workers are granted, by their names.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Grants(BTreeMap<String, WrittenGrant>);

/// The other workers that a worker asks to enqueue jobs for.
pub(crate) fn others(manifest: &Manifest) -> impl Iterator<Item = &String> {
    manifest.enqueues.iter().filter(|name| **name != manifest.name)
}

/// Reads the value of `--grant`: JSON, or the name of a file that holds it.
pub(crate) fn parse(text: &str) -> Result<Grants, String> {
    let json = match text.trim_start().starts_with('{') {
        true => text.to_string(),
        false => input::file(text.as_ref()).map_err(|error| {
            format!("it is no JSON object, and no file that can be read: {error}")
        })?,
    };
    serde_json::from_str(&json).map_err(|error| format!("it is no grant: {error}"))
}

impl Grants {
    /// All of them merged into one. No worker may be in two, because which one holds would be a
    /// guess.
    pub(crate) fn merged(all: &[Self]) -> Result<Self> {
        let mut merged = BTreeMap::new();
        for (worker, written) in all.iter().flat_map(|grants| &grants.0) {
            if merged.insert(worker.clone(), written.clone()).is_some() {
                bail!("--grant names the worker `{worker}` twice: put all it is granted into one");
            }
        }
        Ok(Self(merged))
    }

    pub(crate) fn get(&self, worker: &str) -> Option<&WrittenGrant> {
        self.0.get(worker)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &WrittenGrant)> {
        self.0.iter()
    }

    /// A value of `--grant` that gives a worker all it asks for, for this component alone.
    pub(crate) fn all_of(manifest: &Manifest, sha256: &str) -> Result<Self, String> {
        let written = WrittenGrant::all_of(manifest, sha256)?;
        Ok(Self(BTreeMap::from([(manifest.name.clone(), written)])))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn a_bad_grant_names_the_place_and_the_reason() {
        for (text, names) in [
            (r#"{"w": {"reed": []}}"#, "unknown field `reed`"),
            (r#"{"w": {"insert": ["orders:id"]}}"#, "only `read` and `update`"),
            (r#"{"w": {"limits": {"time_ms": 0}}}"#, "at least 1"),
            (r#"{"w": "#, "line 1 column"),
            ("no-such-file.json", "no file that can be read"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(names), "{text}: {error}");
        }
        let twice = [parse(r#"{"w": {}}"#).unwrap(), parse(r#"{"w": {}}"#).unwrap()];
        assert!(Grants::merged(&twice).unwrap_err().to_string().contains("`w` twice"));
    }

    #[test]
    fn what_gives_all_is_a_value_of_the_option() {
        let manifest = Manifest::new("w", "1").capability("mailer");
        let all = Grants::all_of(&manifest, &"0f".repeat(32)).unwrap();
        assert_eq!(parse(&serde_json::to_string(&all).unwrap()).unwrap(), all);
    }
}
