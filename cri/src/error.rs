//! What gRPC says of the engine's errors: the one table.

use beluga_image::{
    CredentialError, LoadError, ReferenceError, RegistryError, RemoveError, StoreError,
};
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
        field: String,
        /// Why it is not.
        why: &'static str,
    },
    /// It is there already.
    #[error("{message}")]
    Exists {
        /// What.
        message: String,
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
            Self::Exists { .. } => Code::AlreadyExists,
            Self::Pull { source, .. } => of_pull(source),
            Self::Credentials(_) => Code::Unknown,
            Self::Store(_) | Self::Remove(_) | Self::Stream { .. } => Code::Internal,
        }
    }
}

fn of_pull(error: &LoadError) -> Code {
    match error {
        LoadError::Registry(error) => of_registry(error),
        LoadError::Foreign { source, .. } => of_registry(source),
        LoadError::Given { source, .. } => of_pull(source),
        LoadError::WrongPlatform { .. } => Code::NotFound,
        LoadError::Cancelled => Code::Cancelled,
        _ => Code::Unknown,
    }
}

/// What a kubelet asks again later for is what is unavailable.
fn of_registry(error: &RegistryError) -> Code {
    match error {
        RegistryError::Refused { code: 401, .. } => Code::Unauthenticated,
        RegistryError::Refused { code: 403, .. } => Code::PermissionDenied,
        RegistryError::Refused {
            code: 404 | 410, ..
        } => Code::NotFound,
        // The last is the registry itself, behind its mirrors.
        RegistryError::NoHost { errors } if !error.is_passing() => {
            errors.last().map_or(Code::Unknown, of_registry)
        }
        error if error.is_passing() => Code::Unavailable,
        _ => Code::Unknown,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16) -> RegistryError {
        RegistryError::Refused {
            host: "r.example".into(),
            what: "image a".into(),
            status: code.to_string(),
            said: String::new(),
            code,
            tried: None,
        }
    }

    #[test]
    fn a_pull_fails_with_what_the_registry_says() {
        let code = |error| of_pull(&LoadError::Registry(error));
        for (number, expected) in [
            (401, Code::Unauthenticated),
            (403, Code::PermissionDenied),
            (404, Code::NotFound),
            (503, Code::Unavailable),
            (418, Code::Unknown),
        ] {
            assert_eq!(code(refused(number)), expected);
        }
        let mirrored = |errors| code(RegistryError::NoHost { errors });
        assert_eq!(mirrored(vec![refused(418), refused(404)]), Code::NotFound);
        let busy = mirrored(vec![refused(503), refused(404)]);
        assert_eq!(busy, Code::Unavailable);
    }
}
