//! What gRPC says of the engine's errors: the one table.

use beluga_image::{CredentialError, LoadError, ReferenceError, RemoveError, StoreError};
use beluga_proto::FaultCode;
use beluga_runtime::engine::EngineError;
use beluga_runtime::error_chain;
use tonic::{Code, Status};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The image store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An image that is being removed.
    #[error(transparent)]
    Remove(#[from] RemoveError),
    /// An image that is being pulled.
    #[error("cannot pull {image}")]
    Pull {
        /// Which.
        image: String,
        /// Why not.
        #[source]
        source: Box<LoadError>,
    },
    /// Credentials.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// A name of an image.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// Something that is not there.
    #[error("{what} {name:?} not found")]
    Absent {
        /// `pod sandbox`, `container`, `image`.
        what: &'static str,
        /// Which.
        name: String,
    },
    /// Something is missing, or cannot be meant.
    #[error("{field}: {why}")]
    Invalid {
        /// The field of the request.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A part of the interface that a pod in a machine of its own cannot have.
    #[error("{field} is not supported: {why}")]
    Refused {
        /// The field of the request.
        field: &'static str,
        /// Why it is not.
        why: &'static str,
    },
    /// A state in which it cannot be done.
    #[error("{message}")]
    State {
        /// What is in the way.
        message: String,
    },
    /// It did not end in time.
    #[error("{message}")]
    Late {
        /// What.
        message: String,
    },
    /// A stream of a process.
    #[error("cannot {action}")]
    Stream {
        /// What was tried.
        action: &'static str,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

impl CallError {
    fn code(&self) -> Code {
        match self {
            Self::Engine(error) => of_fault(error.code()),
            Self::Remove(RemoveError::InUse { .. }) | Self::State { .. } => {
                Code::FailedPrecondition
            }
            Self::Absent { .. } => Code::NotFound,
            Self::Reference(_) | Self::Invalid { .. } => Code::InvalidArgument,
            Self::Refused { .. } => Code::Unimplemented,
            Self::Late { .. } => Code::DeadlineExceeded,
            Self::Pull { .. } | Self::Credentials(_) => Code::Unknown,
            Self::Store(_) | Self::Remove(_) | Self::Stream { .. } => Code::Internal,
        }
    }
}

fn of_fault(code: FaultCode) -> Code {
    match code {
        FaultCode::InvalidArgument => Code::InvalidArgument,
        FaultCode::NotFound => Code::NotFound,
        FaultCode::AlreadyExists => Code::AlreadyExists,
        FaultCode::FailedPrecondition => Code::FailedPrecondition,
        FaultCode::ResourceExhausted => Code::ResourceExhausted,
        FaultCode::Unsupported => Code::Unimplemented,
        FaultCode::DeadlineExceeded => Code::DeadlineExceeded,
        FaultCode::Unavailable => Code::Unavailable,
        FaultCode::PermissionDenied => Code::PermissionDenied,
        // Faults of what is run, not of the call.
        FaultCode::CommandNotFound
        | FaultCode::CommandNotExecutable
        | FaultCode::UserNotFound
        | FaultCode::RunsAsRoot
        | FaultCode::BadWorkingDirectory => Code::Unknown,
        FaultCode::Protocol | FaultCode::Internal => Code::Internal,
    }
}

impl From<CallError> for Status {
    fn from(error: CallError) -> Self {
        Self::new(error.code(), error_chain(&error))
    }
}

/// What is missing from a request.
pub fn missing(field: &'static str) -> CallError {
    CallError::Invalid {
        field,
        why: "required".to_owned(),
    }
}
