//! [`StartError`]: why a pod does not come up.

use super::CliError;

/// Why a pod does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// This host cannot run a guest.
    #[error("no pod can run here: KVM is {found}")]
    NoKvm {
        /// What KVM is.
        found: String,
        /// What helps.
        advice: Option<String>,
    },
    /// There is a pod of that name.
    #[error(
        "pod {name:?} already exists{}",
        if *.is_running { "" } else { "; it has ended" }
    )]
    NameTaken {
        /// Its name.
        name: String,
        /// Its namespace.
        namespace: String,
        /// It has not ended.
        is_running: bool,
    },
    /// The host's disk is full; what is below knows the file and not for whom it was.
    #[error("pod {name:?} cannot be started")]
    DiskFull {
        /// Its name.
        name: String,
        /// What could not be written.
        #[source]
        source: Box<CliError>,
    },
    /// A pod that was started did not come up.
    #[error("pod {name:?} failed: {message}")]
    PodFailed {
        /// Its name.
        name: String,
        /// The cause, by its status.
        message: String,
        /// What helps, where that is known.
        advice: Option<String>,
        /// The early console's last lines.
        console: Option<String>,
        /// It is there still, and can be looked at.
        is_kept: bool,
        /// What the pod counts as: 126 or 127 where a command is to blame.
        code: u8,
    },
}
