//! What `deliver-email` promises, on the reference table and beside it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::cell::RefCell;
use std::rc::Rc;

use deliver_email::{DEAD, DeliverEmail, FAILED, MAILER, SENT, sql};
use serde_json::Value as Json;
use verger_worker::prelude::*;
use verger_worker::testing::MemoryHost;

const NOW: i64 = 1_767_225_600_000; // 2026-01-01T00:00:00Z
const MINUTE: i64 = 60_000;

type Asked = Rc<RefCell<Vec<Json>>>;

/// The reference table, and what the mailer was asked. A recipient says how it goes: `down@…` fails,
/// `never@…` is refused for good, `later@…` is refused for now.
fn reference() -> (MemoryHost, Asked) {
    let asked = Asked::default();
    let requests = Rc::clone(&asked);
    let host = MemoryHost::new(include_str!("../../../migrations/reference/0001_init.sql"))
        .capability(MAILER, move |request| {
            requests.borrow_mut().push(request.clone());
            match request["to"].as_str().unwrap().split('@').next().unwrap() {
                "down" => Err("no route to host".into()),
                "never" => Ok(json!({"sent": false, "reason": "550 no such user"})),
                "later" => Ok(json!({"sent": false, "permanent": false, "reason": "451 later"})),
                "named" => Ok(json!({"provider_message_id": "p-1"})),
                _ => Ok(Json::Null),
            }
        });
    host.set_now(NOW);
    (host, asked)
}

fn write(host: &MemoryHost, id: &str, recipient: &str, at: i64) {
    let sql = "INSERT INTO email_outbox (id, organization_id, recipient, subject, body, next_attempt_at, created_at, updated_at) VALUES (?1, 'o1', ?2, 'Hello', 'Text', ?3, 0, 0)";
    host.connection().execute(sql, (id, recipient, at)).unwrap();
}

fn run(host: &MemoryHost, args: Json) -> Result<Json, String> {
    let performed = host.perform(&DeliverEmail, args).map_err(|error| error.to_string());
    performed.map(|outcome| match outcome {
        Outcome::DoneWith(result) => result,
        other => panic!("{other:?}"),
    })
}

fn done(sent: u64, failed: u64, dead: u64) -> Result<Json, String> {
    Ok(json!({"sent": sent, "failed": failed, "dead": dead}))
}

fn rows(host: &MemoryHost) -> String {
    host.one("SELECT coalesce(group_concat(id || ' ' || status || ' ' || attempts, ', '), '') FROM (SELECT * FROM email_outbox ORDER BY id)")
}

#[test]
fn what_is_due_is_sent_once_and_what_is_not_waits() {
    let (host, asked) = reference();
    write(&host, "due", "a@b.c", NOW);
    write(&host, "old", "named@b.c", 5);
    write(&host, "later", "a@b.c", NOW + 1);
    assert_eq!(run(&host, json!({})), done(2, 0, 0));
    assert_eq!(rows(&host), "due sent 1, later pending 0, old sent 1");
    let first = asked.borrow()[0].clone();
    let expected = json!({
        "to": "named@b.c", "subject": "Hello", "text": "Text", "attempt": 1, "organization_id": "o1",
        "message_id": "<outbox-old@verger.invalid>", "idempotency_key": "outbox-old"
    });
    assert_eq!(first, expected);
    assert_eq!(host.one::<i64>("SELECT sent_at FROM email_outbox WHERE id = 'old'"), NOW);
    let id = "SELECT provider_message_id FROM email_outbox WHERE id = 'old'";
    assert_eq!(host.one::<String>(id), "p-1");
    let event = &host.audited()[0];
    assert_eq!((event.action.as_str(), host.audited().len()), (SENT, 2));
    assert_eq!(
        (event.organization_id.as_deref(), event.subject_id.as_deref()),
        (Some("o1"), Some("old"))
    );
    assert_eq!(run(&host, json!({})), done(0, 0, 0));
    assert_eq!(asked.borrow().len(), 2);
}

