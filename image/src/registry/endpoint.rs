//! One host that is asked: its connections, its redirects, and who it takes us for.

use std::io::{ErrorKind, Read as _};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use ureq::http::header::{AUTHORIZATION, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use ureq::http::{HeaderName, HeaderValue, Response, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::RegistryError;
use super::access::Access;
use super::auth::Challenge;
use super::credentials::Keyring;
use super::hosts::{Host, Scheme, is_local};
use super::tls;

const CONNECT: Duration = Duration::from_secs(30);
/// From the request to the head of the answer, and from one piece of it to the next.
const SILENCE: Duration = Duration::from_secs(60);
const MAX_HEAD: usize = 64 << 10;
const MAX_REDIRECTS: usize = 5;
/// How often an answer like "too many requests" is asked for again.
const MAX_BUSY: u32 = 3;
const MAX_WAIT: Duration = Duration::from_secs(30);
/// What is read of an error's or token's body.
const MAX_ANSWER: u64 = 256 << 10;

/// A host of a registry, as it is asked about one repository.
pub(super) struct Endpoint {
    pub host: Host,
    pub(super) agent: Agent,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Settled by the first answer where the host may speak either.
    pub(super) scheme: OnceLock<&'static str>,
    pub(super) repository: String,
    /// Under what its credentials are kept.
    pub(super) account: String,
    is_own: bool,
    access: Mutex<Access>,
    /// Held by whoever gets a token: the others would only get the same one.
    pub(super) turn: Mutex<()>,
}

/// What is asked for.
pub(super) struct Ask<'a> {
    /// Below the API's root: `library/nginx/manifests/latest`.
    pub path: &'a str,
    pub accept: Option<&'a str>,
    /// The first byte that is wanted.
    pub from: u64,
    /// In an error.
    pub what: &'a str,
}

impl Endpoint {
    pub(super) fn new(
        host: Host,
        registry: &str,
        repository: &str,
        roots: &Arc<Vec<Certificate<'static>>>,
    ) -> Result<Self, RegistryError> {
        let headers = headers(&host)?;
        let local = is_local(&host.authority);
        let config = TlsConfig::builder()
            .root_certs(RootCerts::Specific(tls::roots(&host, roots)?))
            .client_cert(tls::client(&host)?)
            .disable_verification(host.skip_verify)
            .build();
        let mut agent = Agent::config_builder()
            .tls_config(config)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_response_header_size(MAX_HEAD)
            .user_agent(concat!("beluga/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(host.dial_timeout.unwrap_or(CONNECT)))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE));
        if local {
            agent = agent.proxy(None);
        }
        let is_own = host.authority == registry
            || (registry == "docker.io" && host.authority == "registry-1.docker.io");
        let account = if is_own { registry } else { &host.authority };
        let scheme = OnceLock::new();
        match host.scheme {
            Scheme::Https => drop(scheme.set("https")),
            Scheme::Http => drop(scheme.set("http")),
            Scheme::Either => {}
        }
        Ok(Endpoint {
            account: account.to_owned(),
            is_own,
            agent: agent.build().new_agent(),
            headers,
            scheme,
            repository: repository.to_owned(),
            access: Mutex::default(),
            turn: Mutex::default(),
            host,
        })
    }

    /// Whether this is the registry itself and no mirror of it.
    pub(super) fn is_own(&self) -> bool {
        self.is_own
    }

    /// Asks until there is something, or nothing to be had.
    pub(super) fn get(
        &self,
        ask: &Ask<'_>,
        keyring: &Keyring,
    ) -> Result<Response<Body>, RegistryError> {
        let mut used = self.access().header.clone();
        let mut busy = 0;
        loop {
            let response = self.ask(ask, used.as_deref())?;
            let status = response.status();
            match status {
                StatusCode::OK | StatusCode::PARTIAL_CONTENT => {
                    self.access().has_worked = true;
                    return Ok(response);
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    let challenge = challenge(&response);
                    match self.answer(challenge, used.as_deref(), keyring)? {
                        Some(header) => used = Some(header),
                        None => return Err(self.refused(ask.what, response)),
                    }
                }
                StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
                    if busy < MAX_BUSY =>
                {
                    thread::sleep(wait(&response, busy));
                    busy += 1;
                }
                _ => return Err(self.refused(ask.what, response)),
            }
        }
    }

    pub(super) fn access(&self) -> std::sync::MutexGuard<'_, Access> {
        // What is in it is whole at any time.
        self.access.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request, over HTTP if the host is this machine and speaks nothing else.
    fn ask(&self, ask: &Ask<'_>, header: Option<&str>) -> Result<Response<Body>, RegistryError> {
        let url = |scheme: &str| {
            let Host {
                authority, path, ..
            } = &self.host;
            format!("{scheme}://{authority}{path}/{}", ask.path)
        };
        if let Some(scheme) = self.scheme.get() {
            return self.follow(url(scheme), ask, header);
        }
        match self.follow(url("https"), ask, header) {
            Err(RegistryError::Unreachable { source, .. }) if is_no_tls(&source) => {
                let response = self.follow(url("http"), ask, header)?;
                let _ = self.scheme.set("http");
                Ok(response)
            }
            response => {
                if response.is_ok() {
                    let _ = self.scheme.set("https");
                }
                response
            }
        }
    }

    /// Sends a request and follows where it is sent. Credentials and configured headers are for
    /// the host alone.
    fn follow(
        &self,
        mut url: String,
        ask: &Ask<'_>,
        header: Option<&str>,
    ) -> Result<Response<Body>, RegistryError> {
        let home = origin(&url).to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = self.agent.get(&url);
            if let Some(accept) = ask.accept {
                request = request.header("Accept", accept);
            }
            if ask.from > 0 {
                request = request.header("Range", format!("bytes={}-", ask.from));
            }
            if origin(&url) == home {
                for (name, value) in &self.headers {
                    request = request.header(name, value);
                }
                if let Some(header) = header {
                    request = request.header(AUTHORIZATION, self.sensitive(header)?);
                }
            }
            let response = request.call().map_err(|source| self.unreachable(source))?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            url = self.next(&url, &response)?;
        }
        Err(RegistryError::Redirects {
            host: self.host.authority.clone(),
            limit: MAX_REDIRECTS,
        })
    }

    /// Where an answer sends us.
    fn next(&self, from: &str, response: &Response<Body>) -> Result<String, RegistryError> {
        let location = response.headers().get(LOCATION);
        let location = location.and_then(|to| to.to_str().ok()).unwrap_or_default();
        let wrong = |why| RegistryError::Location {
            host: self.host.authority.clone(),
            location: location.chars().take(200).collect(),
            why,
        };
        let to = if location.starts_with("https://") || location.starts_with("http://") {
            location.to_owned()
        } else if location.starts_with("//") {
            let scheme = from.split("//").next().unwrap_or_default();
            format!("{scheme}{location}")
        } else if location.starts_with('/') {
            format!("{}{location}", origin(from))
        } else {
            return Err(wrong("no address"));
        };
        if from.starts_with("https:") && !is_safe(&to) {
            return Err(wrong("not encrypted"));
        }
        Ok(to)
    }

    pub(super) fn sensitive(&self, header: &str) -> Result<HeaderValue, RegistryError> {
        let mut value = HeaderValue::from_str(header).map_err(|_| RegistryError::Header {
            host: self.host.authority.clone(),
            what: "its credential".into(),
        })?;
        value.set_sensitive(true);
        Ok(value)
    }

    pub(super) fn unreachable(&self, source: ureq::Error) -> RegistryError {
        let host = self.host.authority.clone();
        match source {
            ureq::Error::LargeResponseHeader(..) => RegistryError::TooLong {
                host,
                what: "the head of an answer".into(),
                limit: MAX_HEAD as u64,
            },
            source => RegistryError::Unreachable {
                host,
                source: Box::new(source),
            },
        }
    }

    pub(super) fn refused(&self, what: &str, response: Response<Body>) -> RegistryError {
        let status = response.status();
        RegistryError::Refused {
            host: self.host.authority.clone(),
            what: what.to_owned(),
            status: status.to_string(),
            code: status.as_u16(),
            said: said(&body(response)),
        }
    }
}

fn headers(host: &Host) -> Result<Vec<(HeaderName, HeaderValue)>, RegistryError> {
    let mut headers = Vec::new();
    for (name, value) in &host.headers {
        let pair = (HeaderName::try_from(name), HeaderValue::try_from(value));
        let (Ok(name), Ok(value)) = pair else {
            return Err(RegistryError::Header {
                host: host.authority.clone(),
                what: format!("the header {name:?}"),
            });
        };
        headers.push((name, value));
    }
    Ok(headers)
}

fn challenge(response: &Response<Body>) -> Option<Challenge> {
    let headers = response.headers().get_all(WWW_AUTHENTICATE).iter();
    Challenge::read(headers.filter_map(|header| header.to_str().ok()))
}

/// How long a busy registry wants to be left alone.
fn wait(response: &Response<Body>, busy: u32) -> Duration {
    let asked = response.headers().get(RETRY_AFTER);
    let asked = asked.and_then(|text| text.to_str().ok()?.parse().ok());
    let wait = asked.map_or(Duration::from_secs(1 << busy), Duration::from_secs);
    wait.min(MAX_WAIT)
}

/// `https://host:port` of an address.
pub(super) fn origin(url: &str) -> &str {
    let begin = url.find("://").map_or(0, |at| at + 3);
    let length = url[begin..].find(['/', '?', '#']);
    &url[..length.map_or(url.len(), |length| begin + length)]
}

/// Encrypted, or never leaving this machine.
pub(super) fn is_safe(url: &str) -> bool {
    let authority = url.strip_prefix("http://").map(|_| origin(url));
    url.starts_with("https://")
        || authority.is_some_and(|origin| is_local(origin.trim_start_matches("http://")))
}

/// Whether a handshake failed because the other side speaks something else than TLS.
fn is_no_tls(error: &ureq::Error) -> bool {
    let is_other = |error: &rustls::Error| matches!(error, rustls::Error::InvalidMessage(_));
    match error {
        ureq::Error::Rustls(error) => is_other(error),
        ureq::Error::Io(error) => {
            let closed = matches!(
                error.kind(),
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
            );
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
            closed || inner.is_some_and(is_other)
        }
        _ => false,
    }
}

pub(super) fn body(response: Response<Body>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let reader = response.into_body().into_reader();
    // What was read until it broke is as good as it gets.
    let _ = reader.take(MAX_ANSWER).read_to_end(&mut bytes);
    bytes
}

/// A registry's own words: `: CODE: message` of each of its errors, or what it says as text.
fn said(answer: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<Said>,
    }
    #[derive(serde::Deserialize)]
    struct Said {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let short = |text: &str| text.chars().take(300).collect::<String>();
    let text = match serde_json::from_slice::<Errors>(answer) {
        Ok(said) => {
            let each = said.errors.iter().take(5);
            let each = each.map(|one| match (one.code.as_str(), one.message.as_str()) {
                ("", text) | (text, "") => short(text),
                (code, message) => format!("{}: {}", short(code), short(message)),
            });
            each.collect::<Vec<_>>().join("; ")
        }
        Err(_) => {
            let text = String::from_utf8_lossy(answer);
            let line = text.lines().find(|line| !line.trim().is_empty());
            short(line.unwrap_or_default().trim())
        }
    };
    if text.is_empty() {
        text
    } else {
        format!(": {text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_in_the_registrys_words() {
        let json =
            br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{}}]}"#;
        assert_eq!(said(json), ": MANIFEST_UNKNOWN: manifest unknown");
        assert_eq!(said(b"\n<html>no</html>\nmore"), ": <html>no</html>");
        assert_eq!(said(b""), "");
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert_eq!(origin("https://a:1/b?c"), "https://a:1");
        assert_eq!(origin("http://a"), "http://a");
        assert!(is_safe("https://x/") && is_safe("http://127.0.0.1:5/x"));
        assert!(!is_safe("http://x/") && !is_safe("ftp://127.0.0.1/"));
        assert!(!is_safe("http://127.0.0.1.example/"));
    }
}
