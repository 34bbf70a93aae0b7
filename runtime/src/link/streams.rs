//! Streams that the agent dials: each starts with the nonce under which
//! somebody waits for it.

use beluga_proto::Nonce;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// How long a connection may take to say its nonce.
const PROOF_TIMEOUT: Duration = Duration::from_secs(10);

/// Most connections that have not proved themselves yet: as many as a VMM has
/// streams. The agent has sent its nonce on a connection before it could learn
/// that there was no room for it, so room there must be.
const MAX_UNPROVED: usize = 1024;

/// Descriptors that a supervisor may need: a stream each, as many in the hands
/// of its clients' tasks, and what it has besides.
const DESCRIPTORS: u64 = 2 * MAX_UNPROVED as u64 + 256;

/// A nonce, and who waits for the stream that begins with it.
type Expected = (Nonce, oneshot::Sender<UnixStream>);

/// Those who wait for a stream.
#[derive(Debug, Clone)]
pub struct Streams {
    expected: Arc<Mutex<Vec<Expected>>>,
    unproved: Arc<Semaphore>,
}

impl Default for Streams {
    fn default() -> Self {
        raise_descriptor_limit();
        Self {
            expected: Arc::default(),
            unproved: Arc::new(Semaphore::new(MAX_UNPROVED)),
        }
    }
}

impl Streams {
    /// A fresh nonce to put into a request, and the stream that will come under it.
    #[must_use]
    pub fn expect(&self) -> (Nonce, oneshot::Receiver<UnixStream>) {
        let nonce = Nonce::from_random(crate::pod::random_bytes());
        let (sender, receiver) = oneshot::channel();
        let mut expected = self.lock();
        // Whoever gave up waiting makes room.
        expected.retain(|(_, waiting)| !waiting.is_closed());
        expected.push((nonce.clone(), sender));
        (nonce, receiver)
    }

    /// Leave to hold one more unproved connection; `None` when there are too many.
    #[must_use]
    pub fn permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.unproved).try_acquire_owned().ok()
    }

    /// Reads the nonce of a new stream and gives the stream to who waits for it.
    pub fn offer(&self, mut stream: UnixStream, permit: OwnedSemaphorePermit) {
        let streams = self.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let mut nonce = [0u8; Nonce::LEN];
            let read = tokio::time::timeout(PROOF_TIMEOUT, stream.read_exact(&mut nonce)).await;
            if !matches!(read, Ok(Ok(_))) {
                return;
            }
            let waiting = {
                let mut expected = streams.lock();
                let at = expected.iter().position(|(own, _)| own.matches(&nonce));
                at.map(|at| expected.swap_remove(at).1)
            };
            if let Some(waiting) = waiting {
                let _ = waiting.send(stream);
            }
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Expected>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets this process have as many descriptors as its streams may need, or as
/// many as it may have. With fewer it only serves fewer streams at once.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit
        .maximum
        .map_or(DESCRIPTORS, |most| most.min(DESCRIPTORS));
    if limit.current.is_some_and(|current| current < wanted) {
        let current = Some(wanted);
        let _ = setrlimit(Resource::Nofile, Rlimit { current, ..limit });
    }
}

/// A stream end that the VMM handed over, for this runtime.
/// Errors when it is no socket.
pub fn adopt(fd: OwnedFd) -> std::io::Result<UnixStream> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    UnixStream::from_std(StdUnixStream::from(fd))
}
