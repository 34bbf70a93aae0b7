//! Why images cannot be loaded.

use std::io;
use std::path::PathBuf;

use crate::config::ConfigError;
use crate::digest::Digest;
use crate::layer::LayerError;
use crate::platform::Platform;
use crate::registry::RegistryError;
use crate::store::StoreError;
use crate::tarfile::TarError;

/// Why images cannot be loaded.
// Over fifteen variants: each is one thing that a source can have wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Neither an OCI layout nor a docker-archive.
    #[error("{path} is neither an OCI layout (directory or tar) nor a docker-archive",
        path = .path.display())]
    UnknownFormat {
        /// The source.
        path: PathBuf,
    },
    /// The source cannot be read.
    #[error("cannot read {path}", path = .path.display())]
    Read {
        /// The source, or a file in it.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The source is a broken tar.
    #[error("{path} is no usable archive", path = .path.display())]
    Archive {
        /// The source.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: TarError,
    },
    /// The source has more files than any image.
    #[error("{path} has more than {limit} files", path = .path.display())]
    TooManyFiles {
        /// The source.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// An index, manifest or configuration of absurd length.
    #[error("{name} is longer than {limit} bytes")]
    DocumentTooLong {
        /// Which.
        name: String,
        /// The limit.
        limit: u64,
    },
    /// An index or manifest that is not what it must be.
    #[error("{name} is malformed")]
    Document {
        /// Which.
        name: String,
        /// Where it goes wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A digest of another kind than SHA-256, or none.
    #[error("{name} names a blob without a proper digest")]
    Digest {
        /// The document.
        name: String,
        /// What is wrong.
        #[source]
        source: crate::digest::DigestError,
    },
    /// Indexes within indexes.
    #[error("image index {digest} lies too deep in other indexes")]
    IndexTooDeep {
        /// The index.
        digest: Digest,
    },
    /// Something that a manifest names is not there.
    #[error("{name} is missing in the source")]
    Missing {
        /// The file.
        name: String,
    },
    /// A blob's length is not what its manifest says.
    #[error("{digest} has {actual} bytes, its manifest says {expected}")]
    WrongSize {
        /// The blob.
        digest: Digest,
        /// As announced.
        expected: u64,
        /// As found.
        actual: u64,
    },
    /// A blob of absurd length.
    #[error("layer {digest} has {size} bytes, more than {limit}")]
    BlobTooLong {
        /// The layer.
        digest: Digest,
        /// As announced.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// More layers than any image has.
    #[error("image {image} has {layers} layers, more than {limit}")]
    TooManyLayers {
        /// The image: its manifest's digest, or its configuration's.
        image: Digest,
        /// In the manifest.
        layers: usize,
        /// The limit.
        limit: usize,
    },
    /// Layers that are absurdly long together.
    #[error("the layers of image {image} have {size} bytes, more than {limit}")]
    ImageTooLong {
        /// The image: its manifest's digest, or its configuration's.
        image: Digest,
        /// As announced, of all layers.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// A blob's contents are not what its name says.
    #[error("{expected} has the wrong contents: their digest is {actual}")]
    WrongDigest {
        /// As announced.
        expected: Digest,
        /// As found.
        actual: Digest,
    },
    /// A layer decompresses to something other than its diffID.
    #[error("layer {blob} decompresses to {actual}, its image's configuration says {expected}")]
    WrongDiffId {
        /// The layer.
        blob: Digest,
        /// As the configuration says.
        expected: Digest,
        /// As found.
        actual: Digest,
    },
    /// A layer cannot become a disk.
    #[error("layer {layer} cannot be used")]
    Layer {
        /// The layer: its blob's digest, or its diffID where the source has no other.
        layer: Digest,
        /// What is wrong with it.
        #[source]
        source: LayerError,
    },
    /// A layer of a kind that cannot be read: encrypted, or no tar.
    #[error("layer {layer} has the media type {media_type:?}, which is not supported")]
    MediaType {
        /// The layer.
        layer: Digest,
        /// As the manifest says.
        media_type: String,
    },
    /// The configuration and the manifest count differently.
    #[error("image {id} has {layers} layers, its configuration lists {diff_ids}")]
    LayerCount {
        /// The image.
        id: Digest,
        /// In the manifest.
        layers: usize,
        /// In the configuration.
        diff_ids: usize,
    },
    /// The image's configuration cannot be read.
    #[error("the image's configuration is unusable")]
    Config(#[source] ConfigError),
    /// Nothing in the source runs here.
    #[error("the image is for {found}, and {wanted} is wanted",
        found = .found.iter().map(Platform::to_string).collect::<Vec<_>>().join(", "))]
    WrongPlatform {
        /// What was asked for.
        wanted: Platform,
        /// What is there.
        found: Vec<Platform>,
    },
    /// A tag was given for several images.
    #[error("the source holds {count} images, so one tag cannot be given to it")]
    TagForMany {
        /// How many.
        count: usize,
    },
    /// The source holds no image.
    #[error("{path} holds no image", path = .path.display())]
    NoImage {
        /// The source.
        path: PathBuf,
    },
    /// An image's index leads to more documents than any does.
    #[error("the index of {name} leads to more than {limit} documents")]
    TooManyDocuments {
        /// The image.
        name: String,
        /// The limit.
        limit: usize,
    },
    /// A document that is neither a manifest nor an index, or both.
    #[error("manifest {digest} is of the type {media_type:?}, which is not supported")]
    ManifestType {
        /// The document.
        digest: Digest,
        /// As it says, or as the registry does.
        media_type: String,
    },
    /// A document that could be taken for two images.
    #[error("{digest} is not clearly a manifest or an index: {why}")]
    Ambiguous {
        /// The document.
        digest: Digest,
        /// How.
        why: &'static str,
    },
    /// A file that was packed in a way that is not read.
    #[error("{path} is packed with {how}, which is not read", path = .path.display())]
    Packed {
        /// The source.
        path: PathBuf,
        /// `xz`, `bzip2`.
        how: &'static str,
    },
    /// A layer that its registry does not have, because it is to be had elsewhere only.
    #[error(
        "layer {layer} is a foreign one: its manifest names an address for it, which is not followed"
    )]
    Foreign {
        /// The layer.
        layer: Digest,
        /// What the registry says.
        #[source]
        source: Box<RegistryError>,
    },
    /// What a host of a registry has given for a layer.
    #[error("registry {host} gives something else than was asked for")]
    Given {
        /// The registry, or a mirror.
        host: String,
        /// What is wrong with it.
        #[source]
        source: Box<LoadError>,
    },
    /// Somebody wanted it to stop.
    #[error("interrupted")]
    Cancelled,
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LoadError {
    /// Whether it may be otherwise a moment later, and what there is is worth keeping for then.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Registry(error) => error.is_passing(),
            Self::Cancelled => true,
            Self::Foreign { source, .. } => source.is_passing(),
            Self::Given { source, .. } => source.is_passing(),
            _ => false,
        }
    }
}
