//! The control socket: one supervisor at a time, on the `main` thread.
//!
//! ```text
//!  Listening ──accept, peer is root, we, or who made it──► Connected
//!      ▲                                                       │
//!      └── gone, or a packet that is no call ◄─────────────────┘
//!          (every vsock stream is reset)
//! ```
//!
//! While one supervisor is connected, the next one waits in the socket's own
//! backlog.

mod connection;

use crate::event_loop::Mailbox;
use crate::exit::{Journal, chain};
use crate::sys::socket;
use crate::vcpu::Board;
use crate::virtio::block::FileExtent;
use crate::virtio::mmio::Transport;
use crate::virtio::{
    DeviceAnswer, DeviceCall, DeviceError, DeviceKind, EventRegistry, Interest, Outgoing, Token,
};
use beluga_proto::control::{ControlMessage, ControlReply, ControlRequest, VmStatus};
use beluga_proto::vm::{Extent, VM_VERSION};
use beluga_proto::{ControlCall, ExitCause, Fault, FaultCode};
use connection::{Connection, ConnectionError, Received};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

/// The listening socket.
const LISTENER: Token = Token(0);

/// The supervisor's connection.
const CONNECTION: Token = Token(1);

/// Messages of other threads.
const MAILBOX: Token = Token(2);

/// How much of the console a status reply has: JSON may need six bytes for
/// one, and a packet has 64 KiB.
const STATUS_CONSOLE: usize = 8 << 10;

type Answer = (ControlReply, Option<OwnedFd>);

/// The control socket's state.
#[derive(Debug)]
pub struct Control {
    listener: Arc<OwnedFd>,
    /// Users who may be supervisors.
    peers: [u32; 3],
    events: EventRegistry,
    connection: Option<Connection>,
    board: Arc<Board>,
    devices: Vec<(DeviceKind, Arc<Transport>)>,
    mailbox: Arc<Mailbox>,
}

impl Control {
    /// Listens.
    pub fn new(
        listener: Arc<OwnedFd>,
        events: EventRegistry,
        board: Arc<Board>,
        devices: Vec<(DeviceKind, Arc<Transport>)>,
        mailbox: Arc<Mailbox>,
    ) -> io::Result<Self> {
        socket::set_nonblocking(&*listener)?;
        events.add(listener.as_raw_fd(), LISTENER, Interest::IN)?;
        events.add(mailbox.wake().as_raw_fd(), MAILBOX, Interest::IN)?;
        // Of a socket that listens, whoever has made it listen. In a namespace of
        // users it looks like any other user of the host; who else may connect
        // is kept by the file's mode.
        let maker = socket::peer(&*listener)?;
        Ok(Self {
            listener,
            peers: [0, socket::own_uid(), maker.uid],
            events,
            connection: None,
            board,
            devices,
            mailbox,
        })
    }

    fn journal(&self) -> &Journal {
        &self.board.journal
    }

    /// One of the descriptors is ready.
    pub fn ready(&mut self, token: Token, interest: Interest) {
        match token {
            LISTENER => self.accept(),
            CONNECTION => self.serve(interest),
            MAILBOX => self.deliver(),
            _ => {}
        }
    }

    fn accept(&mut self) {
        // A caller that hung up in the backlog is no error of ours.
        let Ok(socket) = socket::accept(&*self.listener) else {
            return;
        };
        let known = socket::peer(&socket).is_ok_and(|peer| self.peers.contains(&peer.uid));
        if !known || self.connection.is_some() {
            return;
        }
        let added = self
            .events
            .add(socket.as_raw_fd(), CONNECTION, Interest::IN);
        if added.is_err() {
            return;
        }
        self.events.remove(self.listener.as_raw_fd());
        self.connection = Some(Connection::new(socket));
        self.tell_vsock(DeviceCall::SupervisorArrived);
    }

