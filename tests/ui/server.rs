//! Whom the page answers on its port.

use std::io::{Read, Write};
use std::net::TcpStream;

use verger_ui::{Server, Ui};

use crate::site::{Site, secret};

/// A server under test, and the parts of its address.
struct Served<'a> {
    port: &'a str,
    token: &'a str,
}

impl Served<'_> {
    /// Sends these lines, and what comes behind them, and reads the answer.
    fn send(&self, head: &[&str], body: &str) -> String {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{}", self.port)).unwrap();
        let text = format!("{}\r\n\r\n{body}", head.join("\r\n"));
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn host(&self) -> String {
        format!("host: 127.0.0.1:{}", self.port)
    }

    fn cookie(&self) -> String {
        format!("cookie: other=1; verger-{}={}", self.port, self.token)
    }
}

fn with_server(ui: Ui, test: impl FnOnce(&Site, Served<'_>)) {
    let site = Site::busy();
    let server = Server::bind(ui, 0).unwrap();
    let url = server.url();
    let (address, token) =
        url.strip_prefix("http://127.0.0.1:").unwrap().split_once("/?token=").unwrap();
    let stopper = server.stopper();
    std::thread::scope(|scope| {
        scope.spawn(|| server.serve(&site.verger));
        let test = std::panic::AssertUnwindSafe(|| test(&site, Served { port: address, token }));
        let done = std::panic::catch_unwind(test);
        stopper.stop();
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap()
}

#[test]
fn only_who_has_the_token_sees_anything_and_only_by_our_own_name() {
    with_server(Ui::new(), |_, served| {
        let (host, cookie) = (served.host(), served.cookie());
        let get = "GET /jobs HTTP/1.1";
        assert_eq!(status(&served.send(&[get, &host], "")), "401");
        assert_eq!(status(&served.send(&[get, &host, "cookie: verger-1=x"], "")), "401");
        let opened = served
            .send(&[&format!("GET /jobs?token={}&state=x HTTP/1.1", served.token), &host], "");
        assert_eq!(status(&opened), "303");
        assert!(opened.contains("location: /jobs?state=x\r\n"), "{opened}");
        assert!(opened.contains("HttpOnly; SameSite=Strict"), "{opened}");
        assert_eq!(status(&served.send(&["GET /jobs?token=x HTTP/1.1", &host], "")), "401");
        let page = served.send(&[get, &host, &cookie], "");
        assert_eq!(status(&page), "200");
        assert!(page.contains("<h1>Jobs"));
        // A name that another's server gave this address.
        for host in
            ["host: evil.example", "host: 127.0.0.1.evil.example:80", "x: y", "host: 127.0.0.1:1"]
        {
            assert_eq!(status(&served.send(&[get, host, &cookie], "")), "421", "{host}");
        }
        for origin in ["http://evil.example", "null", "https://127.0.0.1"] {
            let from = format!("origin: {origin}");
            assert_eq!(status(&served.send(&[get, &host, &cookie, &from], "")), "403", "{origin}");
        }
    });
}

#[test]
fn a_form_of_another_page_changes_nothing() {
    with_server(Ui::new().allow_changes(), |site, served| {
        let (host, cookie) = (served.host(), served.cookie());
        let page = served.send(&["GET /jobs HTTP/1.1", &host, &cookie], "");
        let form = format!("id=2&secret={}", secret(&page));
        let length = format!("content-length: {}", form.len());
        let ours = format!("origin: http://127.0.0.1:{}", served.port);
        let post = "POST /jobs/retry HTTP/1.1";
        let with = |lines: &[&str]| served.send(&[&[post, &length][..], lines].concat(), &form);
        assert_eq!(status(&with(&[&host, &cookie])), "403", "no origin");
        assert_eq!(status(&with(&[&host, &cookie, "origin: http://evil.example"])), "403");
        assert_eq!(status(&with(&[&host, &ours])), "401", "no token");
        let waits =
            |site: &Site| site.verger.latest_jobs(verger::JobState::Discarded, 9).unwrap().len();
        assert_eq!(waits(site), 1);
        assert_eq!(status(&with(&[&host, &cookie, &ours])), "303");
        assert_eq!(waits(site), 0);
    });
}

#[test]
fn what_is_no_request_is_refused_and_ends_nothing() {
    with_server(Ui::new(), |_, served| {
        let (host, cookie) = (served.host(), served.cookie());
        let long = format!("x: {}", "y".repeat(40_000));
        for (lines, expected) in [
            (vec!["nonsense"], "400"),
            (vec!["GET http://evil.example/ HTTP/1.1", &host], "400"),
            (vec!["GET / HTTP/1.1", &host, &long], "431"),
            (vec!["POST / HTTP/1.1", &host, "content-length: 99999999"], "413"),
            (vec!["POST / HTTP/1.1", &host, "content-length: -1"], "400"),
            (vec!["POST / HTTP/1.1", &host, "transfer-encoding: chunked"], "411"),
        ] {
            assert_eq!(status(&served.send(&lines, "")), expected, "{:?}", lines[0]);
        }
        // One that begins and says no more holds nobody up.
        let idle = TcpStream::connect(format!("127.0.0.1:{}", served.port)).unwrap();
        assert_eq!(status(&served.send(&["GET / HTTP/1.1", &host, &cookie], "")), "200");
        drop(idle);
    });
}
