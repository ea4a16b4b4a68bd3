//! The capabilities that come with Verger, and their secrets, as a `verger.toml` has them.
//!
//! The file never contains a secret. It names an environment variable or another file, which is
//! read each time the secret is needed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::node::{Entry, Node};
use super::walk::{Problems, join};
use crate::builder::Builder;
#[cfg(feature = "http")]
use crate::capability::Http;
#[cfg(feature = "mailer")]
use crate::capability::Mailer;
#[cfg(any(feature = "http", feature = "mailer"))]
use crate::capability::Secret;

/// Where a secret is.
#[derive(Debug, Clone)]
#[cfg_attr(
    not(any(feature = "http", feature = "mailer")),
    allow(dead_code, reason = "nothing uses secrets")
)]
enum Source {
    Environment(String),
    File(PathBuf),
}

/// A secret, and the hosts it may be sent to.
#[derive(Debug, Clone)]
#[cfg_attr(
    not(any(feature = "http", feature = "mailer")),
    allow(dead_code, reason = "nothing uses secrets")
)]
struct Named {
    source: Source,
    hosts: Vec<String>,
}

/// What a `verger.toml` switches on.
#[derive(Debug, Clone, Default)]
pub(super) struct Capabilities {
    #[cfg_attr(
        not(any(feature = "http", feature = "mailer")),
        allow(dead_code, reason = "nothing uses secrets")
    )]
    secrets: BTreeMap<String, Named>,
    #[cfg(feature = "http")]
    http: Option<Http>,
    #[cfg(feature = "mailer")]
    mailer: Option<Mailer>,
    cache_folder: Option<PathBuf>,
    /// What this build cannot do: the keys, each with the feature that it lacks.
    missing: Vec<(&'static str, &'static str)>,
}

impl Capabilities {
    /// What this build cannot do first: the key, and the feature that it lacks.
    pub(super) fn missing(&self) -> Option<(&'static str, &'static str)> {
        self.missing.first().copied()
    }

    pub(super) fn add_to(&self, mut builder: Builder) -> Builder {
        for (key, feature) in &self.missing {
            tracing::warn!("verger.toml has {key}, and this program is built without `{feature}`");
        }
        if let Some(folder) = &self.cache_folder {
            builder = builder.cache_folder(folder);
        }
        #[cfg(feature = "http")]
        if let Some(http) = &self.http {
            builder = builder.http(http.clone());
        }
        #[cfg(feature = "mailer")]
        if let Some(mailer) = &self.mailer {
            builder = builder.mailer(mailer.clone());
        }
        #[cfg(any(feature = "http", feature = "mailer"))]
        for (name, Named { source, hosts }) in &self.secrets {
            let source = source.clone();
            let secret = Secret::from_fn(move || source.read());
            let secret = hosts.iter().fold(secret, Secret::for_host);
            builder = builder.secret(name, secret);
        }
        builder
    }
}

#[cfg(any(feature = "http", feature = "mailer"))]
impl Source {
    /// The present value. An error does not contain it.
    fn read(&self) -> Result<String, String> {
        match self {
            Self::Environment(name) => std::env::var(name).map_err(|error| match error {
                std::env::VarError::NotPresent => {
                    format!("the environment has no variable {name}")
                }
                std::env::VarError::NotUnicode(_) => format!("the variable {name} is no UTF-8"),
            }),
            Self::File(path) => {
                let cannot = |why: &dyn std::fmt::Display| {
                    format!("cannot read the secret in {}: {why}", path.display())
                };
                let bytes = std::fs::read(path).map_err(|error| cannot(&error))?;
                let text = String::from_utf8(bytes).map_err(|_| cannot(&"it is no UTF-8"))?;
                // A last line break that an editor added is no part of the secret.
                let text = text.strip_suffix('\n').unwrap_or(&text);
                Ok(text.strip_suffix('\r').unwrap_or(text).to_string())
            }
        }
    }
}

/// Reads `[secrets]` and `[capabilities]`.
pub(super) fn read(root: &Node, folder: &Path, problems: &mut Problems<'_>) -> Capabilities {
    let mut read = Capabilities::default();
    for entry in root.get("secrets").map(Node::entries).unwrap_or_default() {
        if let Some(secret) = secret(entry, folder, problems) {
            read.secrets.insert(entry.name.clone(), secret);
        }
    }
    let Some(node) = root.get("capabilities") else { return read };
    read.cache_folder = node.get("cache_folder").and_then(Node::text).map(|path| folder.join(path));
    if let Some(node) = node.get("http") {
        #[cfg(feature = "http")]
        {
            read.http = Some(http(node, folder, problems));
        }
        #[cfg(not(feature = "http"))]
        {
            let _ = node;
            read.missing.push(("capabilities.http", "http"));
        }
    }
    if let Some(node) = node.get("mailer") {
        #[cfg(feature = "mailer")]
        {
            read.mailer = mailer(node, &read.secrets, folder, problems);
        }
        #[cfg(not(feature = "mailer"))]
        {
            let _ = node;
            read.missing.push(("capabilities.mailer", "mailer"));
        }
    }
    read
}

