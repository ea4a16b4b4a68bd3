//! Whatever a worker sends, what it reaches is what its grant allows.
//!
//! Statements are made at random: odd white space and quotes, joins that name no columns, REPLACE in
//! every form, commands to virtual tables, upserts, RETURNING. They run on schemas of every shape
//! (keys that are composite, NULL, typeless or in no rowid, columns that take the rowid's name, a
//! tenant that is computed, cascades, full text, views and triggers of the app) under grants that
//! are made at random too, half of them confined to a tenant.
//!
//! Each statement runs in two worlds that differ only in cells the worker may not read: in columns
//! that it is not granted, and in rows of other tenants. It must be told the same in both: rows,
//! errors and changes. And afterwards every table is compared with a copy of before, cell by cell:
//! no row is gone, new or changed in a way that no verb of the grant covers. 2,000 statements;
//! `VERGER_LONG=1` makes it 1,000,000, `VERGER_LONG=200000` so many. A failure prints the seed and
//! the statement; `VERGER_SEED=…` replays a run.
#![allow(clippy::print_stdout, reason = "the figures are for people")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod case;
mod grammar;
#[path = "../common/random.rs"]
mod random;
mod rows;
mod world;

use std::collections::BTreeMap;

use case::{Case, SHAPES};
use grammar::Grammar;
use random::Random;
use rows::{Row, beyond_the_grant};
use serde_json::Value as Json;
use world::World;

/// Statements for one schema and one grant.
const OF_EACH: u32 = 100;

#[test]
fn no_statement_reaches_more_than_the_grant_allows() {
    let statements = match std::env::var("VERGER_LONG").map(|long| long.parse::<u32>()) {
        Ok(Ok(count)) if count > 1 => count,
        Ok(_) => 1_000_000,
        Err(_) => 2_000,
    };
    let seed = std::env::var("VERGER_SEED").map_or(20_261_125, |seed| seed.parse().unwrap());
    let mut grammar = Grammar::new(seed);
    let mut grants = Random(seed ^ 0x5eed);
    let begun = std::time::Instant::now();
    let mut tally: BTreeMap<String, u32> = BTreeMap::new();
    let mut number = 0;
    while number < statements {
        let case = if number == 0 { Case::first() } else { Case::at_random(&mut grants) };
        let (one, other) = (World::open(&case, 8_000), World::open(&case, 9_000));
        let mut before = [one.rows(), other.rows()];
        for _ in 0..OF_EACH.min(statements - number) {
            number += 1;
            let (sql, execute) = grammar.statement();
            let answers = [one.run(&sql, execute), other.run(&sql, execute)];
            let about = || {
                format!(
                    "seed {seed}, statement {number}, {}: {sql:?}\n{answers:#?}\n{case:?}",
                    SHAPES[case.shape]
                )
            };
            // On a busy machine the clock ends one of them: it tells nothing.
            let by_clock = |said: &Result<Json, String>| {
                said.as_ref()
                    .is_err_and(|why| why.starts_with("deadline") || why.starts_with("lock-held"))
            };
            if !answers.iter().any(by_clock) {
                assert_eq!(answers[0], answers[1], "what it may not read shows\n{}", about());
            }
            let after = [one.rows(), other.rows()];
            for (before, after) in before.iter().zip(&after) {
                if let Some(what) = beyond_the_grant(&case, before, after) {
                    panic!("{what}\n{}", about());
                }
                let kept =
                    |row: &&Row| row.cells[0] == "Integer(1)" || row.cells[0] == "Integer(2)";
                assert_eq!(after["log"].iter().filter(kept).count(), 2, "{}", about());
            }
            if after[0] != before[0] || after[1] != before[1] {
                let is_undone = answers.iter().all(Result::is_err);
                assert!(!is_undone, "an error left something\n{}", about());
                one.fill();
                other.fill();
                before = [one.rows(), other.rows()];
            }
            if number % 50_000 == 0 {
                println!("{number} statements, in {:?}", begun.elapsed());
            }
            let kind = match &answers[0] {
                Ok(_) if execute => "changed".to_string(),
                Ok(_) => "answered".to_string(),
                Err(reason) if reason.contains("denied") => "denied".to_string(),
                Err(_) => "no statement".to_string(),
            };
            *tally.entry(kind).or_default() += 1;
            *tally.entry(SHAPES[case.shape].to_string()).or_default() += 1;
            *tally.entry(format!("confined: {}", case.confined)).or_default() += 1;
        }
    }
    println!("{statements} statements, seed {seed}, in {:?}: {tally:#?}", begun.elapsed());
    let worked = tally.get("answered").unwrap_or(&0) + tally.get("changed").unwrap_or(&0);
    assert!(worked * 25 > statements, "some statements do something: {tally:?}");
}
