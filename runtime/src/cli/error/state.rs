//! [`StateError`]: what is there does not allow it.

use crate::store::status::Phase;

/// Why something cannot be done as things are.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Nothing can be sent to a container.
    #[error("the container {container:?} was started without standard input")]
    NoStdin {
        /// Its name.
        container: String,
    },
    /// A label or annotation says something else.
    #[error("'{key}' already has a value ({present}), and --overwrite is false")]
    LabelTaken {
        /// Its key.
        key: String,
        /// What it says.
        present: String,
    },
    /// Ports are those of a running pod.
    #[error("unable to forward port because pod is not running. Current status={phase}")]
    NotRunning {
        /// What it is.
        phase: Phase,
    },
    /// None of the ports of this host is free.
    #[error("unable to listen on any of the requested ports: [{listed}]")]
    NoPort {
        /// `{8080 80} {8081 81}`
        listed: String,
    },
}
