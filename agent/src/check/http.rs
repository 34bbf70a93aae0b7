//! An attempt that is an HTTP GET (RFC 9112), as the kubelet makes it: a status
//! from 200 to 399 is good, redirects on the same host are followed.

use super::socket::Socket;
use super::{Outcome, Page};
use crate::poller::Poller;
use std::fmt::Write as _;
use std::net::SocketAddr;

/// Redirects that are followed.
const MAX_REDIRECTS: u8 = 10;

/// Headers of every request, unless the manifest has its own.
const USUAL: [(&str, &str); 2] = [("User-Agent", "kube-probe/1.35"), ("Accept", "*/*")];

/// A request under way.
pub struct Http {
    socket: Socket,
    path: String,
    headers: Vec<(String, String)>,
    any_status: bool,
    answer: Vec<u8>,
    redirects: u8,
}

impl Http {
    /// Begins a request.
    pub fn start(page: &Page<'_>, poller: &Poller, id: u32) -> Result<Self, Outcome> {
        let open = if page.tls {
            Socket::open_tls
        } else {
            Socket::open
        };
        let url = url(page.tls, page.address, page.path);
        let socket = open(page.address, poller, id)
            .map_err(|why| Outcome::Failed(format!("Get {url:?}: {why}")))?;
        let mut http = Self {
            socket,
            path: page.path.to_owned(),
            headers: page.headers.to_vec(),
            any_status: page.any_status,
            answer: Vec::new(),
            redirects: 0,
        };
        http.ask();
        Ok(http)
    }

    fn ask(&mut self) {
        let text = request(self.socket.address, &self.path, &self.headers);
        self.socket.send(text.as_bytes());
    }

    fn failed(&self, why: &str) -> Outcome {
        let url = url(self.socket.is_tls(), self.socket.address, &self.path);
        Outcome::Failed(format!("Get {url:?}: {why}"))
    }

    /// The connection, where the supervisor is to speak TLS over it.
    pub fn tls(&mut self) -> Option<&mut Socket> {
        self.socket.is_tls().then_some(&mut self.socket)
    }

    /// What has come over TLS, or why nothing can.
    pub fn tls_answer(
        &mut self,
        bytes: &[u8],
        failure: Option<String>,
        poller: &Poller,
        id: u32,
    ) -> Option<Outcome> {
        self.tls()?;
        if let Some(why) = failure {
            return Some(self.failed(&why));
        }
        self.answer.extend_from_slice(bytes);
        if bytes.is_empty() {
            self.socket.tls_ended();
        }
        self.advance(poller, id)
    }

    /// Does what can be done now.
    pub fn advance(&mut self, poller: &Poller, id: u32) -> Option<Outcome> {
        let state = match self.socket.advance(&mut self.answer) {
            Ok(state) => state,
            Err(why) => return Some(self.failed(&why)),
        };
        match read(&self.answer, state.ended) {
            Answer::Incomplete => None,
            Answer::Ended => Some(self.failed("EOF")),
            Answer::Nonsense => Some(self.failed("malformed HTTP response")),
            Answer::Status(_) if self.any_status => Some(Outcome::Passed),
            Answer::Status(200..=399) => Some(Outcome::Passed),
            Answer::Status(status) => Some(Outcome::Failed(format!(
                "HTTP probe failed with statuscode: {status}"
            ))),
            Answer::Redirect(_) if self.any_status => Some(Outcome::Passed),
            Answer::Redirect(location) => self.follow(&location, poller, id),
        }
    }

    fn follow(&mut self, location: &str, poller: &Poller, id: u32) -> Option<Outcome> {
        // Elsewhere: the kubelet takes that for a success.
        let from = (self.socket.is_tls(), self.socket.address);
        let Some((tls, address, path)) = target(from, location) else {
            return Some(Outcome::Passed);
        };
        self.redirects += 1;
        if self.redirects > MAX_REDIRECTS {
            return Some(self.failed("stopped after 10 redirects"));
        }
        self.socket.close(poller);
        self.path = path;
        let open = if tls { Socket::open_tls } else { Socket::open };
        match open(address, poller, id) {
            Ok(socket) => self.socket = socket,
            Err(why) => return Some(self.failed(&why)),
        }
        self.answer.clear();
        self.ask();
        self.advance(poller, id)
    }

    /// What is said of one that takes too long.
    pub fn timed_out(&self) -> String {
        let why = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
        match self.failed(why) {
            Outcome::Failed(text) => text,
            _ => why.to_owned(),
        }
    }

    /// Lets go of it.
    pub fn close(&mut self, poller: &Poller) {
        self.socket.close(poller);
    }
}

fn url(tls: bool, address: SocketAddr, path: &str) -> String {
    let scheme = if tls { "https" } else { "http" };
    format!("{scheme}://{address}{path}")
}

fn request(address: SocketAddr, path: &str, headers: &[(String, String)]) -> String {
    let has = |name: &str| {
        headers
            .iter()
            .any(|(own, _)| own.eq_ignore_ascii_case(name))
    };
    let mut text = format!("GET {path} HTTP/1.1\r\n");
    if !has("Host") {
        let _ = write!(text, "Host: {address}\r\n");
    }
    for (name, value) in USUAL {
        if !has(name) {
            let _ = write!(text, "{name}: {value}\r\n");
        }
    }
    for (name, value) in headers {
        // An empty value takes a usual header away, as with the kubelet.
        let is_usual = USUAL
            .iter()
            .any(|(usual, _)| usual.eq_ignore_ascii_case(name));
        if !(value.is_empty() && is_usual) {
            let _ = write!(text, "{name}: {value}\r\n");
        }
    }
    text.push_str("Connection: close\r\n\r\n");
    text
}

