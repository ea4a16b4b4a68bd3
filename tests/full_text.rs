//! Full-text searches of workers rank as FTS5 does, and what one step of theirs may take is
//! bounded, in time and in memory.
#![allow(clippy::print_stdout, reason = "the figures are for people")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]
#![allow(unsafe_code, reason = "rusqlite has no safe form of SQLite's count of memory")]

use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use verger::rusqlite::{Connection, ffi};
use verger::verger_worker::prelude::*;
use verger::{Grant, Limits, PerformError, Verger};

/// Sends the SQL of its args with one parameter: a text, or one `{word, times}`.
struct Sql;

impl Worker for Sql {
    fn manifest(&self) -> Manifest {
        let all = |table: &str| TableAsk::named(table).read().insert().update().delete();
        Manifest::new("sql", "1.0.0").table(all("found")).table(all("trigrams"))
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let (sql, param): (String, Json) = (args.get("sql")?, args.get("param")?);
        let param = match param["times"].as_u64() {
            Some(times) => param["word"].as_str().unwrap().repeat(times.try_into().unwrap()),
            None => param.as_str().unwrap_or_default().to_string(),
        };
        if !sql.starts_with("SELECT") {
            return Ok(Outcome::DoneWith(json!(job.execute(&sql, params![param])?)));
        }
        let rows = job.query(&sql, params![param])?.rows().collect::<Result<Vec<_>, _>>()?;
        let cell = |value: &Value| match value {
            Value::Integer(number) => json!(number),
            Value::Real(number) => json!(number),
            other => json!(format!("{other:?}")),
        };
        let row = |row: &Row| Json::Array(row.values().iter().map(cell).collect());
        Ok(Outcome::DoneWith(rows.iter().map(row).collect()))
    }
}

fn open() -> (Verger, Connection) {
    open_with(Grant::new().write("found").write("trigrams"))
}

fn open_with(grant: Grant) -> (Verger, Connection) {
    // A debug build on a busy machine.
    let limits = Limits::new().time(Duration::from_secs(60)).write_lock(Duration::from_secs(60));
    let grant = grant.limits(limits);
    let verger =
        Verger::in_memory().without_built_ins().worker(Sql).grant("sql", grant).open().unwrap();
    let app = verger.connect().unwrap();
    app.execute_batch(
        "CREATE VIRTUAL TABLE found USING fts5(title, body);
         CREATE VIRTUAL TABLE trigrams USING fts5(body, tokenize = trigram);",
    )
    .unwrap();
    (verger, app)
}

fn run(verger: &Verger, sql: &str, param: Json) -> Result<Json, String> {
    match verger.perform_now("sql", json!({"sql": sql, "param": param})) {
        Ok(performed) => Ok(performed.result().cloned().unwrap_or_default()),
        Err(PerformError::Failed { source, .. }) => {
            Err(format!("{}: {}", source.code, source.message))
        }
        Err(other) => panic!("{other}"),
    }
}

/// A text with many words, some common and most rare.
fn prose(words: u64, seed: u64) -> String {
    let mut text = String::new();
    let mut state = seed;
    for number in 0..words {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let word = state >> 33;
        match number % 16 {
            0 => text.push_str("the "),
            1 => text.push_str(["tea ", "gin ", "milk "][(word % 3) as usize]),
            _ => text.push_str(&format!("w{} ", word % 20_000)),
        }
    }
    text
}

/// SQLite asks a virtual table for a new row where an UPDATE ... FROM has a result that is no row of
/// it.
#[test]
fn an_update_that_could_add_a_row_needs_the_grant_to_insert() {
    let updates = [
        "UPDATE found SET title = count(*) FROM (SELECT 1 UNION SELECT 2) WHERE title = ?1",
        "UPDATE found SET title = 'r' FROM (SELECT 1 AS x) AS q RIGHT JOIN (SELECT 2 AS y) AS r ON q.x = r.y WHERE y <> ?1",
        "UPDATE found SET title = 'r' FROM (SELECT 1 AS x) AS q FULL JOIN (SELECT 2 AS y) AS r ON q.x = r.y WHERE y <> ?1",
    ];
    let plain =
        "UPDATE found SET title = (SELECT upper(title)) FROM (SELECT 1 AS x) AS q WHERE x <> ?1";
    for grant in [Grant::new().read("found").update("found"), Grant::new().write("found")] {
        let inserts = grant == Grant::new().write("found");
        let (verger, app) = open_with(grant);
        app.execute("INSERT INTO found VALUES ('tea', 'the tea')", []).unwrap();
        assert_eq!(run(&verger, plain, json!("")), Ok(json!(1)));
        for sql in updates {
            let said = run(&verger, sql, json!(""));
            let is_denied = said.is_err_and(|said| said.starts_with("denied: insert denied"));
            assert_eq!(is_denied, !inserts, "{sql}");
        }
        let rows = app.query_row("SELECT count(*) FROM found", [], |row| row.get::<_, i64>(0));
        assert_eq!(rows.unwrap() > 1, inserts);
    }
}

