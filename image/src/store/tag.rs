//! Giving images further names.

use std::fs;

use super::{Image, Store, StoreError};
use crate::reference::Reference;

/// Why an image cannot be given a name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TagError {
    /// There is none.
    #[error("no such image: {target}")]
    Absent {
        /// Name or id as given.
        target: String,
    },
    /// A digest is what an image has, not what it is given.
    #[error("refusing to create a tag with a digest reference: {name}")]
    Digest {
        /// The name as given.
        name: Reference,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Gives `name` to the image that `target` means in any form that [`Store::find`] takes,
    /// whichever image had it before.
    pub fn tag(&self, target: &str, name: &Reference) -> Result<Image, TagError> {
        if name.digest().is_some() {
            return Err(TagError::Digest { name: name.clone() });
        }
        let lock = self.lock(|| ())?;
        let absent = || TagError::Absent {
            target: target.to_owned(),
        };
        let image = self.find(target)?.ok_or_else(absent)?;
        let scratch = self.scratch(&lock)?;
        self.write_name(&scratch, name, image.manifest_digest)?;
        fs::remove_dir_all(&scratch).map_err(StoreError::io("remove", &scratch))?;
        Ok(image)
    }
}
