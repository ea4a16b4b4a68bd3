//! Power that is cut.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use verger::Durability;

use crate::common::chronicle::{self, Dice};
use crate::common::faulty::Disk;

/// Lives on a disk whose unsynced writes may be lost, and looks at what a power cut would have
/// left.
fn power_cuts(durability: Durability) {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::with_memory(folder.path());
    let file = folder.path().canonicalize().unwrap().join("app.db");
    chronicle::found(&file);
    let verger = chronicle::builder(&file).durability(durability).open().unwrap();
    let mut app = verger.connect().unwrap();
    // So that the log is folded into the file, and begun anew, many times.
    app.pragma_update(None, "wal_autocheckpoint", 50).unwrap();
    let cuts = if std::env::var_os("VERGER_LONG").is_some() { 400 } else { 15 };
    let (mut dice, mut number, mut told, over) =
        (Dice::new(3), 0, BTreeSet::new(), AtomicBool::new(false));
    let mut lost = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                verger.tick(verger.now()).unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        for _ in 0..cuts {
            for _ in 0..dice.below(12) {
                told.extend(chronicle::enqueue_some(&verger, &mut app, &mut dice, 0, &mut number));
            }
            std::thread::sleep(Duration::from_millis(dice.below(20)));
            let after = tempfile::tempdir().unwrap();
            disk.cut(&mut dice, after.path());
            let left = chronicle::open(&after.path().join("app.db"));
            let migrated: bool = left
                .query_row(
                    "SELECT count(*) FROM sqlite_schema WHERE name = 'verger_jobs'",
                    [],
                    |row| row.get(0),
                )
                .unwrap();
            if !migrated {
                assert_eq!(durability, Durability::Normal);
                lost.push(told.len());
                continue;
            }
            let promised =
                if durability == Durability::Full { told.clone() } else { BTreeSet::new() };
            chronicle::check(&left, &promised);
            let mut select = left
                .prepare("SELECT args ->> '$.tag' FROM verger_jobs WHERE schedule IS NULL")
                .unwrap();
            let there: BTreeSet<String> =
                select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
            lost.push(told.difference(&there).count());
            drop(select);
            drop(left);
            let reopened = chronicle::builder(&after.path().join("app.db")).open().unwrap();
            reopened.verify_audit().unwrap();
            reopened.tick(reopened.now()).unwrap();
        }
        over.store(true, Ordering::Relaxed);
    });
    println!(
        "{cuts} power cuts with {durability:?}, {} jobs acknowledged: {} cuts lost some, {} jobs in all, at most {} at once",
        told.len(),
        lost.iter().filter(|lost| **lost > 0).count(),
        lost.iter().sum::<usize>(),
        lost.iter().max().unwrap(),
    );
    assert!(durability == Durability::Normal || lost.iter().all(|lost| *lost == 0));
}

#[test]
fn a_power_cut_with_full_durability_loses_no_commit() {
    power_cuts(Durability::Full);
}

#[test]
fn a_power_cut_with_normal_durability_may_lose_the_last_commits_and_leaves_the_file_whole() {
    power_cuts(Durability::Normal);
}
