//! Word from the kernel of tables that go: who has one need not look for it.

use super::{DELETE_TABLE, Socket, messages, table_name};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use std::io;
use std::os::fd::OwnedFd;
use tokio::io::unix::AsyncFd;

/// `NFNLGRP_NFTABLES`, as a bit.
const TABLES: u32 = 1 << 6;

/// Who is told.
#[derive(Debug)]
pub struct News(AsyncFd<OwnedFd>);

impl News {
    /// Begins to listen, in this network namespace. What goes from now on is told.
    pub fn listen() -> io::Result<Self> {
        let socket = Socket::of_groups(TABLES)?.socket;
        Ok(Self(crate::sys::watch(socket)?))
    }

    /// Returns when a table with such a name has gone, or may have: one that is
    /// replaced goes too, and of too many changes the kernel says only that.
    pub async fn gone(&self, is_meant: impl Fn(&str) -> bool) {
        while let Ok(mut ready) = self.0.readable().await {
            if self.is_told(&is_meant) {
                return;
            }
            ready.clear_ready();
        }
        // Never: its loop is this one.
        std::future::pending().await
    }

    /// Reads all that has been told.
    fn is_told(&self, is_meant: &impl Fn(&str) -> bool) -> bool {
        let mut buffer = vec![0; 64 << 10];
        let mut found = false;
        loop {
            let read = rustix::net::recv(&self.0, buffer.as_mut_slice(), RecvFlags::DONTWAIT);
            let told = match read {
                Ok((length, _)) => &buffer[..length.min(buffer.len())],
                Err(Errno::INTR) => continue,
                Err(Errno::NOBUFS) => {
                    found = true;
                    continue;
                }
                Err(_) => return found,
            };
            found |= messages(told).any(|(kind, _, body)| {
                let name = body.get(4..).and_then(table_name);
                kind == DELETE_TABLE && name.is_some_and(|name| is_meant(&name))
            });
        }
    }
}
