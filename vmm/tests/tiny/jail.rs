//! What the process cannot do any more, each with the attack that it stops.

use super::payload::Code;
use super::sys;
use super::vm::{Vm, kvm_or_skip, skip};
use beluga_proto::ExitCause;
use beluga_proto::control::ControlRequest;
use beluga_proto::vm::{JailConfig, VsockConfig};
use beluga_vmm::jail::Filters;
use beluga_vmm::jail::calls::{Call, KINDS, Only, ThreadKind};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// A user whom nobody is.
const USER: u32 = 0x7fff_fff0;

/// Behind the last call of every kernel there is.
const CALLS: i64 = 600;

/// `uretprobe` and `uprobe`: not filtered since Linux 6.14, and the death of whoever
/// makes them outside of a probe, by SIGILL.
const PROBES: [i64; 2] = [335, 336];

fn call(kind: ThreadKind, name: &str) -> Option<&'static Call> {
    kind.calls().find(|call| call.name == name)
}

#[test]
fn a_call_off_the_list_ends_the_process_whatever_thread_makes_it() {
    let filters = Filters::compile().unwrap();
    for kind in KINDS {
        let listed: Vec<i64> = kind.calls().map(|call| call.number).collect();
        let others =
            (0..CALLS).filter(|number| !listed.contains(number) && !PROBES.contains(number));
        for number in others {
            let end = sys::end_of_call(&filters, kind, number, [0; 3]);
            assert_eq!(end, Err(libc::SIGSYS), "{kind:?} called {number}");
        }
    }
}

#[test]
fn a_call_on_the_list_ends_nobody_but_with_arguments_that_are_not() {
    let filters = Filters::compile().unwrap();
    let end = |kind, number, arguments| sys::end_of_call(&filters, kind, number, arguments);
    for kind in KINDS {
        // Nobody has descriptor -1, so that nothing is done.
        assert_eq!(end(kind, libc::SYS_write, [-1, 0, 0]), Ok(0), "{kind:?}");
        for number in [libc::SYS_mmap, libc::SYS_mprotect] {
            let code = i64::from(libc::PROT_READ | libc::PROT_EXEC);
            let mapped = end(kind, number, [0, 0, code]);
            assert_eq!(mapped, Err(libc::SIGSYS), "{kind:?} maps code");
            let data = i64::from(libc::PROT_READ);
            assert_eq!(end(kind, number, [0, 0, data]), Ok(0), "{kind:?}");
        }
    }
    let requests = call(ThreadKind::Vcpu, "ioctl").map(|call| call.only);
    let Some(Only::OneOf(1, requests)) = requests else {
        panic!("{requests:?}");
    };
    for request in requests {
        let allowed = end(
            ThreadKind::Vcpu,
            libc::SYS_ioctl,
            [-1, i64::from(*request), 0],
        );
        assert_eq!(allowed, Ok(0), "{request:#x}");
    }
    // TIOCSTI: into the operator's terminal. KVM_CREATE_VM: another guest.
    for request in [0x5412, 0xae01] {
        for kind in [ThreadKind::Vcpu, ThreadKind::Main] {
            let other = end(kind, libc::SYS_ioctl, [-1, request, 0]);
            assert_eq!(other, Err(libc::SIGSYS), "{kind:?} {request:#x}");
        }
    }
    let network = i64::from(libc::AF_INET);
    let pair = end(ThreadKind::Main, libc::SYS_socketpair, [network, 1, 0]);
    assert_eq!(pair, Err(libc::SIGSYS));
}

/// What `/proc/PID/status` or one of a thread's says.
fn status(path: &PathBuf) -> BTreeMap<String, String> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(name, value)| {
            (
                name.to_owned(),
                value.split_whitespace().collect::<Vec<_>>().join(" "),
            )
        })
        .collect()
}

