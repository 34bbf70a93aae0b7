//! Whom a host's certificate must come from, and the one that it is shown.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::WantsClientCert;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ALL_VERSIONS, ClientConfig, ConfigBuilder};

use super::RegistryError;
use super::hosts::Host;
use super::trust::{Blind, Trust};

type Certificates = Vec<CertificateDer<'static>>;

/// The authorities that this machine trusts.
fn system() -> &'static Certificates {
    static KNOWN: OnceLock<Certificates> = OnceLock::new();
    KNOWN.get_or_init(|| rustls_native_certs::load_native_certs().certs)
}

/// How TLS is spoken with a host.
pub(super) fn config(host: &Host) -> Result<Arc<ClientConfig>, RegistryError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut own = Certificates::new();
    for path in &host.authorities {
        own.extend(certificates(path)?);
    }
    let known = system().iter().chain(&own).map(AsRef::as_ref);
    let trust: Arc<dyn ServerCertVerifier> = match Trust::new(known, &provider) {
        Some(trust) if !host.skip_verify => Arc::new(trust),
        None if !host.skip_verify => {
            return Err(RegistryError::NoAuthority { host: host.label() });
        }
        _ => Arc::new(Blind(Arc::clone(&provider))),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(ALL_VERSIONS)
        .expect("the provider speaks all of them")
        .dangerous()
        .with_custom_certificate_verifier(trust);
    shown(builder, host).map(Arc::new)
}

/// With the certificate by which a host knows us, when it wants one.
fn shown(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    host: &Host,
) -> Result<ClientConfig, RegistryError> {
    let Some((file, key_file)) = &host.client else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(file)?;
    let path = key_file.as_ref().unwrap_or(file);
    let text = fs::read(path).map_err(unusable(path, "key"))?;
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(unusable(path, "key"))?;
    let config = builder.with_client_auth_cert(chain, key);
    config.map_err(unusable(path, "key"))
}

fn certificates(path: &Path) -> Result<Certificates, RegistryError> {
    let text = fs::read(path).map_err(unusable(path, "certificate"))?;
    let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Certificates, _>>();
    let found = found.map_err(unusable(path, "certificate"))?;
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