/// What is known of an answer.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Incomplete,
    Ended,
    Nonsense,
    Status(u16),
    Redirect(String),
}

fn read(bytes: &[u8], ended: bool) -> Answer {
    let unfinished = if ended {
        Answer::Ended
    } else {
        Answer::Incomplete
    };
    let text = String::from_utf8_lossy(bytes);
    let Some((line, rest)) = text.split_once('\n') else {
        return unfinished;
    };
    let mut words = line.split_ascii_whitespace();
    let version = words.next().unwrap_or_default();
    let status = words.next().and_then(|word| word.parse().ok());
    let Some(status) = status.filter(|_| version.starts_with("HTTP/1.")) else {
        return Answer::Nonsense;
    };
    match status {
        // A word before the answer proper.
        100..=199 => match text.split_once("\r\n\r\n") {
            Some((_, rest)) => read(rest.as_bytes(), ended),
            None => unfinished,
        },
        301 | 302 | 303 | 307 | 308 => {
            let Some((headers, _)) = rest.split_once("\r\n\r\n") else {
                return if ended {
                    Answer::Status(status)
                } else {
                    Answer::Incomplete
                };
            };
            let location = headers.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("location").then(|| value.trim())
            });
            match location {
                Some(location) => Answer::Redirect(location.to_owned()),
                None => Answer::Status(status),
            }
        }
        _ => Answer::Status(status),
    }
}

/// Where a redirect leads, if that is the same host: whether over TLS, address
/// and path.
fn target((tls, from): (bool, SocketAddr), location: &str) -> Option<(bool, SocketAddr, String)> {
    let safe = |path: &str| path.bytes().all(|byte| byte.is_ascii_graphic());
    if location.starts_with('/') && !location.starts_with("//") && safe(location) {
        return Some((tls, from, location.to_owned()));
    }
    let plain = location.strip_prefix("http://").map(|rest| (false, rest));
    let (tls, rest) = plain.or_else(|| Some((true, location.strip_prefix("https://")?)))?;
    let (host, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let usual = if tls { 443 } else { 80 };
    let address = match host.parse::<SocketAddr>() {
        Ok(address) => address,
        Err(_) => SocketAddr::new(host.trim_matches(['[', ']']).parse().ok()?, usual),
    };
    (address.ip() == from.ip() && safe(path)).then(|| (tls, address, path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> SocketAddr {
        SocketAddr::from(([10, 88, 0, 2], 8080))
    }

    #[test]
    fn a_request_has_the_usual_headers_unless_there_are_others() {
        assert_eq!(
            request(address(), "/a?b=c", &[]),
            "GET /a?b=c HTTP/1.1\r\nHost: 10.88.0.2:8080\r\nUser-Agent: kube-probe/1.35\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        );
        let own = [("host", "web"), ("Accept", ""), ("X-A", "1")];
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(
            request(address(), "/", &own),
            "GET / HTTP/1.1\r\nUser-Agent: kube-probe/1.35\r\nhost: web\r\nX-A: 1\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn answers_are_read_as_far_as_they_are_there() {
        for (text, ended, answer) in [
            ("", false, Answer::Incomplete),
            ("HTTP/1.1 20", true, Answer::Ended),
            ("HTTP/1.1 503 No\r\n", false, Answer::Status(503)),
            ("HTTP/1.0 204\n", false, Answer::Status(204)),
            ("220 smtp\r\n", false, Answer::Nonsense),
            (
                "HTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\n",
                false,
                Answer::Status(200),
            ),
            ("HTTP/1.1 302 F\r\nlocation:", false, Answer::Incomplete),
            ("HTTP/1.1 302 F\r\nX: y\r\n\r\n", false, Answer::Status(302)),
            (
                "HTTP/1.1 302 F\r\nX: y\r\nlocation: /new\r\n\r\n",
                false,
                Answer::Redirect("/new".into()),
            ),
        ] {
            assert_eq!(read(text.as_bytes(), ended), answer, "{text:?}");
        }
    }

    #[test]
    fn redirects_stay_on_the_host() {
        let to = |location: &str| target((false, address()), location);
        let at = |tls, port, path: &str| {
            let address = SocketAddr::from(([10, 88, 0, 2], port));
            Some((tls, address, path.to_owned()))
        };
        assert_eq!(to("/x"), at(false, 8080, "/x"));
        assert_eq!(target((true, address()), "/x"), at(true, 8080, "/x"));
        assert_eq!(to("http://10.88.0.2/y"), at(false, 80, "/y"));
        assert_eq!(to("http://10.88.0.2:81"), at(false, 81, "/"));
        assert_eq!(to("https://10.88.0.2/y"), at(true, 443, "/y"));
        for elsewhere in [
            "//evil/x",
            "http://10.88.0.3/",
            "https://10.88.0.3/",
            "/a b",
            "",
        ] {
            assert_eq!(to(elsewhere), None, "{elsewhere:?}");
        }
    }
}