#[test]
fn a_workers_search_ranks_as_fts5_does() {
    let (verger, app) = open();
    for number in 0..40 {
        app.execute(
            "INSERT INTO found (title, body) VALUES (?1, ?2)",
            (prose(number % 7, number), prose(20 + number * 3, number + 100)),
        )
        .unwrap();
    }
    for search in [
        "tea",
        "the",
        "tea gin",
        "tea OR gin OR milk",
        "NEAR(tea the, 4)",
        "\"tea w\" * OR gin",
        "title : gin",
        "nothing",
    ] {
        for score in [
            "rank",
            "bm25(found)",
            "bm25(found, 3.0)",
            "bm25(found, 0.5, 7.0)",
            "bm25(found, 0, 0)",
        ] {
            let sql =
                format!("SELECT rowid, {score} FROM found WHERE found MATCH ?1 ORDER BY 2, 1");
            let expected: Vec<(i64, f64)> = app
                .prepare(&sql)
                .unwrap()
                .query_map([search], |row| Ok((row.get(0)?, row.get(1)?)))
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            let expected: Vec<Json> =
                expected.into_iter().map(|(id, score)| json!([id, score])).collect();
            assert_eq!(
                run(&verger, &sql, json!(search)),
                Ok(json!(expected)),
                "{score} of {search}"
            );
            assert_eq!(expected.is_empty(), search == "nothing");
        }
    }
    let sql = "SELECT rowid FROM found WHERE found MATCH ?1 AND rank MATCH 'bm25(10.0, 1.0)' ORDER BY rank";
    assert!(run(&verger, sql, json!("tea")).is_ok());
}

/// FTS5 copies the list of phrases for each: a million of empty ones would take minutes in one step.
#[test]
fn phrases_without_words_are_counted_too() {
    let (verger, _) = open();
    let search = "SELECT count(*) FROM found WHERE found MATCH ?1";
    for empty in ["\"\" OR ", "\"\" AND ", "\"\" ", "\"..\" OR ", "(\"\") OR "] {
        let few = run(&verger, search, json!(format!("{}a", empty.repeat(15))));
        assert_eq!(few, Ok(json!([[0]])), "{empty}");
        let began = Instant::now();
        let many = json!({"word": empty, "times": 900_000});
        let refused = run(&verger, search, many).unwrap_err();
        println!("{empty}: {:?}", began.elapsed());
        assert!(refused.contains("search denied: more than 16 words"), "{empty}: {refused}");
    }
}

/// A million of one word, which the app indexed: a list of all matches of 16 words would have 16
/// million entries, of 12 bytes.
#[test]
fn ranking_one_long_document_takes_no_memory() {
    let (verger, app) = open();
    app.execute("INSERT INTO found (body) VALUES (?1)", ["a ".repeat(1_000_000)]).unwrap();
    let sixteen = ["a"; 16].join(" ");
    for search in [sixteen.as_str(), "a OR a OR a"] {
        // SAFETY: they read and reset counters.
        let before = unsafe {
            ffi::sqlite3_memory_highwater(1);
            ffi::sqlite3_memory_used()
        };
        let began = Instant::now();
        let said = run(&verger, "SELECT rank FROM found WHERE found MATCH ?1", json!(search));
        // SAFETY: it reads a counter.
        let most = unsafe { ffi::sqlite3_memory_highwater(0) } - before;
        println!("{search}: {:?}, {most} bytes, {said:?}", began.elapsed());
        assert_eq!(said.unwrap().as_array().unwrap().len(), 1);
        assert!(most < 100 << 20, "{search}: {most} bytes");
    }
}

#[test]
fn a_worker_indexes_prose_of_any_length_and_no_word_a_million_times() {
    let (verger, app) = open();
    let insert = "INSERT INTO found (body) VALUES (?1)";
    // As long as a value may be.
    let long = prose(1_200_000, 7);
    assert!(long.len() > 7 << 20 && long.len() < 8 << 20, "{}", long.len());
    assert_eq!(run(&verger, insert, json!(long)), Ok(json!(1)));
    assert_eq!(run(&verger, insert, json!({"word": "a ", "times": 100_000})), Ok(json!(1)));
    for (table, word) in [("found", "a "), ("found", "a b "), ("trigrams", "a")] {
        let sql = format!("INSERT INTO {table} (body) VALUES (?1)");
        let said = run(&verger, &sql, json!({"word": word, "times": 100_100}));
        let Err(refused) = said else { panic!("{table}, {word:?}: {said:?}") };
        assert!(refused.contains("write denied: a text for a full-text index"), "{refused}");
    }
    let sixteen = format!("NEAR({}, 3)", ["a"; 16].join(" "));
    let began = Instant::now();
    let said = run(&verger, "SELECT count(*) FROM found WHERE found MATCH ?1", json!(sixteen));
    println!("16 words of 100,000 matches each, near: {:?}", began.elapsed());
    assert_eq!(said, Ok(json!([[1]])));
    // What the app indexed may be deleted, and a refused search says why.
    assert_eq!(
        run(&verger, "DELETE FROM found WHERE rowid = 1 AND ?1 = ''", json!("")),
        Ok(json!(1))
    );
    let refused =
        run(&verger, "SELECT 1 FROM found WHERE found MATCH ?1", json!(["a"; 17].join(" ")))
            .unwrap_err();
    assert!(refused.contains("search denied: more than 16 words"), "{refused}");
    let left: i64 = app.query_row("SELECT count(*) FROM found", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 1);
}
