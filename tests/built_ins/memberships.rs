//! Memberships that ran out.

use serde_json::json;
use verger::testing::TestVerger;
use verger::{Timestamp, assert_audited, normalized_membership_state};

use super::invitations::{invitations, invite};
use super::{INVITATIONS, MEMBERSHIPS, NOW, args, audited, both, result};

pub(super) fn join(
    test: &TestVerger,
    id: &str,
    organization: &str,
    state: &str,
    expires_at: Option<i64>,
) {
    let sql = "INSERT INTO memberships (id, organization_id, user_id, state, expires_at, created_at, updated_at) VALUES (?1, ?2, 'u', ?3, ?4, 0, 0)";
    test.connection().execute(sql, (id, organization, state, expires_at)).unwrap();
}

pub(super) fn states(test: &TestVerger) -> String {
    test.one("SELECT coalesce(group_concat(id || '=' || state, ' '), '') FROM (SELECT id, state FROM memberships ORDER BY id)")
}

#[test]
fn memberships_that_ran_out_expire_as_the_read_time_check_says() {
    for test in both() {
        let mut expected = Vec::new();
        for state in ["invited", "active", "suspended", "expired"] {
            for (place, expires_at) in
                [None, Some(0), Some(NOW - 1), Some(NOW), Some(NOW + 1)].into_iter().enumerate()
            {
                let id = format!("{state}{place}");
                join(&test, &id, "o1", state, expires_at);
                let expires_at = expires_at.map(Timestamp::from_millis);
                expected.push(format!(
                    "{id}={}",
                    normalized_membership_state(state, expires_at, TestVerger::START)
                ));
            }
        }
        expected.sort();
        assert_eq!(
            result(&test, MEMBERSHIPS, args(None, json!({}))),
            json!({"scanned": 4, "updated": 4, "errors": 0})
        );
        assert_eq!(states(&test), expected.join(" "));
        for (id, before) in [
            ("active1", "active"),
            ("active2", "active"),
            ("suspended1", "suspended"),
            ("suspended2", "suspended"),
        ] {
            assert_audited!(
                test, action: "membership.updated", outcome: "success", organization: "o1", subject: ("membership", id),
                before: json!({"state": before}), after: json!({"state": "expired"}), worker: MEMBERSHIPS
            );
        }
        assert_eq!(audited(&test), 4);
        assert_eq!(
            result(&test, MEMBERSHIPS, args(None, json!({}))),
            json!({"scanned": 0, "updated": 0, "errors": 0})
        );
        assert_eq!(audited(&test), 4);
    }
}

#[test]
fn a_row_the_app_holds_back_is_counted_and_audited_and_the_others_go_through() {
    for test in both() {
        test.sql(
            "CREATE TRIGGER owner_stays BEFORE UPDATE ON memberships WHEN OLD.id = 'm2' BEGIN SELECT RAISE(ABORT, 'the owner stays'); END;
             CREATE TRIGGER keep BEFORE DELETE ON organization_invitations WHEN OLD.id = 'i2' BEGIN SELECT RAISE(ABORT, 'kept by the app'); END;",
        );
        for n in 1..=3 {
            join(&test, &format!("m{n}"), "o1", "active", Some(n));
            invite(&test, &format!("i{n}"), "o1", n, None);
        }
        assert_eq!(
            result(&test, MEMBERSHIPS, args(None, json!({}))),
            json!({"scanned": 3, "updated": 2, "errors": 1})
        );
        assert_eq!(states(&test), "m1=expired m2=active m3=expired");
        let told = json!({"code": "constraint", "message": "the owner stays"});
        assert_audited!(test, action: "membership.updated", outcome: "error", subject: ("membership", "m2"), metadata: told);
        assert_eq!(
            result(&test, INVITATIONS, args(None, json!({}))),
            json!({"deleted": 2, "errors": 1})
        );
        assert_eq!(invitations(&test), "i2");
        assert_audited!(test, outcome: "error", subject: ("organization_invitation", "i2"), metadata: json!({"message": "kept by the app"}));
    }
}