#[test]
fn a_message_is_claimed_and_that_is_committed_before_it_is_sent() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let file = std::env::temp_dir().join(format!("deliver-email-{}.db", std::process::id()));
    let _ = std::fs::remove_file(&file);
    let (looks, path) = (Rc::clone(&seen), file.clone());
    let host = MemoryHost::new(&format!(
        "ATTACH '{}' AS disk; CREATE TABLE disk.mail (id INTEGER PRIMARY KEY, organization_id, recipient, subject, body, status, attempts INTEGER, max_attempts INTEGER, next_attempt_at INTEGER, updated_at, sent_at, provider_message_id, last_error);
         INSERT INTO disk.mail VALUES (7, NULL, 'a@b.c', 's', 'b', 'pending', 0, 3, 0, 0, NULL, NULL, NULL)",
        file.display()
    ))
    .capability(MAILER, move |_| {
        // As another process sees it.
        let other = rusqlite::Connection::open(&path).unwrap();
        let sql = "SELECT status || attempts || ' ' || next_attempt_at FROM mail";
        looks.borrow_mut().push(other.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap());
        Ok(Json::Null)
    });
    host.set_now(NOW);
    let result = run(&host, json!({"table": "mail", "claim_seconds": 60}));
    std::fs::remove_file(&file).unwrap();
    assert_eq!(result, done(1, 0, 0));
    assert_eq!(*seen.borrow(), [format!("sending1 {}", NOW + MINUTE)]);
}

#[test]
fn a_failure_is_tried_again_with_backoff_until_the_attempts_are_used_up() {
    let (host, asked) = reference();
    write(&host, "m", "down@b.c", 0);
    host.connection().execute_batch("UPDATE email_outbox SET max_attempts = 4").unwrap();
    let mut now = NOW;
    for (attempt, wait) in [(1, MINUTE), (2, 2 * MINUTE), (3, 4 * MINUTE)] {
        assert_eq!(run(&host, json!({})), done(0, 1, 0));
        assert_eq!(rows(&host), format!("m pending {attempt}"));
        assert_eq!(host.one::<i64>("SELECT next_attempt_at FROM email_outbox"), now + wait);
        host.set_now(now + wait - 1);
        assert_eq!(run(&host, json!({})), done(0, 0, 0));
        now += wait;
        host.set_now(now);
    }
    assert_eq!(run(&host, json!({})), done(0, 0, 1));
    assert_eq!(rows(&host), "m dead 4");
    assert_eq!(host.one::<String>("SELECT last_error FROM email_outbox"), "no route to host");
    let actions: Vec<String> = host.audited().into_iter().map(|event| event.action).collect();
    assert_eq!(actions, [FAILED, FAILED, FAILED, DEAD]);
    let ids: Vec<Json> =
        asked.borrow().iter().map(|request| request["message_id"].clone()).collect();
    assert_eq!(ids, vec![json!("<outbox-m@verger.invalid>"); 4], "the same for every attempt");
    host.set_now(now + 400 * 86_400_000);
    assert_eq!(run(&host, json!({})), done(0, 0, 0));
}

#[test]
fn a_refusal_for_good_is_dead_at_once_and_the_others_go() {
    let (host, _) = reference();
    for (id, recipient) in
        [("a", "never@b.c"), ("b", "x@b.c"), ("c", "later@b.c"), ("d", "down@b.c"), ("e", "x@b.c")]
    {
        write(&host, id, recipient, 0);
    }
    assert_eq!(run(&host, json!({})), done(2, 2, 1));
    assert_eq!(rows(&host), "a dead 1, b sent 1, c pending 1, d pending 1, e sent 1");
    let why = "SELECT last_error FROM email_outbox WHERE id = 'a'";
    assert_eq!(host.one::<String>(why), "550 no such user");
}

#[test]
fn a_row_whose_sending_ended_with_the_process_is_sent_again_under_the_same_id_or_not_at_all() {
    let cases = [
        (json!({}), 1, 10, "m sent 2", 1),
        (json!({"interrupted": "resend"}), 1, 10, "m sent 2", 1),
        (json!({"interrupted": "dead"}), 1, 10, "m dead 1", 0),
        (json!({}), 10, 10, "m dead 10", 0),
    ];
    for (args, attempts, most, expected, calls) in cases {
        let (host, asked) = reference();
        write(&host, "m", "a@b.c", NOW + MINUTE);
        let sql = "UPDATE email_outbox SET status = 'sending', attempts = ?1, max_attempts = ?2";
        host.connection().execute(sql, (attempts, most)).unwrap();
        run(&host, args.clone()).unwrap();
        assert_eq!(asked.borrow().len(), 0, "its claim is not over");
        host.set_now(NOW + MINUTE);
        run(&host, args.clone()).unwrap();
        assert_eq!((rows(&host).as_str(), asked.borrow().len()), (expected, calls), "{args}");
        if calls == 0 {
            let why = host.one::<String>("SELECT last_error FROM email_outbox");
            assert!(why.contains("may have arrived"), "{why}");
        }
    }
}

