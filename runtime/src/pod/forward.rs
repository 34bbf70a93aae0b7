//! Connections to ports of the pod, handed to who asked for them.

use super::server::{Caller, dialled, send_streams};
use crate::api::{ApiMessage, Channel, ChannelError};
use beluga_proto::agent::StdioNonces;
use beluga_proto::{Fault, Request};
use std::os::fd::OwnedFd;

impl Caller {
    /// Has the agent connect, and passes both directions on: from then on the
    /// bytes do not touch this process.
    pub(super) async fn connect(&self, channel: &Channel, port: u16) -> Result<(), ChannelError> {
        match self.connection(port).await {
            Ok((to, from)) => send_streams(channel, Some(to), Some(from), None).await,
            Err(fault) => channel.send(&ApiMessage::Failed(fault), &[]).await,
        }
    }

    async fn connection(&self, port: u16) -> Result<(OwnedFd, OwnedFd), Fault> {
        let (to_nonce, to) = self.streams.expect();
        let (from_nonce, from) = self.streams.expect();
        let stdio = StdioNonces {
            stdin: Some(to_nonce),
            stdout: Some(from_nonce),
            stderr: None,
        };
        self.link.ask(Request::Connect { port, stdio }).await?;
        Ok((dialled(to).await?, dialled(from).await?))
    }
}
