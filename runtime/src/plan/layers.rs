//! The layer disk: each distinct layer of the pod's images once, as a
//! partition.

use super::PlanError;
use super::types::{DiskPlan, ExtentPlan, LayerFile};
use beluga_proto::agent::LayerExtent;
use std::collections::BTreeMap;

/// Layers in the order in which containers named them first.
#[derive(Debug, Default)]
pub struct Layers {
    files: Vec<LayerFile>,
    places: BTreeMap<String, usize>,
}

impl Layers {
    /// Takes the layers of an image in and gives their partitions, lowest
    /// layer first. More than 255 distinct ones are an error, told by
    /// [`Layers::check`] once all are counted.
    pub fn add(&mut self, layers: &[LayerFile]) -> Vec<usize> {
        layers
            .iter()
            .map(|layer| {
                *self.places.entry(layer.diff_id.clone()).or_insert_with(|| {
                    self.files.push(layer.clone());
                    self.files.len()
                })
            })
            .collect()
    }

    /// Partition numbers of the width that the protocol has.
    pub fn check(&self, places: &[usize]) -> Result<Vec<u8>, PlanError> {
        places
            .iter()
            .map(|place| u8::try_from(*place))
            .collect::<Result<_, _>>()
            .map_err(|_| PlanError::Layers {
                count: self.files.len(),
            })
    }

    /// The disk, one extent per layer.
    pub fn disk(&self) -> DiskPlan {
        DiskPlan {
            id: "layers".into(),
            read_only: true,
            extents: self
                .files
                .iter()
                .map(|file| ExtentPlan {
                    path: file.path.clone(),
                    offset: 0,
                    length: file.bytes,
                })
                .collect(),
            discard: false,
            flush: false,
        }
    }

    /// Where each partition lies on the disk.
    pub fn extents(&self) -> Vec<LayerExtent> {
        let numbered = (1..=u8::MAX).zip(&self.files);
        numbered
            .scan(0u64, |offset, (partition, file)| {
                let extent = LayerExtent {
                    partition,
                    offset: *offset,
                    length: file.bytes,
                };
                *offset += file.bytes;
                Some(extent)
            })
            .collect()
    }
}
