//! The first moments of PID 1: the agent's own file systems and cgroups.

use crate::cgroup;
use rustix::fs::{Mode, mkdir};
use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind, mount_change, mount_move,
};
use rustix::process::{Resource, Rlimit, chdir, chroot, setrlimit};
use std::ffi::CStr;
use std::io;
use std::os::unix::fs::DirBuilderExt;

/// All that the agent keeps lies below this directory, in memory.
pub const RUN: &str = "/run/beluga";
/// Mount points of image layers, one per partition.
pub const LAYERS: &str = "/run/beluga/layers";
/// The scratch disk, or a tmpfs in its place.
pub const SCRATCH: &str = "/run/beluga/scratch";
/// Volumes that are tmpfs, by name.
pub const VOLUMES: &str = "/run/beluga/volumes";
/// hosts, resolv.conf, hostname.
pub const FILES: &str = "/run/beluga/etc";
/// Mount point of a container's root in its own mount namespace.
pub const ROOT: &str = "/run/beluga/root";

/// Why the guest could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A mount failed.
    #[error("cannot mount {what}")]
    Mount {
        /// File system or place.
        what: &'static str,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// A directory or file could not be made.
    #[error("cannot make {path}")]
    Make {
        /// Where.
        path: &'static str,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// The cgroups could not be made.
    #[error("cannot set up cgroups")]
    Cgroup {
        /// Which and why.
        #[source]
        source: cgroup::CgroupError,
    },
}

struct Mount {
    kind: &'static str,
    at: &'static str,
    flags: MountFlags,
    data: Option<&'static CStr>,
}

const fn row(
    kind: &'static str,
    at: &'static str,
    flags: MountFlags,
    data: Option<&'static CStr>,
) -> Mount {
    Mount {
        kind,
        at,
        flags,
        data,
    }
}

const QUIET: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC);

/// In order: a place may lie in an earlier mount.
const MOUNTS: [Mount; 7] = [
    row("proc", "/proc", QUIET, None),
    row("sysfs", "/sys", QUIET, None),
    row("devtmpfs", "/dev", MountFlags::NOSUID, Some(c"mode=0755")),
    row(
        "devpts",
        "/dev/pts",
        MountFlags::NOSUID.union(MountFlags::NOEXEC),
        Some(c"gid=5,mode=0620,ptmxmode=0666"),
    ),
    row("mqueue", "/dev/mqueue", QUIET, None),
    row(
        "cgroup2",
        "/sys/fs/cgroup",
        QUIET,
        Some(c"nsdelegate,memory_recursiveprot"),
    ),
    row(
        "tmpfs",
        "/run",
        MountFlags::NOSUID.union(MountFlags::NODEV),
        Some(c"mode=0755"),
    ),
];

const HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
const MIN_FREE: &str = "/proc/sys/vm/min_free_kbytes";

/// Gives huge pages to programs that ask for them. Below 512 MiB the kernel has turned them off
/// (`hugepage_init` in mm/huge_memory.c), whatever its command line says, and keeps up to a
/// twentieth of the memory free for them once they are on: the containers have a use for that.
/// A machine works without.
fn offer_huge_pages() {
    if std::fs::read_to_string(HUGE_PAGES).is_ok_and(|now| now.contains("[never]")) {
        let min_free = std::fs::read(MIN_FREE);
        let _ = std::fs::write(HUGE_PAGES, "madvise");
        if let Ok(before) = min_free {
            let _ = std::fs::write(MIN_FREE, before);
        }
    }
}

/// Makes a directory unless it is there.
fn directory(path: &'static str) -> Result<(), BootError> {
    match mkdir(path, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(errno) => Err(BootError::Make {
            path,
            source: errno.into(),
        }),
    }
}

/// Puts a mount of the initramfs over itself. The kernel refuses pivot_root
/// where the root is its own first file system; from here on it is a mount
/// like any other.
fn leave_rootfs() -> Result<(), BootError> {
    let step = |what| {
        move |errno: rustix::io::Errno| BootError::Mount {
            what,
            source: errno.into(),
        }
    };
    directory("/root")?;
    mount_bind("/", "/root").map_err(step("the initramfs on /root"))?;
    chdir("/root").map_err(step("the initramfs as working directory"))?;
    mount_move(".", "/").map_err(step("the initramfs on /"))?;
    chroot(".").map_err(step("the initramfs as root"))?;
    chdir("/").map_err(step("the initramfs as working directory"))?;
    mount_change(
        "/",
        MountPropagationFlags::REC | MountPropagationFlags::PRIVATE,
    )
    .map_err(step("the initramfs as private"))
}

/// Descriptors that the agent may hold: a command takes up to eight.
const MAX_FILES: u64 = 65_536;

/// Mounts what the agent needs and moves it into a cgroup of its own.
pub fn mount_all() -> Result<(), BootError> {
    leave_rootfs()?;
    for Mount {
        kind,
        at,
        flags,
        data,
    } in MOUNTS
    {
        directory(at)?;
        mount(kind, at, kind, flags, data).map_err(|errno| BootError::Mount {
            what: at,
            source: errno.into(),
        })?;
    }
    // Nobody but the agent looks in here: mounts reach containers one by one.
    for path in [RUN, LAYERS, SCRATCH, VOLUMES, FILES, ROOT] {
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(path)
            .map_err(|source| BootError::Make { path, source })?;
    }
    cgroup::set_up().map_err(|source| BootError::Cgroup { source })?;
    let files = Rlimit {
        current: Some(MAX_FILES),
        maximum: Some(MAX_FILES),
    };
    // With the kernel's 1024 the agent would run out at a hundred commands;
    // it works all the same.
    let _ = setrlimit(Resource::Nofile, files);
    // Not so many as this machine's memory suggests, for all containers together: what each may
    // have its cgroup says.
    let processes = Rlimit {
        current: None,
        maximum: None,
    };
    let _ = setrlimit(Resource::Nproc, processes);
    offer_huge_pages();
    // The kernel ends anything else before the process that all depend on.
    std::fs::write("/proc/self/oom_score_adj", "-1000").map_err(|source| BootError::Make {
        path: "/proc/self/oom_score_adj",
        source,
    })
}
