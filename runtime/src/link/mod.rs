//! The only client of the agent: one control connection, and the streams that
//! the agent dials back, told apart by their nonces.
//!
//! Every connection from the guest is hostile until it has proved itself: few
//! may be unproved at a time, each for a short time, and nothing of them is
//! read beyond what the proof needs.

mod streams;

pub use streams::{Streams, adopt};

use beluga_proto::{
    AgentFrame, Event, Fault, FaultCode, FrameDecoder, Hello, HostFrame, Reply, Request, encode,
};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};

/// How long a connection may take to prove itself.
const PROOF_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the agent may take for what it does at once; emulated, with many
/// before it, that is long.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);

/// Most bytes that wait to be sent before the agent counts as stuck.
const MAX_QUEUED: usize = 16 << 20;

/// Bytes read from the agent at a time.
const READ_SIZE: usize = 8 << 10;

/// Events that wait for the pod's owner before no more are read: what a guest
/// sends beyond waits in the guest.
pub const MAX_EVENTS: usize = 64;

/// Most events of a guest in a second, each of which is put on record: far more
/// than an agent in order ever has to tell.
const MAX_RATE: u32 = 500;

/// What the link tells the pod.
#[derive(Debug)]
pub enum LinkEvent {
    /// A control connection said who it is; the pod decides what to answer.
    Hello {
        /// What it said.
        hello: Hello,
        /// The connection.
        pending: Pending,
    },
    /// An event of the agent.
    Event {
        /// Its sequence number.
        seq: u64,
        /// What happened.
        event: Event,
        /// Which control connection it came over.
        connection: u64,
    },
    /// The control connection is gone.
    Lost {
        /// Which one.
        connection: u64,
        /// Why.
        why: String,
    },
}

/// A control connection that has said hello.
#[derive(Debug)]
pub struct Pending {
    stream: UnixStream,
    decoder: FrameDecoder,
}

/// The connection to the agent, through all its reconnections. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Link {
    shared: Arc<Mutex<Shared>>,
    is_connected: watch::Sender<bool>,
    events: mpsc::Sender<LinkEvent>,
}

#[derive(Debug, Default)]
struct Shared {
    /// To the writer of the present connection.
    writer: Option<mpsc::UnboundedSender<Vec<u8>>>,
    queued: Arc<std::sync::atomic::AtomicUsize>,
    waiting: HashMap<u64, oneshot::Sender<Result<Reply, Fault>>>,
    last_request: u64,
    connection: u64,
}

impl Link {
    /// A link without a connection; what happens on it goes to `events`.
    #[must_use]
    pub fn new(events: mpsc::Sender<LinkEvent>) -> Self {
        Self {
            shared: Arc::default(),
            is_connected: watch::Sender::new(false),
            events,
        }
    }

    /// Waits until there is a connection, for so long at most. Between two
    /// supervisors there is none: the agent dials the new one by and by.
    pub async fn connected(&self, patience: Duration) {
        let mut is_connected = self.is_connected.subscribe();
        let connected = is_connected.wait_for(|is_connected| *is_connected);
        let _ = tokio::time::timeout(patience, connected).await;
    }

