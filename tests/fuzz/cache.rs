//! The compile cache: an entry that is not, to the byte, what was written is never loaded.

use proptest::prelude::*;
use verger::testing::{ManualClock, TestVerger};
use verger::{CompileCache, Verger};

use crate::handmade::Handmade;
use crate::honest::{Honest, goes_on};
use crate::mutation::edit;
use crate::surface::{Surface, Verdict};

struct Cache {
    folder: tempfile::TempDir,
    component: Vec<u8>,
    /// The one file in it.
    file: std::path::PathBuf,
    entry: Vec<u8>,
}

fn open(folder: &std::path::Path, component: &[u8]) -> Verger {
    let builder = Verger::in_memory()
        .without_built_ins()
        .clock(ManualClock::at(TestVerger::START))
        .worker(Honest);
    let cache = CompileCache::Folder(folder.join("cache"));
    builder.component("handmade.wasm", component).compile_cache(cache).open().unwrap()
}

impl Cache {
    fn of(name: &str) -> Self {
        let (folder, component) = (tempfile::tempdir().unwrap(), Handmade::new(name).bytes());
        open(folder.path(), &component);
        let mut files = std::fs::read_dir(folder.path().join("cache")).unwrap();
        let file = files.next().unwrap().unwrap().path();
        assert!(files.next().is_none());
        let entry = std::fs::read(&file).unwrap();
        Self { folder, component, file, entry }
    }

    /// An entry that is not loaded is compiled and written again: it is as it was. One that is
    /// loaded stays.
    fn check(&self, entry: &[u8]) -> Verdict {
        std::fs::write(&self.file, entry).unwrap();
        let verger = open(self.folder.path(), &self.component);
        verger.perform_now("handmade", serde_json::json!({})).map_err(|error| error.to_string())?;
        goes_on(&verger, &verger.connect().unwrap())?;
        match (entry == self.entry, std::fs::read(&self.file).unwrap() == self.entry) {
            (true, true) => Ok("loaded".to_string()),
            (false, true) => Ok("compiled again".to_string()),
            (_, false) => Err("a damaged entry was left in its place".to_string()),
        }
    }
}

#[test]
fn a_damaged_entry_of_the_compile_cache_is_compiled_again() {
    let cache = Cache::of("handmade");
    let entry = cache.entry.clone();
    let inputs = prop::collection::vec(edit(), 1..3).prop_map(move |edits| {
        let mut entry = entry.clone();
        edits.iter().for_each(|edit| edit.apply(&mut entry));
        entry
    });
    Surface {
        name: "cache",
        cases: 100,
        inputs: inputs.boxed(),
        check: &|entry| cache.check(entry),
    }
    .attack();
}

#[test]
fn an_entry_in_the_place_of_another_is_compiled_again() {
    let (one, other) = (Cache::of("handmade"), Cache::of("other"));
    assert_eq!(one.check(&other.entry), Ok("compiled again".to_string()));
}
