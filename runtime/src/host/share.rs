//! Directories and files of the host that a pod uses, each served by a process
//! of its own.
//!
//! A path is resolved once, here, to a descriptor; whether it may be shared is
//! asked of where it leads, not of how it is written. The server gets the
//! descriptor and never a path. It ends when its VMM closes the other end of
//! their socket, whatever becomes of the supervisor.

use super::process::{self, POD_VARIABLE};
use crate::path_error::PathError;
use crate::plan::SharePlan;
use crate::spec::HostPathKind;
use crate::store::{ProcessRef, ShareRef, private};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::{Errno, FdFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

/// Asked for on both ends of the socket: a whole write and its headers.
const SEND_BUFFER: usize = 256 << 10;

/// How long a server may take to end once nobody is at its other end.
const PATIENCE_MILLIS: u32 = 1000;

/// Why a volume cannot be served. The text of the first three is the kubelet's.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// It is something else.
    #[error(
        "MountVolume.SetUp failed for volume {volume:?} : hostPath type check failed: {path} is not {expected}",
        path = .path.display()
    )]
    Kind {
        /// The volume.
        volume: String,
        /// Where.
        path: PathBuf,
        /// `a directory` or `a file`.
        expected: &'static str,
    },
    /// It leads to where nothing may be shared.
    #[error(
        "MountVolume.SetUp failed for volume {volume:?} : {path} is {leads_to}, which is forbidden by policy",
        path = .path.display(), leads_to = .leads_to.display()
    )]
    Outside {
        /// The volume.
        volume: String,
        /// As it is written.
        path: PathBuf,
        /// Where that is.
        leads_to: PathBuf,
    },
    /// It cannot be opened or made.
    #[error("MountVolume.SetUp failed for volume {volume:?}")]
    Path {
        /// The volume.
        volume: String,
        /// What was tried.
        #[source]
        source: PathError,
    },
    /// Its server cannot be started.
    #[error("cannot run the server {program} of volume {volume:?}", program = .program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// The volume.
        volume: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// A server that has been started, and the VMM's end of its socket.
#[derive(Debug)]
pub struct Served {
    /// What the guest calls it.
    pub tag: String,
    /// For the VMM.
    pub server: OwnedFd,
    /// The process.
    pub process: ServerProcess,
}

/// A server process; ended when it is dropped before it is kept.
#[derive(Debug)]
pub struct ServerProcess {
    /// For the record.
    pub known: ShareRef,
    pidfd: Option<OwnedFd>,
}

impl ServerProcess {
    /// Leaves it running: the pod's record knows it now. Gives the descriptor
    /// that tells its end.
    #[must_use]
    pub fn keep(mut self) -> (ShareRef, Option<OwnedFd>) {
        (self.known.clone(), self.pidfd.take())
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if let Some(pidfd) = &self.pidfd {
            let _ = process::kill(pidfd);
            let _ = process::wait_end(pidfd, PATIENCE_MILLIS);
        }
    }
}

/// Resolves the plan's path and starts its server.
pub fn serve(program: &Path, plan: &SharePlan) -> Result<Served, ShareError> {
    let root = open(plan)?;
    let spawn_error = |source: io::Error| ShareError::Spawn {
        program: program.to_owned(),
        volume: plan.volume.clone(),
        source,
    };
    let (ours, theirs) = socket_pair().map_err(spawn_error)?;
    let log = File::options()
        .create(true)
        .append(true)
        .open(&plan.log)
        .map_err(spawn_error)?;
    // This process is single-threaded and runs nothing else meanwhile.
    for fd in [&root, &theirs] {
        rustix::io::fcntl_setfd(fd, FdFlags::empty()).map_err(|error| spawn_error(error.into()))?;
    }
    let mut command = Command::new(program);
    command
        .args(["--socket", &theirs.as_raw_fd().to_string()])
        .args(["--root", &root.as_raw_fd().to_string()]);
    for (flag, is_set) in [("--read-only", plan.read_only), ("--file", plan.is_file)] {
        if is_set {
            command.arg(flag);
        }
    }
    command
        .env_clear()
        .env(POD_VARIABLE, plan.pod.as_str())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    let child = crate::sys::pidns::alone(|| command.spawn()).map_err(spawn_error)?;
    let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
    // Not reaped yet, so the number is its own even if it has ended.
    let pidfd = rustix::process::Pid::from_raw(pid).and_then(|pid| {
        rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::NONBLOCK).ok()
    });
    let start_ticks = process::identify(pid).map_or(0, |found| found.start_ticks);
    Ok(Served {
        tag: plan.tag.clone(),
        server: ours,
        process: ServerProcess {
            known: ShareRef {
                volume: plan.volume.clone(),
                path: plan.path.clone(),
                process: ProcessRef { pid, start_ticks },
            },
            pidfd,
        },
    })
}

/// Waits until a server has ended, which it does by itself when its VMM has;
/// ends it where it does not.
pub fn end(server: &ShareRef) {
    if let Some(pidfd) = process::open(server.process)
        && !process::wait_end(&pidfd, PATIENCE_MILLIS)
    {
        let _ = process::kill(&pidfd);
        let _ = process::wait_end(&pidfd, PATIENCE_MILLIS);
    }
}

fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    for end in [&ours, &theirs] {
        // As much as the host allows: by default it is enough.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(end, SEND_BUFFER);
    }
    Ok((ours, theirs))
}

/// What lies at the plan's path, open with `O_PATH`; made where the type says so.
fn open(plan: &SharePlan) -> Result<OwnedFd, ShareError> {
    let path_error = |source: PathError| ShareError::Path {
        volume: plan.volume.clone(),
        source,
    };
    let fd = match open_path(&plan.path) {
        Err(Errno::NOENT) => make(plan)?,
        other => {
            other.map_err(|errno| path_error(PathError::on("open", &plan.path)(errno.into())))?
        }
    };
    check_place(plan, &fd)?;
    let stat = rustix::fs::fstat(&fd)
        .map_err(|errno| path_error(PathError::on("look at", &plan.path)(errno.into())))?;
    let (expected, name) = if plan.is_file {
        (FileType::RegularFile, "a file")
    } else {
        (FileType::Directory, "a directory")
    };
    if FileType::from_raw_mode(stat.st_mode) == expected {
        Ok(fd)
    } else {
        Err(kind_error(plan, name))
    }
}

fn kind_error(plan: &SharePlan, expected: &'static str) -> ShareError {
    ShareError::Kind {
        volume: plan.volume.clone(),
        path: plan.path.clone(),
        expected,
    }
}

fn open_path(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

/// Where a descriptor's file is, by the kernel's word.
fn place_of(fd: &OwnedFd) -> io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Whether a link has led out of what may be shared.
fn check_place(plan: &SharePlan, fd: &OwnedFd) -> Result<(), ShareError> {
    let leads_to = place_of(fd).map_err(|source| ShareError::Path {
        volume: plan.volume.clone(),
        source: PathError::on("look at", &plan.path)(source),
    })?;
    let is_inside = plan.allowed.iter().any(|prefix| {
        let prefix = std::fs::canonicalize(prefix).unwrap_or_else(|_| prefix.clone());
        leads_to.starts_with(prefix)
    });
    if is_inside {
        return Ok(());
    }
    Err(ShareError::Outside {
        volume: plan.volume.clone(),
        path: plan.path.clone(),
        leads_to,
    })
}

/// Makes what is missing, below the last directory that is there: each step by
/// descriptor, so that nobody can put a link in between.
fn make(plan: &SharePlan) -> Result<OwnedFd, ShareError> {
    let path = plan.path.as_path();
    let failed = |errno: Errno| ShareError::Path {
        volume: plan.volume.clone(),
        source: PathError::on("make", path)(errno.into()),
    };
    let missing = match plan.kind {
        HostPathKind::Directory => return Err(kind_error(plan, "a directory")),
        HostPathKind::File => return Err(kind_error(plan, "a file")),
        // The kubelet makes no directories for a file.
        HostPathKind::FileOrCreate => 1,
        HostPathKind::Any | HostPathKind::DirectoryOrCreate => usize::MAX,
    };
    let mut names: Vec<&OsStr> = Vec::new();
    let mut place = path;
    let mut directory = loop {
        let (Some(name), Some(parent)) = (place.file_name(), place.parent()) else {
            return Err(failed(Errno::NOENT));
        };
        names.push(name);
        place = parent;
        match open_path(parent) {
            Err(Errno::NOENT) if names.len() < missing => {}
            found => break found.map_err(failed)?,
        }
    };
    // The place that was allowed is itself not there.
    if !plan.allowed.iter().any(|prefix| place.starts_with(prefix)) {
        return Err(failed(Errno::NOENT));
    }
    check_place(plan, &directory)?;
    while let Some(name) = names.pop() {
        let make = if plan.is_file {
            make_file
        } else {
            make_directory
        };
        directory = private::but_for(|| make(&directory, name)).map_err(failed)?;
    }
    Ok(directory)
}

fn make_directory(parent: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

fn make_file(parent: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let mode = Mode::from_raw_mode(0o644);
    match rustix::fs::mknodat(parent, name, FileType::RegularFile, mode, 0) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// Those of the paths that are files now.
#[must_use]
pub fn files<'p>(paths: impl Iterator<Item = &'p str>) -> std::collections::BTreeSet<PathBuf> {
    let is_file = |path: &&str| {
        let flags = AtFlags::empty();
        rustix::fs::statat(rustix::fs::CWD, *path, flags)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
    };
    paths.filter(is_file).map(PathBuf::from).collect()
}

/// A prefix of paths as it is compared: absolute, in one spelling. `None` for
/// one that names a parent, of which nobody can say what it is.
#[must_use]
pub fn prefix(path: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(path).ok()?;
    let is_plain = !absolute
        .components()
        .any(|part| part == Component::ParentDir);
    is_plain.then(|| absolute.components().collect())
}

#[cfg(test)]
mod tests;
