//! The channels of one connection: messages of a WebSocket whose first byte says
//! which, or streams of SPDY whose header does.

use super::spdy::{Decoder, Encoder, Frame};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use std::collections::HashMap;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// To the process.
pub const STDIN: u8 = 0;
/// From it, or from its terminal.
pub const STDOUT: u8 = 1;
/// From it.
pub const STDERR: u8 = 2;
/// How it ended.
pub const ERROR: u8 = 3;
/// The terminal's size.
pub const RESIZE: u8 = 4;
/// Which channel the client sends no more on.
pub const CLOSE: u8 = 255;

/// The channels by the types of SPDY's streams.
const TYPES: [(&str, u8); 5] = [
    ("stdin", STDIN),
    ("stdout", STDOUT),
    ("stderr", STDERR),
    ("error", ERROR),
    ("resize", RESIZE),
];

/// Largest message that is taken.
const MAX_MESSAGE: usize = 1 << 20;

/// Messages that wait to be sent, or to be taken.
const WAITING: usize = 16;

/// How long all streams of SPDY may take to be opened.
const OPEN_PATIENCE: Duration = Duration::from_secs(30);

/// Bytes read at a time.
const CHUNK: usize = 32 << 10;

/// The channels of one connection.
pub struct Channels {
    /// What the client sends.
    pub from: Receiver,
    /// To the client.
    pub to: Sender,
    sending: JoinHandle<()>,
}

/// How channel and bytes make a message of a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As they are.
    Binary,
    /// As text: the channel as a digit, the bytes in base64.
    Base64,
}

impl Form {
    fn message(self, channel: u8, bytes: &[u8]) -> Message {
        match self {
            Self::Binary => Message::binary([&[channel], bytes].concat()),
            Self::Base64 => {
                let digit = char::from(b'0'.wrapping_add(channel));
                Message::text(format!("{digit}{}", STANDARD.encode(bytes)))
            }
        }
    }

    /// Channel and bytes; none where it is no message of this form.
    fn read(self, message: &[u8]) -> Option<(u8, Vec<u8>)> {
        let (channel, bytes) = message.split_first()?;
        match self {
            Self::Binary => Some((*channel, bytes.to_vec())),
            Self::Base64 => Some((channel.wrapping_sub(b'0'), STANDARD.decode(bytes).ok()?)),
        }
    }
}

/// The receiving side.
pub enum Receiver {
    /// Messages, and how bytes are in them.
    Socket(SplitStream<WebSocketStream<TcpStream>>, Form),
    /// What has been read from streams.
    Spdy(mpsc::Receiver<(u8, Vec<u8>)>),
}

/// The sending side; of any number of tasks.
#[derive(Debug, Clone)]
pub struct Sender(mpsc::Sender<(u8, Vec<u8>)>);

impl Channels {
    /// The channels of a connection that has become a WebSocket; `rest` came with its
    /// head.
    pub async fn of_socket(stream: TcpStream, rest: Vec<u8>, form: Form) -> Self {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let (role, config) = (Role::Server, Some(config));
        let socket = WebSocketStream::from_partially_read(stream, rest, role, config).await;
        let (sink, from) = socket.split();
        let (to, messages) = mpsc::channel(WAITING);
        let to = Sender(to);
        // Tells a client that there is somebody, as the kubelet's server does.
        to.send(STDOUT, &[]).await;
        Self {
            from: Receiver::Socket(from, form),
            to,
            sending: tokio::spawn(send(sink, messages, form)),
        }
    }

    /// The channels of a connection that speaks SPDY, when the client has opened so
    /// many streams; none when it does not.
    pub async fn of_spdy(stream: TcpStream, rest: Vec<u8>, count: usize) -> Option<Self> {
        let (read, mut write) = stream.into_split();
        let mut reader = Reader {
            read,
            decoder: Decoder::new(rest),
            channels: HashMap::new(),
        };
        let opened = tokio::time::timeout(OPEN_PATIENCE, reader.open(&mut write, count));
        opened.await.ok()??;
        let streams = reader.channels.iter().map(|(id, channel)| (*channel, *id));
        let streams: HashMap<u8, u32> = streams.collect();
        let (taken, from) = mpsc::channel(WAITING);
        let (to, messages) = mpsc::channel(WAITING);
        tokio::spawn(reader.run(taken));
        Some(Self {
            from: Receiver::Spdy(from),
            to: Sender(to),
            sending: tokio::spawn(send_spdy(write, streams, messages)),
        })
    }

    /// Waits until everything is sent: when all senders are gone.
    pub async fn close(self) {
        let Self { from, to, sending } = self;
        drop(to);
        let _ = sending.await;
        drop(from);
    }
}

