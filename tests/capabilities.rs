//! What leaves the machine, and what does not: requests, mail, secrets and settings, against real
//! servers on loopback. `cargo test --features http,mailer --test capabilities`.
#![cfg(all(feature = "http", feature = "mailer"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

#[path = "common/servers.rs"]
mod servers;

use std::time::Duration;

use serde_json::{Value as Json, json};
use servers::{HttpServer, MailServer, answer};
use verger::testing::{TestVerger, capture_logs};
use verger::verger_worker::prelude::*;
use verger::{
    AuditFilter, Builder, Grant, Http, Mailer, NewJob, Secret, assert_audited, refute_audited,
};

const SECRET: &str = "sk_live_0123456789abcdef";

/// Calls what its args name, after a write if they say so, and returns the answer or the error.
struct Caller;

impl Worker for Caller {
    fn manifest(&self) -> Manifest {
        let manifest = Manifest::new("caller", "1.0.0")
            .arg("name", ArgSpec::required())
            .arg("request", ArgSpec::required())
            .arg("write", ArgSpec::default_value(false))
            .table(TableAsk::named("notes").insert());
        ["http", "http/other", "mailer", "settings", "secrets/key", "secrets/other"]
            .into_iter()
            .fold(manifest, Manifest::capability)
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        if args.get("write")? {
            job.execute("INSERT INTO notes VALUES ('written')", params![])?;
        }
        let request: serde_json::Value = args.get("request")?;
        Ok(Outcome::DoneWith(match job.call(&args.get::<String>("name")?, &request) {
            Ok(reply) => json!({ "reply": reply }),
            Err(error) => json!({ "code": error.code, "error": error.message }),
        }))
    }
}

fn test(set_up: impl FnOnce(Builder) -> Builder) -> TestVerger {
    let test = TestVerger::with(|builder| set_up(builder.worker(Caller)));
    test.sql("CREATE TABLE notes (text TEXT)");
    test
}

#[track_caller]
fn call(test: &TestVerger, name: &str, request: Json) -> Json {
    let args = json!({"name": name, "request": request});
    test.perform_job("caller", args).unwrap().result().unwrap().clone()
}

#[track_caller]
fn reply(test: &TestVerger, name: &str, request: Json) -> Json {
    let answered = call(test, name, request);
    assert!(answered.get("error").is_none(), "{answered}");
    answered["reply"].clone()
}

#[track_caller]
fn refused(test: &TestVerger, name: &str, request: Json) -> String {
    let answered = call(test, name, request);
    answered["error"].as_str().unwrap_or_else(|| panic!("{answered}")).to_string()
}

fn http(servers: &[(&HttpServer, &[&str])]) -> Http {
    servers.iter().fold(Http::new(), |http, (server, methods)| {
        http.allow_private(&server.origin(), methods.iter().copied()).unwrap()
    })
}

