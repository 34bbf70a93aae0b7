//! What the helper tells the agent, one packet each: its terminal, a fault, or
//! that it is about to execute the program. End of file after the last one
//! means that the program runs, since the socket closes on exec.

use super::{HelperError, Progress, SpawnError, Spawning};
use beluga_proto::{Fault, FaultCode};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const EXECUTING: u8 = b'E';
const TERMINAL: u8 = b'T';
const FAULT: u8 = b'F';

/// A packet is at most a fault: JSON may need six bytes for one of its text.
const LONGEST: usize = Fault::MAX_MESSAGE * 6 + 256;

/// A pair of connected ends: the agent's (non-blocking) and the helper's.
pub fn pair() -> Result<(OwnedFd, OwnedFd), SpawnError> {
    let (agent, helper) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|errno| SpawnError::os("make a status socket", errno))?;
    // Says which process will execute, as the agent knows it.
    rustix::net::sockopt::set_socket_passcred(&agent, true)
        .map_err(|errno| SpawnError::os("ask for the sender's PID", errno))?;
    rustix::io::ioctl_fionbio(&agent, true)
        .map_err(|errno| SpawnError::os("make a status socket non-blocking", errno))?;
    Ok((agent, helper))
}

/// The helper's end.
pub struct Reporter {
    socket: OwnedFd,
}

impl Reporter {
    /// Wraps the inherited socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// The socket: the one descriptor that stays open until exec.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Closes the socket, which must not be used any more in this process.
    pub fn close(&self) {
        use std::os::fd::AsRawFd;
        let fd = self.socket.as_raw_fd();
        let _ = crate::sys::spawn::close_range(fd, fd);
    }

    /// The next thing is execve.
    pub fn executing(&self) -> rustix::io::Result<()> {
        self.send(&[EXECUTING])
    }

    /// This will not become a program. Whether anybody hears it is not ours to
    /// know: the agent may be gone.
    pub fn failed(&self, error: &HelperError) {
        let mut packet = vec![FAULT];
        if serde_json::to_writer(&mut packet, &error.fault()).is_ok() {
            let _ = self.send(&packet);
        }
    }

    /// Hands over the master side of the terminal.
    pub fn terminal(&self, master: BorrowedFd<'_>) -> rustix::io::Result<()> {
        let fds = [master];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        let data = [IoSlice::new(&[TERMINAL])];
        rustix::net::sendmsg(&self.socket, &data, &mut control, SendFlags::NOSIGNAL).map(|_| ())
    }

    fn send(&self, packet: &[u8]) -> rustix::io::Result<()> {
        rustix::net::send(&self.socket, packet, SendFlags::NOSIGNAL).map(|_| ())
    }
}

impl Spawning {
    /// Takes what the helper has said so far. Never blocks.
    pub fn poll(&mut self) -> Progress {
        let mut buffer = vec![0u8; LONGEST];
        loop {
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1), ScmCredentials(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let received = rustix::net::recvmsg(
                &self.status,
                &mut [IoSliceMut::new(&mut buffer)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            );
            let received = match received {
                Ok(received) => received,
                Err(rustix::io::Errno::AGAIN) => return Progress::Pending,
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => return died(&format!("its status cannot be read: {errno}")),
            };
            let (fd, sender) = beside(&mut control);
            self.terminal = fd.or(self.terminal.take());
            if received.flags.contains(ReturnFlags::TRUNC) {
                return died("it sent more than a status");
            }
            match buffer[..received.bytes].split_first() {
                None if self.executing => {
                    return Progress::Executed {
                        terminal: self.terminal.take(),
                    };
                }
                None => {
                    self.silent = true;
                    return died("it ended without a word");
                }
                Some((&EXECUTING, _)) => {
                    self.executing = true;
                    self.pid = sender.unwrap_or(self.pid);
                }
                Some((&TERMINAL, _)) => {}
                Some((&FAULT, json)) => return Progress::Failed(fault(json)),
                Some(_) => return died("it sent an unknown status"),
            }
        }
    }
}

/// The descriptor that came beside a packet, and the sender's PID here.
fn beside(control: &mut RecvAncillaryBuffer<'_>) -> (Option<OwnedFd>, Option<u32>) {
    let (mut fd, mut sender) = (None, None);
    for message in control.drain() {
        match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fd = fds.next(),
            RecvAncillaryMessage::ScmCredentials(credentials) => {
                sender = u32::try_from(credentials.pid.as_raw_nonzero().get()).ok();
            }
            _ => {}
        }
    }
    (fd, sender)
}

fn fault(json: &[u8]) -> Fault {
    match serde_json::from_slice::<Fault>(json) {
        Ok(fault) => Fault::new(fault.code, fault.message),
        Err(_) => Fault::new(
            FaultCode::Internal,
            "the spawn helper failed and did not say why",
        ),
    }
}

fn died(how: &str) -> Progress {
    Progress::Failed(Fault::new(
        FaultCode::Internal,
        format!("the spawn helper died before it executed the program: {how}"),
    ))
}
