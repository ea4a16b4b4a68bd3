//! The rooms of the library stand in an order, and none reaches back up: whoever changes a room has
//! read it and those below it, and no other.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// From the ground up: a line is a room, and uses those above it here.
const ORDER: [&[&str]; 32] = [
    &["mutex"],
    &["time"],
    &["ids"],
    &["json"],
    &["text"],
    &["failpoint"],
    &["metrics"],
    &["statement_steps"],
    &["plugin_error"],
    &["limits"],
    &["clock"],
    &["membership"],
    &["grant"],
    &["store"],
    &["wall_clock"],
    &["audit"],
    &["event"],
    &["worker_settings"],
    &["queue"],
    &["capability"],
    &["run"],
    &["sandbox"],
    &["worker"],
    &["schedule"],
    &["engine"],
    &["error"],
    &["doctor"],
    // The façade is one room: a Builder makes a Verger, and has the names of the built-in workers.
    &["builder", "builtins", "verger"],
    &["config"],
    &["testing"],
    &["guide"],
    &["lib"],
];

fn rooms() -> BTreeMap<String, Vec<(String, String)>> {
    let mut rooms: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let core = Path::new(env!("CARGO_MANIFEST_DIR")).join("core");
    for entry in fs::read_dir(core).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_string();
        if !["cli", "ui", "benches", "examples"].contains(&name.as_str()) {
            read(&path, rooms.entry(name).or_default());
        }
    }
    rooms
}

fn read(path: &Path, files: &mut Vec<(String, String)>) {
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| read(&entry.unwrap().path(), files));
    } else if path.extension().is_some_and(|ending| ending == "rs") {
        let text = fs::read_to_string(path).unwrap();
        // Comments name what they like.
        let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
        files.push((path.display().to_string(), code.collect::<Vec<_>>().join("\n")));
    }
}

#[test]
fn no_room_reaches_back_up() {
    let rooms = rooms();
    let level = |room: &str| ORDER.iter().position(|level| level.contains(&room));
    let mut wrong = Vec::new();
    for (room, files) in &rooms {
        let Some(own) = level(room) else {
            wrong.push(format!("core/{room} has no place in the order: give it one"));
            continue;
        };
        for (file, code) in files {
            let words = code.split("crate::").skip(1).map(|rest| {
                rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
            });
            // What is no room is a macro, or a name that lib.rs gives to the outside.
            for used in words.filter(|word| rooms.contains_key(*word) && word != room) {
                if level(used).is_none_or(|used| used > own) {
                    wrong.push(format!("{file} reaches up, to `{used}`"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_place_in_the_order_is_a_room_that_is_there() {
    let rooms = rooms();
    for room in ORDER.iter().flat_map(|level| level.iter()) {
        assert!(rooms.contains_key(*room), "core/{room}");
    }
}
