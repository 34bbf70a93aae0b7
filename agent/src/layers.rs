//! Image layers: partitions of the layer disk.
//!
//! The supervisor appends layers to the disk while the guest runs and asks for
//! their partitions at the same time, so a request may come before the disk's
//! new size has reached the guest.

use crate::boot::LAYERS;
use crate::link::Caller;
use crate::sys::block;
use beluga_proto::agent::LayerExtent;
use beluga_proto::{Fault, FaultCode};
use rustix::fs::{Mode, OFlags, open};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

const DISK: &str = "/dev/vda";
/// How long a request waits for the disk to grow.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at the disk's size.
const INTERVAL: Duration = Duration::from_millis(5);
/// Unit of partitions in bytes: what the kernel addresses disks by.
const SECTOR: u64 = 512;

/// Why layers are not there.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// There is no layer disk, or it cannot be read.
    #[error("cannot use the layer disk {DISK}")]
    Disk {
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// The extent cannot be a partition.
    #[error("layer {partition} at {offset}+{length} cannot be a partition")]
    Shape {
        /// Partition number.
        partition: u8,
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
    },
    /// The number is taken by another extent.
    #[error("partition {partition} is another layer already")]
    Taken {
        /// Partition number.
        partition: u8,
    },
    /// The disk is too small.
    #[error("the layer disk has {size} bytes after 10 s, layers need {needed}")]
    TooSmall {
        /// What it has.
        size: u64,
        /// What it must have.
        needed: u64,
    },
    /// The kernel refused the partition.
    #[error("cannot add partition {partition}")]
    Add {
        /// Partition number.
        partition: u8,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
}

impl From<LayerError> for Fault {
    fn from(error: LayerError) -> Self {
        let code = match error {
            LayerError::Shape { .. } => FaultCode::InvalidArgument,
            LayerError::Taken { .. } => FaultCode::AlreadyExists,
            LayerError::TooSmall { .. } => FaultCode::DeadlineExceeded,
            LayerError::Disk { .. } | LayerError::Add { .. } => FaultCode::Internal,
        };
        Fault::from_error(code, &error)
    }
}

struct Waiting {
    caller: Caller,
    layers: Vec<LayerExtent>,
    until: Instant,
}

/// The layer disk's partitions.
#[derive(Default)]
pub struct Layers {
    disk: Option<OwnedFd>,
    known: BTreeMap<u8, LayerExtent>,
    waiting: Vec<Waiting>,
}

/// Device of a partition.
pub fn device(partition: u8) -> String {
    format!("{DISK}{partition}")
}

/// Where a partition is mounted.
pub fn mount_point(partition: u8) -> String {
    format!("{LAYERS}/{partition}")
}

impl Layers {
    /// Whether a layer can be mounted.
    pub fn has(&self, partition: u8) -> bool {
        self.known.contains_key(&partition)
    }

    /// When [`Layers::turn`] must be called.
    pub fn deadline(&self) -> Option<Instant> {
        (!self.waiting.is_empty()).then(|| Instant::now() + INTERVAL)
    }

    /// Takes a request; its answer comes from [`Layers::turn`].
    pub fn request(&mut self, caller: Caller, layers: Vec<LayerExtent>) {
        self.waiting.push(Waiting {
            caller,
            layers,
            until: Instant::now() + PATIENCE,
        });
    }

    /// Answers the requests that can be answered now.
    pub fn turn(&mut self) -> Vec<(Caller, Result<(), LayerError>)> {
        let mut answers = Vec::new();
        for waiting in std::mem::take(&mut self.waiting) {
            match self.add(&waiting.layers, waiting.until) {
                Ok(true) => answers.push((waiting.caller, Ok(()))),
                Ok(false) => self.waiting.push(waiting),
                Err(error) => answers.push((waiting.caller, Err(error))),
            }
        }
        answers
    }

    fn open_disk(&mut self) -> Result<&OwnedFd, LayerError> {
        let disk =
            match self.disk.take() {
                Some(disk) => disk,
                None => open(DISK, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(
                    |errno| LayerError::Disk {
                        source: errno.into(),
                    },
                )?,
            };
        Ok(self.disk.insert(disk))
    }

    /// False: the disk is still too small and there is time left.
    fn add(&mut self, layers: &[LayerExtent], until: Instant) -> Result<bool, LayerError> {
        let mut needed = 0;
        for layer in layers {
            needed = needed.max(end(layer)?);
            if self
                .known
                .get(&layer.partition)
                .is_some_and(|known| known != layer)
            {
                let partition = layer.partition;
                return Err(LayerError::Taken { partition });
            }
        }
        let disk = self.open_disk()?;
        let size = block::size(disk).map_err(|source| LayerError::Disk { source })?;
        if size < needed {
            return if Instant::now() < until {
                Ok(false)
            } else {
                Err(LayerError::TooSmall { size, needed })
            };
        }
        for layer in layers {
            if self.known.contains_key(&layer.partition) {
                continue;
            }
            let partition = layer.partition;
            let failed = |source| LayerError::Add { partition, source };
            let disk = self.open_disk()?;
            block::add_partition(disk, partition, layer.offset, layer.length).map_err(failed)?;
            std::fs::create_dir_all(mount_point(partition)).map_err(failed)?;
            self.known.insert(partition, *layer);
        }
        Ok(true)
    }
}

/// End of an extent in bytes. Errors when it cannot be a partition.
fn end(layer: &LayerExtent) -> Result<u64, LayerError> {
    let LayerExtent {
        partition,
        offset,
        length,
    } = *layer;
    let aligned = offset % SECTOR == 0 && length % SECTOR == 0;
    match offset.checked_add(length) {
        Some(end) if partition > 0 && length > 0 && aligned => Ok(end),
        _ => Err(LayerError::Shape {
            partition,
            offset,
            length,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_that_cannot_be_partitions_are_refused() {
        let extent = |partition, offset, length| LayerExtent {
            partition,
            offset,
            length,
        };
        assert_eq!(end(&extent(1, 4096, 8192)).unwrap(), 12288);
        assert!(end(&extent(0, 0, 4096)).is_err());
        assert!(end(&extent(1, 0, 0)).is_err());
        assert!(end(&extent(1, 100, 4096)).is_err());
        assert!(end(&extent(1, u64::MAX - 511, 4096)).is_err());
    }
}
