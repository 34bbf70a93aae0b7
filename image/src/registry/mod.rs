//! OCI distribution registries: manifests and blobs by name and digest, fetched and sent.
//!
//! The host that has them is found as containerd finds it ([`Registry::certs_dirs`]), who asks is
//! known from pull secrets and docker's configuration ([`Keyring`]). Whatever comes is bounded
//! here and verified here or, for layers, by whoever reads them.

mod access;
mod auth;
mod client;
mod connect;
mod credentials;
mod endpoint;
mod error;
mod helper;
mod hosts;
mod login;
mod patience;
mod request;
mod tls;
mod trust;
mod upload;

use std::path::PathBuf;

pub(crate) use client::{Blob, Client, Document};
pub use credentials::{CredentialError, Keyring};
pub use error::{RegistryError, Tried};
pub use hosts::HostsError;
pub use login::{Login, forget};
pub(crate) use patience::{Patience, Told};
pub use trust::Distrust;
pub(crate) use upload::{Mount, Uploader};

/// How registries are reached.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    /// Directories like `/etc/containerd/certs.d`; the first that knows a registry counts.
    pub certs_dirs: Vec<PathBuf>,
    /// Who asks.
    pub keyring: Keyring,
}
