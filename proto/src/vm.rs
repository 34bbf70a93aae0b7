//! [`VmConfig`]: all that a VMM is told, once, before it starts.
//!
//! Descriptors are numbers of files that the VMM inherits; it opens nothing
//! itself. The VMM knows no pods: a disk is a list of extents, a network card
//! is a tap.

use serde::{Deserialize, Serialize};

/// Version of [`VmConfig`] and of the control protocol. The VMM refuses another.
pub const VM_VERSION: u32 = 1;

/// Most disks, cards and other devices together: one interrupt line each, and
/// the IOAPIC has no more that nothing else claims.
pub const MAX_DEVICES: usize = 16;

/// Unit of every disk extent in bytes: offsets and lengths are multiples of it.
pub const EXTENT_ALIGN: u64 = 4096;

/// Number of an inherited descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FdNumber(pub i32);

/// The whole machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmConfig {
    /// [`VM_VERSION`].
    pub version: u32,
    /// Names the VM in messages and in the process list; at most 63 bytes.
    pub name: String,
    /// Virtual CPUs, 1 to 32.
    pub vcpus: u8,
    /// Guest memory in MiB, 32 to 1 TiB.
    pub memory_mib: u32,
    /// The guest kernel: an ELF `vmlinux` or a bzImage.
    pub kernel: FdNumber,
    /// The initial RAM file system.
    pub initramfs: FdNumber,
    /// Kernel command line; the VMM appends the devices to it.
    pub cmdline: String,
    /// Disks in the order in which the guest names them: `vda`, `vdb`, …
    pub disks: Vec<DiskConfig>,
    /// Network cards in order: `eth0`, …
    pub nets: Vec<NetConfig>,
    /// Whether there is a vsock device, and the guest's address on it.
    pub vsock: Option<VsockConfig>,
    /// Whether there is an entropy device.
    pub rng: bool,
    /// Whether there is a balloon with free-page reporting.
    pub balloon: bool,
    /// Directories of the host, each served by a process of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<ShareConfig>,
    /// A listening `SOCK_SEQPACKET` socket for supervisors.
    pub control: FdNumber,
    /// Where the exit record goes; written once, just before the process ends.
    pub exit_record: FdNumber,
    /// What the VMM shuts itself into before the guest runs; without it only
    /// its threads' system calls are limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jail: Option<JailConfig>,
}

/// The VMM's jail: namespaces of its own with nothing in them, no rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JailConfig {
    /// The user, and the group of the same number, that the VMM becomes, which
    /// takes root; without it, it stays who it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<u32>,
}

/// One virtio-blk device made of pieces of files, one after another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskConfig {
    /// Name for the control protocol and messages, unique in the VM; also the
    /// virtio serial of the disk, so at most 20 bytes.
    pub id: String,
    /// The guest may not write. Descriptors are open for reading only.
    pub read_only: bool,
    /// The content, in order. May be empty: a slot to be filled later.
    pub extents: Vec<Extent>,
    /// Offer discard: punches holes in the files.
    pub discard: bool,
    /// Offer flush (`VIRTIO_BLK_F_FLUSH`), and mean it: fdatasync.
    pub flush: bool,
    /// How much may be read and written, together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

/// How much a device may carry in a second; what is missing is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Bytes at once, after a rest; a second's worth when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst_bytes: Option<u64>,
    /// Packets or requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operations: Option<u64>,
    /// Packets or requests at once; a second's worth when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst_operations: Option<u64>,
}

/// How much a card may carry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetLimits {
    /// From the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_guest: Option<Rate>,
    /// To the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_guest: Option<Rate>,
}

/// A piece of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extent {
    /// The file. In a control message: index into the descriptors passed with it.
    pub fd: FdNumber,
    /// First byte in the file, a multiple of [`EXTENT_ALIGN`].
    pub offset: u64,
    /// Bytes, a multiple of [`EXTENT_ALIGN`], more than none.
    pub length: u64,
}

/// One virtio-net device on a tap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetConfig {
    /// Name for messages, unique in the VM.
    pub id: String,
    /// The tap, attached with `IFF_TAP | IFF_NO_PI | IFF_VNET_HDR`.
    pub tap: FdNumber,
    /// Address of the card.
    pub mac: MacAddress,
    /// Largest packet in bytes, offered to the guest as the link's MTU.
    pub mtu: u16,
    /// How much it may carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<NetLimits>,
}

/// One virtio-fs device: a directory of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareConfig {
    /// By which the guest mounts it, 1 to 36 bytes, unique in the VM; also its
    /// name in messages.
    pub tag: String,
    /// A connected `SOCK_SEQPACKET` socket whose other end answers FUSE
    /// requests, one packet each.
    pub server: FdNumber,
}

/// The vsock device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VsockConfig {
    /// The guest's context ID, 3 or more. Nothing outside the VM sees it.
    pub guest_cid: u32,
}

/// A MAC address, written `02:00:00:00:00:01`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress(pub [u8; 6]);

impl std::fmt::Display for MacAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> String {
        mac.to_string()
    }
}

impl TryFrom<String> for MacAddress {
    type Error = crate::IdError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut bytes = [0u8; 6];
        let mut parts = text.split(':');
        let parsed = bytes.iter_mut().all(|byte| {
            parts
                .next()
                .filter(|part| part.len() == 2)
                .is_some_and(|part| {
                    part.bytes().all(|b| b.is_ascii_hexdigit())
                        && u8::from_str_radix(part, 16)
                            .map(|value| *byte = value)
                            .is_ok()
                })
        });
        if parsed && parts.next().is_none() {
            Ok(Self(bytes))
        } else {
            Err(crate::IdError::Shape {
                text,
                expected: "a MAC address like 02:00:00:00:00:01",
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_address_survives_its_text_form() {
        let mac = MacAddress([2, 0, 0, 0xab, 0, 1]);
        assert_eq!(mac.to_string(), "02:00:00:ab:00:01");
        assert_eq!(MacAddress::try_from(mac.to_string()), Ok(mac));
        assert!(MacAddress::try_from("02:00:00:ab:00".to_owned()).is_err());
        assert!(MacAddress::try_from("02:00:00:ab:00:+1".to_owned()).is_err());
    }
}