#[test]
fn every_thread_has_a_filter_before_the_guest_runs() {
    const NAME: &str = "every_thread_has_a_filter_before_the_guest_runs";
    if !kvm_or_skip(NAME) {
        return;
    }
    let vm = Vm::boot(Code::default().print("up").halt(), |config| {
        config.vcpus = 2;
        config.disks = vec![super::empty_disk("a")];
    });
    vm.connect().wait_for_console("up");
    let tasks = PathBuf::from(format!("/proc/{}/task", vm.pid()));
    let mut names = Vec::new();
    for task in fs::read_dir(tasks).unwrap() {
        let told = status(&task.unwrap().path().join("status"));
        // What KVM makes for itself runs nothing of ours.
        if told["Name"].starts_with("kvm-") {
            continue;
        }
        assert_eq!(told["Seccomp"], "2", "{told:?}");
        assert_eq!(told["Seccomp_filters"], "1", "{told:?}");
        assert_eq!(told["NoNewPrivs"], "1", "{told:?}");
        names.push(told["Name"].clone());
    }
    names.sort();
    assert_eq!(names, ["beluga-vmm", "block", "vcpu0", "vcpu1"]);
}

#[test]
fn a_vmm_in_its_jail_has_nothing_and_its_guest_all() {
    const NAME: &str = "a_vmm_in_its_jail_has_nothing_and_its_guest_all";
    if !kvm_or_skip(NAME) {
        return;
    }
    if !sys::is_root() {
        return skip(NAME, "only root becomes another user");
    }
    // Whoever starts a VMM may have left something open.
    let secret = super::vm::file(b"secret");
    super::vm::inherit(&secret);
    let mut vm = Vm::boot(Code::default().print("up").halt(), |config| {
        config.disks = vec![super::empty_disk("a")];
        config.vsock = Some(VsockConfig { guest_cid: 3 });
        config.jail = Some(JailConfig { user: Some(USER) });
    });
    let mut supervisor = vm.connect();
    supervisor.wait_for_console("up");
    let own = PathBuf::from(format!("/proc/{}", vm.pid()));

    let told = status(&own.join("status"));
    let four = format!("{USER} {USER} {USER} {USER}");
    assert_eq!((&told["Uid"], &told["Gid"]), (&four, &four));
    assert_eq!(told["Groups"], "");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(told[set], "0000000000000000", "{set}");
    }
    for kind in ["mnt", "net", "ipc", "uts", "cgroup", "user"] {
        let of = |path: PathBuf| fs::read_link(path.join("ns").join(kind)).unwrap();
        assert_ne!(of(own.clone()), of("/proc/self".into()), "{kind}");
    }
    let entries: Vec<_> = fs::read_dir(own.join("root")).unwrap().collect();
    assert!(entries.is_empty(), "{entries:?}");
    let mounts = fs::read_to_string(own.join("mountinfo")).unwrap();
    assert_eq!(mounts.lines().count(), 1, "{mounts}");
    assert!(mounts.contains(" / / ro,nosuid,nodev,noexec,"), "{mounts}");
    assert!(fs::write(own.join("root/x"), "").is_err());
    let limits = fs::read_to_string(own.join("limits")).unwrap();
    assert!(
        limits.contains("Max core file size        0                    0"),
        "{limits}"
    );
    let secret = secret.metadata().unwrap().ino();
    for fd in fs::read_dir(own.join("fd")).unwrap() {
        let other = fs::metadata(fd.unwrap().path()).unwrap().ino();
        assert_ne!(other, secret, "it has what nobody gave it");
    }

    // It works all the same: supervisors come and go, and its end has a record.
    drop(supervisor);
    let mut next = vm.connect();
    next.call(ControlRequest::Pause).unwrap();
    next.call(ControlRequest::Resume).unwrap();
    next.call(ControlRequest::Stop).unwrap();
    let (status, record) = vm.end();
    assert!(status.success());
    assert_eq!(record.cause, ExitCause::Stopped, "{}", record.detail);
    assert_eq!(record.console, "up");
}