async fn send(
    mut sink: SplitSink<WebSocketStream<TcpStream>, Message>,
    mut messages: mpsc::Receiver<(u8, Vec<u8>)>,
    form: Form,
) {
    while let Some((channel, bytes)) = messages.recv().await {
        if sink.send(form.message(channel, &bytes)).await.is_err() {
            return;
        }
    }
    let _ = sink.close().await;
}

async fn send_spdy(
    mut write: OwnedWriteHalf,
    streams: HashMap<u8, u32>,
    mut messages: mpsc::Receiver<(u8, Vec<u8>)>,
) {
    while let Some((channel, bytes)) = messages.recv().await {
        let Some(id) = streams.get(&channel) else {
            continue;
        };
        if write
            .write_all(&Encoder::data(*id, &bytes, false))
            .await
            .is_err()
        {
            return;
        }
    }
    for id in streams.values() {
        let _ = write.write_all(&Encoder::data(*id, &[], true)).await;
    }
    let _ = write.shutdown().await;
}

impl Sender {
    /// Sends on a channel; whether the client is there.
    pub async fn send(&self, channel: u8, bytes: &[u8]) -> bool {
        self.0.send((channel, bytes.to_vec())).await.is_ok()
    }
}

impl Receiver {
    /// The next message: channel and bytes; `None` when the client has gone.
    pub async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let (socket, form) = match self {
            Self::Spdy(taken) => return taken.recv().await,
            Self::Socket(socket, form) => (socket, *form),
        };
        loop {
            let bytes = match socket.next().await?.ok()? {
                Message::Binary(bytes) => bytes.to_vec(),
                Message::Text(text) => text.as_bytes().to_vec(),
                Message::Close(_) => return None,
                _ => continue,
            };
            if !bytes.is_empty() {
                return form.read(&bytes);
            }
        }
    }
}

/// What a client of SPDY sends.
struct Reader {
    read: OwnedReadHalf,
    decoder: Decoder,
    /// By the numbers of their streams.
    channels: HashMap<u32, u8>,
}

impl Reader {
    async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next().ok()? {
                return Some(frame);
            }
            let mut bytes = vec![0u8; CHUNK];
            let length = self.read.read(&mut bytes).await.ok()?;
            if length == 0 {
                return None;
            }
            self.decoder.feed(&bytes[..length]);
        }
    }

    /// Takes as many streams as there are to be.
    async fn open(&mut self, write: &mut OwnedWriteHalf, count: usize) -> Option<()> {
        let mut encoder = Encoder::new().ok()?;
        while self.channels.len() < count {
            match self.frame().await? {
                Frame::Open { id, header } => {
                    let kind = header.get("streamtype")?;
                    let (_, channel) = TYPES.iter().find(|(name, _)| name == kind)?;
                    self.channels.insert(id, *channel);
                    write.write_all(&encoder.reply(id).ok()?).await.ok()?;
                }
                Frame::Ping { id } => write.write_all(&Encoder::ping(id)).await.ok()?,
                Frame::GoAway => return None,
                Frame::Data { .. } | Frame::Reset { .. } | Frame::Other => {}
            }
        }
        Some(())
    }

    /// Hands on what comes until the client goes. A ping that nobody answers only
    /// keeps the connection in use.
    async fn run(mut self, taken: mpsc::Sender<(u8, Vec<u8>)>) {
        while let Some(frame) = self.frame().await {
            let (id, bytes, is_last) = match frame {
                Frame::Data { id, bytes, is_last } => (id, bytes, is_last),
                Frame::Reset { id } => (id, Vec::new(), true),
                Frame::GoAway => return,
                Frame::Open { .. } | Frame::Ping { .. } | Frame::Other => continue,
            };
            let Some(channel) = self.channels.get(&id).copied() else {
                continue;
            };
            let is_there = bytes.is_empty() || taken.send((channel, bytes)).await.is_ok();
            let ended = is_last && taken.send((CLOSE, vec![channel])).await.is_err();
            if !is_there || ended {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_in_messages_as_they_are_or_as_text() {
        let binary = Form::Binary.message(STDOUT, b"hi");
        assert_eq!(binary, Message::binary(b"\x01hi".to_vec()));
        let text = Form::Base64.message(STDOUT, b"hi");
        assert_eq!(text, Message::text("1aGk="));
        for (form, message) in [(Form::Binary, &b"\x00hi"[..]), (Form::Base64, b"0aGk=")] {
            assert_eq!(form.read(message), Some((STDIN, b"hi".to_vec())));
        }
        assert_eq!(Form::Base64.read(b"0!"), None);
    }
}
