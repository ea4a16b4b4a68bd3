//! A dry run shows the rows it would have changed, as they are and as they would be. It shows no
//! other tenant's rows.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use serde_json::{Value as Json, json};
use verger::testing::TestVerger;
use verger::verger_worker::prelude::*;
use verger::{Grant, RowChange};

/// Runs the statements it is given.
struct Hand;

impl Worker for Hand {
    fn manifest(&self) -> Manifest {
        let things = TableAsk::named("things").read().insert().update().delete();
        Manifest::new("hand", "1.0.0").table(things)
    }

    fn perform(
        &self,
        context: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let statements = args.as_map().get("sql").and_then(Json::as_array).unwrap();
        for sql in statements.iter().filter_map(Json::as_str) {
            context.execute(sql, vec![])?;
        }
        Ok(Outcome::Done)
    }
}

const TABLES: &str = "CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT, org TEXT);
    INSERT INTO things VALUES (1, 'one', 'a'), (2, 'two', 'a'), (3, 'three', 'b');
    CREATE TABLE log (n INTEGER, org TEXT);
    CREATE TRIGGER noted AFTER UPDATE ON things BEGIN INSERT INTO log VALUES (NEW.id, 'b'); END;";

fn test(tenant_column: bool) -> TestVerger {
    let grant = Grant::new().write("things");
    let grant = if tenant_column { grant.tenant_column("org") } else { grant };
    let test =
        TestVerger::with(|builder| builder.without_built_ins().worker(Hand).grant("hand", grant));
    test.sql(TABLES);
    test
}

fn rows(test: &TestVerger, args: Json) -> Vec<RowChange> {
    let before = test.everything();
    let rows = test.dry_run("hand", args).unwrap().rows;
    assert_eq!(test.everything(), before, "it changed nothing");
    rows
}

#[test]
fn each_changed_row_is_shown_once_as_it_is_and_as_it_would_be() {
    let test = test(false);
    let shown = rows(
        &test,
        json!({"sql": [
            "UPDATE things SET name = 'ein' WHERE id = 1",
            "UPDATE things SET name = 'eins' WHERE id = 1",
            "DELETE FROM things WHERE id = 3",
            "INSERT INTO things VALUES (4, 'four', 'a')",
            "INSERT INTO things VALUES (5, 'five', 'a')",
            "DELETE FROM things WHERE id = 5",
            "UPDATE things SET name = name WHERE id = 2",
        ]}),
    );
    let shown: Vec<_> =
        shown.iter().map(|row| (row.rowid, row.before.clone(), row.after.clone())).collect();
    let row = |id: i64, name: &str, org: &str| Some(json!({"id": id, "name": name, "org": org}));
    assert_eq!(
        shown,
        [
            (1, row(1, "one", "a"), row(1, "eins", "a")),
            (3, row(3, "three", "b"), None),
            (4, None, row(4, "four", "a")),
        ]
    );
}

#[test]
fn of_a_tenant_no_others_rows_are_shown_whatever_triggers_do() {
    let test = test(true);
    test.sql("CREATE TRIGGER spreads AFTER UPDATE ON things WHEN NEW.id = 1 BEGIN UPDATE things SET name = 'seen' WHERE id = 3; END");
    let shown = rows(
        &test,
        json!({"organization_id": "a", "actor_id": null, "sql": ["UPDATE things SET name = 'x'"]}),
    );
    assert_eq!(shown.iter().map(|row| row.rowid).collect::<Vec<_>>(), [1, 2]);
    assert!(!serde_json::to_string(&shown).unwrap().contains("seen"));
}

#[test]
fn what_is_shown_is_bounded() {
    let test = test(false);
    let many = "WITH RECURSIVE n (i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) \
        INSERT INTO things SELECT i, hex(zeroblob(5000)), 'a' FROM n";
    let performed = test.dry_run("hand", json!({"sql": [many]})).unwrap();
    assert_eq!(performed.changes[0].inserted, 4_991);
    assert_eq!(performed.rows.len(), 200);
    let text = performed.rows[0].after.as_ref().unwrap()["name"].as_str().unwrap().len();
    assert!(text < 1_100, "{text}");
}
