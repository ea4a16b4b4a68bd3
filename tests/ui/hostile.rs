//! A stranger's text never becomes markup, wherever it comes from.

use http::Request;
use verger::rusqlite::{Connection, params};
use verger_ui::Ui;

use crate::site::Site;

/// What would run, close something, or hide, if it were not text.
const TEXTS: [&str; 6] = [
    "<script>boo()</script>",
    "\"><img src=x onerror=boo()>",
    "'--></style></script><svg onload=boo()>",
    "javascript:boo()",
    "&lt;script&gt;boo()&lt;/script&gt;",
    "\u{202e}\u{0}\u{1b}[2J<b>\u{2028}boo",
];

fn fill(site: &Site, text: &str) {
    let file = Connection::open(site.folder.path().join("app.db")).unwrap();
    let json = serde_json::json!({"x": text}).to_string();
    let errors = serde_json::json!([{"attempt": 1, "at": 1, "code": text, "message": text}]);
    for (state, finished) in
        [("discarded", Some(1)), ("retryable", None), ("completed", Some(2)), ("available", None)]
    {
        file.execute(
            "INSERT INTO verger_jobs (worker, queue, state, args, errors, result, schedule, slot, finished_at, attempted_at)
             VALUES (?1, ?1, ?2, ?3, ?4, ?3, ?1, 0, ?5, 1)",
            params![text, state, json, errors.to_string(), finished],
        )
        .unwrap();
    }
    let now = verger::testing::TestVerger::START.as_millis();
    file.execute("UPDATE verger_jobs SET finished_at = ?1 WHERE state = 'discarded'", [now])
        .unwrap();
    file.execute(
        "INSERT INTO verger_schedules (name, expression, timezone, worker, args, queue, priority, max_attempts, missed, overlap, anchor,
         next_fire_at, created_at, updated_at) VALUES (?1, ?1, ?1, ?1, ?2, ?1, 5, 3, ?1, 'forbid', 0, ?3, 0, 0)",
        params![text, json, now],
    )
    .unwrap();
    for (slot, outcome, reason) in
        [(1, "skipped", text), (2, "skipped", "worker: <b>boo"), (3, "enqueued", text)]
    {
        file.execute(
            "INSERT INTO verger_fires (schedule, slot, fired_at, outcome, reason, job) VALUES (?1, ?2, 5, ?3, ?4, 1)",
            params![text, now - slot, outcome, reason],
        )
        .unwrap();
    }
    file.execute(
        "INSERT INTO verger_audit (occurred_at, action, outcome, organization_id, actor_id, worker, subject_id, before, after, metadata, hash, job)
         VALUES (1, ?1, 'success', ?1, ?1, ?1, ?1, ?2, ?2, ?2, x'00', 1)",
        params![text, json],
    )
    .unwrap();
    file.execute(
        "INSERT OR REPLACE INTO verger_queues (name, paused, updated_at) VALUES (?1, 1, 1)",
        [text],
    )
    .unwrap();
}

#[test]
fn a_strangers_text_stays_text_in_every_view_and_every_form() {
    for text in TEXTS {
        let site = Site::new();
        fill(&site, text);
        let name: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
        for ui in [Ui::new(), Ui::new().allow_changes()] {
            for path in [
                "/".to_string(),
                "/jobs".to_string(),
                format!("/jobs?worker={name}&queue={name}&state={name}&done={name}"),
                format!("/jobs?text={name}"),
                format!("/jobs?filter={name}"),
                format!("/jobs/all?do=delete&filter=worker%3D%22{name}%22"),
                format!("/jobs/all?do=delete&text={name}"),
                "/job/1".to_string(),
                "/job/2".to_string(),
                "/schedules?hours=744".to_string(),
                format!("/schedule?name={name}&hours=744&done={name}"),
                "/plugins".to_string(),
                format!("/audit?action={name}&worker={name}&organization={name}&job={name}"),
                "/audit".to_string(),
                "/audit/verify".to_string(),
                "/charts".to_string(),
                "/doctor?look=1".to_string(),
                format!("/{name}"),
            ] {
                let request = Request::get(&path).body(Vec::new()).unwrap();
                let response = site.ask(&ui, request);
                // What is plain text, and says so, no browser takes for markup.
                if response.headers()["content-type"] == "text/plain; charset=utf-8" {
                    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
                    continue;
                }
                let html = String::from_utf8(response.into_body()).unwrap();
                let html = html.replace("<script src=", "<");
                for never in [
                    "<script",
                    "<img",
                    "<svg onload",
                    "onerror=boo()>",
                    "href=\"javascript",
                    "<b>",
                    "</style",
                ] {
                    assert!(!html.contains(never), "{text:?} at {path} became {never}");
                }
                for hidden in ['\u{202e}', '\u{0}', '\u{1b}', '\u{2028}'] {
                    let shown = html.replace("value=\"", "");
                    let outside = shown.split('<').map(|part| part.split('>').nth(1).unwrap_or(""));
                    assert!(
                        outside.into_iter().all(|text| !text.contains(hidden)),
                        "{text:?} at {path}"
                    );
                }
            }
        }
    }
}
