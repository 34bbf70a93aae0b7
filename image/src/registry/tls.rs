//! Whom a host's certificate must come from, and the one that it is shown.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, parse_pem};

use super::RegistryError;
use super::hosts::Host;

type Roots = Arc<Vec<Certificate<'static>>>;

/// The authorities that this machine trusts.
pub(super) fn system() -> Roots {
    static KNOWN: OnceLock<Roots> = OnceLock::new();
    let known = KNOWN.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs().certs;
        let owned = found
            .iter()
            .map(|one| Certificate::from_der(one.as_ref()).to_owned());
        Arc::new(owned.collect())
    });
    Arc::clone(known)
}

/// Those, and the host's own.
pub(super) fn roots(host: &Host, system: &Roots) -> Result<Roots, RegistryError> {
    if host.authorities.is_empty() {
        return Ok(Arc::clone(system));
    }
    let mut all = system.to_vec();
    for path in &host.authorities {
        all.extend(certificates(path)?);
    }
    Ok(Arc::new(all))
}

/// The certificate by which a host knows us, when it wants one.
pub(super) fn client(host: &Host) -> Result<Option<ClientCert>, RegistryError> {
    let Some((file, key_file)) = &host.client else {
        return Ok(None);
    };
    let chain = certificates(file)?;
    let path = key_file.as_ref().unwrap_or(file);
    let text = fs::read(path).map_err(unusable(path, "key"))?;
    let key = PrivateKey::from_pem(&text).map_err(unusable(path, "key"))?;
    check_pair(&chain, &text).map_err(unusable(path, "key"))?;
    Ok(Some(ClientCert::new_with_certs(&chain, key)))
}

/// Errors when a key is another certificate's: a connection would only panic over it.
fn check_pair(chain: &[Certificate<'_>], key: &[u8]) -> Result<(), rustls::Error> {
    let unusable = |_| rustls::Error::General("it is no key in PEM".into());
    let chain = chain.iter().map(|one| one.der().to_vec().into()).collect();
    let key = PrivateKeyDer::from_pem_slice(key).map_err(unusable)?;
    let provider = rustls::crypto::ring::default_provider();
    rustls::sign::CertifiedKey::from_der(chain, key, &provider).map(drop)
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, RegistryError> {
    let text = fs::read(path).map_err(unusable(path, "certificate"))?;
    let mut found = Vec::new();
    for item in parse_pem(&text) {
        if let PemItem::Certificate(one) = item.map_err(unusable(path, "certificate"))? {
            found.push(one);
        }
    }
    if found.is_empty() {
        let none = ureq::Error::Tls("there is none in it");
        return Err(unusable(path, "certificate")(none));
    }
    Ok(found)
}

fn unusable<E: Error + Send + Sync + 'static>(
    path: &Path,
    what: &'static str,
) -> impl FnOnce(E) -> RegistryError {
    let path = path.to_owned();
    move |source| RegistryError::Certificate {
        path,
        what,
        source: Box::new(source),
    }
}
