//! [`ChangeError`]: why a running pod stays as it is.

use crate::engine::EngineError;

/// Why a running pod is not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// A running pod could not be told what has changed.
    #[error("the volumes of pod {name:?} keep what they have")]
    NotUpdated {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: EngineError,
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
    /// A pod cannot be changed like that.
    #[error("pod {name:?} is not changed, refused: {why}")]
    Refused {
        /// Its name.
        name: String,
        /// Field and reason.
        why: String,
    },
}