    /// Reads the hello of a new control connection, and passes it on.
    pub fn offer(&self, stream: UnixStream, permit: tokio::sync::OwnedSemaphorePermit) {
        let events = self.events.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let greeting = tokio::time::timeout(PROOF_TIMEOUT, read_hello(stream)).await;
            // One that says nothing, or nonsense, is dropped without a word.
            if let Ok(Some((hello, pending))) = greeting {
                let _ = events.send(LinkEvent::Hello { hello, pending }).await;
            }
        });
    }

    /// Takes a connection into service with this first frame. An older one is
    /// given up; its unanswered requests fail.
    pub fn accept(&self, pending: Pending, welcome: &HostFrame) {
        let (writer, outbox) = mpsc::unbounded_channel();
        let (connection, queued) = {
            let mut shared = self.lock();
            shared.connection += 1;
            shared.queued = Arc::default();
            shared.writer = Some(writer);
            fail_all(&mut shared);
            (shared.connection, Arc::clone(&shared.queued))
        };
        let _ = self.send(welcome);
        self.is_connected.send_replace(true);
        let (read, write) = pending.stream.into_split();
        let link = self.clone();
        tokio::spawn(async move {
            let why = tokio::select! {
                why = link.read(read, pending.decoder, connection) => why,
                why = write_all(write, outbox, queued) => why,
            };
            link.lost(connection, why).await;
        });
    }

    /// Refuses a connection.
    pub fn refuse(pending: Pending, fault: Fault) {
        tokio::spawn(async move {
            if let Ok(bytes) = encode(&HostFrame::Refused(fault)) {
                let mut stream = pending.stream;
                let _ = tokio::time::timeout(PROOF_TIMEOUT, stream.write_all(&bytes)).await;
            }
        });
    }

    /// Whether there is an agent to send requests to.
    pub fn is_connected(&self) -> bool {
        self.lock().writer.is_some()
    }

    /// Sends a request now; what is awaited is the reply. Requests may be sent
    /// without waiting for the replies to earlier ones.
    pub fn request(
        &self,
        request: Request,
    ) -> impl Future<Output = Result<Reply, Fault>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        let id = {
            let mut shared = self.lock();
            shared.last_request += 1;
            let id = shared.last_request;
            shared.waiting.insert(id, reply);
            id
        };
        if let Err(fault) = self.send(&HostFrame::Request { id, request })
            && let Some(reply) = self.lock().waiting.remove(&id)
        {
            let _ = reply.send(Err(fault));
        }
        async move { answer.await.unwrap_or_else(|_| Err(gone())) }
    }

    /// The same for what an agent in order answers at once.
    pub fn ask(
        &self,
        request: Request,
    ) -> impl Future<Output = Result<Reply, Fault>> + Send + use<> {
        self.ask_within(ANSWER_PATIENCE, request)
    }

    /// The same where others wait meanwhile, and less is lost without an answer.
    pub fn ask_within(
        &self,
        patience: Duration,
        request: Request,
    ) -> impl Future<Output = Result<Reply, Fault>> + Send + use<> {
        let answer = tokio::time::timeout(patience, self.request(request));
        async move {
            answer.await.unwrap_or_else(|_| {
                let seconds = patience.as_secs();
                let message = format!("the pod's agent has not answered within {seconds} s");
                Err(Fault::new(FaultCode::DeadlineExceeded, message))
            })
        }
    }

    /// Tells the agent that events up to `seq` are safe.
    pub fn acknowledge(&self, seq: u64) {
        // Without a connection there is nobody to tell: events come again.
        let _ = self.send(&HostFrame::AckEvents { seq });
    }

    fn send(&self, frame: &HostFrame) -> Result<(), Fault> {
        use std::sync::atomic::Ordering;
        // That is the request's own fault: asked again, it would be no shorter.
        let too_long = |error| {
            let message = format!("the request cannot be sent to the pod's agent: {error}");
            Fault::new(FaultCode::ResourceExhausted, message)
        };
        let bytes = encode(frame).map_err(too_long)?;
        let shared = self.lock();
        let writer = shared.writer.as_ref().ok_or_else(gone)?;
        let queued = shared.queued.fetch_add(bytes.len(), Ordering::Relaxed);
        if queued > MAX_QUEUED {
            return Err(gone());
        }
        writer.send(bytes).map_err(|_| gone())
    }

    async fn read(
        &self,
        mut stream: OwnedReadHalf,
        mut decoder: FrameDecoder,
        connection: u64,
    ) -> String {
        let mut buffer = vec![0u8; READ_SIZE];
        let mut pace = Pace::new();
        loop {
            loop {
                match decoder.next_frame::<AgentFrame>() {
                    Ok(Some(frame)) => {
                        pace.keep(&frame).await;
                        if let Err(why) = self.take(frame, connection).await {
                            return why;
                        }
                    }
                    Ok(None) => break,
                    Err(error) => return format!("the agent broke the protocol: {error}"),
                }
            }
            match stream.read(&mut buffer).await {
                Ok(0) => return "the agent closed the connection".to_owned(),
                Ok(length) => decoder.feed(&buffer[..length]),
                Err(error) => return format!("cannot read from the agent: {error}"),
            }
        }
    }

    async fn take(&self, frame: AgentFrame, connection: u64) -> Result<(), String> {
        match frame {
            AgentFrame::Hello(_) => Err("the agent said hello twice".to_owned()),
            AgentFrame::Reply { id, result } => {
                let waiting = self.lock().waiting.remove(&id);
                // A reply to nothing is the guest's nonsense, not our end.
                if let Some(waiting) = waiting {
                    let result =
                        result.map_err(|fault| Fault::new(fault.code, one_line(&fault.message)));
                    let _ = waiting.send(result);
                }
                Ok(())
            }
            AgentFrame::Event { seq, event } => {
                let event = LinkEvent::Event {
                    seq,
                    event,
                    connection,
                };
                let told = self.events.send(event).await;
                told.map_err(|_| "the pod has ended".to_owned())
            }
        }
    }

    async fn lost(&self, connection: u64, why: String) {
        {
            let mut shared = self.lock();
            if shared.connection != connection {
                return;
            }
            shared.writer = None;
            self.is_connected.send_replace(false);
            fail_all(&mut shared);
        }
        let _ = self.events.send(LinkEvent::Lost { connection, why }).await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many events have come in the present second.
struct Pace {
    second: tokio::time::Instant,
    events: u32,
}

impl Pace {
    fn new() -> Self {
        Self {
            second: tokio::time::Instant::now(),
            events: 0,
        }
    }

    /// Waits for the next second before an event that is too much for this one.
    async fn keep(&mut self, frame: &AgentFrame) {
        if !matches!(frame, AgentFrame::Event { .. }) {
            return;
        }
        let end = self.second + Duration::from_secs(1);
        self.events += 1;
        if self.events > MAX_RATE {
            tokio::time::sleep_until(end).await;
        }
        if tokio::time::Instant::now() >= end {
            *self = Self::new();
        }
    }
}

/// A text of the guest, fit for a record and a terminal: of so many bytes at most.
#[must_use]
pub fn bounded(mut text: String, most: usize) -> String {
    text.truncate(text.floor_char_boundary(most));
    one_line(&text)
}

/// One line of it: control characters of a hostile guest must not reach a terminal.
#[must_use]
pub fn one_line(text: &str) -> String {
    crate::printable(&text.replace(['\n', '\r', '\t'], " "))
}

fn gone() -> Fault {
    Fault::new(
        FaultCode::Unavailable,
        "the connection to the pod's agent is gone",
    )
}

fn fail_all(shared: &mut Shared) {
    for (_, waiting) in shared.waiting.drain() {
        let _ = waiting.send(Err(gone()));
    }
}

async fn read_hello(mut stream: UnixStream) -> Option<(Hello, Pending)> {
    let mut decoder = FrameDecoder::new();
    let mut buffer = vec![0u8; READ_SIZE];
    loop {
        if let Some(frame) = decoder.next_frame::<AgentFrame>().ok()? {
            return match frame {
                AgentFrame::Hello(hello) => Some((hello, Pending { stream, decoder })),
                _ => None,
            };
        }
        match stream.read(&mut buffer).await {
            Ok(length) if length > 0 => decoder.feed(&buffer[..length]),
            _ => return None,
        }
    }
}

async fn write_all(
    mut stream: OwnedWriteHalf,
    mut outbox: mpsc::UnboundedReceiver<Vec<u8>>,
    queued: Arc<std::sync::atomic::AtomicUsize>,
) -> String {
    while let Some(bytes) = outbox.recv().await {
        if let Err(error) = stream.write_all(&bytes).await {
            return format!("cannot write to the agent: {error}");
        }
        queued.fetch_sub(bytes.len(), std::sync::atomic::Ordering::Relaxed);
    }
    "replaced by a newer connection".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use beluga_proto::MAX_FRAME;

    #[tokio::test]
    async fn a_request_that_fits_no_frame_is_told_as_such() {
        let (events, _heard) = mpsc::channel(MAX_EVENTS);
        let link = Link::new(events);
        let fault = link.request(Request::WriteFiles {
            volume: "v".repeat(MAX_FRAME),
            files: Vec::new(),
            first: true,
            last: true,
        });
        assert_eq!(
            fault.await.err().map(|fault| fault.code),
            Some(FaultCode::ResourceExhausted)
        );
        let fault = link.request(Request::List).await;
        assert_eq!(
            fault.err().map(|fault| fault.code),
            Some(FaultCode::Unavailable)
        );
    }

    /// A connection over which an agent sends events without end.
    #[tokio::test]
    async fn a_flood_of_events_waits_in_the_guest() {
        let (events, mut heard) = mpsc::channel(MAX_EVENTS);
        let link = Link::new(events);
        let (mut agent, stream) = UnixStream::pair().expect("sockets");
        let decoder = FrameDecoder::new();
        let (read, _write) = stream.into_split();
        tokio::spawn(async move { link.read(read, decoder, 0).await });
        tokio::spawn(async move {
            for seq in 1.. {
                let message = "w".repeat(100);
                let frame = AgentFrame::Event {
                    seq,
                    event: Event::Warning { message },
                };
                let bytes = encode(&frame).expect("it fits");
                if agent.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        });
        let begun = tokio::time::Instant::now();
        for number in 1..=3 * u64::from(MAX_RATE) {
            let Some(LinkEvent::Event { seq, .. }) = heard.recv().await else {
                panic!("no event");
            };
            assert_eq!(seq, number, "none is lost");
            assert!(heard.len() <= MAX_EVENTS);
        }
        assert!(begun.elapsed() >= Duration::from_secs(2));
    }
}
