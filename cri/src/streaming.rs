//! The streaming server: Exec, Attach and PortForward answer with an address on the
//! loopback, good for one connection within a minute, and whoever knows it gets the
//! streams over WebSocket or SPDY/3.1.
//!
//! ```text
//! Exec ─► http://127.0.0.1:PORT/TOKEN ─► Upgrade ─► channels ◄─► the process
//! ```

mod channels;
mod forward;
mod head;
mod session;
mod spdy;

use crate::error::CallError;
use beluga_proto::PodUid;
use beluga_runtime::pod::random_bytes;
use beluga_runtime::settings::Settings;
use channels::{Channels, Form};
use head::Upgrade;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};

/// How long a connection may take to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long it may take to say what it wants.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);

/// Most addresses that wait for their connections.
const MAX_WAITING: usize = 1000;

/// What a connection is for.
#[derive(Debug, Clone)]
pub enum Session {
    /// A process beside a container's own.
    Exec {
        /// The pod.
        uid: PodUid,
        /// The container's name in it.
        name: String,
        /// Program and arguments.
        args: Vec<String>,
        /// A terminal.
        tty: bool,
        /// Standard input is a stream.
        stdin: bool,
        /// How many streams of output the client wants.
        outputs: usize,
    },
    /// A container's own process.
    Attach {
        /// The pod.
        uid: PodUid,
        /// The container's name in it.
        name: String,
        /// It has a terminal.
        tty: bool,
        /// Standard input is a stream.
        stdin: bool,
        /// It ends with this client's.
        stdin_once: bool,
        /// How many streams of output the client wants.
        outputs: usize,
    },
    /// Ports of a pod.
    Forward {
        /// The pod.
        uid: PodUid,
        /// Which.
        ports: Vec<u16>,
    },
}

/// The server.
#[derive(Debug, Clone)]
pub struct Streaming {
    address: SocketAddr,
    waiting: Arc<Mutex<HashMap<String, (Instant, Session)>>>,
}

impl Streaming {
    /// Begins to serve on a free port of the loopback.
    pub async fn begin(settings: Settings) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let server = Self {
            address: listener.local_addr()?,
            waiting: Arc::default(),
        };
        let own = server.clone();
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                };
                let (server, settings) = (own.clone(), settings.clone());
                // How a connection ends is its client's matter.
                tokio::spawn(async move { drop(server.serve(&settings, stream).await) });
            }
        });
        Ok(server)
    }

    /// The address of a session.
    pub fn url(&self, session: Session) -> Result<String, CallError> {
        let random: [u8; 16] = random_bytes();
        let token = format!("{:032x}", u128::from_le_bytes(random));
        let url = format!("http://{}/{token}", self.address);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, (since, _)| since.elapsed() < PATIENCE);
        if waiting.len() >= MAX_WAITING {
            return Err(CallError::State {
                message: "too many streams wait for their clients".to_owned(),
            });
        }
        waiting.insert(token, (Instant::now(), session));
        Ok(url)
    }

    /// The session of an address; it is good once.
    fn take(&self, path: &str) -> Option<Session> {
        let token = path.trim_start_matches('/').split(['?', '/']).next()?;
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, session) = waiting.remove(token)?;
        (since.elapsed() < PATIENCE).then_some(session)
    }

    async fn serve(&self, settings: &Settings, mut stream: TcpStream) -> Result<(), CallError> {
        let _ = stream.set_nodelay(true);
        let head = tokio::time::timeout(HEAD_PATIENCE, head::read(&mut stream)).await;
        let Ok(Ok(Some(head))) = head else {
            return Ok(());
        };
        let Some(session) = self.take(&head.path) else {
            return head::refuse(&mut stream, "404 Not Found", "no such stream").await;
        };
        let Some(protocol) = head.choose(session.protocols(head.is_spdy())) else {
            let why = "only WebSocket and SPDY/3.1 with a protocol of channels are served";
            return head::refuse(&mut stream, "400 Bad Request", why).await;
        };
        head::accept(&mut stream, &protocol).await?;
        let (is_spdy, rest) = (protocol.on == Upgrade::Spdy, head.rest);
        let name = protocol.name;
        let form = match name.contains("base64") {
            true => Form::Base64,
            false => Form::Binary,
        };
        match (session, is_spdy) {
            (Session::Forward { uid, .. }, true) => {
                forward::spdy(settings, &uid, stream, rest).await
            }
            (Session::Forward { uid, ports }, false) => {
                let channels = Channels::of_socket(stream, rest, form).await;
                forward::run(settings, &uid, &ports, channels).await
            }
            (session, true) => match Channels::of_spdy(stream, rest, session.streams()).await {
                Some(channels) => session::run(settings, session, channels, name).await,
                None => Ok(()),
            },
            (session, false) => {
                let channels = Channels::of_socket(stream, rest, form).await;
                session::run(settings, session, channels, name).await
            }
        }
    }
}

impl Session {
    /// What is spoken, the best first.
    fn protocols(&self, is_spdy: bool) -> &'static [&'static str] {
        match (self, is_spdy) {
            (Self::Forward { .. }, true) => &forward::SPDY_PROTOCOLS,
            (Self::Forward { .. }, false) => &forward::SOCKET_PROTOCOLS,
            (_, true) => &session::SPDY_PROTOCOLS,
            (_, false) => &session::SOCKET_PROTOCOLS,
        }
    }

    /// Streams that a client of SPDY opens: for errors, for input, outputs and, with
    /// a terminal, its sizes.
    fn streams(&self) -> usize {
        match self {
            Self::Exec {
                tty,
                stdin,
                outputs,
                ..
            }
            | Self::Attach {
                tty,
                stdin,
                outputs,
                ..
            } => 1 + usize::from(*stdin) + outputs + usize::from(*tty),
            Self::Forward { .. } => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_good_once() {
        let server = Streaming {
            address: (Ipv4Addr::LOCALHOST, 1).into(),
            waiting: Arc::default(),
        };
        let uid = PodUid::from_random([1; 16]);
        let ports = vec![80];
        let url = server.url(Session::Forward { uid, ports }).unwrap();
        let path = url.strip_prefix("http://127.0.0.1:1").unwrap();
        assert!(server.take("/0123").is_none());
        assert!(server.take(path).is_some());
        assert!(server.take(path).is_none());
    }
}
