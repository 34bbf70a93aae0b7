//! The configuration: read once, checked before anything is made of it, every
//! descriptor claimed by name.

use crate::sys::{process, socket};
use beluga_proto::VmConfig;
use beluga_proto::vm::{DiskConfig, FdNumber, MAX_DEVICES, VM_VERSION};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Most vCPUs.
pub const MAX_VCPUS: u8 = 32;

/// Longest configuration in bytes.
const MAX_CONFIG: u64 = 1 << 20;

const MEMORY_MIB: std::ops::RangeInclusive<u32> = 32..=1 << 20;
const MAX_NAME: usize = 63;
/// `VIRTIO_BLK_ID_BYTES`.
const MAX_DISK_ID: usize = 20;

/// Why a configuration cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON of that shape.
    #[error("the configuration cannot be read")]
    Json(#[from] serde_json::Error),
    /// Not readable, or too long.
    #[error("the configuration's descriptor {number} cannot be read")]
    Read {
        /// Which.
        number: i32,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Another version.
    #[error("the configuration has version {version} and this VMM reads {VM_VERSION}")]
    Version {
        /// Which.
        version: u32,
    },
    /// A number outside of its range, or a text that is too long.
    #[error("{field} is {value}, which is not {expected}")]
    Range {
        /// Path in the configuration.
        field: String,
        /// What it is.
        value: String,
        /// What it may be.
        expected: String,
    },
    /// An identifier twice.
    #[error("two devices have the id {id:?}")]
    Twice {
        /// Which.
        id: String,
    },
    /// A descriptor that is not what it should be.
    #[error("{field} is no usable descriptor ({number})")]
    Descriptor {
        /// Path in the configuration.
        field: String,
        /// The number.
        number: i32,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

/// Reads the configuration from an inherited descriptor. The text is given
/// back too: a bad one may still say where its exit record goes.
pub fn read(number: i32) -> Result<String, ConfigError> {
    let wrap = |source| ConfigError::Read { number, source };
    let file = File::from(process::claim_inherited(number).map_err(wrap)?);
    let mut text = String::new();
    let length = file
        .take(MAX_CONFIG + 1)
        .read_to_string(&mut text)
        .map_err(wrap)?;
    if length as u64 > MAX_CONFIG {
        return Err(wrap(io::Error::from(io::ErrorKind::FileTooLarge)));
    }
    Ok(text)
}

/// Where a configuration, good or bad, wants its exit record.
#[must_use]
pub fn exit_record(text: &str) -> Option<File> {
    #[derive(serde::Deserialize)]
    struct OnlyRecord {
        exit_record: FdNumber,
    }
    let record: OnlyRecord = serde_json::from_str(text).ok()?;
    process::claim_inherited(record.exit_record.0)
        .ok()
        .map(File::from)
}

/// Parses and checks everything that can be checked without a descriptor.
pub fn parse(text: &str) -> Result<VmConfig, ConfigError> {
    let config: VmConfig = serde_json::from_str(text)?;
    if config.version != VM_VERSION {
        return Err(ConfigError::Version {
            version: config.version,
        });
    }
    let range = |field: &str, value: String, good: bool, expected: String| {
        if good {
            return Ok(());
        }
        Err(ConfigError::Range {
            field: field.to_owned(),
            value,
            expected,
        })
    };
    range(
        "name",
        format!("{} bytes long", config.name.len()),
        (1..=MAX_NAME).contains(&config.name.len()),
        format!("1 to {MAX_NAME} bytes"),
    )?;
    range(
        "vcpus",
        config.vcpus.to_string(),
        (1..=MAX_VCPUS).contains(&config.vcpus),
        format!("1 to {MAX_VCPUS}"),
    )?;
    range(
        "memory_mib",
        config.memory_mib.to_string(),
        MEMORY_MIB.contains(&config.memory_mib),
        format!("{} to {}", MEMORY_MIB.start(), MEMORY_MIB.end()),
    )?;
    let devices = devices(&config);
    range(
        "the number of devices",
        devices.to_string(),
        devices <= MAX_DEVICES,
        format!("{MAX_DEVICES} or fewer"),
    )?;
    let cid = config.vsock.as_ref().map_or(3, |vsock| vsock.guest_cid);
    range(
        "vsock.guest_cid",
        cid.to_string(),
        (3..u32::MAX).contains(&cid),
        "3 or more".to_owned(),
    )?;
    for (at, disk) in config.disks.iter().enumerate() {
        range(
            &format!("disks[{at}].id"),
            format!("{:?}", disk.id),
            (1..=MAX_DISK_ID).contains(&disk.id.len()),
            format!("1 to {MAX_DISK_ID} bytes"),
        )?;
    }
    check_ids(&config)?;
    Ok(config)
}

/// How many devices the machine will have.
fn devices(config: &VmConfig) -> usize {
    let single = [config.vsock.is_some(), config.rng, config.balloon];
    let single = single.iter().filter(|there| **there).count();
    config.disks.len() + config.nets.len() + config.shares.len() + single
}

fn check_ids(config: &VmConfig) -> Result<(), ConfigError> {
    let mut seen = Vec::new();
    let disks = config.disks.iter().map(|disk| &disk.id);
    let nets = config.nets.iter().map(|net| &net.id);
    let shares = config.shares.iter().map(|share| &share.tag);
    for id in disks.chain(nets).chain(shares) {
        if seen.contains(&id) {
            return Err(ConfigError::Twice { id: id.clone() });
        }
        seen.push(id);
    }
    Ok(())
}

/// The inherited descriptors, claimed as they are needed. Disks may name one
/// file several times.
#[derive(Debug, Default)]
pub struct Descriptors {
    files: HashMap<i32, Arc<File>>,
}

impl Descriptors {
    /// Takes a descriptor that only one field may name.
    pub fn take(&self, field: &str, number: FdNumber) -> Result<OwnedFd, ConfigError> {
        process::claim_inherited(number.0).map_err(|source| ConfigError::Descriptor {
            field: field.to_owned(),
            number: number.0,
            source,
        })
    }

    /// Takes the control socket, which must listen for packets.
    pub fn take_listener(&self, number: FdNumber) -> Result<OwnedFd, ConfigError> {
        let listener = self.take("control", number)?;
        if !socket::is_packet_listener(&listener) {
            return Err(ConfigError::Descriptor {
                field: "control".to_owned(),
                number: number.0,
                source: io::Error::from_raw_os_error(libc::ENOTSOCK),
            });
        }
        Ok(listener)
    }

    /// Closes the images, which a restored machine has in its memory.
    pub fn drop_images(&self, config: &VmConfig) {
        for (field, number) in [("kernel", config.kernel), ("initramfs", config.initramfs)] {
            drop(self.take(field, number));
        }
    }

    /// The file of an extent; the same for the same number.
    pub fn shared(
        &mut self,
        disk: &DiskConfig,
        number: FdNumber,
    ) -> Result<Arc<File>, ConfigError> {
        if let Some(file) = self.files.get(&number.0) {
            return Ok(Arc::clone(file));
        }
        let fd = self.take(&format!("a file of disk {:?}", disk.id), number)?;
        let file = Arc::new(File::from(fd));
        self.files.insert(number.0, Arc::clone(&file));
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(change: impl FnOnce(&mut serde_json::Value)) -> String {
        let mut config = serde_json::json!({
            "version": VM_VERSION, "name": "t", "vcpus": 1, "memory_mib": 64,
            "kernel": 3, "initramfs": 4, "cmdline": "quiet",
            "disks": [{"id": "a", "read_only": true, "extents": [], "discard": false, "flush": false}],
            "nets": [], "vsock": {"guest_cid": 3}, "rng": true, "balloon": true,
            "control": 5, "exit_record": 6
        });
        change(&mut config);
        config.to_string()
    }

    #[test]
    fn a_good_configuration_passes() {
        assert_eq!(parse(&text(|_| {})).unwrap().vcpus, 1);
    }

    #[test]
    fn bad_ones_are_refused_by_name() {
        type Change = fn(&mut serde_json::Value);
        let cases: [(Change, &str); 8] = [
            (|c| c["version"] = 9.into(), "version 9"),
            (|c| c["vcpus"] = 0.into(), "vcpus is 0"),
            (|c| c["vcpus"] = 33.into(), "vcpus is 33"),
            (|c| c["memory_mib"] = 16.into(), "memory_mib is 16"),
            (|c| c["name"] = "".into(), "name is"),
            (
                |c| c["disks"][0]["id"] = "x".repeat(21).into(),
                "disks[0].id",
            ),
            (|c| c["vsock"]["guest_cid"] = 2.into(), "guest_cid is 2"),
            (
                |c| {
                    let disk = c["disks"][0].clone();
                    c["disks"] = vec![disk.clone(), disk].into();
                },
                "\"a\"",
            ),
        ];
        for (change, words) in cases {
            let error = parse(&text(change)).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert!(matches!(
            parse(&text(|c| c["surprise"] = 1.into())),
            Err(ConfigError::Json(_))
        ));
    }

    #[test]
    fn too_many_devices_are_refused() {
        let error = parse(&text(|c| {
            let disk = c["disks"][0].clone();
            let disks: Vec<_> = (0..14)
                .map(|at| {
                    let mut disk = disk.clone();
                    disk["id"] = format!("d{at}").into();
                    disk
                })
                .collect();
            c["disks"] = disks.into();
        }))
        .unwrap_err();
        assert!(error.to_string().contains("17"), "{error}");
    }
}
