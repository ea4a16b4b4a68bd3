//! Invitations that ran out.

use serde_json::json;
use verger::testing::TestVerger;
use verger::{assert_audited, refute_audited};

use super::memberships::{join, states};
use super::webhooks::{deliver, orphan};
use super::{DAY, INVITATIONS, MEMBERSHIPS, MINUTE, NOW, WEBHOOKS, args, audited, both, result};

pub(super) fn invite(
    test: &TestVerger,
    id: &str,
    organization: &str,
    expires_at: i64,
    accepted_at: Option<i64>,
) {
    let sql = "INSERT INTO organization_invitations (id, organization_id, email, created_at, expires_at, accepted_at) VALUES (?1, ?2, 'a@b.c', 0, ?3, ?4)";
    test.connection().execute(sql, (id, organization, expires_at, accepted_at)).unwrap();
}

pub(super) fn invitations(test: &TestVerger) -> String {
    test.one("SELECT coalesce(group_concat(id, ' '), '') FROM (SELECT id FROM organization_invitations ORDER BY id)")
}

#[test]
fn invitations_past_their_retention_go_and_accepted_ones_stay_for_ever() {
    for test in both() {
        for days in [30, 1] {
            let cutoff = NOW - days * DAY;
            invite(&test, "accepted", "o1", 0, Some(1));
            invite(&test, "at", "o1", cutoff, None);
            invite(&test, "before", "o1", cutoff - 1, None);
            invite(&test, "old", "o2", 0, None);
            invite(&test, "open", "o1", NOW + DAY, None);
            let more = if days == 30 { json!({}) } else { json!({"retention_days": days}) };
            assert_eq!(result(&test, INVITATIONS, args(None, more.clone())), json!({"deleted": 2}));
            assert_eq!(invitations(&test), "accepted at open");
            for organization in ["o1", "o2"] {
                let told = json!({"deleted": 1, "retention_days": days, "cutoff": cutoff});
                let row = assert_audited!(
                    test, action: "organization_invitation.deleted", outcome: "success", organization: organization, worker: INVITATIONS,
                    actor: "sweeper", metadata: told
                );
                assert!(row.job.is_some());
            }
            let before = audited(&test);
            assert_eq!(
                result(&test, INVITATIONS, args(None, more)),
                json!({"deleted": 0}),
                "a second run finds nothing"
            );
            assert_eq!(audited(&test), before, "and has nothing to tell");
            test.sql("DELETE FROM organization_invitations");
        }
    }
}

#[test]
fn a_sweep_for_one_tenant_leaves_the_others_alone() {
    for test in both() {
        for organization in ["o1", "o2"] {
            invite(&test, &format!("i{organization}"), organization, 0, None);
            join(&test, &format!("m{organization}"), organization, "active", Some(0));
            orphan(
                &test,
                &format!("e{organization}"),
                organization,
                "delivered",
                "msg",
                NOW - 2 * MINUTE,
            );
            deliver(&test, &format!("d{organization}"), organization, "msg");
        }
        assert_eq!(result(&test, INVITATIONS, args(Some("o1"), json!({}))), json!({"deleted": 1}));
        assert_eq!(invitations(&test), "io2");
        assert_eq!(
            result(&test, MEMBERSHIPS, args(Some("o1"), json!({}))),
            json!({"scanned": 1, "updated": 1, "errors": 0})
        );
        assert_eq!(states(&test), "mo1=expired mo2=active");
        assert_eq!(
            result(&test, WEBHOOKS, args(Some("o1"), json!({}))),
            json!({"scanned": 1, "linked": 1})
        );
        assert_eq!(
            test.one::<String>(
                "SELECT group_concat(id) FROM deliveries WHERE status = 'delivered'"
            ),
            "do1"
        );
        refute_audited!(test, organization: "o2");
        refute_audited!(test, organization: None);
        assert_audited!(test, organization: "o1", actor: "sweeper", effective_user: "sweeper", impersonating_from: None);
        join(&test, "late", "o1", "active", Some(1));
        result(&test, MEMBERSHIPS, args(Some("o1"), json!({"impersonating_from": "admin"})));
        assert_audited!(
            test, subject: ("membership", "late"), organization: "o1", actor: "admin", effective_user: "sweeper", impersonating_from: "admin"
        );
        assert_eq!(
            result(&test, INVITATIONS, args(Some("nobody"), json!({}))),
            json!({"deleted": 0})
        );
    }
}
