//! Workloads: kept by namespace, kind and name; their pods are made, replaced
//! and removed by the command that asks for it. There is no daemon that would
//! do so at other times.
//!
//! ```text
//! <root>/workloads/<namespace>/<kind>/<name>.json   replaced whole
//! <root>/workloads/<namespace>/<kind>/<name>.lock   held by whoever changes its pods
//! ```

mod carry;
mod first;
pub mod job;
mod kept;
mod members;
mod plan;
mod status;

pub use carry::{Ground, end_all, trim_claims};
pub use first::{first, pods_at_once};
pub use kept::{Kept, apply, delete, list, lock, read};
pub use members::{members, of};
pub use plan::{Member, Shape, Step, step};
pub use status::{Counts, counts, object};

use crate::engine::EngineError;
use crate::objects::ObjectError;
use crate::spec::{ManifestError, WorkloadKind};
use crate::store::StoreError;

/// Why a workload cannot be kept or brought about.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// Its file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// One of its pods.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// One of its claims.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// What is kept is not what this version understands.
    #[error("{kind} {name:?} was kept by another version of Beluga and is not understood")]
    Kept {
        /// What it is.
        kind: WorkloadKind,
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// By its selector a workload knows its pods; a job has one template for life.
    #[error("{kind} {name:?}: {field} is immutable; delete it, or use another name")]
    Immutable {
        /// What it is.
        kind: WorkloadKind,
        /// Its name.
        name: String,
        /// `spec.selector`, …
        field: &'static str,
    },
    /// The image store.
    #[error("the image store failed")]
    Images(#[from] beluga_image::StoreError),
    /// An image of a job's later pods.
    #[error("the image {image:?} is not present")]
    Image {
        /// As the manifest writes it.
        image: String,
    },
    /// New pods do not become ready.
    #[error(
        "{kind} {name:?} did not get on for {seconds} s: {waiting} of its pods are not ready; the others stay as they are"
    )]
    Stuck {
        /// What it is.
        kind: WorkloadKind,
        /// Its name.
        name: String,
        /// Its progressDeadlineSeconds.
        seconds: u32,
        /// How many.
        waiting: usize,
    },
}
