//! From an image reference to verified blobs to read-only disks.
//!
//! A [`Store`] is one directory that holds image blobs by digest, one EROFS image per layer by
//! diffID, and records that tie names to them. [`Store::load`] fills it from an OCI layout or a
//! docker-archive, [`Store::pull`] from a registry. Everything that enters is hostile until its digest and size were checked:
//! layers are parsed as a stream under [`Limits`], nothing is unpacked, nothing is mounted, and
//! no right of root is needed.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use beluga_image::{LoadOptions, Reference, Source, Store};
//! let store = Store::open("/var/lib/beluga/images")?;
//! let source = Source::Path("busybox.tar".as_ref());
//! store.load(source, &LoadOptions::default(), &mut |_progress| {})?;
//! let image = store.resolve(&"busybox".parse::<Reference>()?)?;
//! # Ok(()) }
//! ```
#![forbid(unsafe_code)]

pub mod layer;

mod build;
mod cancel;
mod config;
mod digest;
mod erofs;
mod glob;
mod load;
mod platform;
mod pull;
mod push;
mod reference;
mod registry;
mod save;
mod store;
mod tarfile;

pub use build::{BuildError, BuildOptions, BuildProgress};
pub use cancel::Cancel;
pub use config::{ConfigError, ImageConfig};
pub use digest::{Digest, DigestError};
pub use glob::Glob;
pub use layer::LayerError;
pub use layer::Limits;
pub use load::{LoadError, LoadOptions, LoadedImage, Progress, Source};
pub use platform::Platform;
pub use pull::{PullOptions, PullProgress, PulledImage};
pub use push::{Arrival, PushError, PushOptions, PushProgress, PushedImage};
pub use reference::{Reference, ReferenceError};
pub use registry::{
    CredentialError, Distrust, HostsError, Keyring, Login, Registry, RegistryError, Tried, forget,
};
pub use save::{SaveError, SaveFormat, SaveImage};
pub use store::{
    Broken, Damage, Details, Hold, Image, ImageUsage, Layer, Pruned, Removal, RemoveError, Removed,
    Store, StoreError, TagError, Unused, Usage, allocated, footprint,
};
pub use tarfile::TarError;
