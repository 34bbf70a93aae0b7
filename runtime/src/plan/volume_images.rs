//! Volumes that are images: their layers lie on the layer disk like those of
//! the containers' roots.

use super::PlanError;
use super::layers::Layers;
use super::types::ImageFacts;
use crate::spec::{PodSpec, VolumeSource};
use std::collections::BTreeMap;

/// The images that are mounted as volumes.
#[derive(Debug, Default)]
pub struct VolumeImages {
    /// Partitions by the volume's name, lowest layer first.
    pub layers: BTreeMap<String, Vec<u8>>,
    /// `sha256:…` of each image's configuration, in the order of the volumes.
    pub ids: Vec<String>,
}

/// Takes their layers in.
pub fn add(
    spec: &PodSpec,
    images: &BTreeMap<String, ImageFacts>,
    layers: &mut Layers,
) -> Result<VolumeImages, PlanError> {
    let mut found = VolumeImages::default();
    for volume in &spec.volumes {
        let VolumeSource::Image { image, .. } = &volume.source else {
            continue;
        };
        let facts = images.get(image).ok_or_else(|| PlanError::VolumeSource {
            volume: volume.name.clone(),
            what: format!("the image {image:?} is not present"),
        })?;
        let places = layers.add(&facts.layers);
        let partitions = layers.check(&places)?;
        found.layers.insert(volume.name.clone(), partitions);
        found.ids.push(facts.id.clone());
    }
    Ok(found)
}
