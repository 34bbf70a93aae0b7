//! The host side of a pod.
