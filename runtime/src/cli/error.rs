//! [`CliError`], and how an error and its causes are printed: once, here.

mod change;
mod image;
mod start;

pub use change::ChangeError;
pub use image::{AbsentImage, ImageError};
pub use start::StartError;

use super::exit;
use super::style::Style;
use crate::api::client::ClientError;
use crate::engine::EngineError;
use crate::objects::ObjectError;
use crate::spec::ManifestError;
use crate::workload::WorkloadError;
use beluga_image::{ReferenceError, RemoveError, StoreError};
use std::error::Error;
use std::io;
use std::path::Path;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The manifest is refused.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Something that was to be read or written cannot be.
    #[error("cannot {doing}")]
    Io {
        /// `read pod.yaml`, …
        doing: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Images.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A pod does not come up.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A running pod stays as it is.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// A pod could not be made, reached or ended.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A ConfigMap or Secret.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// A Deployment or the like.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// What a command names does not exist.
    #[error("{what} {name:?} not found")]
    NotFound {
        /// `pod`, `container`, …
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A combination of arguments that makes no sense.
    #[error("{message}")]
    Usage {
        /// One sentence.
        message: String,
    },
    /// Files could not be copied.
    #[error(transparent)]
    Copy(#[from] crate::copy::CopyError),
    /// There is one already.
    #[error("{what} {name:?} already exists")]
    Exists {
        /// `deployment.apps`, …
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// What was waited for did not come.
    #[error("timed out waiting for {what}")]
    TimedOut {
        /// For what.
        what: String,
    },
    /// A pod whose ports are forwarded has ended.
    #[error("lost connection to pod {name:?}: it has ended")]
    LostPod {
        /// Its name.
        name: String,
    },
    /// A container has not run before.
    #[error("previous terminated container {container:?} in pod {pod:?} not found")]
    NoPrevious {
        /// The container.
        container: String,
        /// Its pod.
        pod: String,
    },
}

/// What to do about a file that cannot be read.
fn not_readable(error: &io::Error) -> Option<String> {
    match error.kind() {
        io::ErrorKind::NotFound => {
            let here = std::env::current_dir().ok()?;
            Some(format!(
                "look at the path: it is taken from {}",
                here.display()
            ))
        }
        io::ErrorKind::PermissionDenied => Some("run it as a user who may read it".to_owned()),
        _ => None,
    }
}

/// Several errors at once: all but the last are printed here, the last is given
/// back to be.
pub fn all(errors: Vec<CliError>) -> Result<u8, CliError> {
    let mut errors = errors.into_iter().peekable();
    while let Some(error) = errors.next() {
        if errors.peek().is_none() {
            return Err(error);
        }
        error.print(&Style::stderr());
    }
    Ok(exit::OK)
}

impl From<ReferenceError> for CliError {
    fn from(error: ReferenceError) -> Self {
        Self::Image(error.into())
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        Self::Image(error.into())
    }
}

impl From<RemoveError> for CliError {
    fn from(error: RemoveError) -> Self {
        Self::Image(error.into())
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        Self::Engine(error.into())
    }
}

impl From<crate::store::StoreError> for CliError {
    fn from(error: crate::store::StoreError) -> Self {
        Self::Object(error.into())
    }
}

impl CliError {
    /// An error of the system while `doing` something.
    pub fn io(doing: impl Into<String>, source: io::Error) -> Self {
        Self::Io {
            doing: doing.into(),
            source,
        }
    }

    /// The path could not be read.
    pub fn read(path: &Path, source: io::Error) -> Self {
        Self::io(format!("read {}", path.display()), source)
    }

    /// The process' exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Engine(error) | Self::Workload(WorkloadError::Engine(error)) => {
                exit::of_fault(error.code())
            }
            Self::Usage { .. } => 2,
            Self::Start(StartError::PodFailed { code, .. }) => *code,
            _ => exit::ERROR,
        }
    }

    /// What to do next.
    fn hint(&self) -> Option<String> {
        match self {
            Self::Io { doing, source } if doing.starts_with("read ") => not_readable(source),
            Self::Image(error) => error.hint(),
            Self::NotFound { what: "pod", .. } => Some("beluga get pods -A".into()),
            Self::Change(ChangeError::Differs { name, .. }) => {
                Some(format!("beluga delete pod {name}, then apply again"))
            }
            Self::Start(StartError::NoKvm { advice, .. }) => advice.clone(),
            Self::Start(StartError::NameTaken {
                name, namespace, ..
            }) => Some(format!(
                "beluga delete pod {name} -n {namespace}, or run --replace"
            )),
            Self::Start(StartError::PodFailed {
                name,
                is_kept: true,
                ..
            }) => Some(format!("beluga describe pod {name}")),
            Self::Engine(error) | Self::Workload(WorkloadError::Engine(error)) => error.hint(),
            Self::Workload(WorkloadError::Stuck { .. }) => {
                Some("beluga get pods, then describe one that is not ready".into())
            }
            _ => None,
        }
    }

    /// Prints the error, its causes and what to do.
    pub fn print(&self, style: &Style) {
        // Manifests and archives choose words of it.
        let shown = |text: &str| -> String {
            let lines: Vec<String> = text.lines().map(super::table::printable).collect();
            lines.join("\n")
        };
        tell!("{} {}", style.bad("error:"), shown(&self.to_string()));
        let mut above = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // A transparent wrapper says the same as what it wraps.
            if text != above {
                tell!("  {} {}", style.dim("caused by:"), shown(&text));
            }
            above = text;
            cause = error.source();
        }
        if let Self::Start(StartError::PodFailed {
            console: Some(console),
            ..
        }) = self
        {
            tell!("  {}", style.dim("last lines of the guest's console:"));
            for line in console.lines() {
                tell!("    {}", super::table::printable(line));
            }
        }
        if let Some(hint) = self.hint() {
            tell!("  {} {}", style.dim("try:"), shown(&hint));
        }
    }
}
