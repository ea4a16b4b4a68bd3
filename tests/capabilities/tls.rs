//! Requests and mail by TLS, to servers whose certificates an authority of the app's own issued.

use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value as Json, json};
use verger::testing::TestVerger;
use verger::{Http, Mailer, Secret};

use super::{SECRET, refused, reply, test};
use crate::servers::{HttpServer, MailServer, Offers, answer, converse, greet};

const AUTHORITY: &str = include_str!("certificates/authority.pem");
const KEY: &str = include_str!("certificates/server.key");
/// For this machine, for another host, and for this machine until January 2025.
const LOOPBACK: &str = include_str!("certificates/loopback.pem");
const ELSEWHERE: &str = include_str!("certificates/elsewhere.pem");
const EXPIRED: &str = include_str!("certificates/expired.pem");

/// Speaks TLS with this certificate on a connection.
fn secured(
    certificate: &str,
) -> impl Fn(TcpStream) -> StreamOwned<ServerConnection, TcpStream> + Send + use<> {
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    move |stream| StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream)
}

fn https(certificate: &str) -> HttpServer {
    HttpServer::over(secured(certificate), |request| answer(200, &[], request.path()))
}

fn url(server: &HttpServer, path: &str) -> String {
    format!("https://127.0.0.1:{}{path}", server.port())
}

fn http(server: &HttpServer) -> Http {
    Http::new().allow_private(&url(server, ""), ["GET"]).unwrap()
}

#[test]
fn a_request_goes_by_tls_to_a_server_of_an_authority_the_app_names() {
    let server = https(LOOPBACK);
    let trusting = http(&server).root_certificates(AUTHORITY).unwrap();
    let test = test(|builder| {
        let key = Secret::new(SECRET).for_host("127.0.0.1");
        builder.http(trusting).secret("key", key)
    });
    let headers = json!({"authorization": {"secret": "key", "prefix": "Bearer "}});
    let got = reply(&test, "http", json!({"url": url(&server, "/x"), "headers": headers}));
    assert_eq!((&got["status"], &got["body"]), (&json!(200), &json!("/x")));
    let bearer = format!("Bearer {SECRET}");
    assert_eq!(server.asked()[0].header("authorization"), Some(bearer.as_str()));
}

#[test]
fn a_server_that_cannot_prove_who_it_is_gets_no_request() {
    for (certificate, trusts, says) in [
        // The public authorities did not issue it.
        (LOOPBACK, false, "UnknownIssuer"),
        (ELSEWHERE, true, "not valid for name"),
        (EXPIRED, true, "expired"),
    ] {
        let server = https(certificate);
        let http = http(&server);
        let http = if trusts { http.root_certificates(AUTHORITY).unwrap() } else { http };
        let test = test(|builder| builder.http(http));
        let why = refused(&test, "http", json!({"url": url(&server, "/")}));
        assert!(why.contains("certificate") && why.contains(says), "{says}: {why}");
        assert_eq!(server.asked(), [], "{says}");
    }
}

/// A mail server by TLS from the first byte, or by STARTTLS. It takes the password `good-password`.
fn mail_server(certificate: &str, starttls: bool) -> MailServer {
    let secured = secured(certificate);
    let offers = Offers { password: Some("AGFwcABnb29kLXBhc3N3b3Jk"), tls: false };
    MailServer::over(move |stream, book| {
        if starttls {
            greet(&mut &stream)?;
            if !converse(&stream, Offers { tls: true, ..offers }, book)? {
                return Ok(());
            }
        }
        let mut stream = secured(stream);
        if !starttls {
            greet(&mut stream)?;
        }
        converse(&mut stream, offers, book).map(|_| ())
    })
}

fn mailer(server: &MailServer, starttls: bool) -> Mailer {
    let mailer = Mailer::smtp("127.0.0.1", "app@example.com").unwrap();
    let mailer = if starttls { mailer.starttls() } else { mailer };
    mailer.port(server.port()).login("app", "smtp")
}

fn with_mailer(mailer: Mailer) -> TestVerger {
    test(|builder| builder.mailer(mailer).secret("smtp", Secret::new("good-password")))
}

fn letter() -> Json {
    json!({"to": "a@example.com", "subject": "s", "text": "t"})
}

#[test]
fn mail_goes_by_tls_to_a_server_of_an_authority_the_app_names() {
    for starttls in [false, true] {
        let server = mail_server(LOOPBACK, starttls);
        let test = with_mailer(mailer(&server, starttls).root_certificates(AUTHORITY).unwrap());
        assert_eq!(reply(&test, "mailer", letter())["sent"], true, "STARTTLS: {starttls}");
        assert_eq!((server.mails().len(), server.logins().len()), (1, 1));
    }
}

#[test]
fn a_mail_server_that_cannot_prove_who_it_is_gets_neither_mail_nor_password() {
    for starttls in [false, true] {
        for (certificate, trusts, says) in [
            (LOOPBACK, false, "UnknownIssuer"),
            (ELSEWHERE, true, "not valid for name"),
            (EXPIRED, true, "expired"),
        ] {
            let server = mail_server(certificate, starttls);
            let mailer = mailer(&server, starttls);
            let mailer = if trusts { mailer.root_certificates(AUTHORITY).unwrap() } else { mailer };
            let why = refused(&with_mailer(mailer), "mailer", letter());
            assert!(why.contains("certificate") && why.contains(says), "{starttls} {says}: {why}");
            assert_eq!((server.mails().len(), server.logins().len()), (0, 0), "{why}");
        }
    }
}

#[test]
fn nothing_is_sent_to_a_mail_server_that_offers_no_tls() {
    let server = MailServer::start(Some("AGFwcABnb29kLXBhc3N3b3Jk"));
    let test = with_mailer(mailer(&server, true).root_certificates(AUTHORITY).unwrap());
    let why = refused(&test, "mailer", letter());
    assert!(why.contains("STARTTLS"), "{why}");
    assert_eq!((server.mails().len(), server.logins().len()), (0, 0));
}

#[test]
fn what_is_no_root_certificate_is_refused_when_it_is_given() {
    let broken = AUTHORITY.replacen("MII", "AAA", 1);
    for (pem, says) in [
        ("", "it has no certificate"),
        (KEY, "it has no certificate"),
        ("-----BEGIN CERTIFICATE-----\nx", "it is no PEM"),
        (broken.as_str(), "a certificate cannot be read"),
    ] {
        let http = Http::new().root_certificates(pem).unwrap_err();
        assert!(http.to_string().contains(says), "{pem}: {http}");
        let mailer = Mailer::smtp("localhost", "app@example.com").unwrap();
        assert_eq!(mailer.root_certificates(pem).unwrap_err(), http);
    }
}
