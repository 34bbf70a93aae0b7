//! A record for which the root has no room lies in the state directory, which
//! is another file system as a rule: what is wrong has to be seen while it is.

use super::{Record, atomic, read_json};
use crate::settings::Settings;
use beluga_proto::PodUid;
use std::io;
use std::path::PathBuf;

fn path(settings: &Settings, uid: &PodUid) -> PathBuf {
    settings.run_dir(uid).join("record.json")
}

/// The record that is newer than the root's, if there is one.
pub(super) fn read(settings: &Settings, uid: &PodUid) -> Option<Record> {
    read_json(&path(settings, uid)).ok().flatten()
}

/// After an attempt to write the root's record: keeps it here when the root is
/// full, and nothing here when it could be written.
pub(super) fn settle(settings: &Settings, uid: &PodUid, written: &io::Result<()>, bytes: &[u8]) {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    let path = path(settings, uid);
    // Where this fails as well, the root's record is old: as it would be without.
    let _ = match written {
        Ok(()) => std::fs::remove_file(path),
        Err(error) if matches!(error.kind(), StorageFull | QuotaExceeded) => {
            atomic::replace(&path, bytes)
        }
        Err(_) => Ok(()),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_root_has_its_record_aside_until_there_is_room() {
        let settings = crate::store::tests::settings();
        let uid = PodUid::from_random([3; 16]);
        let path = path(&settings, &uid);
        std::fs::create_dir_all(settings.run_dir(&uid)).unwrap();
        let full = Err(io::ErrorKind::StorageFull.into());
        let broken = Err(io::ErrorKind::PermissionDenied.into());
        for (written, bytes, kept) in [
            (&broken, "1", None),
            (&full, "2", Some("2")),
            (&broken, "3", Some("2")),
            (&full, "4", Some("4")),
            (&Ok(()), "5", None),
            (&Ok(()), "6", None),
        ] {
            settle(&settings, &uid, written, bytes.as_bytes());
            assert_eq!(std::fs::read_to_string(&path).ok().as_deref(), kept);
        }
        std::fs::remove_dir_all(&settings.root).unwrap();
    }
}
