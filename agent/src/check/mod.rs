//! One attempt to find something out about a container, or to do something in
//! it: of a probe, or of a hook. Nothing here waits: an attempt is driven by
//! what epoll and the reaper say, and given up by its owner when its time is
//! over.

mod exec;
mod grpc;
mod http;
mod socket;

pub use exec::Command;
pub use socket::{Socket, told};

use crate::poller::Poller;
use grpc::Grpc;
use http::Http;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It went well.
    Passed,
    /// It went badly: what there is to say.
    Failed(String),
    /// It could not be made: why. It says nothing about the container.
    Errored(String),
}

/// An attempt under way.
pub struct Check {
    work: Work,
    /// When it has failed.
    deadline: Option<Instant>,
}

enum Work {
    Exec(Command),
    Http(Http),
    Tcp(Socket),
    Grpc(Grpc),
    Sleep(Instant),
}

/// What an HTTP request asks for.
#[derive(Debug, Clone)]
pub struct Page<'a> {
    /// Where.
    pub address: SocketAddr,
    /// With its query.
    pub path: &'a str,
    /// Over TLS, which the supervisor speaks.
    pub tls: bool,
    /// Names and values.
    pub headers: &'a [(String, String)],
    /// Whatever the server answers is good.
    pub any_status: bool,
}

impl Check {
    /// A command that was started; its time runs once its program does.
    pub fn exec(command: Command, timeout: Option<Duration>) -> Self {
        /// Longest that the way to the program may take beyond the time limit.
        const START: Duration = Duration::from_secs(10);
        Self {
            work: Work::Exec(command),
            deadline: timeout.map(|timeout| Instant::now() + timeout + START),
        }
    }

    /// An HTTP GET.
    pub fn http(page: &Page<'_>, poller: &Poller, id: u32) -> Result<Self, Outcome> {
        Ok(Self::new(Work::Http(Http::start(page, poller, id)?)))
    }

    /// A TCP connection.
    pub fn tcp(address: SocketAddr, poller: &Poller, id: u32) -> Result<Self, Outcome> {
        let socket = Socket::open(address, poller, id).map_err(Outcome::Failed)?;
        Ok(Self::new(Work::Tcp(socket)))
    }

    /// A call of the health protocol.
    pub fn grpc(
        address: SocketAddr,
        service: &str,
        poller: &Poller,
        id: u32,
    ) -> Result<Self, Outcome> {
        Ok(Self::new(Work::Grpc(Grpc::start(
            address, service, poller, id,
        )?)))
    }

    /// Nothing, for a while.
    pub fn sleep(time: Duration) -> Self {
        Self::new(Work::Sleep(Instant::now() + time))
    }

    fn new(work: Work) -> Self {
        Self {
            work,
            deadline: None,
        }
    }

    /// Sets a time limit from now, for all but commands.
    pub fn within(mut self, timeout: Option<Duration>) -> Self {
        self.deadline = timeout.map(|timeout| Instant::now() + timeout);
        self
    }

    /// When [`Check::look_at_clock`] must be called.
    pub fn deadline(&self) -> Option<Instant> {
        let end = match &self.work {
            Work::Sleep(until) => Some(*until),
            _ => None,
        };
        [self.deadline, end].into_iter().flatten().min()
    }

    /// Does what can be done now.
    pub fn advance(
        &mut self,
        poller: &Poller,
        id: u32,
        timeout: Option<Duration>,
    ) -> Option<Outcome> {
        match &mut self.work {
            Work::Exec(command) => {
                if command.advance(poller) {
                    self.deadline = timeout.map(|timeout| Instant::now() + timeout);
                }
                None
            }
            Work::Http(http) => http.advance(poller, id),
            Work::Tcp(socket) => match socket.advance(&mut Vec::new()) {
                Ok(state) => state.connected.then_some(Outcome::Passed),
                Err(why) => Some(Outcome::Failed(why)),
            },
            Work::Grpc(grpc) => grpc.advance(),
            Work::Sleep(_) => None,
        }
    }

    /// Its connection, where the supervisor is to speak TLS over it.
    pub fn tls(&mut self) -> Option<&mut Socket> {
        match &mut self.work {
            Work::Http(http) => http.tls(),
            _ => None,
        }
    }

    /// What has come over TLS, or why nothing can.
    pub fn tls_answer(
        &mut self,
        bytes: &[u8],
        failure: Option<String>,
        poller: &Poller,
        id: u32,
    ) -> Option<Outcome> {
        match &mut self.work {
            Work::Http(http) => http.tls_answer(bytes, failure, poller, id),
            _ => None,
        }
    }

    /// The end of its process, if it is its own.
    pub fn exited(&mut self, pid: u32, code: i32) -> Option<Outcome> {
        match &mut self.work {
            Work::Exec(command) if command.pid() == pid => Some(command.exited(code)),
            _ => None,
        }
    }

    /// Whether its time is over, and what that means.
    pub fn look_at_clock(&mut self, now: Instant, timeout: Option<Duration>) -> Option<Outcome> {
        if let Work::Sleep(until) = self.work
            && until <= now
        {
            return Some(Outcome::Passed);
        }
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return None;
        }
        if self.tls().is_some_and(|socket| socket.waits_for_tls()) {
            // The supervisor is being replaced, perhaps: the container did nothing wrong.
            return Some(Outcome::Errored("nobody spoke TLS in time".to_owned()));
        }
        Some(Outcome::Failed(match &mut self.work {
            Work::Exec(command) => command.timed_out(),
            Work::Http(http) => http.timed_out(),
            Work::Tcp(socket) => format!("dial tcp {}: i/o timeout", socket.address),
            Work::Grpc(grpc) => grpc.timed_out(timeout.unwrap_or_default()),
            Work::Sleep(_) => "did not end in time".to_owned(),
        }))
    }

    /// Lets go of one that is over: what is left of its processes is killed if
    /// it was given up, and left alone if it ended by itself.
    pub fn end(&mut self, poller: &Poller) {
        match &mut self.work {
            Work::Exec(command) if command.has_ended() => command.close(poller),
            _ => self.give_up(poller),
        }
    }

    /// Gives it up, with every process that it has made.
    pub fn give_up(&mut self, poller: &Poller) {
        match &mut self.work {
            Work::Exec(command) => command.kill(poller),
            Work::Http(http) => http.close(poller),
            Work::Tcp(socket) => socket.close(poller),
            Work::Grpc(grpc) => grpc.close(poller),
            Work::Sleep(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
