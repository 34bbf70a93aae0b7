//! One request: where it goes, what it carries, and where it is sent on to.

use std::io::{self, ErrorKind, Read};

use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use ureq::http::{Method, Request, Response};
use ureq::{Body, SendBody};

use super::RegistryError;
use super::endpoint::{Endpoint, handshake};
use super::hosts::{Host, is_local};

const MAX_REDIRECTS: usize = 5;

/// What is asked for.
pub(super) struct Ask<'a> {
    pub method: Method,
    /// Below the API's root: `library/nginx/manifests/latest`; or an address that the host gave.
    pub path: &'a str,
    pub accept: Option<&'a str>,
    /// The first byte that is wanted.
    pub from: u64,
    pub contents: Option<&'a Contents<'a>>,
    /// In an error.
    pub what: &'a str,
}

/// What a request carries.
pub(super) struct Contents<'a> {
    pub media_type: &'a str,
    pub size: u64,
    /// Reads from a byte on; from the beginning again when a request has to be sent again.
    pub read: ReadAt<'a>,
}

/// Reads bytes from a place on.
pub(crate) type ReadAt<'a> = &'a dyn Fn(u64, &mut [u8]) -> io::Result<usize>;

/// Contents on their way out.
struct Reading<'a> {
    contents: &'a Contents<'a>,
    at: u64,
}

impl Read for Reading<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = (self.contents.read)(self.at, buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl<'a> Ask<'a> {
    /// A request for something.
    pub(super) fn get(path: &'a str, what: &'a str) -> Self {
        Ask {
            method: Method::GET,
            path,
            accept: None,
            from: 0,
            contents: None,
            what,
        }
    }
}

impl Endpoint {
    /// Sends a request, over HTTP if the host is this machine and speaks nothing else.
    pub(super) fn ask(
        &self,
        ask: &Ask<'_>,
        header: Option<&str>,
    ) -> Result<(Response<Body>, String), RegistryError> {
        if let Some(scheme) = self.scheme.get() {
            return self.follow(scheme, ask, header);
        }
        match self.follow("https", ask, header) {
            Err(RegistryError::Unreachable { source, .. }) if is_no_tls(&source) => {
                let response = self.follow("http", ask, header)?;
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
        scheme: &str,
        ask: &Ask<'_>,
        header: Option<&str>,
    ) -> Result<(Response<Body>, String), RegistryError> {
        let Host {
            authority, path, ..
        } = &self.host;
        let home = format!("{scheme}://{authority}");
        let mut url = match ask.path.contains("://") {
            true => ask.path.to_owned(),
            false => format!("{home}{path}/{}", ask.path),
        };
        for _ in 0..=MAX_REDIRECTS {
            let header = header.filter(|_| origin(&url) == home);
            let response = self.once(&url, ask, header, origin(&url) == home)?;
            if !response.status().is_redirection() {
                return Ok((response, url));
            }
            url = self.next(&url, &response)?;
        }
        Err(RegistryError::Redirects {
            host: self.host.label(),
            limit: MAX_REDIRECTS,
        })
    }

    fn once(
        &self,
        url: &str,
        ask: &Ask<'_>,
        header: Option<&str>,
        is_home: bool,
    ) -> Result<Response<Body>, RegistryError> {
        let mut request = Request::builder().method(ask.method.clone()).uri(url);
        if let Some(accept) = ask.accept {
            request = request.header("Accept", accept);
        }
        if ask.from > 0 {
            request = request.header("Range", format!("bytes={}-", ask.from));
        }
        for (name, value) in self.headers.iter().filter(|_| is_home) {
            request = request.header(name, value);
        }
        if let Some(header) = header {
            request = request.header(AUTHORIZATION, self.sensitive(header)?);
        }
        let unusable = |_| RegistryError::Location {
            host: self.host.authority.clone(),
            location: url.chars().take(200).collect(),
            why: "no address",
        };
        let response = if let Some(contents) = ask.contents {
            let mut reader = Reading { contents, at: 0 };
            let request = request
                .header(CONTENT_TYPE, contents.media_type)
                .header(CONTENT_LENGTH, contents.size)
                .body(SendBody::from_reader(&mut reader));
            self.agent.run(request.map_err(unusable)?)
        } else {
            if ask.method == Method::POST {
                request = request.header(CONTENT_LENGTH, 0);
            }
            let request = request.body(SendBody::none());
            self.agent.run(request.map_err(unusable)?)
        };
        response.map_err(|source| self.unreachable(url, source))
    }

    /// Where an answer sends us.
    pub(super) fn next(
        &self,
        from: &str,
        response: &Response<Body>,
    ) -> Result<String, RegistryError> {
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
    let is_closed = match error {
        ureq::Error::Io(error) => matches!(
            error.kind(),
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
        ),
        _ => false,
    };
    is_closed || matches!(handshake(error), Some(rustls::Error::InvalidMessage(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert_eq!(origin("https://a:1/b?c"), "https://a:1");
        assert_eq!(origin("http://a"), "http://a");
        assert!(is_safe("https://x/") && is_safe("http://127.0.0.1:5/x"));
        assert!(!is_safe("http://x/") && !is_safe("ftp://127.0.0.1/"));
        assert!(!is_safe("http://127.0.0.1.example/"));
    }
}
