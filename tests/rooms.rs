//! The rooms of the library have an order, and none uses one above it. So to change a room you need
//! to read only that room and those below it.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// From the ground up: a line is a room, and uses those above it here.
const ORDER: [&[&str]; 36] = [
    &["mutex"],
    &["time"],
    &["ids"],
    &["json"],
    &["text"],
    &["failpoint"],
    &["metrics"],
    &["observation"],
    &["statement_steps"],
    &["plugin_error"],
    &["limits"],
    &["clock"],
    &["membership"],
    &["grant"],
    &["written_grant"],
    &["store"],
    &["wall_clock"],
    &["audit"],
    &["event"],
    &["worker_settings"],
    &["worker_state"],
    &["queue"],
    &["capability"],
    &["run"],
    &["sandbox"],
    &["worker"],
    &["schedule"],
    &["engine"],
    &["error"],
    &["postgres"],
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
        let path = path.display().to_string().replace('\\', "/");
        files.push((path, code.collect::<Vec<_>>().join("\n")));
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

/// The rooms that own rows or the file: SQL stands in them.
const OWNERS: [&str; 8] = [
    "store",
    "queue",
    "schedule",
    "audit",
    "event",
    "wall_clock",
    "worker_settings",
    "worker_state",
];

/// Every other file that names SQLite, and why.
const NAMES_SQLITE: [(&str, &str); 21] = [
    ("lib.rs", "the app needs the same rusqlite: it is handed on"),
    ("builder/mod.rs", "a function of the app's that sets connections up"),
    ("verger/mod.rs", "connections that the app asks for, or has cooperate"),
    ("verger/enqueue.rs", "the app's own transaction, in which a job is enqueued"),
    ("postgres/moving/app_rows.rs", "reads the rows of a file that is moved"),
    ("postgres/moving/app_table.rs", "reads the tables of a file that is moved"),
    ("postgres/moving/mod.rs", "reads a file that is moved"),
    ("testing/test_verger.rs", "the connection of a test"),
    ("testing/rows.rs", "the rows of a test's query"),
    ("doctor/clock.rs", "looks at any file, whole or not, by SQL of its own"),
    ("doctor/diagnosis.rs", "looks at any file, whole or not, by SQL of its own"),
    ("doctor/examination.rs", "looks at any file, whole or not, by SQL of its own"),
    ("doctor/fix.rs", "mends any file, by SQL of its own"),
    ("doctor/jobs.rs", "looks at any file, whole or not, by SQL of its own"),
    ("doctor/schema.rs", "looks at any file, whole or not, by SQL of its own"),
    ("worker/bound_names.rs", "owns the rows of dropped-in workers"),
    ("worker/grant_rows.rs", "owns the rows of dropped-in workers"),
    ("worker/plugins/consent.rs", "decides on the rows of dropped-in workers"),
    ("worker/plugins/mod.rs", "decides on the rows of dropped-in workers"),
    ("worker/plugins/take_in/decide.rs", "decides on the rows of dropped-in workers"),
    ("worker/plugins/take_in/versions.rs", "decides on the rows of dropped-in workers"),
];

#[test]
fn only_the_owners_of_rows_and_those_who_say_why_name_sqlite() {
    let mut found = Vec::new();
    for (room, files) in rooms() {
        if OWNERS.contains(&room.as_str()) {
            continue;
        }
        for (file, code) in files {
            if code.contains("rusqlite") {
                let name = file.rsplit_once("/core/").unwrap().1;
                found.push(name.to_string());
            }
        }
    }
    found.sort();
    let mut listed: Vec<_> = NAMES_SQLITE.iter().map(|(file, _)| (*file).to_string()).collect();
    listed.sort();
    assert_eq!(found, listed, "the list above tells who names SQLite, and why");
    let above = |file: &String| file.starts_with("engine/") || file.starts_with("run/");
    assert!(!found.iter().any(above), "the engine asks its books, a run its connection");
    let verbs =
        ["SELECT", "INSERT", "UPDATE", "DELETE", "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT"];
    let rooms = rooms();
    for (file, code) in ["engine", "run"].iter().flat_map(|room| &rooms[*room]) {
        // What a test performs is a worker's.
        let code = code.split("#[cfg(test)]").next().unwrap();
        let verb = verbs.iter().find(|verb| code.contains(&format!("\"{verb}")));
        assert_eq!(verb, None, "{file} speaks SQL: that belongs to the rooms that own rows");
    }
}

/// The prose of the docs is read in editors and terminals too.
#[test]
fn no_line_of_prose_is_longer_than_a_hundred_characters() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages: Vec<_> = ["README.md", "ARCHITECTURE.md", "SECURITY.md", "CHANGELOG.md"]
        .map(|page| root.join(page))
        .into();
    let guide = fs::read_dir(root.join("core/guide")).unwrap().map(|entry| entry.unwrap().path());
    // The reference of the command is generated.
    let is_written = |page: &std::path::PathBuf| {
        page.extension().is_some_and(|ending| ending == "md") && !page.ends_with("commands.md")
    };
    pages.extend(guide.filter(is_written));
    for page in pages {
        let (text, mut is_code) = (fs::read_to_string(&page).unwrap(), false);
        for line in text.lines() {
            is_code ^= line.trim_start().starts_with("```");
            let is_prose = !is_code && !line.starts_with('|') && line.contains(' ');
            let is_long = is_prose && line.chars().count() > 100;
            assert!(!is_long, "{}: {line}", page.display());
        }
    }
}

/// What a process has once, whatever it opens, stands in ARCHITECTURE.md with its reason.
#[test]
fn every_static_is_listed_in_the_architecture() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md");
    let page = fs::read_to_string(page).unwrap();
    let table = page.split("## What a process has once").nth(1).unwrap();
    let listed: Vec<_> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split_once('`'))
        .map(|(name, _)| name.to_string())
        .collect();
    let mut found = Vec::new();
    for (file, code) in rooms().into_values().flatten() {
        let file = file.rsplit_once("/core/").unwrap().1.to_string();
        for line in code.lines().map(str::trim_start) {
            let line = line.strip_prefix("pub(crate) ").unwrap_or(line);
            if let Some(rest) = line.strip_prefix("static ") {
                found.push(format!("{file} {}", rest.split(':').next().unwrap()));
            }
        }
    }
    found.sort();
    let mut sorted = listed.clone();
    sorted.sort();
    assert_eq!(found, sorted);
}

/// A file longer than this has a line in its module's documentation that begins so and says why.
const LINES: usize = 400;
const REASON: &str = "//! One file because ";

#[test]
fn a_file_is_short_or_says_why_it_is_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut long = Vec::new();
    let mut files = 0;
    for folder in ["core", "plugins", "tests"] {
        every_source(&root.join(folder), &mut |path, text| {
            files += 1;
            let has_reason = text
                .lines()
                .take_while(|line| line.starts_with("//!"))
                .any(|line| line.starts_with(REASON));
            let lines = text.lines().count();
            if (lines > LINES) != has_reason {
                long.push(format!("{} has {lines} lines", path.display()));
            }
        });
    }
    assert!(files > 300, "{files} files");
    assert!(
        long.is_empty(),
        "more than {LINES} lines with no `{REASON}…` at the top, or a reason with no need:\n{}",
        long.join("\n")
    );
}

fn every_source(folder: &Path, look: &mut impl FnMut(&Path, &str)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            // What cargo built there is nobody's source.
            if path.file_name().is_some_and(|name| name != "target") {
                every_source(&path, look);
            }
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            look(&path, &fs::read_to_string(&path).unwrap());
        }
    }
}
