//! Makes the pod: its name, clock, network, files, scratch disk and volumes.
//!
//! This runs once, before any container, in one go: nothing hostile is there
//! yet that could make a step slow.

use crate::boot::{FILES, SCRATCH, VOLUMES};
use crate::clock;
use crate::disk;
use crate::files::{FileVolume, FilesError};
use crate::network::{self, NetworkError};
use crate::quota::{self, ProjectQuota, QuotaError};
use beluga_proto::agent::FilePiece;
use beluga_proto::pod::{VolumeKind, VolumeSetup};
use beluga_proto::{Fault, FaultCode, PodSetup};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

/// Why the pod could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A name cannot be used as one.
    #[error("{what} {name:?} cannot be used")]
    Name {
        /// Of what.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The network.
    #[error("cannot set up the network")]
    Network {
        /// Which step and why.
        #[source]
        source: NetworkError,
    },
    /// A quota.
    #[error("cannot limit volume {volume}")]
    Quota {
        /// Which.
        volume: String,
        /// Why.
        #[source]
        source: QuotaError,
    },
    /// A step.
    #[error("cannot {what}")]
    Step {
        /// Which.
        what: String,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
}

impl From<SetupError> for Fault {
    fn from(error: SetupError) -> Self {
        let code = match &error {
            SetupError::Name { .. } => FaultCode::InvalidArgument,
            SetupError::Network {
                source: NetworkError::NoSuchCard { .. },
            } => FaultCode::NotFound,
            _ => FaultCode::Internal,
        };
        Fault::from_error(code, &error)
    }
}

fn step<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> SetupError {
    move |source| SetupError::Step {
        what: what.into(),
        source: source.into(),
    }
}

/// Where the pod keeps things, as far as containers need to know.
#[derive(Debug, Default)]
pub struct Storage {
    /// Directory of each volume.
    pub volumes: BTreeMap<String, String>,
    /// Layers of those that are images, which the first container that wants
    /// one mounts.
    pub images: BTreeMap<String, Vec<u8>>,
    /// Those that the agent fills.
    files: BTreeMap<String, FileVolume>,
    /// Whether volumes are devices that containers write to.
    pub has_devices: bool,
    /// Whether writable layers lie on the scratch disk.
    pub on_disk: bool,
    last_project: u32,
}

impl Storage {
    /// Puts files into a volume.
    pub fn write_files(
        &mut self,
        volume: &str,
        pieces: &[FilePiece],
        first: bool,
        last: bool,
    ) -> Result<(), Fault> {
        let Some(found) = self.files.get_mut(volume) else {
            let message = format!("there is no volume {volume:?} of files");
            return Err(Fault::new(FaultCode::NotFound, message));
        };
        found.write(pieces, first, last).map_err(|error| {
            let code = match error {
                FilesError::Path { .. } => FaultCode::InvalidArgument,
                FilesError::Step { .. } => FaultCode::Internal,
            };
            Fault::from_error(code, &error)
        })
    }

    /// A fresh quota project.
    pub fn project(&mut self, limit_bytes: Option<u64>) -> ProjectQuota {
        self.last_project += 1;
        ProjectQuota {
            id: self.last_project,
            limit_bytes,
        }
    }
}

/// Makes the pod.
pub fn set_up(setup: &PodSetup) -> Result<Storage, SetupError> {
    clock::set(setup.clock_unix_nanos).map_err(step("set the clock"))?;
    rustix::system::sethostname(setup.hostname.as_bytes()).map_err(step("set the hostname"))?;
    shared_memory(setup.shm_bytes)?;
    write_files(setup)?;
    network::configure(&setup.interfaces).map_err(|source| SetupError::Network { source })?;
    sysctls(setup)?;
    let mut storage = scratch(setup.scratch.as_deref())?;
    for volume in &setup.volumes {
        let path = volume_directory(volume, &mut storage)?;
        if volume.shared {
            let what = || format!("share what is mounted in volume {}", volume.name);
            // A mount of its own, so that only what is below it passes.
            mount_bind(&*path, &*path).map_err(step(what()))?;
            mount_change(&*path, MountPropagationFlags::SHARED).map_err(step(what()))?;
        }
        storage.volumes.insert(volume.name.clone(), path);
    }
    Ok(storage)
}

fn tmpfs(at: &str, mode: &str, bytes: Option<u64>) -> Result<(), SetupError> {
    let size = bytes.map_or(String::new(), |bytes| format!(",size={bytes}"));
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount(
        "tmpfs",
        at,
        "tmpfs",
        flags,
        &*text(format!("mode={mode}{size}")),
    )
    .map_err(step(format!("mount a tmpfs on {at}")))
}

fn text(content: String) -> CString {
    // The options are made here, of numbers and fixed words.
    CString::new(content).unwrap_or_default()
}

fn make_directory(path: &str, mode: u32) -> Result<(), SetupError> {
    match std::fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(step(format!("make {path}"))(error))
        }
        // Exactly this mode, whatever the umask is.
        _ => std::fs::set_permissions(path, PermissionsExt::from_mode(mode))
            .map_err(step(format!("set the mode of {path}"))),
    }
}