#[test]
fn a_success_that_the_table_refuses_to_note_is_not_sent_again() {
    let (host, asked) = reference();
    write(&host, "m", "a@b.c", 0);
    write(&host, "n", "a@b.c", 1);
    host.connection()
        .execute_batch("CREATE TRIGGER odd BEFORE UPDATE ON email_outbox WHEN NEW.status = 'sent' AND OLD.id = 'm' BEGIN SELECT RAISE(ABORT, 'no'); END")
        .unwrap();
    assert_eq!(run(&host, json!({})), done(1, 0, 1));
    assert_eq!(rows(&host), "m dead 1, n sent 1");
    let why = host.one::<String>("SELECT last_error FROM email_outbox WHERE id = 'm'");
    assert!(why.contains("it was sent, and the table refused to say so"), "{why}");
    host.set_now(NOW + 3_600_000);
    run(&host, json!({})).unwrap();
    assert_eq!(asked.borrow().len(), 2);
}

#[test]
fn when_the_server_is_down_the_rest_keeps_its_attempts() {
    let (host, asked) = reference();
    for n in 0..20 {
        write(&host, &format!("m{n:02}"), "down@b.c", n);
    }
    assert_eq!(run(&host, json!({})), done(0, 5, 0));
    assert_eq!(asked.borrow().len(), 5);
    assert_eq!(host.one::<i64>("SELECT sum(attempts) FROM email_outbox"), 5);
}

#[test]
fn without_a_mailer_the_attempt_fails_and_no_message_loses_a_try() {
    let host = MemoryHost::new(include_str!("../../../migrations/reference/0001_init.sql"));
    host.set_now(NOW);
    write(&host, "m", "a@b.c", 5);
    let error = run(&host, json!({})).unwrap_err();
    assert!(error.contains("capability `mailer` is not granted"), "{error}");
    assert_eq!(rows(&host), "m pending 0");
}

#[test]
fn a_row_that_cannot_be_read_is_dead_and_the_others_go() {
    let host = MemoryHost::new(
        "CREATE TABLE mail (id, organization_id, recipient, subject, body, status, attempts, max_attempts, next_attempt_at, updated_at, sent_at, provider_message_id, last_error);
         INSERT INTO mail (id, recipient, subject, body, status, next_attempt_at) VALUES (1, NULL, 's', 'b', 'pending', 0), (2, 'a@b.c', x'00', 'b', 'pending', 0), (3, 'a@b.c', 's', 4, 'pending', 0), ('a/b c', 'a@b.c', 's', 'b', 'pending', 0);",
    )
    .capability(MAILER, |request| {
        assert_eq!(request["message_id"], "<outbox-a_2fb_20c@mail.example.com>");
        Ok(Json::Null)
    });
    let args = json!({"table": "mail", "message_id_domain": "mail.example.com"});
    assert_eq!(run(&host, args), done(1, 0, 3));
    assert_eq!(host.one::<String>("SELECT group_concat(status) FROM mail"), "dead,dead,dead,sent");
}

#[test]
fn a_row_that_another_run_took_meanwhile_is_left_to_it() {
    let (host, asked) = reference();
    write(&host, "a", "x@b.c", 1);
    write(&host, "b", "x@b.c", 2);
    host.connection()
        .execute_batch("CREATE TRIGGER other AFTER UPDATE ON email_outbox WHEN OLD.id = 'a' AND NEW.status = 'sending' BEGIN UPDATE email_outbox SET status = 'sending', attempts = 1 WHERE id = 'b'; END")
        .unwrap();
    assert_eq!(run(&host, json!({})), done(1, 0, 0));
    assert_eq!((rows(&host).as_str(), asked.borrow().len()), ("a sent 1, b sending 1", 1));
}

