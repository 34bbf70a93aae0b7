//! Packets from and to the VMM.

use crate::server::Server;
use crate::wire::{MAX_REQUEST, Output};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::os::fd::OwnedFd;

/// Answers requests until the other end is closed. Errors when the socket fails.
pub fn serve(socket: &OwnedFd, mut server: Server) -> Result<(), Errno> {
    let mut request = vec![0; MAX_REQUEST];
    let mut output = Output::new();
    loop {
        let length = match recv(socket, &mut request[..], RecvFlags::TRUNC) {
            Ok((_, 0)) | Err(Errno::CONNRESET) => return Ok(()),
            Ok((_, length)) => length,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno),
        };
        // What is too long was cut off; `serve` sees that its length is wrong.
        let request = &request[..length.min(MAX_REQUEST)];
        if server.serve(request, &mut output) {
            match answer(socket, output.packet()) {
                Err(Errno::PIPE | Errno::CONNRESET) => return Ok(()),
                result => result?,
            }
        }
    }
}

fn answer(socket: &OwnedFd, packet: &[u8]) -> Result<(), Errno> {
    loop {
        match send(socket, packet, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            result => return result.map(drop),
        }
    }
}
