//! The one error that crosses processes: a code that machines act on, and a
//! sentence for people. Each front maps the code once (exit code, ttrpc or
//! gRPC status); nobody matches on the sentence.

use serde::{Deserialize, Serialize};

/// What kind of thing went wrong. An unknown code of a newer peer reads as
/// [`FaultCode::Internal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultCode {
    /// The request is wrong in itself, whatever the state.
    InvalidArgument,
    /// What the request names does not exist.
    NotFound,
    /// What the request makes exists already.
    AlreadyExists,
    /// The request is right but not in this state.
    FailedPrecondition,
    /// A limit is reached: memory, disk, slots, pending connections.
    ResourceExhausted,
    /// The peer does not know how to do this.
    Unsupported,
    /// It did not happen in time.
    DeadlineExceeded,
    /// The other side is gone.
    Unavailable,
    /// A policy forbids it.
    PermissionDenied,
    /// The container's command does not exist in its root (a shell's 127).
    CommandNotFound,
    /// The container's command may not be executed (a shell's 126).
    CommandNotExecutable,
    /// The user or group is not in the image's files.
    UserNotFound,
    /// The image's user is root and the pod demands that it is not.
    RunsAsRoot,
    /// The process's working directory cannot be made, or is no directory.
    BadWorkingDirectory,
    /// The peer broke the protocol.
    Protocol,
    /// A fault of ours.
    #[serde(other)]
    Internal,
}

/// An error as it travels: code and sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// What machines act on.
    pub code: FaultCode,
    /// One line for people: what, where, and the cause chain joined by `: `.
    pub message: String,
}

impl Fault {
    /// Longest sentence that is passed on, in bytes; a hostile agent cannot
    /// fill a terminal or a log with it.
    pub const MAX_MESSAGE: usize = 4096;

    /// A fault with its sentence cut at [`Fault::MAX_MESSAGE`].
    pub fn new(code: FaultCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > Self::MAX_MESSAGE {
            let end = (0..=Self::MAX_MESSAGE)
                .rev()
                .find(|&at| message.is_char_boundary(at));
            message.truncate(end.unwrap_or(0));
        }
        Self { code, message }
    }

    /// A fault from an error and all that caused it, joined by `: `.
    pub fn from_error(code: FaultCode, error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message.push_str(": ");
            message.push_str(&error.to_string());
            cause = error.source();
        }
        Self::new(code, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_code_reads_as_internal() {
        let fault: Fault = serde_json::from_str(r#"{"code":"from_the_future","message":"m"}"#)
            .expect("still a fault");
        assert_eq!(fault.code, FaultCode::Internal);
    }

    #[test]
    fn a_long_sentence_is_cut_at_a_character() {
        let fault = Fault::new(FaultCode::Internal, "ä".repeat(Fault::MAX_MESSAGE));
        assert_eq!(fault.message.len(), Fault::MAX_MESSAGE);
    }
}
