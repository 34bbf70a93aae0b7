//! PortForward. On a WebSocket there are two channels for each port, data and errors;
//! the first message on either is the port, two bytes, the low one first. With SPDY
//! there are two streams for each connection, whose headers name the port.

use super::channels::{Channels, Sender};
use super::spdy::{Decoder, Encoder, Frame};
use crate::error::CallError;
use crate::exec::stream;
use beluga_proto::PodUid;
use beluga_runtime::engine;
use beluga_runtime::error_chain;
use beluga_runtime::settings::Settings;
use std::collections::HashMap;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// What is spoken over SPDY.
pub const SPDY_PROTOCOLS: [&str; 2] = ["v4.channel.k8s.io", "portforward.k8s.io"];

/// And over WebSockets; at last with who names nothing.
pub const SOCKET_PROTOCOLS: [&str; 4] = [
    "v4.channel.k8s.io",
    "portforward.k8s.io",
    "v4.base64.channel.k8s.io",
    "",
];

/// Bytes moved at a time.
const CHUNK: usize = 32 << 10;

/// Frames that wait to be sent.
const WAITING: usize = 16;

/// Connects to the ports and moves bytes until the client goes, or all ports have
/// ended.
pub async fn run(
    settings: &Settings,
    uid: &PodUid,
    ports: &[u16],
    mut channels: Channels,
) -> Result<(), CallError> {
    let mut inputs: HashMap<u8, UnixStream> = HashMap::new();
    let mut moving = JoinSet::new();
    // As many as have channels.
    for (port, data) in ports.iter().zip((0..u8::MAX).step_by(2)) {
        let errors = data + 1;
        channels.to.send(data, &port.to_le_bytes()).await;
        channels.to.send(errors, &port.to_le_bytes()).await;
        match engine::connect(settings, uid, *port).await {
            Ok((to, from)) => {
                inputs.insert(data, stream(to)?);
                moving.spawn(forward(stream(from)?, data, channels.to.clone()));
            }
            Err(error) => {
                let why = format!("cannot forward port {port}: {}", error_chain(&error));
                channels.to.send(errors, why.as_bytes()).await;
            }
        }
    }
    while !moving.is_empty() {
        tokio::select! {
            _ = moving.join_next() => {}
            message = channels.from.next() => {
                let Some((channel, bytes)) = message else { break };
                let input = inputs.get_mut(&channel);
                if let Some(input) = input
                    && input.write_all(&bytes).await.is_err()
                {
                    inputs.remove(&channel);
                }
            }
        }
    }
    moving.abort_all();
    while moving.join_next().await.is_some() {}
    channels.close().await;
    Ok(())
}

async fn forward(mut from: UnixStream, channel: u8, to: Sender) {
    let mut buffer = vec![0u8; CHUNK];
    while let Ok(length) = from.read(&mut buffer).await {
        if length == 0 || !to.send(channel, &buffer[..length]).await {
            return;
        }
    }
}

/// Connections of a client of SPDY.
struct Connections<'s> {
    settings: &'s Settings,
    uid: &'s PodUid,
    encoder: Encoder,
    to: mpsc::Sender<Vec<u8>>,
    /// Streams for errors, by the numbers of the client's requests.
    errors: HashMap<String, u32>,
    /// To the pod, by the numbers of their streams.
    inputs: HashMap<u32, UnixStream>,
}

/// Connects for each pair of streams that a client opens, until it goes.
pub async fn spdy(
    settings: &Settings,
    uid: &PodUid,
    stream: TcpStream,
    rest: Vec<u8>,
) -> Result<(), CallError> {
    let (mut read, write) = stream.into_split();
    let (to, frames) = mpsc::channel(WAITING);
    let sending = tokio::spawn(send(write, frames));
    let Ok(encoder) = Encoder::new() else {
        return Ok(());
    };
    let mut connections = Connections {
        settings,
        uid,
        encoder,
        to,
        errors: HashMap::new(),
        inputs: HashMap::new(),
    };
    let (mut decoder, mut bytes) = (Decoder::new(rest), vec![0u8; CHUNK]);
    'client: loop {
        while let Ok(Some(frame)) = decoder.next() {
            if connections.take(frame).await.is_none() {
                break 'client;
            }
        }
        match read.read(&mut bytes).await {
            Ok(length) if length > 0 => decoder.feed(&bytes[..length]),
            _ => break,
        }
    }
    drop(connections);
    let _ = sending.await;
    Ok(())
}

async fn send(mut write: OwnedWriteHalf, mut frames: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = frames.recv().await {
        if write.write_all(&frame).await.is_err() {
            return;
        }
    }
    let _ = write.shutdown().await;
}

impl Connections<'_> {
    /// Does what a frame says; none when the client goes, or makes no sense.
    async fn take(&mut self, frame: Frame) -> Option<()> {
        match frame {
            Frame::Open { id, header } => {
                self.to.send(self.encoder.reply(id).ok()?).await.ok()?;
                let request = header.get("requestid").cloned().unwrap_or_default();
                if header.get("streamtype")? == "error" {
                    self.errors.insert(request, id);
                } else {
                    let port = header.get("port")?.parse().ok()?;
                    self.connect(id, port, &request).await?;
                }
            }
            Frame::Data { id, bytes, is_last } => {
                let input = self.inputs.get_mut(&id);
                let failed = match input {
                    Some(input) => input.write_all(&bytes).await.is_err(),
                    None => false,
                };
                if failed || is_last {
                    self.inputs.remove(&id);
                }
            }
            Frame::Reset { id } => drop(self.inputs.remove(&id)),
            Frame::Ping { id } => self.to.send(Encoder::ping(id)).await.ok()?,
            Frame::GoAway => return None,
            Frame::Other => {}
        }
        Some(())
    }

    /// Connects a data stream to a port. Its stream for errors ends with it.
    async fn connect(&mut self, id: u32, port: u16, request: &str) -> Option<()> {
        let errors = self.errors.remove(request);
        let end = move |why: &str| {
            let told = errors.map(|errors| Encoder::data(errors, why.as_bytes(), true));
            let ended = Encoder::data(id, &[], true);
            [ended, told.unwrap_or_default()].concat()
        };
        let (to, from) = match engine::connect(self.settings, self.uid, port).await {
            Ok(streams) => streams,
            Err(error) => {
                let why = format!("cannot forward port {port}: {}", error_chain(&error));
                return self.to.send(end(&why)).await.ok();
            }
        };
        self.inputs.insert(id, stream(to).ok()?);
        let mut from = stream(from).ok()?;
        let frames = self.to.clone();
        tokio::spawn(async move {
            let mut buffer = vec![0u8; CHUNK];
            while let Ok(length) = from.read(&mut buffer).await {
                let data = Encoder::data(id, &buffer[..length], false);
                if length == 0 || frames.send(data).await.is_err() {
                    break;
                }
            }
            let _ = frames.send(end("")).await;
        });
        Some(())
    }
}