    fn hang_up(&mut self, reason: &ConnectionError) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        if !matches!(reason, ConnectionError::Closed) {
            crate::log::line(format_args!(
                "the supervisor's connection is closed: {}",
                chain(reason)
            ));
        }
        self.events.remove(connection.socket().as_raw_fd());
        drop(connection);
        self.tell_vsock(DeviceCall::SupervisorGone);
        if let Err(source) = self
            .events
            .add(self.listener.as_raw_fd(), LISTENER, Interest::IN)
        {
            self.journal().end(
                ExitCause::HostError,
                format!("cannot listen for a supervisor any more: {source}"),
            );
        }
    }

    fn tell_vsock(&self, call: DeviceCall) {
        if let Some((_, vsock)) = self
            .devices
            .iter()
            .find(|(kind, _)| *kind == DeviceKind::Vsock)
        {
            if let Err(error) = vsock.control(call) {
                crate::log::line(format_args!("device vsock: {}", chain(&error)));
            }
            self.mailbox.post(vsock.take_messages());
        }
    }

    fn serve(&mut self, interest: Interest) {
        if interest.intersects(Interest::OUT | Interest::HANG_UP | Interest::ERROR) {
            self.flush();
        }
        // A supervisor that does not read its replies is not asked for calls.
        while let Some(connection) = self.connection.as_mut().filter(|c| c.takes_calls()) {
            match connection.receive() {
                Ok(Some(received)) => self.answer(received),
                Ok(None) => break,
                Err(reason) => return self.hang_up(&reason),
            }
        }
    }

    fn answer(&mut self, received: Received) {
        let Received { call, fds } = received;
        let id = call.id;
        let stop = call.request == ControlRequest::Stop;
        let (result, fd) = match self.perform(call, fds) {
            Ok((reply, fd)) => (Ok(reply), fd),
            Err(fault) => (Err(fault), None),
        };
        self.send(Outgoing {
            message: ControlMessage::Reply { id, result },
            fd,
            place: None,
        });
        if stop {
            self.journal()
                .end(ExitCause::Stopped, "the supervisor said stop".to_owned());
        }
    }

    fn perform(&self, call: ControlCall, fds: Vec<OwnedFd>) -> Result<Answer, Fault> {
        match call.request {
            ControlRequest::Status => Ok((ControlReply::Status(Box::new(self.status())), None)),
            ControlRequest::Pause => {
                self.board.run.pause();
                Ok((ControlReply::Done, None))
            }
            ControlRequest::Resume => {
                self.board.run.resume();
                Ok((ControlReply::Done, None))
            }
            ControlRequest::GrowDisk { disk, extents } => self.grow(&disk, &extents, fds),
            ControlRequest::ConnectVsock { port } => {
                let vsock = self.find(|kind, _| kind == DeviceKind::Vsock, "a vsock device")?;
                device_answer(vsock.control(DeviceCall::ConnectVsock { port }))
            }
            ControlRequest::Stop => Ok((ControlReply::Done, None)),
        }
    }

    fn find(
        &self,
        is_it: impl Fn(DeviceKind, &Transport) -> bool,
        what: &str,
    ) -> Result<&Transport, Fault> {
        self.devices
            .iter()
            .find(|(kind, device)| is_it(*kind, device))
            .map(|(_, device)| &**device)
            .ok_or_else(|| Fault::new(FaultCode::NotFound, format!("the VM has not {what}")))
    }

    fn grow(&self, disk: &str, extents: &[Extent], fds: Vec<OwnedFd>) -> Result<Answer, Fault> {
        let files: Vec<Arc<File>> = fds.into_iter().map(|fd| Arc::new(File::from(fd))).collect();
        let extents = extents
            .iter()
            .map(|extent| {
                let file = usize::try_from(extent.fd.0)
                    .ok()
                    .and_then(|at| files.get(at))
                    .ok_or_else(|| {
                        Fault::new(
                            FaultCode::InvalidArgument,
                            format!("no descriptor {} came with the packet", extent.fd.0),
                        )
                    })?;
                Ok(FileExtent {
                    file: Arc::clone(file),
                    offset: extent.offset,
                    length: extent.length,
                })
            })
            .collect::<Result<Vec<_>, Fault>>()?;
        let device = self.find(
            |kind, device| kind == DeviceKind::Block && device.name() == disk,
            &format!("a disk {disk:?}"),
        )?;
        device_answer(device.control(DeviceCall::Grow(extents)))
    }

    fn status(&self) -> VmStatus {
        let journal = self.journal();
        VmStatus {
            version: VM_VERSION,
            paused: self.board.run.is_paused(),
            stamps: journal.stamps(),
            exits: journal.exits(),
            devices: self
                .devices
                .iter()
                .map(|(_, device)| (device.name().to_owned(), device.counters()))
                .collect(),
            console: journal.console().tail(STATUS_CONSOLE),
        }
    }

    fn deliver(&mut self) {
        for message in self.mailbox.take() {
            self.send(message);
        }
    }

    /// Sends a message, now or when the supervisor reads again. Without a
    /// supervisor it is dropped, and with it its descriptor: the stream's
    /// other end sees that.
    fn send(&mut self, message: Outgoing) {
        if let Some(connection) = self.connection.as_mut() {
            connection.push(message);
            self.flush();
        }
    }

    fn flush(&mut self) {
        let Some(connection) = self.connection.as_mut() else {
            return;
        };
        let result = connection.flush().and_then(|interest| {
            if let Some(interest) = interest {
                self.events
                    .modify(connection.socket().as_raw_fd(), CONNECTION, interest)
                    .map_err(ConnectionError::Host)?;
            }
            Ok(())
        });
        if let Err(reason) = result {
            self.hang_up(&reason);
        }
    }
}

fn device_answer(result: Result<DeviceAnswer, DeviceError>) -> Result<Answer, Fault> {
    match result {
        Ok(DeviceAnswer::Done) => Ok((ControlReply::Done, None)),
        Ok(DeviceAnswer::Stream(fd)) => Ok((ControlReply::Done, Some(fd))),
        Err(error) => {
            let code = match &error {
                DeviceError::NotThisKind(_) | DeviceError::Invalid { .. } => {
                    FaultCode::InvalidArgument
                }
                DeviceError::NotActive(_) | DeviceError::State { .. } => {
                    FaultCode::FailedPrecondition
                }
                DeviceError::Limit { .. } => FaultCode::ResourceExhausted,
                DeviceError::Host { .. } => FaultCode::Internal,
            };
            Err(Fault::from_error(code, &error))
        }
    }
}
