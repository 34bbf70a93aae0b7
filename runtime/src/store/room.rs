//! Room for what pods may write.
//!
//! A scratch disk is a sparse file: it takes what is written to it. What pods
//! asked for by name (`sizeLimit`, `ephemeral-storage`) is held against what the
//! host has, so that many pods cannot each be promised the same free space. The
//! size of a disk for which nothing was asked is a bound and no promise.

use super::{Life, StoreError, read_definition, read_record, uids};
use crate::host::lock::FileLock;
use crate::path_error::PathError;
use crate::plan::storage_asked;
use crate::settings::Settings;
use crate::spec::PodSpec;
use std::os::unix::fs::MetadataExt as _;

/// What `st_blocks` counts.
const BLOCK: u64 = 512;

/// What has been promised, and of what.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Room {
    /// Bytes that pods have asked for.
    promised: u64,
    /// Bytes that they have written of it already.
    written: u64,
    /// Bytes that are free.
    free: u64,
}

impl Room {
    /// Whether so much more may be promised; `ratio` is in millionths.
    fn has(self, asked: u64, ratio: u64) -> bool {
        let there = u128::from(self.free) + u128::from(self.written);
        let promised = u128::from(self.promised) + u128::from(asked);
        promised * 1_000_000 <= there.saturating_mul(u128::from(ratio))
    }
}

/// Errors when the pod's scratch disk has no room beside those of the others.
/// While the lock is held no other pod is promised any; `None` when the pod asks
/// for nothing.
pub fn admit(settings: &Settings, spec: &PodSpec) -> Result<Option<FileLock>, StoreError> {
    let asked = storage_asked(spec);
    if asked == 0 {
        return Ok(None);
    }
    let path = settings.root.join("room.lock");
    let lock = FileLock::wait(&path).map_err(PathError::on("lock", &path))?;
    let room = look(settings)?;
    if room.has(asked, settings.storage_overcommit) {
        return Ok(Some(lock));
    }
    Err(StoreError::NoRoom {
        asked,
        promised: room.promised,
        there: room.free.saturating_add(room.written),
        root: settings.root.clone(),
    })
}

fn look(settings: &Settings) -> Result<Room, StoreError> {
    let root = &settings.root;
    let system = rustix::fs::statvfs(root)
        .map_err(|error| PathError::on("ask for the free space of", root)(error.into()))?;
    let mut room = Room {
        free: system.f_bavail.saturating_mul(system.f_frsize),
        ..Room::default()
    };
    for uid in uids(settings)? {
        // One that is being deleted in this moment has neither.
        let (Ok(Some(record)), Ok(Some(definition))) =
            (read_record(settings, &uid), read_definition(settings, &uid))
        else {
            continue;
        };
        if record.life == Life::Ended {
            continue;
        }
        room.promised = room
            .promised
            .saturating_add(storage_asked(&definition.spec));
        let disk = std::fs::metadata(settings.pod_dir(&uid).join("scratch.img"));
        let blocks = disk.map_or(0, |disk| disk.blocks());
        room.written = room.written.saturating_add(blocks.saturating_mul(BLOCK));
    }
    Ok(room)
}

/// For errors.
pub(super) fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_promised_is_at_most_the_ratio_of_what_there_is() {
        let room = Room {
            promised: 10,
            written: 4,
            free: 6,
        };
        assert!(room.has(10, 2_000_000));
        assert!(!room.has(11, 2_000_000));
        assert!(!room.has(1, 1_000_000));
        assert!(!room.has(u64::MAX, u64::MAX >> 20));
    }
}
