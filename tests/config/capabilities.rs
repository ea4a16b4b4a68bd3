//! Secrets, capabilities and retention in the file.

use verger::{Config, ConfigError};

use super::{folder_with, problems};

#[test]
fn secrets_and_capabilities_are_told_where_and_never_what() {
    let (_folder, path) = folder_with(
        r#"
file = "app.db"

[secrets.key]
env = "VERGER_TEST_KEY"
hosts = ["api.example.com"]

[secrets.password]
file = "password"

[capabilities]
cache_folder = "cache"

[capabilities.http]
allow = ["GET,POST https://api.example.com"]
timeout = "5s"

[capabilities.mailer]
server = "localhost"
from = "no-reply@example.com"
security = "none"
user = "mailer"
secret = "password"

[retention]
events = "3d"

[grants.reconcile-memberships]
enqueue = ["deliver-email"]
limits = { jobs = 7, job = "1KiB", state = "2KiB" }
"#,
    );
    assert_eq!(Config::check(&path).unwrap(), []);
    let config = Config::read(&path).unwrap();
    // What the build lacks is told before anything is opened.
    let lacks = !cfg!(feature = "http") || !cfg!(feature = "mailer");
    let opened = config.builder();
    assert_eq!(matches!(opened, Err(ConfigError::NotInThisBuild { .. })), lacks);
    if let Ok(builder) = opened {
        builder.open().unwrap();
    }
    let said = problems(
        "[secrets.a]\nhosts = []\n[secrets.b]\nenv = \"B\"\nfile = \"b\"\n[secrets.c]\nvalue = \"hunter22\"\n",
    );
    assert!(said[0].contains("secrets.a: it says not where it is"), "{said:?}");
    assert!(said[1].contains("secrets.b.file: `env` says where it is"), "{said:?}");
    assert!(
        said.iter().any(|said| said.contains("secrets.c.value: there is no such key")),
        "{said:?}"
    );
    assert!(said.iter().all(|said| !said.contains("hunter22")), "{said:?}");
}

#[test]
fn faults_of_capabilities_secrets_and_retention_have_a_place() {
    let found = problems(
        r#"[secrets.key]
evn = "KEY"
hosts = "api.example.com"

[capabilities]
htp = {}

[capabilities.http]
allow = "GET https://api.example.com"
time_out = "5s"
per_minute = 0

[capabilities.mailer]
server = "localhost"
from = 7
security = "ssl"
port = 70000

[retention]
event = "3d"
events = "never"

[grants.reconcile-memberships]
enqueue = "deliver-email"
enqueues = ["deliver-email"]
shared = ["log:id"]
limits = { job = "1MB", jobs = 0 }
"#,
    );
    let expected = [
        ("1:10", "secrets.key", "it says not where it is"),
        ("2:1", "secrets.key.evn", "did you mean `env`?"),
        ("3:9", "secrets.key.hosts", "it must be a list"),
        ("6:1", "capabilities.htp", "did you mean `http`?"),
        ("9:9", "capabilities.http.allow", "it must be a list"),
        ("10:1", "capabilities.http.time_out", "did you mean `timeout`?"),
        ("11:14", "capabilities.http.per_minute", "from 1 to"),
        ("15:8", "capabilities.mailer.from", "a text in quotes"),
        ("16:12", "capabilities.mailer.security", "tls, starttls, none"),
        ("17:8", "capabilities.mailer.port", "from 1 to 65535"),
        ("20:1", "retention.event", "did you mean `events`?"),
        ("21:10", "retention.events", "or forever"),
        ("24:11", "grants.reconcile-memberships.enqueue", "it must be a list"),
        ("25:1", "grants.reconcile-memberships.enqueues", "did you mean `enqueue`?"),
        ("26:10", "grants.reconcile-memberships.shared", "names columns"),
        ("27:18", "grants.reconcile-memberships.limits.job", "no size"),
        ("27:32", "grants.reconcile-memberships.limits.jobs", "at least 1"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, (at, key, says)) in found.iter().zip(expected) {
        assert!(found.starts_with(&format!("{at}: {key}: ")), "{found}, not {at} {key}");
        assert!(found.contains(says), "{found}, not {says}");
    }
}

#[cfg(all(feature = "http", feature = "mailer"))]
#[test]
fn what_only_a_capability_can_judge_has_a_place_too() {
    let found = problems(
        r#"[capabilities.http]
allow = ["GET ftp://example.com"]
allow_private = ["BREW https://example.com"]

[capabilities.mailer]
server = "localhost"
from = "nobody"
"#,
    );
    let expected = [
        ("2:9", "capabilities.http.allow"),
        ("3:17", "capabilities.http.allow_private"),
        ("7:8", "capabilities.mailer.from"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, (at, key)) in found.iter().zip(expected) {
        assert!(found.starts_with(&format!("{at}: {key}: ")), "{found}, not {at} {key}");
    }
    let login = problems(
        "[capabilities.mailer]\nserver = \"localhost\"\nfrom = \"a@example.com\"\nuser = \"u\"\nsecret = \"none\"\n",
    );
    assert!(login[0].starts_with("5:10: capabilities.mailer.secret: there is no"), "{login:?}");
}

#[test]
#[cfg(all(feature = "http", feature = "mailer"))]
fn root_certificates_are_read_from_the_file_that_is_named() {
    let (folder, path) = folder_with(
        r#"
file = "app.db"

[capabilities.http]
root_certificates = "company.pem"

[capabilities.mailer]
server = "localhost"
from = "no-reply@example.com"
root_certificates = "company.pem"
"#,
    );
    let problems = || -> Vec<String> {
        Config::check(&path).unwrap().iter().map(ToString::to_string).collect()
    };
    let company = folder.path().join("company.pem");
    for (text, says) in [(None, "cannot read"), (Some("no PEM"), "it has no certificate")] {
        text.into_iter().for_each(|text| std::fs::write(&company, text).unwrap());
        let found = problems();
        for (found, at) in
            found.iter().zip(["5:21: capabilities.http", "10:21: capabilities.mailer"])
        {
            assert!(found.starts_with(&format!("{at}.root_certificates: ")), "{found}");
            assert!(found.contains(says) && found.contains("company.pem"), "{found}");
        }
        assert_eq!(found.len(), 2, "{found:?}");
    }
    std::fs::write(&company, include_str!("../capabilities/certificates/authority.pem")).unwrap();
    assert_eq!(problems(), Vec::<String>::new());
    Config::read(&path).unwrap().builder().unwrap().open().unwrap();
}