#[test]
fn a_limit_and_a_cancellation_end_a_run_between_two_messages() {
    let (host, asked) = reference();
    for n in 0..120 {
        write(&host, &format!("m{n:03}"), "x@b.c", n);
    }
    assert_eq!(run(&host, json!({"limit": 60})), done(60, 0, 0));
    assert_eq!(run(&host, json!({})), done(60, 0, 0));
    assert_eq!(asked.borrow().len(), 120);
    write(&host, "c1", "x@b.c", 0);
    write(&host, "c2", "x@b.c", 0);
    host.cancel_after(host.checkpoints() + 2);
    assert!(run(&host, json!({})).unwrap_err().contains("cancelled"));
    let sent = "SELECT count(*) FROM email_outbox WHERE status = 'sent'";
    assert_eq!((host.one::<i64>(sent), asked.borrow().len()), (121, 121));
}

#[test]
fn an_unusable_arg_is_refused_by_name_and_nothing_is_sent() {
    let cases = [
        (json!({"message_id_domain": "a b"}), "`message_id_domain` is not usable"),
        (json!({"message_id_domain": "a\r\nBcc: x"}), "`message_id_domain` is not usable"),
        (json!({"message_id_domain": ""}), "`message_id_domain` is not usable"),
        (json!({"interrupted": "maybe"}), "must be resend or dead"),
        (json!({"claim_seconds": 0}), "`claim_seconds` is not usable"),
        (json!({"limit": 0}), "`limit` is not usable"),
        (json!({"table": "verger_jobs"}), "`verger_`"),
        (json!({"table": "nowhere"}), "no such table: nowhere"),
        (json!({"timestamps": "iso8601"}), "are numbers"),
    ];
    for (args, expected) in cases {
        let (host, asked) = reference();
        write(&host, "m", "a@b.c", NOW - MINUTE);
        let error = run(&host, args.clone()).unwrap_err();
        assert!(error.contains(expected), "{args}: {error}");
        assert!(asked.borrow().is_empty());
    }
}

#[test]
fn tables_that_keep_seconds_or_text_serve_too() {
    let cases = [
        ("unix_s", "INTEGER", "1767225600", "1767225601"),
        ("iso8601", "TEXT", "'2026-01-01T00:00:00Z'", "'2026-01-01 00:00:01'"),
    ];
    for (timestamps, class, due, later) in cases {
        let host = MemoryHost::new(&format!(
            "CREATE TABLE mail (id INTEGER PRIMARY KEY, organization_id, recipient, subject, body, status, attempts INTEGER, max_attempts, next_attempt_at {class}, updated_at {class}, sent_at {class}, provider_message_id, last_error);
             INSERT INTO mail (id, recipient, subject, body, status, attempts, next_attempt_at) VALUES (1, 'a@b.c', 's', 'b', 'pending', 0, {due}), (2, 'a@b.c', 's', 'b', 'pending', 0, {later}), (3, 'down@b.c', 's', 'b', 'pending', 0, {due});"
        ))
        .capability(MAILER, |request| match request["to"].as_str() {
            Some("down@b.c") => Err("down".into()),
            _ => Ok(Json::Null),
        });
        host.set_now(NOW);
        let args = json!({"table": "mail", "timestamps": timestamps});
        assert_eq!(run(&host, args.clone()), done(1, 1, 0));
        let states = "SELECT group_concat(status) FROM mail";
        assert_eq!(host.one::<String>(states), "sent,pending,pending");
        host.set_now(NOW + MINUTE);
        assert_eq!(run(&host, args), done(1, 1, 0), "{timestamps}");
    }
}

#[test]
fn the_index_serves_the_search_for_what_is_due() {
    let (host, _) = reference();
    let table = Ident::parse("email_outbox").unwrap();
    assert_eq!(
        host.plan(&sql::due(&table, TimeFormat::UnixMillis)),
        "SEARCH email_outbox USING INDEX email_outbox_due (next_attempt_at<?)"
    );
}

#[test]
fn the_manifest_asks_for_what_it_uses_and_no_more() {
    let manifest = DeliverEmail.manifest();
    manifest.check().unwrap();
    assert!(!manifest.tenant_aware);
    assert_eq!(manifest.capabilities, [MAILER]);
    assert_eq!(manifest.tables, [TableAsk::from_arg("table", "email_outbox").read().update()]);
    assert!(manifest.args.values().all(|arg| !arg.description.is_empty()));
}