fn shared_memory(bytes: u64) -> Result<(), SetupError> {
    make_directory("/dev/shm", 0o1777)?;
    tmpfs("/dev/shm", "1777", Some(bytes))
}

/// Files that every container sees. They lie on a small tmpfs of their own:
/// containers may write them, and must not fill what the agent needs.
fn write_files(setup: &PodSetup) -> Result<(), SetupError> {
    tmpfs(FILES, "0755", Some(4 << 20))?;
    let hostname = format!("{}\n", setup.hostname);
    for (name, content) in [
        ("hosts", &setup.hosts),
        ("resolv.conf", &setup.resolv_conf),
        ("hostname", &hostname),
    ] {
        let path = format!("{FILES}/{name}");
        std::fs::write(&path, content).map_err(step(format!("write {path}")))?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644))
            .map_err(step(format!("set the mode of {path}")))?;
    }
    Ok(())
}

/// What containerd gives every pod: low ports and ping need no rights, since
/// the network namespace is the pod's own.
const SYSCTLS: [(&str, &str); 2] = [
    ("net.ipv4.ip_unprivileged_port_start", "0"),
    ("net.ipv4.ping_group_range", "0 2147483647"),
];

fn sysctls(setup: &PodSetup) -> Result<(), SetupError> {
    let own = setup.sysctls.iter();
    let all = SYSCTLS
        .into_iter()
        .chain(own.map(|(name, value)| (name.as_str(), value.as_str())));
    for (name, value) in all {
        let path = sysctl_path(name).ok_or_else(|| SetupError::Name {
            what: "kernel parameter",
            name: name.to_owned(),
        })?;
        std::fs::write(path, value).map_err(step(format!("set {name} to {value}")))?;
    }
    Ok(())
}

/// File of a kernel parameter. Dots separate; a slash in a name stands for a
/// dot in a part of it, as sysctl(8) has it.
fn sysctl_path(name: &str) -> Option<String> {
    let path: String = name
        .chars()
        .map(|c| match c {
            '.' => '/',
            '/' => '.',
            other => other,
        })
        .collect();
    let safe = path
        .split('/')
        .all(|part| !part.is_empty() && part != "." && part != "..");
    (safe && !name.contains('\0')).then(|| format!("/proc/sys/{path}"))
}

/// Mounts the scratch disk; without one, writable layers lie in memory.
fn scratch(device: Option<&str>) -> Result<Storage, SetupError> {
    match device {
        Some(device) => {
            let plain = device.bytes().all(|b| b.is_ascii_alphanumeric());
            if !plain || device.is_empty() {
                return Err(SetupError::Name {
                    what: "scratch disk",
                    name: device.to_owned(),
                });
            }
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
            mount(
                &*format!("/dev/{device}"),
                SCRATCH,
                "ext4",
                flags - MountFlags::NOSUID - MountFlags::NODEV,
                c"prjquota,discard",
            )
            .map_err(step(format!("mount the scratch disk /dev/{device}")))?;
        }
        None => tmpfs(SCRATCH, "0700", None)?,
    }
    for name in ["containers", "volumes"] {
        make_directory(&format!("{SCRATCH}/{name}"), 0o700)?;
    }
    Ok(Storage {
        on_disk: device.is_some(),
        ..Storage::default()
    })
}

/// Whether a name can be a directory of its own.
fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && name != "."
        && name != ".."
        && name.len() <= 253
        && !name.contains(['/', '\0'])
}

