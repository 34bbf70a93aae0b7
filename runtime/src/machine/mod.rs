//! The VMM child: made from a [`VmPlan`], watched by descriptor, ended with a cause.
//!
//! The VMM gets descriptors and a config on a memfd, and nothing else. It is
//! watched by pidfd, never by parenthood, so that a later supervisor does the
//! same as the first; its exit record is a file in the pod's directory for the
//! same reason.

pub mod control;
pub mod jail;

use crate::host::process::POD_VARIABLE;
use crate::path_error::PathError;
use crate::plan::{DiskPlan, VmPlan};
use crate::store::ProcessRef;
use crate::store::status::VmEnd;
use beluga_proto::vm::{
    DiskConfig, Extent, FdNumber, NetConfig, ShareConfig, VM_VERSION, VsockConfig,
};
use beluga_proto::{ExitCause, ExitRecord, PodUid, VmConfig};
use rustix::fs::{MemfdFlags, SeekFrom};
use rustix::io::FdFlags;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Largest exit record that is read, in bytes: the console's 64 KiB, escaped.
const MAX_EXIT_RECORD: u64 = 1 << 20;

/// What the kernel ends a process with whose filter forbids what it calls.
const SIGSYS: i32 = 31;

/// Why a VMM cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// A file that the machine needs.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A card without its tap.
    #[error("the tap {name} was not made")]
    NoTap {
        /// Its name.
        name: String,
    },
    /// The configuration cannot be handed over.
    #[error("cannot hand the configuration to the VMM")]
    Config {
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The program cannot be run.
    #[error("cannot run the VMM {program}", program = .program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The process was gone at once.
    #[error("the VMM ended before it could be watched")]
    Gone,
}

/// A VMM process.
#[derive(Debug)]
pub struct Machine {
    /// Which process.
    pub process: ProcessRef,
    /// Readable when it has ended.
    pub pidfd: OwnedFd,
    /// Whether it is a child of this process, whose wait status is to be had.
    is_child: bool,
}

/// Where the files of a VMM are.
#[derive(Debug, Clone)]
pub struct Files {
    /// The program.
    pub vmm: PathBuf,
    /// Its standard error.
    pub log: PathBuf,
    /// Its exit record.
    pub exit_record: PathBuf,
}

/// Descriptors that were made for the machine.
#[derive(Debug)]
pub struct Given {
    /// Taps by name.
    pub taps: Vec<(String, OwnedFd)>,
    /// Sockets of the servers of shared directories, by tag, in the order of
    /// the devices.
    pub shares: Vec<(String, OwnedFd)>,
    /// The listening socket that supervisors connect to.
    pub control: OwnedFd,
}

/// Starts a VMM. `control` is the listening socket that supervisors connect
/// to. Errors when a file or the program cannot be opened; a machine that
/// cannot be booted says so in its exit record.
pub fn spawn(
    plan: &VmPlan,
    uid: &PodUid,
    files: &Files,
    given: Given,
) -> Result<Machine, MachineError> {
    let mut inherited = Inherited::default();
    let mut config = config(plan, &mut inherited, given, files)?;
    config.jail = Some(jail::of(uid));
    let memfd = rustix::fs::memfd_create("vm-config", MemfdFlags::CLOEXEC)
        .map_err(|errno| MachineError::Config {
            source: errno.into(),
        })
        .map(File::from)?;
    write_config(&memfd, &config).map_err(|source| MachineError::Config { source })?;
    let number = inherited.add(memfd.into());
    let log = open_log(&files.log)?;
    inherited
        .share()
        .map_err(|source| MachineError::Config { source })?;
    let mut command = Command::new(&files.vmm);
    command
        .arg("--config-fd")
        .arg(number.0.to_string())
        .env_clear()
        .env(POD_VARIABLE, uid.as_str())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    let child =
        crate::sys::pidns::alone(|| command.spawn()).map_err(|source| MachineError::Spawn {
            program: files.vmm.clone(),
            source,
        })?;
    // The descriptors close here: the VMM is their only holder, so that a tap
    // goes when it goes.
    drop(inherited);
    let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
    // Not reaped yet, so the number is still its own even if it has ended.
    let pidfd = rustix::process::Pid::from_raw(pid)
        .and_then(|pid| {
            rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::NONBLOCK).ok()
        })
        .ok_or(MachineError::Gone)?;
    let process = crate::host::process::identify(pid).unwrap_or(ProcessRef {
        pid,
        start_ticks: 0,
    });
    Ok(Machine {
        process,
        pidfd,
        is_child: true,
    })
}

