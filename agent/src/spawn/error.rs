//! Why a process did not come to its program.

use super::resolve::PathError;
use super::user::UserError;
use beluga_proto::{Fault, FaultCode};
use rustix::io::Errno;
use std::io;

/// Why a process did not come to its program.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// The kernel refused a step.
    #[error("cannot {what}")]
    Os {
        /// Which.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The plan asks for something that cannot be.
    #[error("{what}")]
    Invalid {
        /// What.
        what: String,
    },
    /// A path has no place in its tree.
    #[error("cannot {what}")]
    Path {
        /// What it was wanted for.
        what: String,
        /// Why.
        #[source]
        source: PathError,
    },
    /// The working directory has no place in the root.
    #[error("cannot use working directory {path:?}")]
    WorkingDirectory {
        /// As it was asked for.
        path: String,
        /// Why.
        #[source]
        source: PathError,
    },
    /// The working directory is none of the root's.
    #[error("working directory {path:?} {why}")]
    BadWorkingDirectory {
        /// As it was asked for.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The user cannot be had from the image.
    #[error("cannot find out who the process runs as")]
    User(#[from] UserError),
    /// The writable layer has no limit.
    #[error("cannot limit the writable layer")]
    Quota(#[from] crate::quota::QuotaError),
    /// There is no such program.
    #[error("command {command:?} not found in {place}")]
    CommandNotFound {
        /// As it was asked for.
        command: String,
        /// Where it was sought.
        place: String,
    },
    /// The program cannot be executed.
    #[error("command {command:?} cannot be executed")]
    CommandNotExecutable {
        /// As it was asked for.
        command: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl HelperError {
    /// The error as the supervisor reads it.
    pub fn fault(&self) -> Fault {
        Fault::from_error(self.code(), self)
    }

    fn code(&self) -> FaultCode {
        match self {
            Self::Os { source, .. } => code_of(source),
            Self::Quota(_) => FaultCode::Internal,
            Self::Invalid { .. } => FaultCode::InvalidArgument,
            Self::Path { source, .. } => match source {
                PathError::Os { source, .. } => code_of(source),
                _ => FaultCode::InvalidArgument,
            },
            // A root that is full is no fault of the path.
            Self::WorkingDirectory { source, .. } => match source {
                PathError::Os { source, .. } if is_exhausted(source) => {
                    FaultCode::ResourceExhausted
                }
                _ => FaultCode::BadWorkingDirectory,
            },
            Self::BadWorkingDirectory { .. } => FaultCode::BadWorkingDirectory,
            Self::User(error) => error.code(),
            Self::CommandNotFound { .. } => FaultCode::CommandNotFound,
            Self::CommandNotExecutable { .. } => FaultCode::CommandNotExecutable,
        }
    }
}

/// The code of an error of the system: a limit that was reached, or a fault of
/// ours.
pub fn code_of(source: &io::Error) -> FaultCode {
    if is_exhausted(source) {
        FaultCode::ResourceExhausted
    } else {
        FaultCode::Internal
    }
}

fn is_exhausted(source: &io::Error) -> bool {
    matches!(
        source.raw_os_error().map(Errno::from_raw_os_error),
        Some(
            Errno::NOSPC | Errno::DQUOT | Errno::NOMEM | Errno::AGAIN | Errno::MFILE | Errno::NFILE
        )
    )
}

/// Names the step that failed.
pub trait Context<T> {
    /// Completes "cannot …".
    fn to(self, what: &str) -> Result<T, HelperError>;
    /// Completes "cannot … {object}".
    fn to_with(self, what: &str, object: &str) -> Result<T, HelperError>;
}

impl<T> Context<T> for Result<T, Errno> {
    fn to(self, what: &str) -> Result<T, HelperError> {
        self.map_err(io::Error::from).to(what)
    }

    fn to_with(self, what: &str, object: &str) -> Result<T, HelperError> {
        self.map_err(io::Error::from).to_with(what, object)
    }
}

impl<T> Context<T> for io::Result<T> {
    fn to(self, what: &str) -> Result<T, HelperError> {
        self.map_err(|source| HelperError::Os {
            what: what.to_owned(),
            source,
        })
    }

    fn to_with(self, what: &str, object: &str) -> Result<T, HelperError> {
        self.map_err(|source| HelperError::Os {
            what: format!("{what} {object}"),
            source,
        })
    }
}

impl<T> Context<T> for Result<T, PathError> {
    fn to(self, what: &str) -> Result<T, HelperError> {
        self.map_err(|source| HelperError::Path {
            what: what.to_owned(),
            source,
        })
    }

    fn to_with(self, what: &str, object: &str) -> Result<T, HelperError> {
        self.map_err(|source| HelperError::Path {
            what: format!("{what} {object}"),
            source,
        })
    }
}