#[expect(
    clippy::too_many_lines,
    reason = "a total match: every kind of volume once"
)]
fn volume_directory(setup: &VolumeSetup, storage: &mut Storage) -> Result<String, SetupError> {
    let name = setup.name.as_str();
    if !is_plain_name(name) || storage.volumes.contains_key(name) {
        return Err(SetupError::Name {
            what: "volume",
            name: name.to_owned(),
        });
    }
    // Anybody may write, as in a Kubernetes emptyDir.
    let mode = 0o777;
    let path = match &setup.kind {
        VolumeKind::EmptyDir { limit_bytes } if storage.on_disk => {
            let path = format!("{SCRATCH}/volumes/{name}");
            make_directory(&path, mode)?;
            let project = storage.project(*limit_bytes);
            quota::assign(Path::new(&path), &project).map_err(|source| SetupError::Quota {
                volume: name.to_owned(),
                source,
            })?;
            path
        }
        VolumeKind::EmptyDir { limit_bytes } | VolumeKind::Memory { limit_bytes } => {
            memory_volume(name, *limit_bytes)?
        }
        VolumeKind::Disk { device } => {
            let path = format!("{VOLUMES}/{name}");
            make_directory(&path, 0o700)?;
            disk::mount_at(device, &path)
                .map_err(step(format!("mount the disk {device} of volume {name}")))?;
            if let Some(group) = setup.group {
                disk::give_to_group(&path, group, setup.group_on_mismatch)
                    .map_err(step(format!("give volume {name} to the group {group}")))?;
            }
            // What is on it stays as it is.
            return Ok(path);
        }
        VolumeKind::Block { device } => {
            let file = disk::file(device).map_err(step(format!("use the disk {device}")))?;
            storage.has_devices = true;
            return Ok(file);
        }
        VolumeKind::Share { tag, is_file } => {
            let path = format!("{VOLUMES}/{name}");
            make_directory(&path, 0o700)?;
            // Numbers of the host's devices mean something else here.
            mount(
                tag.as_str(),
                path.as_str(),
                "virtiofs",
                MountFlags::NODEV,
                c"",
            )
            .map_err(step(format!("mount the share {tag} of volume {name}")))?;
            // What is in it is the host's and stays as it is. Nothing in it is looked
            // at here: who serves it may take its time, and others may be at work in it.
            if let Some(group) = setup.group {
                disk::give_root_to_group(&path, group)
                    .map_err(step(format!("give volume {name} to the group {group}")))?;
            }
            return Ok(if *is_file {
                format!("{path}/file")
            } else {
                path
            });
        }
        VolumeKind::Image { layers } => {
            let path = format!("{VOLUMES}/{name}");
            make_directory(&path, 0o755)?;
            storage.images.insert(name.to_owned(), layers.clone());
            return Ok(path);
        }
        VolumeKind::Files => {
            let path = memory_volume(name, None)?;
            let volume = FileVolume::new(&path, setup.group);
            storage.files.insert(name.to_owned(), volume);
            path
        }
    };
    if let Some(group) = setup.group {
        give_to_group(&path, group)?;
    }
    Ok(path)
}

fn memory_volume(name: &str, limit_bytes: Option<u64>) -> Result<String, SetupError> {
    let path = format!("{VOLUMES}/{name}");
    make_directory(&path, 0o777)?;
    tmpfs(&path, "0777", limit_bytes)?;
    Ok(path)
}

/// What is made in the volume is the group's, as the kubelet has it.
fn give_to_group(path: &str, group: u32) -> Result<(), SetupError> {
    let what = || format!("give {path} to the group {group}");
    std::os::unix::fs::chown(path, None, Some(group)).map_err(step(what()))?;
    // After the owner: a change of it takes the bit away.
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o2777)).map_err(step(what()))
}

/// The directory for a container's writable layer, where it must be mounted
/// first: in memory, its limit is the size of a tmpfs.
pub fn writable_directory(
    id: &str,
    limit_bytes: Option<u64>,
    storage: &Storage,
) -> Result<String, SetupError> {
    let path = format!("{SCRATCH}/containers/{id}");
    if !storage.on_disk {
        make_directory(&path, 0o700)?;
        tmpfs(&path, "0700", limit_bytes)?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_parameters_stay_below_proc_sys() {
        assert_eq!(
            sysctl_path("net.ipv4.conf.eth0/1.forwarding").as_deref(),
            Some("/proc/sys/net/ipv4/conf/eth0.1/forwarding")
        );
        for bad in ["", ".", "net..ipv4", "net.//.x", "a.b\0"] {
            assert_eq!(sysctl_path(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn volume_names_are_no_paths() {
        assert!(is_plain_name("data"));
        for bad in ["", ".", "..", "a/b", "a\0"] {
            assert!(!is_plain_name(bad));
        }
    }
}
