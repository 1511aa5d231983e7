//! Who may vouch for a webhook's server: what this machine trusts, or a file of the operator's.

use std::path::Path;
use std::sync::Arc;

use files::escape_path;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::value::{causes, whole};

/// No file of certificates is longer.
const MAX_AUTHORITIES: u64 = 4 << 20;

/// A configuration that trusts them. It is made anew for each call, so that a new certificate needs no restart. The
/// error is safe to show.
pub(super) fn config(authorities: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let roots = match authorities {
        Some(path) => from_file(path)?,
        None => of_this_machine()?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(|error| causes(&error))?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn from_file(path: &Path) -> Result<RootCertStore, String> {
    let pem = whole(path, MAX_AUTHORITIES)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let added = certificate
            .map_err(|error| causes(&error))
            .and_then(|certificate| roots.add(certificate).map_err(|error| causes(&error)));
        added.map_err(|error| format!("{}: {error}", escape_path(path)))?;
    }
    match roots.is_empty() {
        true => Err(format!("{} holds no certificate in PEM", escape_path(path))),
        false => Ok(roots),
    }
}

fn of_this_machine() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    // Those that cannot be used are many and old on some machines; the others do.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    match roots.is_empty() {
        true => Err("this machine trusts no certificates: install its package of them, or give the hook a file".to_owned()),
        false => Ok(roots),
    }
}
