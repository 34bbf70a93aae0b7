//! Images that this process starts pods with are not removed under it: from the look at an image
//! to the pod's record there is nothing else that says that it is in use.

use crate::settings::Settings;
use beluga_image::{Hold, Image, Reference, Store, StoreError};
use std::sync::{Mutex, PoisonError};

/// What this process holds until it ends: by then its pods have records.
static HELD: Mutex<Vec<Hold>> = Mutex::new(Vec::new());

/// The image store, for somebody who is about to start pods. What was found in it stays as long
/// as this lives, or longer after [`Images::keep`].
#[derive(Debug)]
pub struct Images(Hold);

/// Opens the image store to start pods.
pub fn hold_images(settings: &Settings) -> Result<Images, StoreError> {
    Ok(Images(Store::open(settings.images())?.hold()?))
}

/// Ends what was kept, at the end of a command.
pub fn release_images() {
    HELD.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

impl Images {
    /// The image that `reference` means, which stays from now on.
    pub fn resolve(&mut self, reference: &Reference) -> Result<Option<Image>, StoreError> {
        self.0.resolve(reference)
    }

    /// The image of that name, or whose identifier begins so; it stays from now on.
    pub fn find(&mut self, name_or_id: &str) -> Result<Option<Image>, StoreError> {
        let found = self.0.store().find(name_or_id)?;
        match found {
            Some(image) if self.0.take(&image)? => Ok(Some(image)),
            _ => Ok(None),
        }
    }

    /// This image stays from now on; `false` when it was removed before.
    pub fn hold(&mut self, image: &Image) -> Result<bool, StoreError> {
        self.0.take(image)
    }

    /// What was found stays until the command ends.
    pub fn keep(self) {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        held.push(self.0);
    }
}
