//! Which certificates of registries are believed, and what is wrong with the others in words.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// Why a certificate is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Distrust {
    /// Nobody known here has signed it.
    #[error("its certificate comes from an authority that is not known here")]
    UnknownIssuer,
    /// It has signed itself, or is an authority's own, and is not known here.
    #[error("its certificate is self-signed, and not known here")]
    SelfSigned,
    /// Its time is over.
    #[error("its certificate has expired")]
    Expired,
    /// Its time has not come, or this machine's clock is wrong.
    #[error("its certificate is not valid yet: is this machine's clock right?")]
    NotValidYet,
    /// It is another host's.
    #[error("its certificate is for {names}, and not for {host}")]
    OtherName {
        /// The host as it was asked for.
        host: String,
        /// Whose it is.
        names: String,
    },
    /// Taken back by its authority.
    #[error("its certificate has been revoked")]
    Revoked,
    /// Something rarer, in the words of who looked at it.
    #[error("its certificate is not usable: {0}")]
    Other(String),
}

impl Distrust {
    /// Whether the user may say that it is to be believed all the same.
    #[must_use]
    pub fn is_of_stranger(&self) -> bool {
        matches!(self, Self::UnknownIssuer | Self::SelfSigned)
    }

    /// What a handshake that failed says about a certificate, if it is about one.
    pub(super) fn of(error: &Error) -> Option<Self> {
        let Error::InvalidCertificate(error) = error else {
            return None;
        };
        Some(match error {
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            error if is_authority(error) => Self::SelfSigned,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotValidYet
            }
            CertificateError::NotValidForNameContext {
                expected,
                presented,
            } => {
                // As webpki writes them: DnsName("x").
                let plain = |name: &String| match name.split('"').nth(1) {
                    Some(name) => name.to_owned(),
                    None => name.clone(),
                };
                let names: Vec<String> = presented.iter().take(5).map(plain).collect();
                Self::OtherName {
                    host: expected.to_str().into_owned(),
                    names: match names.is_empty() {
                        true => "no name at all".to_owned(),
                        false => names.join(", "),
                    },
                }
            }
            CertificateError::Revoked => Self::Revoked,
            error => Self::Other(error.to_string()),
        })
    }
}

/// Whether a server's certificate was refused because it is an authority's. Dates have been looked
/// at by then, the name has not.
fn is_authority(error: &CertificateError) -> bool {
    let CertificateError::Other(other) = error else {
        return false;
    };
    let inner = other.0.downcast_ref::<webpki::Error>();
    inner.is_some_and(|error| *error == webpki::Error::CaUsedAsEndEntity)
}

/// Believes what the authorities have signed, and those of them that are servers themselves: what
/// `openssl req -x509` makes is both.
#[derive(Debug)]
pub(super) struct Trust {
    signed: Arc<WebPkiServerVerifier>,
    known: BTreeSet<Vec<u8>>,
}

impl Trust {
    /// `None` when there is no authority at all.
    pub(super) fn new<'c>(
        authorities: impl Iterator<Item = &'c [u8]>,
        provider: &Arc<CryptoProvider>,
    ) -> Option<Self> {
        let known: BTreeSet<Vec<u8>> = authorities.map(<[u8]>::to_vec).collect();
        let mut roots = RootCertStore::empty();
        // Of a machine's authorities some are always too old to be read.
        roots.add_parsable_certificates(known.iter().map(|one| CertificateDer::from(&one[..])));
        let signed =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let signed = signed.build().ok()?;
        Some(Self { signed, known })
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let checked = self.signed.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match checked {
            Err(Error::InvalidCertificate(error))
                if is_authority(&error) && self.known.contains(end_entity.as_ref()) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            checked => checked,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signed.supported_verify_schemes()
    }
}

/// Believes everybody: `skip_verify`.
#[derive(Debug)]
pub(super) struct Blind(pub Arc<CryptoProvider>);

impl ServerCertVerifier for Blind {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::pem::PemObject as _;
    use std::time::Duration;

    /// `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj
    /// /CN=localhost -addext subjectAltName=DNS:localhost`, made in November of 2026.
    const SELF_SIGNED: &str = include_str!("testdata/self_signed.pem");
    const MADE: u64 = 1795373314;

    const OTHER: &str = include_str!("testdata/other.pem");

    fn look(trusted: &str, name: &str, after: u64) -> Option<Distrust> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let trusted = certificate(trusted);
        let trust = Trust::new([trusted.as_ref()].into_iter(), &provider).unwrap();
        let name = ServerName::try_from(name).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(MADE + after));
        let shown = certificate(SELF_SIGNED);
        let checked = trust.verify_server_cert(&shown, &[], &name, &[], now);
        checked.err().map(|error| Distrust::of(&error).unwrap())
    }

    #[test]
    fn a_certificate_that_is_named_is_believed_for_its_name_and_its_time() {
        let (hour, year) = (3600, 366 * 24 * 3600);
        let look = |name, after| look(SELF_SIGNED, name, after);
        assert_eq!(look("localhost", hour), None);
        assert_eq!(look("localhost", year), Some(Distrust::Expired));
        let other = look("example.com", hour).unwrap();
        assert_eq!(
            other.to_string(),
            "its certificate is for localhost, and not for example.com"
        );
    }

    #[test]
    fn one_that_nobody_has_named_is_not() {
        assert_eq!(look(OTHER, "localhost", 3600), Some(Distrust::SelfSigned));
    }
}
