//! SQL at random: statements that work, with a word changed here and there, and words in any order.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::json::text;

/// What works on the tables of the puppet, or nearly.
const STATEMENTS: [&str; 34] = [
    "SELECT * FROM things",
    "SELECT id, name, value FROM things WHERE id = ?1",
    "SELECT count(*), organization_id FROM things GROUP BY 2 ORDER BY 1 DESC",
    "SELECT ?1, typeof(?1), ?2",
    "SELECT value FROM json_each('[1,2,null,\"x\"]')",
    "SELECT hex(zeroblob(100000))",
    "SELECT 9e999, -9e999, 0.0 / 0, x'00ff', 'a' || char(0) || 'b', CAST(x'ff' AS TEXT)",
    "SELECT id FROM other",
    "SELECT secret FROM other",
    "SELECT * FROM withheld",
    "SELECT * FROM verger_jobs",
    "SELECT sql FROM sqlite_schema",
    "SELECT a.id FROM things a JOIN things b ON a.id < b.id",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) SELECT sum(i) FROM n",
    "WITH things AS (SELECT 1 AS id) SELECT * FROM things",
    "INSERT INTO things (name, value) VALUES (?1, ?2)",
    "INSERT INTO things (id, name) VALUES (1, 'taken')",
    "INSERT INTO things (name) VALUES ('bad')",
    "INSERT INTO things (name, organization_id) VALUES ('x', 'b')",
    "INSERT INTO things (name) VALUES ('abort')",
    "INSERT INTO things (name) VALUES ('rollback')",
    "INSERT INTO things (name) SELECT name FROM things",
    "INSERT OR REPLACE INTO things (id, name) VALUES (2, ?1)",
    "INSERT OR ROLLBACK INTO things (id, name) VALUES (1, 'taken')",
    "INSERT INTO things (name) VALUES (?1) RETURNING id, name",
    "UPDATE things SET value = ?1",
    "UPDATE things SET organization_id = 'b'",
    "UPDATE things SET name = 'y' WHERE id = ?1 RETURNING *",
    "DELETE FROM things WHERE id > ?1",
    "DELETE FROM things",
    "UPDATE other SET secret = 'x'",
    "PRAGMA user_version = 7",
    "COMMIT",
    "CREATE TEMP TABLE mine (x)",
];

const WORDS: &str = "SELECT * FROM things other withheld WHERE id name value organization_id = ?1 ?2 ? :x , ( ) INSERT INTO VALUES UPDATE \
    SET DELETE JOIN LEFT USING ON CONFLICT DO NOTHING AS GROUP ORDER BY LIMIT UNION ALL WITH RECURSIVE EXISTS IN LIKE '%' NULL 1 -1 9e999 \
    x'00' '' count(*) json( zeroblob( printf( RETURNING -- /* ; \0 \u{feff} main. temp. secret sum(value) OVER";

pub(crate) fn sql() -> impl Strategy<Value = String> {
    let word = || select(WORDS.split_whitespace().collect::<Vec<_>>());
    let changed =
        (select(&STATEMENTS[..]), any::<Index>(), word()).prop_map(|(statement, place, word)| {
            let mut words: Vec<&str> = statement.split(' ').collect();
            let at = place.index(words.len());
            words[at] = word;
            words.join(" ")
        });
    let soup = prop::collection::vec(word(), 0..14).prop_map(|words| words.join(" "));
    prop_oneof![8 => select(&STATEMENTS[..]).prop_map(String::from), 3 => changed, 2 => soup, 1 => text()]
}