fn secret(entry: &Entry, folder: &Path, problems: &mut Problems<'_>) -> Option<Named> {
    let (node, name) = (&entry.node, join("secrets", &entry.name));
    let source = match (node.get("env"), node.get("file")) {
        (Some(env), None) => Source::Environment(env.text()?.to_string()),
        (None, Some(file)) => Source::File(folder.join(file.text()?)),
        (Some(_), Some(file)) => {
            problems.add(&file.span, &join(&name, "file"), "`env` says where it is: keep one");
            return None;
        }
        (None, None) => {
            let message = "it says not where it is: write env = \"NAME\" or file = \"PATH\"";
            problems.add(&entry.name_span, &name, message);
            return None;
        }
    };
    let hosts = node.get("hosts").map(Node::texts).unwrap_or_default();
    Some(Named { source, hosts: hosts.into_iter().map(str::to_string).collect() })
}

/// The key that names a file of root certificates.
#[cfg(any(feature = "http", feature = "mailer"))]
const ROOTS: &str = "root_certificates";

/// The capability with the root certificates of the file that is named, if one is.
#[cfg(any(feature = "http", feature = "mailer"))]
fn trust<T>(
    node: &Node,
    name: &str,
    folder: &Path,
    problems: &mut Problems<'_>,
    trusting: impl FnOnce(&str) -> Result<T, crate::capability::InvalidCapability>,
) -> Option<T> {
    let named = node.get(ROOTS)?;
    let path = folder.join(named.text()?);
    let trusting = match std::fs::read_to_string(&path) {
        Ok(pem) => trusting(&pem).map_err(|error| format!("{}: {error}", path.display())),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    };
    trusting.map_err(|message| problems.add(&named.span, &join(name, ROOTS), message)).ok()
}

#[cfg(feature = "http")]
fn http(node: &Node, folder: &Path, problems: &mut Problems<'_>) -> Http {
    use super::settings::{duration, size};
    const NAME: &str = "capabilities.http";
    let mut http = Http::new();
    for (key, is_private) in [("allow", false), ("allow_private", true)] {
        let Some(list) = node.get(key) else { continue };
        for text in list.texts() {
            // `GET,POST https://api.example.com`
            let (methods, origin) = text.split_once(' ').unwrap_or(("GET", text));
            let (methods, origin) = (methods.split(',').map(str::trim), origin.trim());
            let more = match is_private {
                true => http.clone().allow_private(origin, methods),
                false => http.clone().allow(origin, methods),
            };
            match more {
                Ok(more) => http = more,
                Err(error) => problems.add(
                    &list.span,
                    &join(NAME, key),
                    format!("{error}: write \"GET,POST https://api.example.com\""),
                ),
            }
        }
    }
    let trusting = |pem: &str| http.clone().root_certificates(pem);
    if let Some(trusting) = trust(node, NAME, folder, problems, trusting) {
        http = trusting;
    }
    if let Some(time) = duration(node, "timeout") {
        http = http.timeout(time);
    }
    if let Some(calls) = node.get("per_minute").and_then(Node::integer) {
        http = http.per_minute(u32::try_from(calls).unwrap_or(u32::MAX));
    }
    if let Some(bytes) = size(node, "request") {
        http = http.request_bytes(usize::try_from(bytes).unwrap_or(usize::MAX));
    }
    if let Some(bytes) = size(node, "response") {
        http = http.response_bytes(bytes);
    }
    http
}

#[cfg(feature = "mailer")]
fn mailer(
    node: &Node,
    secrets: &BTreeMap<String, Named>,
    folder: &Path,
    problems: &mut Problems<'_>,
) -> Option<Mailer> {
    const NAME: &str = "capabilities.mailer";
    let text = |key: &str| node.get(key).and_then(Node::text);
    let (Some(server), Some(from)) = (text("server"), node.get("from")) else {
        problems.add(&node.span, NAME, "it needs `server` and `from`");
        return None;
    };
    let mut mailer = match Mailer::smtp(server, from.text()?) {
        Ok(mailer) => mailer,
        Err(error) => {
            problems.add(&from.span, &join(NAME, "from"), error.to_string());
            return None;
        }
    };
    mailer = match text("security") {
        Some("starttls") => mailer.starttls(),
        Some("none") => mailer.without_tls(),
        _ => mailer,
    };
    let trusting = |pem: &str| mailer.clone().root_certificates(pem);
    if let Some(trusting) = trust(node, NAME, folder, problems, trusting) {
        mailer = trusting;
    }
    if let Some(port) = node.get("port").and_then(Node::integer) {
        mailer = mailer.port(u16::try_from(port).unwrap_or(u16::MAX));
    }
    match (text("user"), node.get("secret")) {
        (Some(user), Some(secret)) => {
            let name = secret.text()?;
            if !secrets.contains_key(name) {
                let message = format!("there is no `[secrets.{name}]`: say there where it is");
                problems.add(&secret.span, &join(NAME, "secret"), message);
            }
            mailer = mailer.login(user, name);
        }
        (None, None) => {}
        _ => problems.add(&node.span, NAME, "a login needs both `user` and `secret`"),
    }
    for domain in node.get("only_to").map(Node::texts).unwrap_or_default() {
        mailer = mailer.only_to(domain);
    }
    if let Some(messages) = node.get("per_minute").and_then(Node::integer) {
        mailer = mailer.per_minute(u32::try_from(messages).unwrap_or(u32::MAX));
    }
    Some(mailer)
}
