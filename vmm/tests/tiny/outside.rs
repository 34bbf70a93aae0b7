//! What is outside of a machine that attacks, and that it comes to no harm.

use super::payload::Code;
use super::sys;
use super::vm::{Vm, empty_disk, file, inherit};
use beluga_proto::control::ControlRequest;
use beluga_proto::vm::{
    Extent, JailConfig, MacAddress, NetConfig, ShareConfig, VmConfig, VsockConfig,
};
use beluga_proto::{ExitCause, ExitRecord};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

/// Memory of the machine, in MiB, as the configuration has it.
pub const MEMORY: u32 = 32;
/// What the process may have beside that, at its peak.
const OWN_MIB: u64 = 16;
const MOST_MIB: u64 = MEMORY as u64 + OWN_MIB;
/// Who the VMM becomes.
const USER: u32 = 0x7001_0203;
/// What stands in the disk's file before its extent and behind it.
const GUARD: [u8; 4096] = [0xa5; 4096];

/// What is outside of the machine.
pub struct Outside {
    disk: File,
    /// Of a network of its own.
    pub tap: Option<OwnedFd>,
    /// Ends of a share's server that nobody reads.
    servers: Vec<OwnedFd>,
    /// How long a guest may go on: what a device writes may have hit its code.
    pub patience: Duration,
}

impl Outside {
    /// A disk with guards, and a tap where one can be made.
    pub fn make() -> Self {
        let content = [GUARD, [0; 4096], GUARD].concat();
        let network = sys::enter_own_network();
        let tap = network.and_then(|()| sys::tap(Ipv4Addr::new(192, 168, 9, 1)));
        Self {
            disk: file(&content),
            tap: tap.ok(),
            servers: Vec::new(),
            patience: Duration::from_secs(10),
        }
    }

    /// A machine with all devices, in its jail.
    fn all_devices(&mut self, config: &mut VmConfig) {
        config.disks = vec![empty_disk("a")];
        config.disks[0].discard = true;
        config.disks[0].flush = true;
        config.disks[0].extents = vec![Extent {
            fd: inherit(&self.disk),
            offset: GUARD.len() as u64,
            length: 4096,
        }];
        if let Some(tap) = &self.tap {
            config.nets = vec![NetConfig {
                id: "eth0".to_owned(),
                tap: inherit(tap),
                mac: MacAddress([2, 0, 0, 0, 0, 1]),
                mtu: 1500,
                limits: None,
            }];
        }
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let (ours, server) =
            rustix::net::socketpair(family, kind, SocketFlags::CLOEXEC, None).unwrap();
        config.shares = vec![ShareConfig {
            tag: "share".to_owned(),
            server: inherit(&ours),
        }];
        self.servers = vec![ours, server];
        config.vsock = Some(VsockConfig { guest_cid: 3 });
        config.rng = true;
        config.balloon = true;
        config.memory_mib = MEMORY;
        config.jail = sys::is_root().then_some(JailConfig { user: Some(USER) });
    }

    fn is_unharmed(&self) {
        let mut there = [0; 4096];
        for offset in [0, 2 * GUARD.len() as u64] {
            self.disk.read_exact_at(&mut there, offset).unwrap();
            assert_eq!(there, GUARD, "beside the extent");
        }
        assert_eq!(self.disk.metadata().unwrap().len(), 3 * GUARD.len() as u64);
    }
}

/// The most memory that the process has had, in MiB; `None` when it is gone.
fn peak(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib >> 10)
}

/// What the process is, and which mappings have the memory.
fn account_of(pid: u32) -> String {
    let read = |name| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    read("status") + &read("smaps")
}

/// Runs one to its end, which must be one that a guest may come to.
pub fn survive(what: &str, code: Code, vcpus: u8, outside: &mut Outside) -> ExitRecord {
    let mut vm = Vm::boot(code, |config| {
        outside.all_devices(config);
        config.vcpus = vcpus;
    });
    let (begun, mut most, mut account) = (Instant::now(), 0, String::new());
    while !vm.has_ended() && begun.elapsed() < outside.patience {
        most = most.max(peak(vm.pid()).unwrap_or_default());
        if most > MOST_MIB && account.is_empty() {
            account = account_of(vm.pid());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let stopped = !vm.has_ended();
    if stopped {
        // Its code is gone; the VMM is not.
        let mut supervisor = vm.connect();
        drop(supervisor.status());
        supervisor.call(ControlRequest::Stop).unwrap();
    }
    let (status, record) = vm.end();
    let detail = format!("{what}: {status}, {:?}, {}", record.cause, record.detail);
    assert!(matches!(status.code(), Some(0 | 1)), "{detail}");
    let ends = [
        ExitCause::GuestEnded,
        ExitCause::GuestCrashed,
        ExitCause::TripleFault,
        ExitCause::KvmError,
    ];
    let expected = if stopped {
        &[ExitCause::Stopped][..]
    } else {
        &ends
    };
    assert!(expected.contains(&record.cause), "{detail}");
    assert!(most <= MOST_MIB, "{most} MiB, {detail}\n{account}");
    outside.is_unharmed();
    record
}