impl Machine {
    /// A VMM that an earlier supervisor started; `None` when it is gone.
    #[must_use]
    pub fn adopt(process: ProcessRef) -> Option<Self> {
        let pidfd = crate::host::process::open(process)?;
        Some(Self {
            process,
            pidfd,
            is_child: false,
        })
    }

    /// How it ended, once `pidfd` is readable.
    #[must_use]
    pub fn end(&self, exit_record: &Path, oom_kills: u64) -> VmEnd {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        use std::os::fd::AsFd as _;
        let status = self
            .is_child
            .then(|| {
                let id = WaitId::PidFd(self.pidfd.as_fd());
                waitid(id, WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
                    .ok()
                    .flatten()
            })
            .flatten();
        let exit_code = status.as_ref().and_then(|status| status.exit_status());
        let signal = status
            .as_ref()
            .and_then(|status| status.terminating_signal());
        read_end(exit_record, exit_code, signal, oom_kills)
    }
}

/// How a VMM ended by what it left and what was seen of it.
#[must_use]
pub fn read_end(
    exit_record: &Path,
    exit_code: Option<i32>,
    signal: Option<i32>,
    oom_kills: u64,
) -> VmEnd {
    if let Some(record) = read_exit_record(exit_record) {
        return VmEnd {
            cause: Some(record.cause),
            last_stamp: record.stamps.last().map(|at| at.stamp),
            reached: record
                .stamps
                .iter()
                .map(|at| at.stamp)
                .rfind(|stamp| !stamp.is_end()),
            detail: record.detail,
            is_host_oom: false,
            exit_code,
            signal,
            console: record.console,
        };
    }
    // Only its parent sees the signal; another supervisor sees that it is gone.
    let is_host_oom = oom_kills > 0 && exit_code.is_none() && signal.is_none_or(|one| one == 9);
    let detail = match (signal, exit_code) {
        _ if is_host_oom => "the host's out-of-memory killer ended the VMM".to_owned(),
        (Some(SIGSYS), _) => {
            "the VMM was ended by a system call that its filter forbids".to_owned()
        }
        (Some(signal), _) => format!("the VMM was ended by signal {signal}"),
        (None, Some(code)) => format!("the VMM exited with {code} and left no exit record"),
        (None, None) => "the VMM was killed or crashed: it left no exit record".to_owned(),
    };
    VmEnd {
        cause: None,
        detail,
        is_host_oom,
        exit_code,
        signal,
        last_stamp: None,
        reached: None,
        console: String::new(),
    }
}

fn read_exit_record(path: &Path) -> Option<ExitRecord> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    file.take(MAX_EXIT_RECORD).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// One word for a pod whose VM ended like this.
#[must_use]
pub fn reason(end: &VmEnd) -> &'static str {
    match end.cause {
        None if end.is_host_oom => "HostOutOfMemory",
        None if end.signal.is_some_and(is_crash) => "VmmCrashed",
        None => "VmmKilled",
        Some(ExitCause::GuestEnded) => "AgentEnded",
        Some(ExitCause::GuestCrashed) => "GuestCrashed",
        Some(ExitCause::KernelPanic) => "GuestKernelPanic",
        Some(ExitCause::TripleFault) => "GuestTripleFault",
        Some(ExitCause::KvmError) => "KvmError",
        Some(ExitCause::Stopped) => "Stopped",
        Some(ExitCause::BadConfig | ExitCause::BadImage | ExitCause::TooLittleMemory) => {
            "CannotBoot"
        }
        Some(ExitCause::HostError) => "HostError",
        Some(ExitCause::Unknown) => "Unknown",
    }
}

/// Whether a signal is a process's own fault, not somebody's wish.
fn is_crash(signal: i32) -> bool {
    use rustix::process::Signal;
    let faults = [
        Signal::ILL,
        Signal::ABORT,
        Signal::BUS,
        Signal::FPE,
        Signal::SEGV,
        Signal::SYS,
    ];
    faults.iter().any(|fault| fault.as_raw() == signal)
}

/// Descriptors that the VMM inherits under the numbers that they have here.
#[derive(Debug, Default)]
struct Inherited {
    fds: Vec<OwnedFd>,
    /// One descriptor per file and mode, however many extents it has.
    opened: BTreeMap<(PathBuf, bool), FdNumber>,
}

