//! A stored image as the plan needs it.

use super::types::{ImageFacts, LayerFile};
use beluga_image::Image;

/// What the plan must know of an image.
#[must_use]
pub fn image_facts(image: &Image) -> ImageFacts {
    let config = &image.config;
    ImageFacts {
        id: image.id.to_string(),
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        env: config.env.clone(),
        user: config.user.clone().unwrap_or_default(),
        working_dir: config.workdir.clone().unwrap_or_default(),
        stop_signal: config.stop_signal.clone().unwrap_or_default(),
        layers: image
            .layers
            .iter()
            .map(|layer| LayerFile {
                diff_id: layer.diff_id.to_string(),
                path: layer.path.clone(),
                bytes: layer.size,
            })
            .collect(),
    }
}
