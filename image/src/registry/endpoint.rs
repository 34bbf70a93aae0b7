//! One host that is asked: its connections, its redirects, and who it takes us for.

use std::io::Read as _;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use ureq::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use ureq::http::{HeaderName, HeaderValue, Response, StatusCode};
use ureq::{Agent, Body};

use super::RegistryError;
use super::access::Access;
use super::auth::Challenge;
use super::credentials::Keyring;
use super::hosts::{Host, Scheme, is_local};
use super::patience::Patience;
use super::request::{Ask, origin};
use super::trust::Distrust;
use super::{Tried, connect, tls};

const CONNECT: Duration = Duration::from_secs(30);
/// From the request to the head of the answer, and from one piece of it to the next.
const SILENCE: Duration = Duration::from_secs(60);
const MAX_HEAD: usize = 64 << 10;
/// How often an answer like "too many requests" is asked for again.
const MAX_BUSY: u32 = 3;
const MAX_WAIT: Duration = Duration::from_secs(30);
/// What is read of an error's or token's body.
const MAX_ANSWER: u64 = 256 << 10;

/// A host of a registry, as it is asked about one repository.
pub(super) struct Endpoint {
    pub host: Host,
    pub(super) agent: Agent,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// Settled by the first answer where the host may speak either.
    pub(super) scheme: OnceLock<&'static str>,
    pub(super) repository: String,
    /// What a token is asked for that is for more than a pull: `repository:NAME:pull,push`.
    pub(super) scopes: Vec<String>,
    /// Under what its credentials are kept.
    pub(super) account: String,
    is_own: bool,
    patience: Patience,
    access: Mutex<Access>,
    /// Held by whoever gets a token: the others would only get the same one.
    pub(super) turn: Mutex<()>,
}

impl Endpoint {
    pub(super) fn new(
        host: Host,
        registry: &str,
        repository: &str,
        patience: &Patience,
    ) -> Result<Self, RegistryError> {
        let headers = headers(&host)?;
        let local = is_local(&host.authority);
        let tls = tls::config(&host)?;
        let mut agent = Agent::config_builder()
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
            agent: connect::agent(agent.build(), tls),
            patience: patience.clone(),
            headers,
            scheme,
            repository: repository.to_owned(),
            scopes: Vec::new(),
            access: Mutex::default(),
            turn: Mutex::default(),
            host,
        })
    }

    /// Whether this is the registry itself and no mirror of it.
    pub(super) fn is_own(&self) -> bool {
        self.is_own
    }

    /// Asks until there is something, or nothing to be had. The address that answered comes along.
    pub(super) fn send(
        &self,
        ask: &Ask<'_>,
        keyring: &Keyring,
    ) -> Result<(Response<Body>, String), RegistryError> {
        let mut used = self.access().header.clone();
        let mut busy = 0;
        loop {
            let (response, url) = self.ask(ask, used.as_deref())?;
            let status = response.status();
            match status {
                _ if status.is_success() => {
                    self.access().has_worked = true;
                    return Ok((response, url));
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    let challenge = challenge(&response);
                    let answer = self.answer(challenge, used.as_deref(), keyring);
                    match answer.map_err(|error| self.tried(error, keyring))? {
                        Some(header) => used = Some(header),
                        None => {
                            let refused = self.refused(ask.what, response);
                            return Err(self.tried(refused, keyring));
                        }
                    }
                }
                StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
                    if busy < MAX_BUSY =>
                {
                    let wait = wait(&response, busy);
                    if wait > MAX_WAIT {
                        return Err(self.busy(ask.what, response, wait));
                    }
                    if !self.patience.wait(&self.host.label(), wait) {
                        return Err(self.refused(ask.what, response));
                    }
                    busy += 1;
                }
                _ => return Err(self.refused(ask.what, response)),
            }
        }
    }

    /// The same, for whom the answer alone counts.
    pub(super) fn get(
        &self,
        ask: &Ask<'_>,
        keyring: &Keyring,
    ) -> Result<Response<Body>, RegistryError> {
        self.send(ask, keyring).map(|(response, _)| response)
    }

    pub(super) fn access(&self) -> std::sync::MutexGuard<'_, Access> {
        // What is in it is whole at any time.
        self.access.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn sensitive(&self, header: &str) -> Result<HeaderValue, RegistryError> {
        let mut value = HeaderValue::from_str(header).map_err(|_| RegistryError::Header {
            host: self.host.label(),
            what: "its credential".into(),
        })?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Why nothing came from an address: the host's own, or one that it has sent us to.
    pub(super) fn unreachable(&self, url: &str, source: ureq::Error) -> RegistryError {
        let host = self.host.label();
        if let ureq::Error::LargeResponseHeader(..) = source {
            return RegistryError::TooLong {
                host,
                what: "the head of an answer".into(),
                limit: MAX_HEAD as u64,
            };
        }
        let target = origin(url);
        let is_home = target.rsplit('/').next() == Some(self.host.authority.as_str());
        if let Some(distrust) = handshake(&source).and_then(Distrust::of) {
            return RegistryError::Untrusted {
                host: if is_home { host } else { target.to_owned() },
                source: distrust,
            };
        }
        let source = Box::new(source);
        if let Some(proxy) = self.proxy(url) {
            return RegistryError::Proxy {
                host: if is_home { host } else { target.to_owned() },
                proxy,
                source,
            };
        }
        if is_home {
            return RegistryError::Unreachable { host, source };
        }
        let target = target.to_owned();
        RegistryError::Elsewhere {
            host,
            target,
            source,
        }
    }

    /// The proxy on the way to an address, without its password.
    fn proxy(&self, url: &str) -> Option<String> {
        let proxy = self.agent.config().proxy()?;
        let uri = url.parse().ok()?;
        let (host, port) = (proxy.host(), proxy.port());
        (!proxy.is_no_proxy(&uri)).then(|| format!("{host}:{port}"))
    }

    /// Says of a refusal with which credentials was asked.
    fn tried(&self, error: RegistryError, keyring: &Keyring) -> RegistryError {
        let RegistryError::Refused {
            host,
            what,
            status,
            said,
            code,
            tried: None,
        } = error
        else {
            return error;
        };
        let account = self.account.clone();
        let tried = match &self.access().credentials {
            None => None,
            Some(known) if known.is_empty() => Some(Box::new(Tried::Nothing {
                account,
                places: keyring.places().to_vec(),
            })),
            Some(known) => Some(Box::new(Tried::Refused {
                account,
                users: known.iter().map(ToString::to_string).collect(),
            })),
        };
        RegistryError::Refused {
            host,
            what,
            status,
            said,
            code,
            tried,
        }
    }

    fn busy(&self, what: &str, response: Response<Body>, wait: Duration) -> RegistryError {
        RegistryError::Busy {
            host: self.host.label(),
            what: what.to_owned(),
            status: response.status().to_string(),
            said: said(&body(response)),
            wait,
        }
    }

    pub(super) fn refused(&self, what: &str, response: Response<Body>) -> RegistryError {
        let status = response.status();
        RegistryError::Refused {
            host: self.host.label(),
            what: what.to_owned(),
            status: status.to_string(),
            code: status.as_u16(),
            said: said(&body(response)),
            tried: None,
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
    asked.map_or(Duration::from_secs(1 << busy), Duration::from_secs)
}

/// What went wrong with TLS, if that is it.
pub(super) fn handshake(error: &ureq::Error) -> Option<&rustls::Error> {
    match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref(),
        _ => None,
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
}
