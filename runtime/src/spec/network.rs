//! Which network a pod is in. Kubernetes has one for all pods and no field for
//! it: an annotation says otherwise.

use super::check::Check;
use super::types::PodSpec;
use super::yaml::join;

/// The annotation.
pub const NETWORK: &str = "beluga/network";

/// Loopback only.
pub const NO_NETWORK: &str = "none";

/// The network of all pods of the root.
pub const DEFAULT_NETWORK: &str = "default";

impl PodSpec {
    /// Whether it has more than its loopback.
    #[must_use]
    pub fn has_network(&self) -> bool {
        self.annotations
            .get(NETWORK)
            .is_none_or(|name| name != NO_NETWORK)
    }
}

/// Refuses networks that there are not, and ports of a pod that has none.
pub(super) fn check(spec: &PodSpec, check: &mut Check<'_>) {
    let path = join("metadata.annotations", NETWORK);
    match spec.annotations.get(NETWORK).map(String::as_str) {
        None | Some(DEFAULT_NETWORK) => {}
        Some(NO_NETWORK) if spec.published().is_empty() => {}
        Some(NO_NETWORK) => check.wrong(
            &path,
            "a pod without a network cannot publish ports (port-forward reaches it all the same)",
        ),
        Some(other) => {
            let shown: String = other.chars().take(60).collect();
            let message = format!("{shown:?} is not one of {DEFAULT_NETWORK}, {NO_NETWORK}");
            check.wrong(&path, message);
        }
    }
}