#[test]
fn a_request_goes_to_a_listed_host_and_its_answer_comes_back() {
    let server = HttpServer::start(|request| match request.path() {
        "/binary" => answer(200, &[], [0xff, 0x00]),
        "/missing" => answer(404, &[("x-why", "gone")], "not here"),
        _ => answer(200, &[("content-type", "text/plain"), ("set-cookie", "a=b")], "hello"),
    });
    let test = test(|builder| builder.http(http(&[(&server, &["GET", "POST"])])));
    let url = |path: &str| format!("{}{path}", server.origin());
    let got = reply(&test, "http", json!({"url": url("/x?y=z"), "headers": {"X-Mine": "1"}}));
    assert_eq!((&got["status"], &got["body"]), (&json!(200), &json!("hello")));
    assert_eq!(got["headers"]["content-type"], "text/plain");
    assert_eq!(got["url"], url("/x?y=z"));
    let asked = &server.asked()[0];
    assert_eq!((asked.line.as_str(), asked.header("x-mine")), ("GET /x?y=z HTTP/1.1", Some("1")));
    assert!(asked.header("user-agent").unwrap().starts_with("verger/"));
    assert_eq!(asked.header("accept-encoding"), None, "an answer is read as it is");

    let request = json!({"method": "POST", "url": url("/"), "json": {"a": [1, "é"]}});
    assert_eq!(reply(&test, "http", request)["status"], 200);
    let asked = &server.asked()[1];
    assert_eq!(asked.body, r#"{"a":[1,"é"]}"#);
    assert_eq!(asked.header("content-type"), Some("application/json"));

    let missing = reply(&test, "http", json!({"url": url("/missing")}));
    assert_eq!((&missing["status"], &missing["headers"]["x-why"]), (&json!(404), &json!("gone")));
    let binary = reply(&test, "http", json!({"url": url("/binary")}));
    assert_eq!((&binary["body_base64"], binary.get("body")), (&json!("/wA="), None));
}

#[test]
fn what_is_not_listed_granted_or_public_is_not_reached() {
    let server = HttpServer::start(|_| answer(200, &[], "secret of the intranet"));
    let port = server.port();
    // Listed, but not as one that may be private.
    let public = ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"]
        .into_iter()
        .fold(Http::new(), |http, host| {
            http.allow(&format!("http://{host}:{port}"), ["GET"]).unwrap()
        });
    let test = test(|builder| {
        builder
            .http(public)
            .http(Http::named("http/other").allow_private(&server.origin(), ["GET"]).unwrap())
    });
    for host in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"] {
        let why = refused(&test, "http", json!({"url": format!("http://{host}:{port}/")}));
        let is_refused = why.contains("in a private network") || why.contains("not found");
        assert!(is_refused, "{host}: {why}");
    }
    for url in [
        format!("http://127.0.0.1:{}/", port.wrapping_add(1)),
        format!("https://127.0.0.1:{port}/"),
        format!("http://127.1:{port}/"),
        format!("http://2130706433:{port}/"),
        format!("http://user@127.0.0.1:{port}/"),
        format!("http://127.0.0.1:{port}@example.com/"),
        "file:///etc/passwd".to_string(),
    ] {
        let why = refused(&test, "http", json!({ "url": url }));
        assert!(why.contains("does not allow") || why.contains("the URL"), "{url}: {why}");
    }
    assert_eq!(server.asked(), []);
    // The other one may.
    let request = json!({"url": server.origin()});
    assert_eq!(reply(&test, "http/other", request.clone())["status"], 200);
    let why = refused(&test, "http/other", json!({"url": server.origin(), "method": "PUT"}));
    assert!(why.contains("does not allow PUT requests to http://127.0.0.1"), "{why}");
    assert_eq!(server.asked().len(), 1);

    let narrow = TestVerger::with(|builder| {
        builder
            .worker(Caller)
            .http(Http::new().allow_private(&server.origin(), ["GET"]).unwrap())
            .grant("caller", Grant::new().capability("mailer"))
    });
    let args = json!({"name": "http", "request": request});
    let answered = narrow.perform_job("caller", args).unwrap().result().unwrap().clone();
    assert_eq!(answered["code"], "denied");
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn redirects_are_followed_to_listed_hosts_alone_and_take_nothing_private_along() {
    let second = HttpServer::start(|request| answer(200, &[], request.path()));
    let unlisted = HttpServer::start(|_| answer(200, &[], "no"));
    let (to, away) = (second.origin(), unlisted.origin());
    let first = HttpServer::start(move |request| {
        let location = match request.path() {
            "/over" => format!("{to}/there"),
            "/away" => format!("{away}/"),
            "/near" => "there?x".to_string(),
            "/loop" => "/loop".to_string(),
            "/secret" => format!("{to}/?q={SECRET}"),
            "/scheme" => "ftp://127.0.0.1/".to_string(),
            _ => return answer(200, &[], request.line.clone() + &request.body),
        };
        let status = if request.line.starts_with("POST") { 303 } else { 307 };
        answer(status, &[("location", &location)], "")
    });
    let test = test(|builder| {
        builder
            .http(http(&[(&first, &["GET", "POST"]), (&second, &["GET"])]))
            .secret("key", Secret::new(SECRET).for_host("127.0.0.1"))
    });
    let url = |path: &str| format!("{}{path}", first.origin());
    let headers = json!({"authorization": {"secret": "key", "prefix": "Bearer "}, "cookie": "a=b", "x-mine": "1"});
    let got = reply(&test, "http", json!({"url": url("/over"), "headers": headers}));
    assert_eq!((&got["body"], &got["url"]), (&json!("/there"), &json!(second.origin() + "/there")));
    let (asked, followed) = (first.asked()[0].clone(), second.asked()[0].clone());
    assert_eq!(asked.header("authorization"), Some(format!("Bearer {SECRET}").as_str()));
    assert_eq!((followed.header("authorization"), followed.header("cookie")), (None, None));
    assert_eq!(followed.header("x-mine"), Some("1"));

    let near = reply(&test, "http", json!({"url": url("/near"), "headers": headers}));
    assert_eq!(near["body"], "GET /there?x HTTP/1.1");
    let asked = first.asked();
    assert!(asked.last().unwrap().header("authorization").is_some(), "the same host");
    let posted = json!({"method": "POST", "url": url("/near"), "body": "x"});
    assert_eq!(reply(&test, "http", posted)["body"], "GET /there?x HTTP/1.1");
    for (path, expected) in [
        ("/away", "after a redirect: the app does not allow requests to"),
        ("/loop", "more than 5 redirects"),
        ("/secret", "would take a secret to another host"),
        ("/scheme", "must begin with https:// or http://"),
    ] {
        let why = refused(&test, "http", json!({"url": url(path), "headers": headers}));
        assert!(why.contains(expected) && !why.contains(SECRET), "{path}: {why}");
    }
    assert_eq!((second.asked().len(), unlisted.asked().len()), (1, 0));
}

/// Everything that a worker's call may have left behind in the database, as one text.
fn traces(test: &TestVerger) -> String {
    format!("{:?}", test.everything())
}

#[test]
fn a_secret_is_seen_by_its_host_alone() {
    let echo = HttpServer::start(|request| {
        let sent = request.header("authorization").unwrap_or("nothing").to_string();
        match request.path() {
            "/status" => format!("HTTP/1.1 {sent}\r\n\r\n").into_bytes(),
            "/header" => answer(200, &[("x-echo", &sent), ("location", &sent)], ""),
            "/json" => answer(200, &[], json!({ "you": sent, "again": SECRET }).to_string()),
            _ => answer(200, &[], format!("{sent} {SECRET}")),
        }
    });
    let elsewhere = HttpServer::start(|_| answer(200, &[], ""));
    let other = format!("http://localhost:{}", elsewhere.port());
    let (test, logs) = capture_logs(|| {
        let listed = http(&[(&echo, &["GET"])]).allow_private(&other, ["GET"]).unwrap();
        let test = test(|builder| {
            builder
                .http(listed)
                .secret("key", Secret::new(SECRET).for_host("127.0.0.1"))
                .secret("unbound", Secret::new("another-secret-value"))
                .grant(
                    "caller",
                    Grant::new().capability("http").capability("secrets/key").insert("notes"),
                )
        });
        let url = |path: &str| format!("{}{path}", echo.origin());
        let bearer = json!({"authorization": {"secret": "key", "prefix": "Bearer "}});
        for path in ["/body", "/header", "/json", "/status"] {
            let request = json!({"url": url(path), "headers": bearer});
            let answered = call(&test, "http", request.clone()).to_string();
            assert!(!answered.contains(SECRET), "{path}: {answered}");
            let id = test
                .enqueue(NewJob::new("caller", json!({"name": "http", "request": request})))
                .unwrap()
                .id;
            test.drain();
            assert!(test.job(id).unwrap().unwrap().result.is_some());
        }
        let body = reply(&test, "http", json!({"url": url("/body"), "headers": bearer}));
        assert_eq!(body["body"], "Bearer [secret key] [secret key]");
        let basic = json!({"url": url("/body"), "basic_auth": {"username": "me", "secret": "key"}});
        assert_eq!(reply(&test, "http", basic)["body"], "Basic [secret key] [secret key]");
        // Without sending it: what the host repeats of an earlier call.
        let plain = reply(&test, "http", json!({"url": url("/body")}));
        assert_eq!(plain["body"], "nothing [secret key]");

        let to = |url: String, secret: &str| json!({"url": url, "headers": {"authorization": {"secret": secret}}});
        for (request, expected) in [
            (to(format!("{other}/"), "key"), "the secret `key` is not for the host localhost"),
            (to(url("/"), "other"), "the worker is not granted `secrets/other`"),
            (to(url("/"), "unbound"), "the worker is not granted `secrets/unbound`"),
            (json!({"url": url("/"), "headers": {"user-agent": {"secret": "key"}}}), "no place"),
            (json!({"url": url("/"), "headers": {"range": "bytes=0-3"}}), "a part of an answer"),
        ] {
            let why = refused(&test, "http", request.clone());
            assert!(why.contains(expected), "{request}: {why}");
        }
        test
    });
    assert_eq!(elsewhere.asked(), []);
    assert!(echo.asked()[0].header("authorization").unwrap().ends_with(SECRET));
    assert!(!traces(&test).contains(SECRET));
    let logged = format!("{logs:?}");
    assert!(!logged.contains(SECRET), "{logged}");
    assert!(!format!("{:?}", Secret::new(SECRET)).contains(SECRET));
}

#[test]
fn a_secret_that_cannot_be_had_fails_the_call_and_plain_http_gets_none() {
    let server = HttpServer::start(|_| answer(200, &[], ""));
    let test = test(|builder| {
        builder
            .http(http(&[(&server, &["GET"])]).allow("http://example.com", ["GET"]).unwrap())
            .secret(
                "key",
                Secret::from_fn(|| Err("the key chain is locked".into())).for_host("127.0.0.1"),
            )
            .secret("other", Secret::new(SECRET).for_host("example.com"))
    });
    let with =
        |url: String, secret: &str| json!({"url": url, "headers": {"x-key": {"secret": secret}}});
    let why = refused(&test, "http", with(server.origin(), "key"));
    assert!(why.contains("`key` cannot be used: the key chain is locked"), "{why}");
    let why = refused(&test, "http", with("http://example.com/".to_string(), "other"));
    assert!(why.contains("is sent by https only"), "{why}");
    assert_eq!(server.asked(), []);
}

#[test]
fn sizes_time_and_the_number_of_calls_are_bounded() {
    let slow = HttpServer::start(|request| match request.path() {
        "/slow" => {
            std::thread::sleep(Duration::from_millis(400));
            answer(200, &[], "late")
        }
        "/headers" => answer(200, &[("x-long", &"x".repeat(40_000))], ""),
        "/endless" => {
            let mut bytes = b"HTTP/1.1 200 X\r\nconnection: close\r\n\r\n".to_vec();
            bytes.resize(1 << 20, b'x');
            bytes
        }
        path => answer(200, &[], "x".repeat(path[1..].parse().unwrap_or(0))),
    });
    let test = test(|builder| {
        builder.http(
            http(&[(&slow, &["GET", "POST"])])
                .response_bytes(1000)
                .request_bytes(10)
                .timeout(Duration::from_secs(20))
                .per_minute(9),
        )
    });
    let url = |path: &str| format!("{}{path}", slow.origin());
    assert_eq!(reply(&test, "http", json!({"url": url("/1000")}))["status"], 200);
    for (request, expected) in [
        (json!({"url": url("/1001")}), "the answer has more than 1000 bytes"),
        (json!({"url": url("/endless")}), "the answer has more than 1000 bytes"),
        (json!({"url": url("/headers")}), "the request failed"),
        (json!({"url": url("/slow"), "timeout_ms": 50}), "the time for the call is over"),
        (json!({"url": url("/"), "method": "POST", "body": "xxxxxxxxxxx"}), "more than 10 bytes"),
        (json!({"url": url("/"), "timeout_ms": "soon"}), "the request is not usable"),
        (json!({"url": "http://127.0.0.1:1/"}), "does not allow"),
        (json!({"url": url("/1000"), "headers": {"connection": "x"}}), "not a worker's to set"),
        (json!({"url": url("/0")}), "it was called more than 9 times a minute"),
    ] {
        let why = refused(&test, "http", request.clone());
        assert!(why.contains(expected), "{request}: {why}");
    }
    test.clock().advance(Duration::from_secs(7));
    assert_eq!(reply(&test, "http", json!({"url": url("/0")}))["status"], 200);
}

#[test]
fn what_waits_for_the_network_is_not_called_with_the_write_lock_held() {
    let server = HttpServer::start(|_| answer(200, &[], ""));
    let mail = MailServer::start(None);
    let test =
        test(|builder| builder.http(http(&[(&server, &["GET", "POST"])])).mailer(mailer(&mail)));
    let letter = json!({"to": "a@example.com", "subject": "s", "text": "t"});
    for (name, request) in [("http", json!({"url": server.origin()})), ("mailer", letter.clone())] {
        let args = json!({"name": name, "request": request, "write": true});
        let answered = test.perform_job("caller", args).unwrap().result().unwrap().clone();
        assert_eq!(answered["code"], "checkpoint-first", "{name}");
    }
    // Nor does a dry run send anything.
    let dry = |name: &str, request: Json| {
        let args = json!({"name": name, "request": request});
        test.dry_run("caller", args).unwrap().result().unwrap().clone()
    };
    let posted = dry("http", json!({"url": server.origin(), "method": "POST"}));
    assert!(posted["error"].as_str().unwrap().contains("in a dry run no POST is sent"));
    assert_eq!(dry("mailer", letter)["reply"]["sent"], true);
    assert_eq!((server.asked().len(), mail.mails().len()), (0, 0));
}

fn mailer(server: &MailServer) -> Mailer {
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
    test.sql("UPDATE email_outbox SET status = 'pending', attempts = 0 WHERE id = 'm1'");
    assert_eq!(test.deliver_email("email_outbox").unwrap().sent, 1);
    assert_eq!(server.mails().len(), 1);
}

#[test]
fn a_worker_reads_what_the_user_set_for_it_and_nothing_else() {
    let test = test(|builder| builder);
    assert_eq!(reply(&test, "settings", json!({})), json!({}));
    test.set_settings("caller", &json!({"hour": 4, "token": "of the user"})).unwrap();
    test.set_settings("another", &json!({"hour": 5})).unwrap();
    assert_eq!(reply(&test, "settings", json!({})), json!({"hour": 4, "token": "of the user"}));
    assert_eq!(test.settings("another").unwrap(), json!({"hour": 5}));
    assert_audited!(test, action: "worker_settings.updated", subject: ("worker", "caller"), metadata: json!({"names": ["hour", "token"]}));
    let audit = test.audit_log(&AuditFilter::default(), 10).unwrap();
    assert!(!format!("{audit:?}").contains("of the user"));
    test.sql(
        "UPDATE verger_settings SET settings = json_object('hour', 6) WHERE worker = 'caller'",
    );
    assert_eq!(reply(&test, "settings", json!({})), json!({"hour": 6}));
    for (worker, settings) in [
        ("caller", json!([1])),
        ("caller", json!(null)),
        ("caller", json!({"x": "x".repeat(64 * 1024)})),
        ("", json!({})),
    ] {
        assert!(test.set_settings(worker, &settings).is_err(), "{worker} {settings}");
    }
    assert_eq!(test.settings("caller").unwrap(), json!({"hour": 6}));

    let narrow = TestVerger::with(|builder| builder.worker(Caller).grant("caller", Grant::new()));
    let answered = call(&narrow, "settings", json!({}));
    assert_eq!(answered["code"], "denied");
    refute_audited!(narrow, action: "worker_settings.updated");
    let own = TestVerger::with(|builder| {
        builder.worker(Caller).capability("settings", |_| Ok(json!({"mine": 1})))
    });
    assert_eq!(reply(&own, "settings", json!({})), json!({"mine": 1}));
}
