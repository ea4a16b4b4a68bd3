//! Changes by hand, which show.

use serde_json::{Value as Json, json};
use verger::ChainError;
use verger::testing::TestVerger;
use verger::verger_worker::prelude::*;

use crate::common::{BOTH, Kind, answers, puppet};

/// Ten rows; the triggers that guard them are dropped, as someone with the file in hand can do.
fn open_to_tampering(kind: Kind) -> TestVerger {
    let test = kind.open();
    let event = json!({"action": "thing.updated", "organization_id": "o1", "subject_id": "7", "before": "{\"a\":1}", "metadata": "{\"n\":1}"});
    for _ in 0..5 {
        answers(&test, json!([["audit", [event, event]]]));
    }
    assert_eq!(test.verify_audit().unwrap().rows, 10);
    test.sql("DROP TRIGGER verger_audit_no_update; DROP TRIGGER verger_audit_no_delete; DROP TRIGGER verger_audit_no_replace;");
    test
}

#[test]
fn a_row_that_was_changed_deleted_or_inserted_shows() {
    let columns = test_columns();
    let mut cases: Vec<(String, Option<i64>)> = columns
        .iter()
        .map(|column| {
            let value = if ["id", "occurred_at", "job", "attempt"].contains(&column.as_str()) {
                "4711"
            } else {
                "'error'"
            };
            let value = if column == "hash" { "zeroblob(32)" } else { value };
            (
                format!("UPDATE verger_audit SET {column} = {value} WHERE id = 4"),
                Some(if column == "id" { 5 } else { 4 }),
            )
        })
        .collect();
    let fields = "occurred_at, action, outcome, hash";
    cases.extend([
        ("DELETE FROM verger_audit WHERE id = 1".into(), Some(2)),
        ("DELETE FROM verger_audit WHERE id = 6".into(), Some(7)),
        ("DELETE FROM verger_audit WHERE id BETWEEN 2 AND 9".into(), Some(10)),
        (format!("INSERT INTO verger_audit (id, {fields}) SELECT 11, {fields} FROM verger_audit WHERE id = 10"), Some(11)),
        (format!("INSERT INTO verger_audit (id, {fields}) SELECT 0, {fields} FROM verger_audit WHERE id = 1"), Some(0)),
        ("UPDATE verger_audit SET id = -id; UPDATE verger_audit SET id = 11 + id".into(), Some(1)),
        ("UPDATE verger_audit SET subject_id = NULL WHERE id = 10".into(), Some(10)),
        ("UPDATE verger_audit SET before = NULL, after = before WHERE id = 8".into(), Some(8)),
        ("SELECT 1".into(), None),
    ]);
    for (sql, broken) in cases {
        let test = open_to_tampering(Kind::Component);
        test.sql(&sql);
        match (test.verify_audit(), broken) {
            (Ok(verified), None) => assert_eq!(verified.rows, 10),
            (Err(ChainError::Broken { id }), Some(expected)) => assert_eq!(id, expected, "{sql}"),
            (other, _) => panic!("{sql}: {other:?}"),
        }
    }
}

fn test_columns() -> Vec<String> {
    let columns = puppet().rows("SELECT name FROM pragma_table_info('verger_audit')");
    columns.iter().map(|column| column["name"].as_str().unwrap().to_string()).collect()
}

#[test]
fn newest_rows_that_were_removed_are_missed_and_the_log_goes_on_behind_their_place() {
    let one = "the newest row of the audit log is missing: row 10 was written, and removed";
    let three =
        "the newest 3 rows of the audit log are missing: rows 8 to 10 were written, and removed";
    let all =
        "the newest 10 rows of the audit log are missing: rows 1 to 10 were written, and removed";
    for (gone, kept, message) in [(10, 9, one), (8, 7, three), (1, 0, all)] {
        let test = open_to_tampering(Kind::Native);
        test.sql(&format!("DELETE FROM verger_audit WHERE id >= {gone}"));
        let error = test.verify_audit().unwrap_err();
        assert!(
            matches!(error, ChainError::Missing { kept: found, last: 10 } if found == kept),
            "{error:?}"
        );
        assert_eq!(error.to_string(), message);
        // Whoever writes to the log is not kept from it, and covers nothing up.
        assert_eq!(
            answers(&test, json!([["audit", [{"action": "thing.made"}]]])),
            json!([{"ok": [11]}])
        );
        assert_eq!(test.audit(&AuditEvent::success("a.b")).unwrap(), 12);
        assert!(matches!(test.verify_audit(), Err(ChainError::Broken { id: 11 })));
    }
}

