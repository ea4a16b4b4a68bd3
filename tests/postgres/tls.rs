//! Connections that are encrypted, to servers whose certificates an authority of the app's own
//! issued.

use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;

use serde_json::json;
use verger::postgres::{Builder, Verger};

use crate::clock;
use crate::cluster::{Cluster, new_folder, run};
use crate::components::{PUPPET, answer, usual};

const AUTHORITY: &str = include_str!("../capabilities/certificates/authority.pem");
const KEY: &str = include_str!("../capabilities/certificates/server.key");
/// For 127.0.0.1, for another name, and one whose time is over.
const LOOPBACK: &str = include_str!("../capabilities/certificates/loopback.pem");
const ELSEWHERE: &str = include_str!("../capabilities/certificates/elsewhere.pem");
const EXPIRED: &str = include_str!("../capabilities/certificates/expired.pem");

struct Secured {
    _cluster: Arc<Cluster>,
    _certificates: tempfile::TempDir,
    port: u16,
}

/// A server that speaks TLS with this certificate.
fn secured(certificate: &str) -> Option<Secured> {
    let folder = new_folder();
    let of = |name: &str| folder.path().join(name);
    std::fs::write(of("server.pem"), certificate).unwrap();
    std::fs::write(of("server.key"), KEY).unwrap();
    run(Command::new("chmod").arg("600").arg(of("server.key")));
    if crate::cluster::is_root() {
        run(Command::new("chown").arg("postgres").arg(of("server.pem")).arg(of("server.key")));
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let settings = [
        "listen_addresses=127.0.0.1".to_string(),
        format!("port={port}"),
        "ssl=on".to_string(),
        format!("ssl_cert_file={}", of("server.pem").display()),
        format!("ssl_key_file={}", of("server.key").display()),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let cluster = Arc::new(Cluster::start(&settings)?);
    Some(Secured { _cluster: cluster, _certificates: folder, port })
}

impl Secured {
    fn url(&self, mode: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres?sslmode={mode}", self.port)
    }

    fn builder(&self, mode: &str) -> Builder {
        Verger::builder(self.url(mode)).clock(clock())
    }

    fn refused(&self, builder: Builder) -> String {
        builder.open().unwrap_err().to_string()
    }
}

#[test]
fn everything_goes_over_tls_where_the_address_asks_for_it() {
    let Some(server) = secured(LOOPBACK) else { return };
    let mut client = postgres::Client::connect(&server.url("disable"), postgres::NoTls).unwrap();
    client.batch_execute(crate::components::TABLES).unwrap();
    for mode in ["require", "verify-full"] {
        let builder = server
            .builder(mode)
            .root_certificates(AUTHORITY)
            .component("puppet", PUPPET)
            .grant("puppet", usual());
        client.batch_execute(&builder.role_grants().unwrap()).unwrap();
        let verger = builder.open().unwrap();
        let one = answer(&verger, json!(["query", "SELECT 1", []]));
        assert_eq!(one, json!({"ok": [[1]]}));
        let sql = "SELECT count(*) FILTER (WHERE ssl), count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
             WHERE application_name = 'verger'";
        let row = client.query_one(sql, &[]).unwrap();
        let (encrypted, all): (i64, i64) = (row.get(0), row.get(1));
        assert!(all >= 3 && encrypted == all, "{encrypted} of {all} connections are encrypted");
    }
}

#[test]
fn a_server_that_is_not_the_right_one_is_refused() {
    for (certificate, said) in
        [(ELSEWHERE, "not valid for name"), (EXPIRED, "expired"), (LOOPBACK, "")]
    {
        let Some(server) = secured(certificate) else { return };
        if said.is_empty() {
            // By the public authorities, which did not issue it.
            let refused = server.refused(server.builder("require"));
            assert!(refused.contains("UnknownIssuer"), "{refused}");
            continue;
        }
        let refused = server.refused(server.builder("require").root_certificates(AUTHORITY));
        assert!(refused.contains(said), "{refused}");
        let nonsense = server.builder("require").root_certificates("nothing");
        assert!(server.refused(nonsense).contains("no certificate in PEM"));
        let unasked = server.builder("prefer").root_certificates(AUTHORITY);
        assert!(server.refused(unasked).contains("does not say sslmode=require"));
    }
}
