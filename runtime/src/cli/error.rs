//! [`CliError`], and how an error and its causes are printed: once, here.

use super::exit;
use super::style::Style;
use crate::api::client::ClientError;
use crate::engine::EngineError;
use crate::objects::ObjectError;
use crate::spec::ManifestError;
use crate::workload::WorkloadError;
use beluga_image::{LoadError, ReferenceError, RemoveError, StoreError};
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
    /// Images that the store does not have.
    #[error("{}", absent(.images))]
    ImagesAbsent {
        /// At least one.
        images: Vec<AbsentImage>,
    },
    /// A name of an image that is none.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The image store.
    #[error("the image store failed")]
    Store(#[from] StoreError),
    /// An image that cannot be loaded.
    #[error("cannot load {file}")]
    Load {
        /// The archive.
        file: String,
        /// Why.
        #[source]
        source: Box<LoadError>,
    },
    /// An image that cannot be removed.
    #[error(transparent)]
    Remove(#[from] RemoveError),
    /// A pod could not be made, reached or ended.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A ConfigMap or Secret.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// A Deployment or the like.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// A running pod could not be told what has changed.
    #[error("the volumes of pod {name:?} keep what they have")]
    NotUpdated {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: EngineError,
    },
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
    /// A pod of that name is there with another manifest.
    #[error(
        "pod {name:?} exists already and differs from the manifest: {} cannot change while it runs",
        if .fields.is_empty() { "something".to_owned() } else { .fields.join(", ") }
    )]
    Differs {
        /// Its name.
        name: String,
        /// Some of the fields.
        fields: Vec<String>,
    },
    /// Files could not be copied.
    #[error(transparent)]
    Copy(#[from] crate::copy::CopyError),
    /// A pod cannot be changed like that.
    #[error("pod {name:?} is not changed, refused: {why}")]
    Refused {
        /// Its name.
        name: String,
        /// Field and reason.
        why: String,
    },
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
    /// A container has not run before.
    #[error("previous terminated container {container:?} in pod {pod:?} not found")]
    NoPrevious {
        /// The container.
        container: String,
        /// Its pod.
        pod: String,
    },
    /// This host cannot run a guest.
    #[error("no pod can run here: KVM is {found}")]
    NoKvm {
        /// What KVM is.
        found: String,
        /// What helps.
        advice: Option<String>,
    },
    /// A pod that was started did not come up.
    #[error("pod {name:?} failed: {message}")]
    PodFailed {
        /// Its name.
        name: String,
        /// The cause, by its status.
        message: String,
        /// The early console's last lines.
        console: Option<String>,
        /// It is there still, and can be looked at.
        is_kept: bool,
        /// What the pod counts as: 126 or 127 where a command is to blame.
        code: u8,
    },
}

/// An image that a pod needs and the store does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbsentImage {
    /// Whose.
    pub container: String,
    /// As the manifest writes it.
    pub image: String,
    /// File, line, column and field; none on a command line.
    pub place: Option<String>,
}

fn absent(images: &[AbsentImage]) -> String {
    let lines: Vec<String> = images
        .iter()
        .map(|one| match &one.place {
            Some(place) => format!("{place}: the image {:?} is not present", one.image),
            None => format!("the image {:?} is not present", one.image),
        })
        .collect();
    match lines.as_slice() {
        [one] => one.clone(),
        _ => format!(
            "{} images are not present\n  {}",
            lines.len(),
            lines.join("\n  ")
        ),
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
            Self::PodFailed { code, .. } => *code,
            _ => exit::ERROR,
        }
    }

    /// What to do next.
    fn hint(&self) -> Option<String> {
        match self {
            Self::ImagesAbsent { .. } => Some(
                "beluga load -i FILE (an OCI layout or the output of `docker save`); \
                 `beluga images` lists what is there"
                    .into(),
            ),
            Self::NotFound { what: "pod", .. } => Some("beluga get pods -A".into()),
            Self::Differs { name, .. } => {
                Some(format!("beluga delete pod {name}, then apply again"))
            }
            Self::NoKvm { advice, .. } => advice.clone(),
            Self::PodFailed {
                name,
                is_kept: true,
                ..
            } => Some(format!("beluga describe pod {name}")),
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
        if let Self::PodFailed {
            console: Some(console),
            ..
        } = self
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
