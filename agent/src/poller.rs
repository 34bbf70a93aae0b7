//! What the loop waits for: one epoll set, and what each entry in it means.

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::time::Timespec;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Which end of a stream an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The process's pipe or terminal.
    Local,
    /// The connection to the supervisor.
    Wire,
}

/// What became ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// A child ended.
    Child,
    /// The control connection.
    Link,
    /// A cgroup's event file changed.
    Watch,
    /// The helper that starts this process has news.
    Spawning(u32),
    /// A stream.
    Stream(u32, Side),
    /// An attempt of a probe or hook.
    Check(u32),
}

impl From<Token> for u64 {
    fn from(token: Token) -> u64 {
        let (kind, value) = match token {
            Token::Child => (0, 0),
            Token::Link => (1, 0),
            Token::Watch => (2, 0),
            Token::Spawning(pid) => (3, pid),
            Token::Stream(id, Side::Local) => (4, id),
            Token::Stream(id, Side::Wire) => (5, id),
            Token::Check(id) => (6, id),
        };
        (kind << 32) | u64::from(value)
    }
}

impl Token {
    fn from_u64(raw: u64) -> Option<Self> {
        let value = raw as u32;
        Some(match raw >> 32 {
            0 => Self::Child,
            1 => Self::Link,
            2 => Self::Watch,
            3 => Self::Spawning(value),
            4 => Self::Stream(value, Side::Local),
            5 => Self::Stream(value, Side::Wire),
            6 => Self::Check(value),
            _ => return None,
        })
    }
}

/// What an entry is ready for.
#[derive(Debug, Clone, Copy)]
pub struct Readiness {
    /// Reading, or an end or error that reading will show.
    pub readable: bool,
    /// Writing, or an error that writing will show.
    pub writable: bool,
    /// An error: for the writing end of a pipe, that nobody reads any more.
    pub failed: bool,
}

/// The set.
pub struct Poller {
    epoll: OwnedFd,
}

/// Most events that one wait gives back.
const BATCH: usize = 64;

impl Poller {
    /// An empty set.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
        })
    }

    /// Waits for changes of `fd`, reported once each (edge-triggered).
    pub fn add(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(
            &self.epoll,
            fd,
            EventData::new_u64(token.into()),
            flags,
        )?)
    }

    /// Waits for `fd` to be readable for as long as it is (level-triggered).
    pub fn add_readable(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            fd,
            EventData::new_u64(token.into()),
            EventFlags::IN,
        )?)
    }

    /// Takes `fd` out. Must come before it is closed: a helper that was just
    /// forked may hold a copy, and an entry lives as long as the last one.
    pub fn remove(&self, fd: impl AsFd) {
        // Fails only when it is not in the set, which is what is wanted.
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// What is ready; waits for at most `timeout`, for ever without one.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<Vec<(Token, Readiness)>> {
        let timeout = timeout.and_then(|duration| Timespec::try_from(duration).ok());
        let mut events: Vec<Event> = Vec::with_capacity(BATCH);
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut events),
            timeout.as_ref(),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ended = EventFlags::ERR | EventFlags::HUP;
        Ok(events
            .iter()
            .filter_map(|event| {
                // The kernel's structure is packed: copy before use.
                let (data, flags) = (event.data, event.flags);
                let readable = EventFlags::IN | EventFlags::RDHUP | ended;
                Some((
                    Token::from_u64(data.u64())?,
                    Readiness {
                        readable: flags.intersects(readable),
                        writable: flags.intersects(EventFlags::OUT | ended),
                        failed: flags.intersects(EventFlags::ERR),
                    },
                ))
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_survives_the_kernel() {
        for token in [
            Token::Child,
            Token::Link,
            Token::Watch,
            Token::Spawning(7),
            Token::Stream(u32::MAX, Side::Local),
            Token::Stream(1, Side::Wire),
            Token::Check(3),
        ] {
            assert_eq!(Token::from_u64(token.into()), Some(token));
        }
        assert_eq!(Token::from_u64(u64::MAX), None);
    }
}
