//! Whether the store is whole.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use oci_spec::image::ImageManifest;

use super::{Store, StoreError};
use crate::digest::Digest;
use crate::layer::IMPLIED;

/// Where EROFS has its superblock, and what stands in it (fs/erofs/erofs_fs.h).
const SUPERBLOCK: usize = 1024;
const MAGIC: u32 = 0xe0f5_e1e2;
const BLOCK_BITS: usize = 12;
const UUID: usize = 48;
const BLOCKS: usize = 36;

/// A file of the store that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: String,
    /// Names of the images that need it, or their identifiers.
    pub images: Vec<String>,
}

impl Store {
    /// Files that are missing or too short, by what their images' manifests and their own
    /// superblocks say. Contents are not read: that is for `save` and for the kernel.
    pub fn check(&self) -> Result<Vec<Damage>, StoreError> {
        let mut damages: Vec<Damage> = Vec::new();
        for record in self.records()? {
            let names = self.names()?.into_iter();
            let names = names.filter(|(_, manifest)| *manifest == record.manifest);
            let mut names: Vec<String> = names.map(|(name, _)| name.familiar()).collect();
            if names.is_empty() {
                names.push(record.config.to_string());
            }
            let mut found = Vec::new();
            let manifest = self.blob_path(record.manifest);
            match document(&manifest, record.manifest) {
                Err(what) => found.push((manifest, what)),
                Ok(bytes) => found.extend(self.blobs_of(&bytes)),
            }
            let config = self.blob_path(record.config);
            found.extend(
                document(&config, record.config)
                    .err()
                    .map(|what| (config, what)),
            );
            let disks = record.disks().map(|disk| self.layer_path(disk));
            found.extend(disks.filter_map(|disk| disk_damage(&disk).map(|what| (disk, what))));
            for (path, what) in found {
                match damages.iter_mut().find(|known| known.path == path) {
                    Some(known) => known.images.extend(names.clone()),
                    None => damages.push(Damage {
                        path,
                        what,
                        images: names.clone(),
                    }),
                }
            }
        }
        damages.extend(self.lost()?);
        // One file may be a layer twice.
        damages.iter_mut().for_each(|damage| damage.images.dedup());
        Ok(damages)
    }

    /// Records that say nothing any more.
    fn lost(&self) -> Result<Vec<Damage>, StoreError> {
        let broken = self.broken()?.into_iter();
        let broken = broken.filter(|one| one.id.is_none()).map(|one| Damage {
            path: self.record_path(one.manifest_digest),
            what: "the record of an image cannot be read".to_owned(),
            images: match one.names.first() {
                None => vec![one.manifest_digest.to_string()],
                Some(_) => one.names.iter().map(|name| name.familiar()).collect(),
            },
        });
        let names = self.lost_names()?.into_iter().map(|path| Damage {
            path,
            what: "the record of a name cannot be read".to_owned(),
            images: vec!["the image of that name".to_owned()],
        });
        Ok(broken.chain(names).collect())
    }

    /// The packed layers that a manifest names and that do not have their length.
    fn blobs_of(&self, manifest: &[u8]) -> Vec<(PathBuf, String)> {
        let Ok(parsed) = serde_json::from_slice::<ImageManifest>(manifest) else {
            return Vec::new();
        };
        let wrong = |(digest, size): (Digest, u64)| {
            let path = self.blob_path(digest);
            Some((path.clone(), length_damage(&path, size)?))
        };
        let layers = parsed.layers().iter();
        let layers = layers.filter_map(|layer| {
            let digest = layer.digest().to_string().parse().ok()?;
            Some((digest, layer.size()))
        });
        layers.filter_map(wrong).collect()
    }

    /// Whether a layer's disk has directories that the layer does not describe.
    pub(crate) fn has_implied(&self, diff_id: Digest) -> bool {
        let mut head = [0; SUPERBLOCK + 64];
        let read =
            File::open(self.layer_path(diff_id)).and_then(|mut file| file.read_exact(&mut head));
        read.is_ok() && head[SUPERBLOCK + UUID..] == IMPLIED
    }

    /// Whether a blob is there with its length. What is in it was verified when it came.
    pub(crate) fn has_blob(&self, digest: Digest, size: u64) -> bool {
        fs::metadata(self.blob_path(digest)).is_ok_and(|found| found.len() == size)
    }

    /// Whether a layer's disk is there and as long as its superblock says.
    pub(crate) fn has_disk(&self, diff_id: Digest) -> bool {
        disk_damage(&self.layer_path(diff_id)).is_none()
    }
}

/// Reads a small blob, or says what is wrong with it.
fn document(path: &Path, digest: Digest) -> Result<Vec<u8>, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    if Digest::of(&bytes) == digest {
        Ok(bytes)
    } else {
        Err("its contents are not those of its digest".to_owned())
    }
}

fn length_damage(path: &Path, expected: u64) -> Option<String> {
    match fs::metadata(path) {
        Ok(found) if found.len() == expected => None,
        Ok(found) => Some(format!("it has {} bytes of {expected}", found.len())),
        // A pull leaves out what is here unpacked already.
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => Some(error.to_string()),
    }
}

fn disk_damage(path: &Path) -> Option<String> {
    let mut head = [0; SUPERBLOCK + 128];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    if let Err(error) = read {
        return Some(error.to_string());
    }
    let word = |at: usize| {
        let bytes = &head[SUPERBLOCK + at..SUPERBLOCK + at + 4];
        u32::from_le_bytes(bytes.try_into().expect("four bytes"))
    };
    if word(0) != MAGIC {
        return Some("it has no EROFS superblock".to_owned());
    }
    let bits = u32::from(head[SUPERBLOCK + BLOCK_BITS]);
    let expected = u64::from(word(BLOCKS))
        .checked_shl(bits)
        .unwrap_or(u64::MAX);
    match fs::metadata(path) {
        Ok(found) if found.len() >= expected => None,
        Ok(found) => Some(format!("it has {} bytes of {expected}", found.len())),
        Err(error) => Some(error.to_string()),
    }
}
