//! The helper that becomes a container process.
