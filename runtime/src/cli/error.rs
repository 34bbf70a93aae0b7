//! [`CliError`], and how an error and its causes are printed: once, here.

mod change;
mod image;
mod registry;
mod start;
mod state;
mod usage;

pub use change::ChangeError;
pub use image::{AbsentImage, ImageError};
pub use start::StartError;
pub use state::StateError;
pub use usage::UsageError;

use super::exit;
use super::style::Style;
use crate::api::client::ClientError;
use crate::engine::EngineError;
use crate::objects::ObjectError;
use crate::spec::{ManifestError, PodName, closest};
use crate::workload::WorkloadError;
use beluga_image::{ReferenceError, RemoveError, SaveError, StoreError};
use std::io;
use std::path::Path;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The manifest is refused.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A file that is to be read.
    #[error("cannot read {path}")]
    Read {
        /// As given.
        path: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Something that was to be done cannot be.
    #[error("cannot {doing}")]
    Io {
        /// `write pod.yaml`, …
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
    /// There is no such pod, and one of nearly that name.
    #[error("pod {name:?} not found (did you mean {near:?}?)")]
    NearPod {
        /// What was asked for.
        name: String,
        /// A pod that is there.
        near: String,
    },
    /// The pod has no container of that name.
    #[error("container {name:?} not found in pod {pod:?}, which has {}", present.join(", "))]
    NoContainer {
        /// What was asked for.
        name: String,
        /// The pod's name.
        pod: String,
        /// Its containers.
        present: Vec<String>,
    },
    /// The command line is wrong.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// There is no such type of resource.
    #[error("there are no resources of type {word:?}{}", near_type(.near.as_deref(), .types))]
    NoType {
        /// As given.
        word: String,
        /// A type of nearly that name.
        near: Option<String>,
        /// All that there are.
        types: &'static [&'static str],
    },
    /// What is there does not allow it.
    #[error(transparent)]
    State(#[from] StateError),
    /// Files could not be copied.
    #[error(transparent)]
    Copy(#[from] crate::copy::CopyError),
    /// The checks of this host.
    #[error(transparent)]
    Conformance(#[from] crate::conformance::ConformanceError),
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

/// The type that was meant, or all that there are.
fn near_type(near: Option<&str>, types: &[&str]) -> String {
    match (near, types.split_last()) {
        (Some(near), _) => format!(" (did you mean {near}?)"),
        (None, Some((only, []))) => format!(", only {only}"),
        (None, Some((last, others))) => format!(", only {} and {last}", others.join(", ")),
        (None, None) => String::new(),
    }
}

/// What to do about a file that cannot be read.
fn not_readable(path: &str, error: &io::Error) -> Option<String> {
    match error.kind() {
        io::ErrorKind::NotFound if path.contains("://") => Some(format!(
            "manifests are not fetched: curl -fsSL {path} | beluga … -f -"
        )),
        io::ErrorKind::NotFound if !path.starts_with('/') => {
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
        use io::ErrorKind::PermissionDenied;
        Self::Image(match error {
            StoreError::Io { ref source, .. } if source.kind() == PermissionDenied => {
                ImageError::NotAllowed(error)
            }
            error => error.into(),
        })
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
    /// There is no such type of resource among these.
    pub fn no_type(word: &str, types: &'static [&'static str]) -> Self {
        // People say one and mean all, and the other way round.
        let lower = word.to_ascii_lowercase();
        let plural = format!("{lower}s");
        let near = [&lower, &plural].map(|word| closest(word, types));
        let near = near.into_iter().flatten().min();
        // A third of the letters is another word.
        let near = near.filter(|(distance, _)| distance * 3 <= word.len());
        Self::NoType {
            word: word.to_owned(),
            near: near.map(|(_, near)| near.to_owned()),
            types,
        }
    }

    /// An error of the system while `doing` something.
    pub fn io(doing: impl Into<String>, source: io::Error) -> Self {
        Self::Io {
            doing: doing.into(),
            source,
        }
    }

    /// The path could not be read.
    pub fn read(path: &Path, source: io::Error) -> Self {
        let path = path.display().to_string();
        Self::Read { path, source }
    }

    /// The process' exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Engine(error) | Self::Workload(WorkloadError::Engine(error)) => {
                exit::of_fault(error.code())
            }
            Self::Usage(_) => 2,
            Self::Image(error) if error.is_interrupted() => exit::INTERRUPTED,
            Self::Start(StartError::PodFailed { code, .. }) => *code,
            _ => exit::ERROR,
        }
    }

    /// What to do next.
    fn hint(&self) -> Option<String> {
        match self {
            Self::Read { path, source } => not_readable(path, source),
            Self::Image(error) => error.hint(),
            Self::NotFound { what: "pod", .. } => Some("beluga get pods -A".into()),
            Self::NoType { near: None, .. } => Some(
                "a manifest of another kind has no effect here: docs/fields.md lists what has"
                    .into(),
            ),
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
                advice: Some(advice),
                ..
            }) => Some(advice.clone()),
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

    /// Whether the system says this somewhere below.
    fn is_about(&self, kinds: &[io::ErrorKind]) -> bool {
        crate::causes(self).any(|error| {
            let system = error.downcast_ref::<io::Error>();
            system.is_some_and(|error| kinds.contains(&error.kind()))
        })
    }

    /// Whether there is no room on a disk.
    fn is_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        // A fault of a pod comes as its words.
        self.is_about(&[StorageFull, QuotaExceeded])
            || crate::error_chain(self).contains("No space left on device")
    }

    /// Whether it is what is written for the user that failed, and nothing that is kept here.
    fn is_of_output(&self) -> bool {
        match self {
            Self::Io { .. } => true,
            Self::Image(ImageError::Save { source, .. }) => {
                matches!(**source, SaveError::Write(_))
            }
            _ => false,
        }
    }

    /// The same where a pod is started: a full disk is told with the pod's name.
    pub fn of_pod(self, name: &PodName) -> Self {
        let (PodName::Exact(name) | PodName::Generate(name)) = name;
        match self {
            error if error.is_full() => Self::Start(StartError::DiskFull {
                name: name.clone(),
                source: Box::new(error),
            }),
            error => error,
        }
    }

    /// What to do about what the system says, whoever has been told.
    fn system_hint(&self) -> Option<String> {
        use io::ErrorKind::PermissionDenied;
        if self.is_about(&[PermissionDenied]) && !rustix::process::geteuid().is_root() {
            let hint = match self {
                Self::Image(ImageError::NotAllowed(_)) => {
                    "run it as root, or with images of your own: --root DIR"
                }
                _ => "run it as root",
            };
            return Some(hint.to_owned());
        }
        if self.is_full() && self.is_of_output() {
            return Some("what it writes to is full, and not the image store".to_owned());
        }
        self.is_full().then(|| {
            "`beluga df` shows what takes the space, `beluga prune` and `beluga delete pod` give \
             some back; --root, or BELUGA_ROOT, moves everything to a larger disk"
                .to_owned()
        })
    }

    /// Prints the error, its causes and what to do.
    pub fn print(&self, style: &Style) {
        // Manifests and archives choose words of it.
        let shown = |text: &str| -> String {
            let lines: Vec<String> = text.lines().map(crate::printable).collect();
            lines.join("\n")
        };
        let mut above = self.to_string();
        tell!("{} {}", style.bad("error:"), shown(&above));
        for cause in crate::causes(self).skip(1) {
            let text = cause.to_string();
            // A transparent wrapper says the same as what it wraps.
            if text != above {
                tell!("  {} {}", style.dim("caused by:"), shown(&text));
            }
            above = text;
        }
        if let Self::Start(StartError::PodFailed {
            console: Some(console),
            ..
        }) = self
        {
            tell!("  {}", style.dim("last lines of the guest's console:"));
            for line in console.lines() {
                tell!("    {}", crate::printable(line));
            }
        }
        if let Some(hint) = self.system_hint().or_else(|| self.hint()) {
            tell!("  {} {}", style.dim("try:"), shown(&hint));
        }
    }
}