impl Inherited {
    fn add(&mut self, fd: OwnedFd) -> FdNumber {
        let number = FdNumber(fd.as_raw_fd());
        self.fds.push(fd);
        number
    }

    fn open(&mut self, path: &Path, write: bool) -> Result<FdNumber, MachineError> {
        let key = (path.to_owned(), write);
        if let Some(number) = self.opened.get(&key) {
            return Ok(*number);
        }
        let file = File::options()
            .read(true)
            .write(write)
            .open(path)
            .map_err(PathError::on("open", path))?;
        let number = self.add(file.into());
        self.opened.insert(key, number);
        Ok(number)
    }

    /// Lets the next program that is run have them. This process is
    /// single-threaded and runs nothing else meanwhile.
    fn share(&self) -> io::Result<()> {
        for fd in &self.fds {
            rustix::io::fcntl_setfd(fd, FdFlags::empty())?;
        }
        Ok(())
    }
}

fn config(
    plan: &VmPlan,
    inherited: &mut Inherited,
    given: Given,
    files: &Files,
) -> Result<VmConfig, MachineError> {
    let disks = plan.disks.iter().map(|disk| disk_config(disk, inherited));
    let disks = disks.collect::<Result<_, _>>()?;
    let Given {
        mut taps,
        shares,
        control,
    } = given;
    let shares = shares.into_iter().map(|(tag, server)| ShareConfig {
        tag,
        server: inherited.add(server),
    });
    let shares = shares.collect();
    let nets = plan.nets.iter().map(|net| {
        let at = taps.iter().position(|(name, _)| *name == net.tap);
        let missing = || MachineError::NoTap {
            name: net.tap.clone(),
        };
        Ok(NetConfig {
            id: net.id.clone(),
            tap: inherited.add(taps.swap_remove(at.ok_or_else(missing)?).1),
            mac: net.mac,
            mtu: net.mtu,
            limits: net.limits,
        })
    });
    let nets = nets.collect::<Result<_, MachineError>>()?;
    let exit_record = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&files.exit_record)
        .map_err(PathError::on("make", &files.exit_record))?;
    Ok(VmConfig {
        version: VM_VERSION,
        name: plan.name.clone(),
        vcpus: plan.vcpus,
        memory_mib: plan.memory_mib,
        kernel: inherited.open(&plan.kernel, false)?,
        initramfs: inherited.open(&plan.initramfs, false)?,
        cmdline: plan.cmdline.clone(),
        disks,
        nets,
        vsock: Some(VsockConfig {
            guest_cid: plan.guest_cid,
        }),
        rng: plan.rng,
        balloon: plan.balloon,
        shares,
        control: inherited.add(control),
        exit_record: inherited.add(exit_record.into()),
        jail: None,
    })
}

fn disk_config(disk: &DiskPlan, inherited: &mut Inherited) -> Result<DiskConfig, MachineError> {
    let mut extents = Vec::with_capacity(disk.extents.len());
    for extent in &disk.extents {
        extents.push(Extent {
            fd: inherited.open(&extent.path, !disk.read_only)?,
            offset: extent.offset,
            length: extent.length,
        });
    }
    Ok(DiskConfig {
        id: disk.id.clone(),
        read_only: disk.read_only,
        extents,
        discard: disk.discard,
        flush: disk.flush,
        rate: disk.rate,
    })
}

fn write_config(mut memfd: &File, config: &VmConfig) -> io::Result<()> {
    let bytes = serde_json::to_vec(config)?;
    memfd.write_all(&bytes)?;
    rustix::fs::seek(memfd, SeekFrom::Start(0))?;
    Ok(())
}

fn open_log(path: &Path) -> Result<File, MachineError> {
    Ok(File::options()
        .create(true)
        .append(true)
        .open(path)
        .map_err(PathError::on("open", path))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vmm_without_a_record_has_a_cause_all_the_same() {
        let nowhere = Path::new("/nonexistent/exit.json");
        let killed = read_end(nowhere, None, Some(9), 0);
        assert_eq!(killed.detail, "the VMM was ended by signal 9");
        assert_eq!(reason(&killed), "VmmKilled");
        let oom = read_end(nowhere, None, Some(9), 1);
        assert_eq!(reason(&oom), "HostOutOfMemory");
        assert_eq!(reason(&read_end(nowhere, None, None, 0)), "VmmKilled");
        let forbidden = read_end(nowhere, None, Some(SIGSYS), 0);
        assert!(forbidden.detail.contains("its filter forbids"));
    }
}
