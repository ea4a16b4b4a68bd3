//! Schedules, and previews of expressions.

use serde_json::json;

use super::{object, objects, site};
use crate::harness::{NULL_TENANT, keys, refusal, text};

#[test]
fn an_expression_is_previewed_in_utc_and_local_time_with_its_clock_changes() {
    let slots = object(&[
        "schedule",
        "next",
        "30 2 * * *",
        "--tz",
        "Europe/Berlin",
        "--from",
        "2026-03-28",
        "-n",
        "2",
        "--json",
    ]);
    assert_eq!(
        slots[0],
        json!({"utc": "2026-03-28T01:30:00Z", "local": "2026-03-28T02:30:00+01:00"})
    );
    assert_eq!(
        (&slots[1]["utc"], &slots[1]["local"]),
        (&json!("2026-03-29T01:00:00Z"), &json!("2026-03-29T03:00:00+02:00"))
    );
    assert!(slots[1]["note"].as_str().unwrap().contains("does not exist"));
    let said = text(&["schedule", "next", "0 3 * * mon-fri", "--now", "2026-01-01T00:00:00Z"]);
    assert!(said.contains("at 03:00 from Monday to Friday, UTC"), "{said}");
    assert!(said.contains("2026-01-01T03:00:00Z"), "{said}");
    assert_eq!(text(&["schedule", "next", "@reboot", "--json"]), "[]\n");
}

#[test]
fn a_bad_preview_names_the_place_and_the_reason() {
    for (args, names) in [
        (&["schedule", "next", "0 25 * * *"][..], "hour field \"25\", at byte 2"),
        (&["schedule", "next", "0 3 * *"], "fields"),
        (&["schedule", "next", "0 3 * * *", "--tz", "Europe/Berlim"], "Europe/Berlin"),
        (&["schedule", "next", "0 3 * * *", "--from", "yesterday"], "RFC 3339"),
        (&["schedule", "next", "0 3 * * *", "--now", "2026-02-30"], "--now"),
    ] {
        let said = refusal(args);
        assert!(said.contains(names), "{args:?}: {said}");
    }
}

#[test]
fn a_schedule_is_added_fires_is_paused_and_removed() {
    let site = site();
    let db = ["--db", site.db()];
    let add = [
        "schedule",
        "add",
        "nightly",
        "0 3 * * *",
        "--worker",
        "reconcile-memberships",
        "--args",
        NULL_TENANT,
        "--now",
        "2026-01-01",
    ];
    let row = object(&[&add[..], &db, &["--json"]].concat());
    assert_eq!(row["next_fire_at"], "2026-01-01T03:00:00Z");
    let columns = [
        "anchor",
        "args",
        "args_version",
        "deadline_ms",
        "expression",
        "jitter_ms",
        "last_slot",
        "max_attempts",
        "missed",
        "name",
        "next_fire_at",
        "overlap",
        "paused",
        "priority",
        "queue",
        "timezone",
        "worker",
    ];
    let listed = objects(&[&["schedule", "list", "--json"][..], &db].concat());
    assert_eq!(keys(&listed[0]), columns);
    assert!(text(&[&["schedule", "list"][..], &db].concat()).contains("at 03:00 every day"));
    assert!(
        text(&[&["schedule", "fires", "nightly"][..], &db].concat())
            .contains("no slot has come yet")
    );

    // Three slots late: one job that stands for all.
    text(&[&["tick", "--now", "2026-01-03T04:00:00Z"][..], &db].concat());
    let fires = objects(&[&["schedule", "fires", "nightly", "--json"][..], &db].concat());
    let slot = json!({"schedule": "nightly", "slot": "2026-01-03T03:00:00Z", "fired_at": "2026-01-03T04:00:00Z", "outcome": "coalesced",
        "reason": null, "missed": 2, "job": 1});
    assert_eq!(fires, [slot]);

    text(&[&["schedule", "pause", "nightly", "--now", "2026-01-03T05:00:00Z"][..], &db].concat());
    text(&[&["tick", "--now", "2026-01-04T04:00:00Z"][..], &db].concat());
    assert_eq!(
        objects(&[&["schedule", "fires", "nightly", "--json"][..], &db].concat())[0]["reason"],
        "paused"
    );
    assert!(
        text(
            &[&["schedule", "resume", "nightly", "--now", "2026-01-04T05:00:00Z"][..], &db]
                .concat()
        )
        .contains("resumed")
    );
    // Why?
    let why = |at: &str| {
        text(
            &[
                &["schedule", "fires", "nightly", "--at", at, "--now", "2026-01-04T05:00:00Z"][..],
                &db,
            ]
            .concat(),
        )
    };
    assert!(
        why("2026-01-02T03:00:00Z").contains("was missed, and job 1"),
        "{}",
        why("2026-01-02T03:00:00Z")
    );
    assert_eq!(
        why("2026-01-04T03:00:00Z"),
        "2026-01-04T03:00:00Z made no job: the schedule was paused.\n"
    );
    assert!(why("2026-01-04T04:00:00Z").contains("is no slot of `0 3 * * *`"));
    let lines = text(&[&["schedule", "fires", "nightly"][..], &db].concat());
    assert!(
        lines.contains(
            "2026-01-03T03:00:00Z made job 1 1 h late; it stands for the 2 slots before it too"
        ),
        "{lines}"
    );
    let made = object(
        &[&["schedule", "run-now", "nightly", "--now", "2026-01-04T05:30:00Z", "--json"][..], &db]
            .concat(),
    );
    assert_eq!(made, json!({"schedule": "nightly", "job": 2, "existing": false}));
    let changed = [
        "schedule",
        "add",
        "nightly",
        "0 3 * * *",
        "--worker",
        "reconcile-memberships",
        "--args",
        NULL_TENANT,
    ];
    let policies = [
        "--missed",
        "replay 3",
        "--allow-overlap",
        "--start-deadline",
        "2h",
        "--jitter",
        "90s",
        "--now",
        "2026-01-04T05:45:00Z",
    ];
    let row = object(&[&changed[..], &policies, &db, &["--json"]].concat());
    assert_eq!(
        (&row["missed"], &row["overlap"], &row["deadline_ms"], &row["jitter_ms"]),
        (&json!("replay 3"), &json!("allow"), &json!(7_200_000), &json!(90_000))
    );
    assert_eq!(row["next_fire_at"], "2026-01-05T03:00:00Z");
    assert!(
        refusal(&[&changed[..], &["--missed", "sometimes"], &db].concat())
            .contains("use coalesce, skip or `replay N`")
    );

    text(&[&["schedule", "remove", "nightly", "--now", "2026-01-04T06:00:00Z"][..], &db].concat());
    assert_eq!(text(&[&["schedule", "list"][..], &db].concat()), "no schedules\n");
    assert_eq!(
        objects(&[&["schedule", "fires", "nightly", "--json"][..], &db].concat()).len(),
        3,
        "the ledger stays"
    );
    assert!(
        refusal(&[&["schedule", "fires", "weekly"][..], &db].concat())
            .contains("no schedule `weekly`: known are none")
    );
    let bad = refusal(
        &[&["schedule", "add", "x", "61 * * * *", "--worker", "reconcile-memberships"][..], &db]
            .concat(),
    );
    assert!(bad.contains("minute field \"61\""), "{bad}");
}
