//! The address of a server, and how connections to it are made.

use std::time::Duration;

#[cfg(feature = "postgres-tls")]
use std::sync::Arc;

use postgres::config::SslMode;
use postgres::{CancelToken, Client, Config, Error, NoTls};
#[cfg(feature = "postgres-tls")]
use rustls::pki_types::{CertificateDer, pem::PemObject};
#[cfg(feature = "postgres-tls")]
use tokio_postgres_rustls::MakeRustlsConnect;

use super::failure::unusable;
use crate::store::StoreError;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);

/// How long the other end may be silent while it owes an answer.
const SILENCE: Duration = Duration::from_secs(30);

const OPENING: &str = "open the database";

/// Whose connections are encrypted if the address says so.
#[derive(Clone)]
pub(super) struct Address {
    config: Config,
    only_reads: bool,
    #[cfg(feature = "postgres-tls")]
    tls: Option<MakeRustlsConnect>,
}

impl Address {
    /// The settings of this address. `roots` are the certificates of the authorities that are
    /// trusted, in PEM, in the place of the public ones.
    pub(super) fn of(url: &str, roots: Option<&str>) -> Result<Self, StoreError> {
        // What the server's own client calls these is what this one does whenever it encrypts.
        let url = url
            .replace("sslmode=verify-full", "sslmode=require")
            .replace("sslmode=verify-ca", "sslmode=require");
        let mut config: Config = url.parse().map_err(|error: Error| {
            let source = std::error::Error::source(&error);
            let why = source.map_or_else(|| error.to_string(), ToString::to_string);
            unusable(OPENING, format!("the address is none of PostgreSQL's: {why}"))
        })?;
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        // A connection whose other end is gone without a word is noticed within a minute.
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(SILENCE);
        }
        if config.get_keepalives_idle() > SILENCE {
            config.keepalives_idle(SILENCE);
            config.keepalives_interval(SILENCE / 3);
            config.keepalives_retries(3);
        }
        if config.get_application_name().is_none() {
            config.application_name("verger");
        }
        Self::encrypted(config, roots)
    }

    #[cfg(feature = "postgres-tls")]
    fn encrypted(config: Config, roots: Option<&str>) -> Result<Self, StoreError> {
        let tls = match (config.get_ssl_mode(), roots) {
            (SslMode::Require, Some(pem)) => Some(trusting(pem)?),
            (SslMode::Require, None) => Some(MakeRustlsConnect::with_webpki_roots()),
            (_, Some(_)) => {
                let why =
                    "root certificates are given, and the address does not say sslmode=require";
                return Err(unusable(OPENING, why));
            }
            _ => None,
        };
        Ok(Self { config, only_reads: false, tls })
    }

    #[cfg(not(feature = "postgres-tls"))]
    fn encrypted(config: Config, _: Option<&str>) -> Result<Self, StoreError> {
        match config.get_ssl_mode() {
            SslMode::Require => Err(unusable(
                OPENING,
                "the address asks for TLS, and this build has none: enable the feature `postgres-tls`",
            )),
            _ => Ok(Self { config, only_reads: false }),
        }
    }

    #[cfg(feature = "wasm")]
    pub(super) fn password(&self) -> Option<&[u8]> {
        self.config.get_password()
    }

    /// Whether its connections write nothing.
    pub(super) fn only_reads(&self) -> bool {
        self.only_reads
    }

    /// The same server, for connections that write nothing.
    pub(super) fn read_only(mut self) -> Self {
        self.only_reads = true;
        let before = self.config.get_options().unwrap_or_default();
        let options = format!("{before} -c default_transaction_read_only=on");
        self.config.options(options.trim_start());
        self
    }

    /// The same server, for another role.
    pub(super) fn of_role(&self, role: &str, password: &str) -> Self {
        let mut other = self.clone();
        other.config.user(role).password(password);
        other
    }

    pub(super) fn connect(&self) -> Result<Client, Error> {
        #[cfg(feature = "postgres-tls")]
        if let Some(tls) = &self.tls {
            return self.config.connect(tls.clone());
        }
        self.config.connect(NoTls)
    }

    /// Cancels what a connection is doing.
    pub(super) fn cancel(&self, cancel: &CancelToken) -> Result<(), Error> {
        #[cfg(feature = "postgres-tls")]
        if let Some(tls) = &self.tls {
            return cancel.cancel_query(tls.clone());
        }
        cancel.cancel_query(NoTls)
    }
}

/// Trusts the authorities of this text and no others.
#[cfg(feature = "postgres-tls")]
fn trusting(pem: &str) -> Result<MakeRustlsConnect, StoreError> {
    let wrong = |why: String| unusable(OPENING, format!("the root certificates: {why}"));
    let mut store = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| wrong(format!("no PEM: {error}")))?;
        store.add(certificate).map_err(|error| wrong(format!("one cannot be read: {error}")))?;
    }
    if store.is_empty() {
        return Err(wrong("the text has no certificate in PEM".to_string()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?;
    Ok(MakeRustlsConnect::new(config.with_root_certificates(store).with_no_client_auth()))
}
