//! Mail by a real server.

use serde_json::{Value as Json, json};
use verger::testing::{TestVerger, capture_logs};
use verger::{Mailer, Secret};

use super::secrets::traces;
use super::{Caller, call, refused, reply, test};
use crate::servers::MailServer;

pub(super) fn mailer(server: &MailServer) -> Mailer {
    Mailer::smtp("127.0.0.1", "App <app@example.com>").unwrap().without_tls().port(server.port())
}

#[test]
fn mail_arrives_as_it_was_written() {
    let server = MailServer::start(None);
    let test = test(|builder| builder.mailer(mailer(&server)));
    let letter = json!({
        "to": ["Ada <ada@example.com>", "bob@example.com"], "cc": "cy@example.com", "bcc": "dan@example.com",
        "reply_to": "desk@example.com", "subject": "Grüße", "text": "one\n.\ntwo", "html": "<b>one</b>", "message_id": "order-17@example.com"
    });
    let sent = reply(&test, "mailer", letter);
    assert_eq!(
        (&sent["sent"], &sent["message_id"]),
        (&json!(true), &json!("<order-17@example.com>"))
    );
    let mail = server.mails()[0].clone();
    assert_eq!(mail.from, "app@example.com");
    assert_eq!(
        mail.to,
        ["ada@example.com", "bob@example.com", "cy@example.com", "dan@example.com"]
    );
    assert_eq!(mail.header("From"), Some("App <app@example.com>"));
    assert_eq!(mail.header("Message-ID"), Some("<order-17@example.com>"));
    assert_eq!(mail.header("Reply-To"), Some("desk@example.com"));
    assert_eq!(mail.header("Date"), Some("Thu, 01 Jan 2026 00:00:00 +0000"));
    assert!(
        !mail.text.contains("dan@example.com") && mail.text.contains("<b>one</b>"),
        "{}",
        mail.text
    );
    assert!(mail.text.contains("one\r\n.\r\ntwo"), "{}", mail.text);
}

#[test]
fn a_message_id_is_sent_once_however_often_it_is_asked_for() {
    let server = MailServer::start(None);
    let test = test(|builder| builder.mailer(mailer(&server)));
    let letter = |id: &str, subject: &str| json!({"to": "a@example.com", "subject": subject, "text": "t", "message_id": id});
    assert_eq!(reply(&test, "mailer", letter("x@example.com", "s"))["was_sent_before"], Json::Null);
    assert_eq!(reply(&test, "mailer", letter("<x@example.com>", "s"))["was_sent_before"], true);
    assert_eq!(server.mails().len(), 1);
    // Nobody heard what became of this one: it is sent again, under the same id.
    for n in 1..=2 {
        let why = refused(&test, "mailer", letter("y@example.com", "drop"));
        assert!(why.contains("capability `mailer` failed"), "{why}");
        assert_eq!(server.mails().len(), 1 + n);
    }
    let ids: Vec<_> = server.mails()[1..]
        .iter()
        .map(|mail| mail.header("Message-ID").unwrap().to_string())
        .collect();
    assert_eq!(ids, ["<y@example.com>", "<y@example.com>"]);
}

#[test]
fn what_the_server_refuses_for_good_is_told_from_what_may_go_another_time() {
    let server = MailServer::start(None);
    let test = test(|builder| builder.mailer(mailer(&server).only_to("example.com")));
    let to = |to: &str| json!({"to": to, "subject": "s", "text": "t"});
    let unknown = reply(&test, "mailer", to("unknown@example.com"));
    assert_eq!((&unknown["sent"], &unknown["permanent"]), (&json!(false), &json!(true)));
    assert!(unknown["reason"].as_str().unwrap().contains("550"), "{unknown}");
    let why = refused(&test, "mailer", to("later@example.com"));
    assert!(why.contains("451"), "{why}");
    for bad in ["nobody", "a@example.com\r\nBcc: b@example.com", "a@elsewhere.com"] {
        let answer = reply(&test, "mailer", to(bad));
        assert_eq!((&answer["sent"], &answer["permanent"]), (&json!(false), &json!(true)), "{bad}");
    }
    assert_eq!(server.mails(), []);
    let port = server.port();
    drop(server);
    let gone = TestVerger::with(|builder| {
        let mailer = Mailer::smtp("127.0.0.1", "app@example.com").unwrap();
        builder.worker(Caller).mailer(mailer.without_tls().port(port))
    });
    let why = refused(&gone, "mailer", to("a@example.com"));
    assert!(why.contains("capability `mailer` failed"), "{why}");
}

#[test]
fn a_password_is_a_secret_and_a_wrong_one_is_no_messages_fault() {
    use verger::verger_worker::serde_json;
    // AUTH PLAIN is base64 of NUL user NUL password.
    let server = MailServer::start(Some("AGFwcABnb29kLXBhc3N3b3Jk"));
    for (password, is_good) in [("good-password", true), ("wrong-password", false)] {
        let (test, logs) = capture_logs(|| {
            let test = test(|builder| {
                builder
                    .mailer(mailer(&server).login("app", "smtp"))
                    .secret("smtp", Secret::new(password))
            });
            let answered =
                call(&test, "mailer", json!({"to": "a@example.com", "subject": "s", "text": "t"}));
            assert_eq!(answered["reply"]["sent"] == serde_json::json!(true), is_good, "{answered}");
            assert_eq!(answered.get("error").is_some(), !is_good);
            let login = server.logins().last().unwrap().clone();
            assert!(!answered.to_string().contains(&login), "{answered}");
            assert!(!answered.to_string().contains(password), "{answered}");
            test
        });
        assert!(!traces(&test).contains(password) && !format!("{logs:?}").contains(password));
    }
    let bare = test(|builder| builder.mailer(mailer(&server).login("app", "nowhere")));
    let why = refused(&bare, "mailer", json!({"to": "a@example.com", "subject": "s", "text": "t"}));
    assert!(why.contains("no secret named `nowhere`"), "{why}");
}

#[test]
fn the_outbox_goes_out_by_a_real_server_once() {
    let server = MailServer::start(None);
    let test = TestVerger::with(|builder| builder.mailer(mailer(&server))).reference_tables();
    let write = |id: &str, recipient: &str| {
        let sql = "INSERT INTO email_outbox (id, recipient, subject, body, next_attempt_at, created_at, updated_at) VALUES (?1, ?2, 'Hello', 'Text', 0, 0, 0)";
        test.connection().execute(sql, [id, recipient]).unwrap();
    };
    for (id, recipient) in
        [("m1", "a@example.com"), ("m2", "unknown@example.com"), ("m3", "later@example.com")]
    {
        write(id, recipient);
    }
    let delivered = test.deliver_email("email_outbox").unwrap();
    assert_eq!((delivered.sent, delivered.failed, delivered.dead), (1, 1, 1));
    assert_eq!(
        test.one::<String>("SELECT group_concat(id || ' ' || status) FROM email_outbox"),
        "m1 sent,m2 dead,m3 pending"
    );
    assert_eq!(test.deliver_email("email_outbox").unwrap().sent, 0);
    let mails = server.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].header("Message-ID"), Some("<outbox-m1@verger.invalid>"));
    // The row that says so was lost: the same process does not send it twice.
    test.sql("UPDATE email_outbox SET status = 'pending', attempts = 0, next_attempt_at = 0 WHERE id = 'm1'");
    assert_eq!(test.deliver_email("email_outbox").unwrap().sent, 1);
    assert_eq!(server.mails().len(), 1);
}
