//! The types that two Beluga processes must agree on.
//!
//! Four conversations live here, and nothing else:
//!
//! | who | what | carrier | module |
//! |---|---|---|---|
//! | supervisor → VMM | [`VmConfig`] once, at start | JSON on an inherited descriptor | [`vm`] |
//! | supervisor ⇄ VMM | [`ControlCall`], [`ControlMessage`] | one JSON message per `SOCK_SEQPACKET` packet, descriptors by `SCM_RIGHTS` | [`control`] |
//! | VMM → supervisor | [`ExitRecord`] once, at the end | JSON on an inherited descriptor | [`exit`] |
//! | supervisor ⇄ agent | [`HostFrame`], [`AgentFrame`] | length-prefixed JSON frames over vsock | [`agent`], [`frame`] |
//!
//! The rules by which these types may change are in `EVOLUTION.md`; the bytes
//! of every message of the current version are golden files in `golden/`.
#![forbid(unsafe_code)]

pub mod agent;
pub mod bytes;
pub mod capability;
pub mod container;
pub mod control;
pub mod copy;
pub mod exit;
pub mod fault;
pub mod frame;
pub mod id;
pub mod pod;
pub mod probe;
pub mod stamp;
pub mod variable;
pub mod vm;

pub use agent::{
    AgentFrame, CONTROL_PORT, Event, Hello, HostFrame, PROTOCOL_MAX, PROTOCOL_MIN, Reply, Request,
    STREAM_PORT, Welcome, negotiate,
};
pub use container::{ContainerSpec, ExecSpec};
pub use control::{ControlCall, ControlMessage, ControlReply, ControlRequest};
pub use exit::{ExitCause, ExitRecord};
pub use fault::{Fault, FaultCode};
pub use frame::{FrameDecoder, FrameError, MAX_FRAME, encode};
pub use id::{ContainerId, ExecId, IdError, Nonce, PodUid};
pub use pod::PodSetup;
pub use stamp::{STAMP_PORT, Stamp};
pub use vm::VmConfig;
