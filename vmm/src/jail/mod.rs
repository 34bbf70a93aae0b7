//! What the process gives up before the guest's first instruction.
//!
//! ```text
//!  descriptors that nobody named ─► closed
//!  (set up: KVM, memory, devices)
//!  limits ─► own user ─► namespaces ─► an empty root ─► no capability
//!        ─► no new privileges ─► Landlock ─► threads, each with its filter
//! ```
//!
//! It is all done by the process itself, while it has one thread: what it needs
//! open is open by then. The PID namespace is the supervisor's to make, since
//! it takes a new process.

pub mod calls;
mod filter;

pub use filter::{FilterError, Filters};

use crate::sys::{jail as sys, socket};
use beluga_proto::VmConfig;
use beluga_proto::vm::JailConfig;
use calls::ThreadKind;
use std::io;
use std::sync::Arc;

/// Threads beside those of vCPUs: `main`, `block`, and what KVM makes for itself.
const OTHER_THREADS: u64 = 8;

/// Why the process is not in its jail.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}")]
pub struct JailError {
    step: &'static str,
    #[source]
    source: io::Error,
}

/// How the threads of a machine begin.
#[derive(Debug, Clone, Default)]
pub struct Confinement(Option<Arc<Filters>>);

impl Confinement {
    /// Each with its filter. `Default` is without: for machines that share
    /// their process with a test.
    #[must_use]
    pub fn by(filters: Filters) -> Self {
        Self(Some(Arc::new(filters)))
    }

    /// Limits the calling thread to what its kind may call, for good.
    pub fn begin(&self, kind: ThreadKind) -> Result<(), FilterError> {
        self.0
            .as_ref()
            .map_or(Ok(()), |filters| filters.install(kind))
    }
}

fn failed(step: &'static str) -> impl FnOnce(io::Error) -> JailError {
    move |source| JailError { step, source }
}

/// Closes what was inherited and is not named in the configuration. Call before
/// anything is opened.
pub fn close_others(config: &VmConfig) -> Result<(), JailError> {
    let disks = config.disks.iter().flat_map(|disk| &disk.extents);
    let mut named: Vec<i32> = disks
        .map(|extent| extent.fd)
        .chain(config.nets.iter().map(|net| net.tap))
        .chain(config.shares.iter().map(|share| share.server))
        .chain([
            config.kernel,
            config.initramfs,
            config.control,
            config.exit_record,
        ])
        .map(|number| number.0)
        .filter(|number| *number > libc::STDERR_FILENO)
        .collect();
    named.sort_unstable();
    sys::close_all_but(&named).map_err(failed("close the descriptors that nobody named"))
}

/// Shuts the process in. What the host does not have, and is not essential, is
/// told in the log: Landlock, and for a user without rights the namespaces.
pub fn enter(config: &JailConfig, vcpus: u8) -> Result<(), JailError> {
    limits(config, vcpus).map_err(failed("limit what the process uses"))?;
    if let Some(user) = config.user {
        sys::become_user(user).map_err(failed("become the pod's user"))?;
    }
    if namespaces()? {
        empty_root()?;
    }
    sys::drop_capabilities().map_err(failed("give up the capabilities"))?;
    sys::no_new_privileges().map_err(failed("give up new privileges"))?;
    if let Err(error) = sys::landlock() {
        lacks("Landlock", &error);
    }
    if config.user.is_some() {
        sys::set_dumpable(false).map_err(failed("hide the process's memory"))?;
    }
    Ok(())
}

fn lacks(what: &str, error: &io::Error) {
    crate::log::line(format_args!("jail: no {what}: {error}"));
}

fn limits(config: &JailConfig, vcpus: u8) -> io::Result<()> {
    sys::freeze_descriptor_limit()?;
    // A dump would be the guest's memory.
    sys::limit(libc::RLIMIT_CORE, 0)?;
    sys::limit(libc::RLIMIT_MEMLOCK, 0)?;
    sys::limit(libc::RLIMIT_MSGQUEUE, 0)?;
    sys::limit(libc::RLIMIT_RTPRIO, 0)?;
    // Of a user whom others share, theirs would count.
    if config.user.is_some() {
        sys::limit(libc::RLIMIT_NPROC, u64::from(vcpus) + OTHER_THREADS)?;
    }
    Ok(())
}

/// Whether there are any: an ordinary user may be refused.
fn namespaces() -> Result<bool, JailError> {
    // In its new namespace the process is nobody, until it is said who it is.
    let (user, group) = (socket::own_uid(), sys::own_gid());
    let Err(error) = sys::unshare(libc::CLONE_NEWUSER | sys::NAMESPACES) else {
        map_ids(user, group).map_err(failed("map the user into its namespace"))?;
        return Ok(true);
    };
    lacks("user namespace", &error);
    match sys::unshare(sys::NAMESPACES) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            lacks("other namespace", &error);
            Ok(false)
        }
        Err(source) => Err(failed("make namespaces")(source)),
    }
}

/// The process itself is all that its namespace knows by a number.
fn map_ids(user: u32, group: u32) -> io::Result<()> {
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("{group} {group} 1"))
}

fn empty_root() -> Result<(), JailError> {
    sys::make_mounts_private().map_err(failed("part with the host's mounts"))?;
    sys::enter_empty_directory().map_err(failed("make an empty root"))?;
    if let Err(error) = sys::pivot_root() {
        // A host that runs from its initramfs.
        lacks("root of its own", &error);
        sys::change_root().map_err(failed("enter the empty root"))?;
    }
    Ok(())
}
