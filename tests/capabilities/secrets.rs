//! Secrets, and who sees them.

use serde_json::json;
use verger::testing::{TestVerger, capture_logs};
use verger::{Grant, NewJob, Secret};

use super::{SECRET, call, http, refused, reply, test};
use crate::servers::{HttpServer, answer};

/// Everything that a worker's call may have left behind in the database, as one text.
pub(super) fn traces(test: &TestVerger) -> String {
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
