//! TLS for probes and hooks of scheme HTTPS.
//!
//! The agent makes the attempt and judges it; TLS is all that it cannot do, for
//! it would be larger than the agent itself. So it connects, hands the
//! connection over as streams, and gets back what the server answered. Like the
//! kubelet, nobody looks at the certificate: a probe asks whether something
//! serves, not who it is.

use super::server::dialled;
use super::supervisor::Supervisor;
use crate::link::{Link, Streams};
use beluga_proto::agent::StdioNonces;
use beluga_proto::bytes::Bytes;
use beluga_proto::{Fault, FaultCode, Request};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    self, ClientConfig, DigitallySignedStruct, InvalidMessage, SignatureScheme,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// For each connection, at most 32 at once: what one costs is bounded, and so is all of
/// it. A process has one pod.
static CONNECTIONS: Semaphore = Semaphore::const_new(32);

/// Longest that one may take, whatever the agent says.
const LONGEST: Duration = Duration::from_secs(3600);

/// Bytes of an answer that are passed on at once.
const PIECE: usize = 16 << 10;

impl Supervisor {
    /// Speaks TLS for an attempt, beside everything else.
    pub(super) fn speak_tls(&self, attempt: u32, request: Vec<u8>, timeout_millis: Option<u64>) {
        let link = self.link.clone();
        let Ok(permit) = CONNECTIONS.try_acquire() else {
            let why = "too many connections with TLS at once".to_owned();
            drop(link.request(answer(attempt, Vec::new(), Some(why))));
            return;
        };
        let streams = self.streams.clone();
        let limit =
            timeout_millis.map_or(LONGEST, |millis| Duration::from_millis(millis).min(LONGEST));
        tokio::spawn(async move {
            let _permit = permit;
            let work = carry(&link, &streams, attempt, &request);
            // The agent knows by itself that the time is over.
            if let Ok(Err(TlsError::Failed(why))) = tokio::time::timeout(limit, work).await {
                let _ = link.ask(answer(attempt, Vec::new(), Some(why))).await;
            }
        });
    }
}

/// Why an exchange ended early.
#[derive(Debug, thiserror::Error)]
enum TlsError {
    /// The attempt is over, or the agent is gone: there is nobody to tell.
    #[error(transparent)]
    Agent(#[from] Fault),
    /// What the attempt is told.
    #[error("{0}")]
    Failed(String),
}

impl From<std::io::Error> for TlsError {
    fn from(error: std::io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
        Self::Failed(match tls {
            Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
                "tls: first record does not look like a TLS handshake".to_owned()
            }
            Some(error) => format!("tls: {error}"),
            None => error.to_string(),
        })
    }
}

fn answer(attempt: u32, bytes: Vec<u8>, failure: Option<String>) -> Request {
    Request::TlsAnswer {
        attempt,
        bytes: Bytes(bytes),
        failure,
    }
}

async fn carry(
    link: &Link,
    streams: &Streams,
    attempt: u32,
    request: &[u8],
) -> Result<(), TlsError> {
    let mut tls = connect(link, streams, attempt).await?;
    tls.write_all(request).await?;
    tls.flush().await?;
    loop {
        let mut piece = vec![0; PIECE];
        // A server that closes without a word of TLS has said what it had to say.
        let read = match tls.read(&mut piece).await {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => 0,
            other => other?,
        };
        piece.truncate(read);
        // Fails as soon as the attempt has heard enough.
        link.ask(answer(attempt, piece, None)).await?;
        if read == 0 {
            return Ok(());
        }
    }
}

type Both = tokio::io::Join<UnixStream, UnixStream>;

async fn connect(
    link: &Link,
    streams: &Streams,
    attempt: u32,
) -> Result<TlsStream<Both>, TlsError> {
    let (to_nonce, to) = streams.expect();
    let (from_nonce, from) = streams.expect();
    let stdio = StdioNonces {
        stdin: Some(to_nonce),
        stdout: Some(from_nonce),
        stderr: None,
    };
    link.ask(Request::TlsConnect { attempt, stdio }).await?;
    let [to, from] = [dialled(to).await?, dialled(from).await?].map(stream);
    let name = ServerName::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST));
    let connector = TlsConnector::from(Arc::clone(&CONFIG));
    Ok(connector.connect(name, tokio::io::join(from?, to?)).await?)
}

fn stream(fd: OwnedFd) -> Result<UnixStream, Fault> {
    crate::link::adopt(fd).map_err(|error| Fault::from_error(FaultCode::Internal, &error))
}

/// TLS 1.2 and 1.3 with whoever is there. An address as the server's name is
/// none: it is not sent.
static CONFIG: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        .expect("ring has what the default versions need")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    Arc::new(config)
});

/// Takes every certificate for good, as the kubelet does for probes. The
/// handshake itself is still checked.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn told(answer: &'static [u8]) -> String {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        tokio::spawn(async move {
            let _ = theirs.write_all(answer).await;
            let _ = theirs.shutdown().await;
        });
        let name = ServerName::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST));
        let connector = TlsConnector::from(Arc::clone(&CONFIG));
        match connector.connect(name, ours).await.map_err(TlsError::from) {
            Err(TlsError::Failed(why)) => why,
            other => panic!("{:?}", other.map(drop)),
        }
    }

    #[tokio::test]
    async fn what_is_no_tls_is_told_as_such() {
        let plain = told(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        assert_eq!(
            plain,
            "tls: first record does not look like a TLS handshake"
        );
        let refused = told(b"\x15\x03\x03\x00\x02\x02\x28").await;
        assert_eq!(refused, "tls: received fatal alert: HandshakeFailure");
        let closed = told(b"").await;
        assert_eq!(closed, "tls handshake eof");
    }
}
