//! The layer disk: each distinct layer of the pod's images once, as a
//! partition.

use super::PlanError;
use super::types::{DiskPlan, ExtentPlan, LayerFile};
use beluga_proto::agent::LayerExtent;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Name of the disk.
pub const DISK: &str = "layers";

/// Layers in the order in which containers named them first.
#[derive(Debug, Default)]
pub struct Layers {
    /// Their extents, in order of partitions from 1.
    extents: Vec<ExtentPlan>,
    /// Equal layers have one file in the store.
    places: BTreeMap<PathBuf, usize>,
}

impl Layers {
    /// Takes the layers of an image in and gives their partitions, lowest
    /// layer first. More than 255 distinct ones are an error, told by
    /// [`Layers::check`] once all are counted.
    pub fn add(&mut self, layers: &[LayerFile]) -> Vec<usize> {
        layers
            .iter()
            .map(|layer| {
                *self.places.entry(layer.path.clone()).or_insert_with(|| {
                    self.extents.push(ExtentPlan {
                        path: layer.path.clone(),
                        offset: 0,
                        length: layer.bytes,
                    });
                    self.extents.len()
                })
            })
            .collect()
    }

    /// Those of a disk that is in use: they stay where they are, and others
    /// come behind them.
    pub fn of(disk: &DiskPlan) -> Self {
        let numbered = (1..).zip(&disk.extents);
        Self {
            places: numbered.map(|(at, one)| (one.path.clone(), at)).collect(),
            extents: disk.extents.clone(),
        }
    }

    /// Partition numbers of the width that the protocol has.
    pub fn check(&self, places: &[usize]) -> Result<Vec<u8>, PlanError> {
        places
            .iter()
            .map(|place| u8::try_from(*place))
            .collect::<Result<_, _>>()
            .map_err(|_| PlanError::Layers {
                count: self.extents.len(),
            })
    }

    /// The disk, one extent per layer.
    pub fn disk(&self) -> DiskPlan {
        DiskPlan {
            id: DISK.into(),
            read_only: true,
            extents: self.extents.clone(),
            discard: false,
            flush: false,
            rate: None,
        }
    }

    /// Where each partition lies on the disk.
    pub fn extents(&self) -> Vec<LayerExtent> {
        let numbered = (1..=u8::MAX).zip(&self.extents);
        numbered
            .scan(0u64, |offset, (partition, file)| {
                let extent = LayerExtent {
                    partition,
                    offset: *offset,
                    length: file.length,
                };
                *offset += file.length;
                Some(extent)
            })
            .collect()
    }
}
