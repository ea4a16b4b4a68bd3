//! What leaves the machine, and what does not: requests, mail, secrets and settings, against real
//! servers on loopback. `cargo test --features http,mailer --test capabilities`.
#![cfg(all(feature = "http", feature = "mailer"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod mail;
mod secrets;
#[path = "../common/servers.rs"]
mod servers;
mod tls;

use std::time::Duration;

use serde_json::{Value as Json, json};
use servers::{HttpServer, MailServer, answer};
use verger::testing::TestVerger;
use verger::verger_worker::prelude::*;
use verger::{AuditFilter, Builder, Grant, Http, Secret, assert_audited, refute_audited};

use self::mail::mailer;

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
