//! What a pod shall be: from manifest text to one typed [`PodSpec`].
//!
//! ```text
//! text ─yaml─► Node (with positions) ─decode─► k8s_openapi Pod ─pod─► PodSpec
//! ```
//!
//! The whole Kubernetes type is read, so that a known field that Beluga does
//! not support is refused by its name and an unknown one by its line. Every
//! error of a manifest is collected before any is reported.

mod types;

pub use types::{
    Container, ContainerPort, ContainerSecurity, Dns, HostAlias, Medium, PodName, PodSpec,
    PullPolicy, Resources, RestartPolicy, RunAs, SeccompChoice, Volume, VolumeMount, VolumeSource,
};
