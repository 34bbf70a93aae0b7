//! Who there is: streams by the token of their socket and by their ports, and
//! how much buffer each may have.

use super::stream::Stream;
use crate::sys::vsock as sys;
use crate::virtio::{DeviceError, EventRegistry, Interest, Token};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Most streams at a time, those included that only have a rest to deliver.
pub const MAX_STREAMS: usize = 1024;

/// Descriptors that the rest of the VMM needs: a guest that opens all the
/// streams it can must not keep a disk from growing.
const OTHER_DESCRIPTORS: usize = 256;

/// So many streams get a buffer of [`LARGE_ALLOC`], the others of
/// [`SMALL_ALLOC`]: 31 MiB at the worst, when nobody reads anything.
const LARGE_BUFFERS: usize = 64;

/// Bytes of credit that one of the first streams gives the guest.
pub const LARGE_ALLOC: u32 = 256 << 10;

const SMALL_ALLOC: u32 = 16 << 10;

/// First port of the host for streams that it opens.
const FIRST_HOST_PORT: u32 = 1 << 30;

/// First token of a stream's socket; the smaller ones are the device's own.
pub const FIRST_TOKEN: u32 = 16;

/// Host port and guest port: by these the guest knows a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ports {
    /// On the host.
    pub host: u32,
    /// In the guest.
    pub guest: u32,
}

/// One stream and its place.
#[derive(Debug)]
pub struct Entry {
    /// `None`: the guest has ended it; only the backlog has to be delivered.
    pub ports: Option<Ports>,
    large: bool,
    /// The stream.
    pub stream: Stream,
}

/// All streams.
#[derive(Debug)]
pub struct Table {
    entries: BTreeMap<u32, Entry>,
    tokens: BTreeMap<Ports, u32>,
    next_token: u32,
    next_port: u32,
    large: usize,
    most: usize,
}

impl Table {
    /// No streams; [`MAX_STREAMS`] of them, or as many as this process may have
    /// descriptors for, may come.
    #[must_use]
    pub fn empty() -> Self {
        // Both ends are ours until the supervisor has taken its own.
        let wanted = 2 * MAX_STREAMS + OTHER_DESCRIPTORS;
        let limit = sys::raise_descriptor_limit(wanted as u64)
            .map_or(0, |limit| usize::try_from(limit).unwrap_or(wanted));
        Self {
            most: (limit.saturating_sub(OTHER_DESCRIPTORS) / 2).min(MAX_STREAMS),
            entries: BTreeMap::new(),
            tokens: BTreeMap::new(),
            next_token: FIRST_TOKEN,
            next_port: FIRST_HOST_PORT,
            large: 0,
        }
    }

    /// Streams there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of the guest that wait for room in sockets.
    #[must_use]
    pub fn backlog_len(&self) -> usize {
        self.entries
            .values()
            .map(|entry| entry.stream.backlog_len())
            .sum()
    }

    /// The stream with that token.
    pub fn get_mut(&mut self, token: u32) -> Option<&mut Entry> {
        self.entries.get_mut(&token)
    }

    /// The token of the stream between those ports.
    #[must_use]
    pub fn find(&self, ports: Ports) -> Option<u32> {
        self.tokens.get(&ports).copied()
    }

    /// All tokens.
    #[must_use]
    pub fn all(&self) -> Vec<u32> {
        self.entries.keys().copied().collect()
    }

    /// Ports for a stream that the host opens to `guest`.
    pub fn free_ports(&mut self, guest: u32) -> Ports {
        let mut ports = Ports {
            host: self.next_port,
            guest,
        };
        while self.tokens.contains_key(&ports) {
            ports.host = following(ports.host, FIRST_HOST_PORT);
        }
        self.next_port = following(ports.host, FIRST_HOST_PORT);
        ports
    }

    /// Makes a stream with a new socket, which is watched. Returns its token
    /// and the socket's other end.
    pub fn insert(
        &mut self,
        ports: Ports,
        make: fn(UnixStream, u32) -> Stream,
        events: &EventRegistry,
    ) -> Result<(u32, OwnedFd), DeviceError> {
        if self.entries.len() >= self.most {
            return Err(DeviceError::Limit {
                limit: format!("{} vsock streams", self.most),
            });
        }
        let host = |action| move |source| DeviceError::Host { action, source };
        let (ours, theirs) = UnixStream::pair().map_err(host("make a socket pair"))?;
        // The VMM's own calls say MSG_DONTWAIT; the far end is handed over.
        theirs
            .set_nonblocking(true)
            .map_err(host("make a socket non-blocking"))?;
        let large = self.large < LARGE_BUFFERS;
        let alloc = if large { LARGE_ALLOC } else { SMALL_ALLOC };
        sys::set_send_buffer(ours.as_fd(), alloc).map_err(host("size a socket's buffer"))?;
        while self.entries.contains_key(&self.next_token) {
            self.next_token = following(self.next_token, FIRST_TOKEN);
        }
        let token = self.next_token;
        self.next_token = following(token, FIRST_TOKEN);
        let stream = make(ours, alloc);
        events
            .add(stream.fd(), Token(token), interest(false))
            .map_err(host("watch a socket"))?;
        self.large += usize::from(large);
        self.tokens.insert(ports, token);
        self.entries.insert(
            token,
            Entry {
                ports: Some(ports),
                large,
                stream,
            },
        );
        Ok((token, theirs.into()))
    }

    /// Watches a stream's socket for room exactly when it has a backlog.
    pub fn watch(&mut self, token: u32, events: &EventRegistry) {
        let Some(entry) = self.entries.get_mut(&token) else {
            return;
        };
        let backlog = entry.stream.backlog_len() > 0;
        if backlog != entry.stream.watched_for_room {
            // An event for every piece that the far end reads would be waste
            // while there is nothing to write.
            entry.stream.watched_for_room = backlog;
            let _ = events.modify(entry.stream.fd(), Token(token), interest(backlog));
        }
    }

    /// Lets a stream's ports be used again; the stream stays.
    pub fn release_ports(&mut self, token: u32) {
        if let Some(entry) = self.entries.get_mut(&token)
            && let Some(ports) = entry.ports.take()
        {
            self.tokens.remove(&ports);
        }
    }

    /// Forgets a stream and closes its socket.
    pub fn remove(&mut self, token: u32, events: &EventRegistry) {
        self.release_ports(token);
        if let Some(entry) = self.entries.remove(&token) {
            events.remove(entry.stream.fd());
            self.large -= usize::from(entry.large);
        }
    }
}

fn following(number: u32, first: u32) -> u32 {
    number.checked_add(1).unwrap_or(first)
}

/// Edge-triggered: a stream without credit is not polled, costs no system
/// call to stop, and none to start again.
fn interest(room: bool) -> Interest {
    let base = Interest::IN | Interest::READ_HANG_UP | Interest::EDGE_TRIGGERED;
    if room { base | Interest::OUT } else { base }
}