#[test]
fn newest_rows_that_were_replaced_by_others_show() {
    let [test, other] = [open_to_tampering(Kind::Native), open_to_tampering(Kind::Native)];
    // In the other log they are whole: it is remembered that they are not those of this one.
    other.sql("DELETE FROM verger_audit WHERE id = 10; DROP TRIGGER verger_audit_head_forward");
    other.sql(
        "UPDATE verger_audit_head SET id = 9, hash = (SELECT hash FROM verger_audit WHERE id = 9)",
    );
    other.audit(&AuditEvent::success("nothing.happened")).unwrap();
    other.verify_audit().unwrap();
    let hash = &other.rows("SELECT hash FROM verger_audit WHERE id = 10")[0]["hash"];
    test.sql(&format!(
        "DELETE FROM verger_audit WHERE id = 10; INSERT INTO verger_audit (id, occurred_at, action, outcome, hash)
         VALUES (10, {}, 'nothing.happened', 'success', x'{}')",
        test.now().as_millis(),
        hash.as_str().unwrap(),
    ));
    assert!(matches!(test.verify_audit(), Err(ChainError::Broken { id: 10 })));
    // Not promised: there is no key, so someone who may write to the file and knows how it is made
    // can make it anew.
    test.sql("DROP TRIGGER verger_audit_head_forward; UPDATE verger_audit_head SET hash = (SELECT hash FROM verger_audit WHERE id = 10)");
    assert_eq!(test.verify_audit().unwrap().rows, 10);
}

#[test]
fn a_log_whose_memory_of_its_newest_row_was_taken_away_does_not_verify() {
    for tampering in [
        "DELETE FROM verger_audit_head",
        "UPDATE verger_audit_head SET id = 4, hash = (SELECT hash FROM verger_audit WHERE id = 4)",
    ] {
        let test = open_to_tampering(Kind::Native);
        test.sql(
            "DROP TRIGGER verger_audit_head_no_delete; DROP TRIGGER verger_audit_head_forward",
        );
        test.sql(tampering);
        assert!(
            matches!(test.verify_audit(), Err(ChainError::Broken { id: 1 | 5 })),
            "{tampering}"
        );
    }
}

#[test]
fn the_newest_row_is_remembered_whatever_became_of_those_around_it() {
    let event = json!({"action": "thing.made"});
    for kind in BOTH {
        let test = kind.open();
        let newest = |steps: Json| {
            let _ = test.perform_job("puppet", json!({ "do": steps }));
            let rows = test.verify_audit().unwrap().rows;
            assert_eq!(test.one::<i64>("SELECT id FROM verger_audit_head").unsigned_abs(), rows);
            rows
        };
        assert_eq!(
            newest(json!([
                ["audit", [event]],
                ["savepoint"],
                ["audit", [event, event]],
                ["rollback", 0]
            ])),
            1
        );
        assert_eq!(
            newest(json!([
                ["savepoint"],
                ["audit", [event]],
                ["rollback", 0],
                ["audit", [event]],
                ["checkpoint"]
            ])),
            2
        );
        assert_eq!(
            newest(json!([["audit", [event]], ["checkpoint"], ["audit", [event]], ["trap"]])),
            3
        );
        assert_eq!(newest(json!([["savepoint"], ["audit", [event]], ["rollback", 0]])), 3);
        assert_eq!(
            newest(
                json!([["audit-safe", [event, {"action": "Bad"}]], ["checkpoint"], ["checkpoint"]])
            ),
            4
        );
    }
}

#[test]
fn an_error_of_verify_says_from_which_row_on() {
    let test = open_to_tampering(Kind::Native);
    test.sql("UPDATE verger_audit SET actor_id = 'someone else' WHERE id = 3");
    let error = test.verify_audit().unwrap_err().to_string();
    assert_eq!(
        error,
        "the audit log does not verify from row 3 on: it, or a row that stood before it, was changed, added or removed"
    );
}
