//! The host side of a pod.
//!
//! ```text
//! manifest ─spec─► PodSpec ─plan (pure)─► Plan { host, vm, guest, containers }
//!   Plan.host ─host─► guards     Plan.vm ─machine─► the VMM child     Plan.guest ─link─► agent
//! ```
//!
//! [`spec`] reads what people write, [`plan`] decides everything and does
//! nothing, the rest of the crate carries a plan out and keeps the pod.

// cli joins as soon as the engine does.
pub mod plan;
pub mod spec;
