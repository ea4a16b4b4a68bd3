//! The authorities an app trusts in the place of the public ones.

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::InvalidCapability;

/// The certificates in a PEM text. There is one at least, and each can stand for an authority.
pub(super) fn read(pem: &str) -> Result<Vec<CertificateDer<'static>>, InvalidCapability> {
    let invalid = |reason: String| InvalidCapability::new("the text of root certificates", reason);
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = found.map_err(|error| invalid(format!("it is no PEM: {error}")))?;
    if found.is_empty() {
        return Err(invalid("it has no certificate in PEM".to_string()));
    }
    let mut store = RootCertStore::empty();
    for certificate in &found {
        let added = store.add(certificate.clone());
        added.map_err(|error| invalid(format!("a certificate cannot be read: {error}")))?;
    }
    Ok(found)
}
