//! What containerd is told of errors: the one table.

use beluga_proto::FaultCode;
use beluga_runtime::engine::EngineError;
use beluga_runtime::error_chain;
use containerd_shim_protos::ttrpc;
use std::path::PathBuf;

/// Why something failed.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A variable of the environment.
    #[error(transparent)]
    Settings(#[from] beluga_runtime::settings::SettingsError),
    /// A file or a directory.
    #[error("cannot {action} {path}", path = .path.display())]
    Path {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A bundle that cannot be understood.
    #[error("cannot read {path}", path = .path.display())]
    Bundle {
        /// Its config.json.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// Something that is not there.
    #[error("{what} {name:?} not found")]
    Absent {
        /// `task`, `process`.
        what: &'static str,
        /// Which.
        name: String,
    },
    /// Something that is there already.
    #[error("{what} {name:?} already exists")]
    Exists {
        /// `task`, `process`.
        what: &'static str,
        /// Which.
        name: String,
    },
    /// A field that cannot be meant.
    #[error("{field}: {why}")]
    Invalid {
        /// Of the specification.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A field that a pod in a machine of its own cannot have.
    #[error("{field} is not supported: {why}")]
    Refused {
        /// Of the specification, or of the API.
        field: String,
        /// Why it is not.
        why: &'static str,
    },
    /// A state in which it cannot be done.
    #[error("{message}")]
    State {
        /// What is in the way.
        message: String,
    },
    /// ttrpc: the server, or containerd's.
    #[error("cannot {action}")]
    Ttrpc {
        /// What was tried.
        action: &'static str,
        /// What it says.
        #[source]
        source: ttrpc::Error,
    },
    /// The event loop, a child, a stream.
    #[error("cannot {action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

impl ShimError {
    /// An error at a path.
    pub fn path<E: Into<std::io::Error>>(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(E) -> Self {
        let path = path.into();
        move |source| Self::Path {
            action,
            path,
            source: source.into(),
        }
    }

    /// An error of the system.
    pub fn system<E: Into<std::io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System {
            action,
            source: source.into(),
        }
    }

    fn code(&self) -> ttrpc::Code {
        use ttrpc::Code;
        match self {
            Self::Engine(error) => of_fault(error.code()),
            Self::Absent { .. } => Code::NOT_FOUND,
            Self::Exists { .. } => Code::ALREADY_EXISTS,
            Self::Invalid { .. } | Self::Bundle { .. } => Code::INVALID_ARGUMENT,
            Self::Refused { .. } => Code::UNIMPLEMENTED,
            Self::State { .. } => Code::FAILED_PRECONDITION,
            Self::Path { .. } | Self::Settings(_) | Self::Ttrpc { .. } | Self::System { .. } => {
                Code::INTERNAL
            }
        }
    }
}

fn of_fault(code: FaultCode) -> ttrpc::Code {
    use ttrpc::Code;
    match code {
        FaultCode::InvalidArgument => Code::INVALID_ARGUMENT,
        FaultCode::NotFound => Code::NOT_FOUND,
        FaultCode::AlreadyExists => Code::ALREADY_EXISTS,
        FaultCode::FailedPrecondition => Code::FAILED_PRECONDITION,
        FaultCode::ResourceExhausted => Code::RESOURCE_EXHAUSTED,
        FaultCode::Unsupported => Code::UNIMPLEMENTED,
        FaultCode::DeadlineExceeded => Code::DEADLINE_EXCEEDED,
        FaultCode::Unavailable => Code::UNAVAILABLE,
        FaultCode::PermissionDenied => Code::PERMISSION_DENIED,
        // Faults of what is run, not of the call.
        FaultCode::CommandNotFound
        | FaultCode::CommandNotExecutable
        | FaultCode::UserNotFound
        | FaultCode::RunsAsRoot
        | FaultCode::BadWorkingDirectory => Code::UNKNOWN,
        FaultCode::Protocol | FaultCode::Internal => Code::INTERNAL,
    }
}

impl From<ShimError> for ttrpc::Error {
    fn from(error: ShimError) -> Self {
        Self::RpcStatus(ttrpc::get_status(error.code(), error_chain(&error)))
    }
}
