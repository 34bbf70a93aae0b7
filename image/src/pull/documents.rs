//! The documents of an image: from the store where it has them, else from the registry.

use std::cell::Cell;
use std::fs;

use crate::digest::Digest;
use crate::load::LoadError;
use crate::load::candidate::Expected;
use crate::load::document::{Kind, kind};
use crate::load::oci;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry::{Client, Document, RegistryError};
use crate::store::Store;

/// Indexes within indexes, and what they lead to: none in use comes near.
const MAX_DOCUMENTS: usize = 32;
/// The longest of them.
const MAX_LENGTH: u64 = 4 << 20;

pub(super) struct Documents<'a> {
    store: &'a Store,
    client: &'a Client,
    name: &'a Reference,
    asked: Cell<usize>,
}

/// The manifest of the image for one platform.
pub(super) struct Manifest {
    pub digest: Digest,
    pub bytes: Vec<u8>,
}

impl<'a> Documents<'a> {
    pub(super) fn new(store: &'a Store, client: &'a Client, name: &'a Reference) -> Self {
        Documents {
            store,
            client,
            name,
            asked: Cell::new(0),
        }
    }

    /// The manifest for a platform that `top` is or leads to, and the digest of `top`.
    pub(super) fn choose(
        &self,
        top: Document,
        platform: &Platform,
    ) -> Result<(Digest, Manifest), LoadError> {
        let digest = top.digest;
        let top_kind = match kind(&top.bytes, digest, &top.media_type) {
            // A page of some other server: the address may be wrong.
            Err(LoadError::Document { source, .. }) => {
                let error = RegistryError::NoDocument {
                    host: top.host,
                    what: format!("what it gives for {}", self.name.familiar()),
                    media_type: top.media_type,
                    source,
                };
                return Err(error.into());
            }
            found => found?,
        };
        if top_kind == Kind::Manifest {
            let bytes = top.bytes;
            return Ok((digest, Manifest { digest, bytes }));
        }
        let chosen = oci::choose_in(self, digest, &top.bytes, platform)?;
        let bytes = oci::Documents::document(self, chosen)?;
        if kind(&bytes, chosen.digest, "")? == Kind::Index {
            let (digest, why) = (chosen.digest, "what leads to it says the other");
            return Err(LoadError::Ambiguous { digest, why });
        }
        let digest_of_manifest = chosen.digest;
        let manifest = Manifest {
            digest: digest_of_manifest,
            bytes,
        };
        Ok((digest, manifest))
    }

    /// An image's configuration.
    pub(super) fn config(&self, blob: Expected) -> Result<Vec<u8>, LoadError> {
        self.bounded(blob)?;
        if let Some(bytes) = self.stored(blob) {
            return Ok(bytes);
        }
        let bytes = self.client.small_blob(blob.digest)?;
        blob.check(&bytes)?;
        Ok(bytes)
    }

    fn bounded(&self, blob: Expected) -> Result<(), LoadError> {
        if blob.size > MAX_LENGTH {
            return Err(LoadError::DocumentTooLong {
                name: blob.digest.to_string(),
                limit: MAX_LENGTH,
            });
        }
        self.asked.set(self.asked.get() + 1);
        if self.asked.get() > MAX_DOCUMENTS {
            return Err(LoadError::TooManyDocuments {
                name: self.name.familiar(),
                limit: MAX_DOCUMENTS,
            });
        }
        Ok(())
    }

    /// A small blob that the store has and that is whole there.
    fn stored(&self, blob: Expected) -> Option<Vec<u8>> {
        let path = self.store.blob_path(blob.digest);
        let length = fs::metadata(&path).ok()?.len();
        let bytes = (length == blob.size).then(|| fs::read(&path).ok())??;
        blob.check(&bytes).is_ok().then_some(bytes)
    }
}

impl oci::Documents for Documents<'_> {
    fn document(&self, blob: Expected) -> Result<Vec<u8>, LoadError> {
        self.bounded(blob)?;
        if let Some(bytes) = self.stored(blob) {
            return Ok(bytes);
        }
        let document = self.client.manifest_of(blob.digest)?;
        blob.check(&document.bytes)?;
        Ok(document.bytes)
    }
}
