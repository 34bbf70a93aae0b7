//! The VMM on the real KVM interface with guests of a few instructions. Where
//! there is no `/dev/kvm`, every test says so and passes over.
#![expect(clippy::unwrap_used, reason = "tests")]

mod hostile;
mod jail;
mod outside;
mod payload;
mod saved;
mod storms;
mod sys;
mod vm;

use beluga_proto::control::ControlRequest;
use beluga_proto::vm::{Extent, FdNumber};
use beluga_proto::{ExitCause, FaultCode, STAMP_PORT, Stamp};
use payload::{Code, XLOADFLAGS};
use std::time::Duration;
use vm::{Vm, empty_disk, kvm_or_skip, skip};

/// First register of the first device: "virt".
const FIRST_DEVICE: u32 = 0xd000_0000;

#[test]
fn a_guest_that_ends_itself_says_so() {
    if !kvm_or_skip("a_guest_that_ends_itself_says_so") {
        return;
    }
    let code = Code::default()
        .out(STAMP_PORT, Stamp::Init as u8)
        .print("bye\n")
        .out(STAMP_PORT, Stamp::EndShutdown as u8)
        .reset();
    let (status, record) = Vm::boot(code, |_| {}).end();
    assert!(status.success());
    assert_eq!(record.cause, ExitCause::GuestEnded, "{}", record.detail);
    assert_eq!(record.end, Some(Stamp::EndShutdown));
    let stamps: Vec<_> = record.stamps.iter().map(|at| at.stamp).collect();
    assert_eq!(
        stamps,
        [Stamp::KernelEntry, Stamp::Init, Stamp::EndShutdown]
    );
    assert_eq!(record.console, "bye\n");
    assert_eq!(record.exits["io_out"], 7);
    assert!(record.stamps.is_sorted_by_key(|at| (at.nanos, at.exits)));
}

#[test]
fn ends_without_a_stamp_are_told_apart() {
    if !kvm_or_skip("ends_without_a_stamp_are_told_apart") {
        return;
    }
    let panic = "Kernel panic - not syncing: tiny\n";
    let cases = [
        (Code::default().reset(), ExitCause::GuestCrashed),
        (Code::default().triple_fault(), ExitCause::TripleFault),
        (Code::default().print(panic).reset(), ExitCause::KernelPanic),
        (
            Code::default().print(panic).triple_fault(),
            ExitCause::KernelPanic,
        ),
    ];
    for (code, cause) in cases {
        let (status, record) = Vm::boot(code, |_| {}).end();
        assert_eq!(status.code(), Some(1));
        assert_eq!(record.cause, cause, "{}", record.detail);
    }
}

#[test]
fn an_instruction_that_kvm_cannot_emulate_is_kvms_error() {
    if !kvm_or_skip("an_instruction_that_kvm_cannot_emulate_is_kvms_error") {
        return;
    }
    let code = Code::default().print("off").jump_to_nowhere();
    let (status, record) = Vm::boot(code, |_| {}).end();
    assert_eq!(status.code(), Some(1));
    assert_eq!(record.cause, ExitCause::KvmError, "{}", record.detail);
    assert!(
        record.detail.contains("KVM met an internal error"),
        "{}",
        record.detail
    );
    assert_eq!((record.console.as_str(), record.end), ("off", None));
    assert_eq!(record.exits["other"], 1);
}

#[test]
fn a_bzimage_is_entered_at_its_64_bit_entry_with_a_zero_page() {
    if !kvm_or_skip("a_bzimage_is_entered_at_its_64_bit_entry_with_a_zero_page") {
        return;
    }
    let code = || Code::default().print("64 ").print_setup_magic().reset();
    let (_, record) = Vm::start(&code().bzimage(), b"070701", |_| {}).end();
    assert_eq!(record.cause, ExitCause::GuestCrashed, "{}", record.detail);
    assert_eq!(record.console, "64 HdrS");

    let mut old = code().bzimage();
    old[XLOADFLAGS] = 0;
    for (kernel, told) in [
        (old, "a bzImage without a 64-bit entry"),
        (code().bzimage()[..0x210].to_vec(), "truncated or damaged"),
    ] {
        let (_, record) = Vm::start(&kernel, b"070701", |_| {}).end();
        assert_eq!(record.cause, ExitCause::BadImage);
        assert!(record.detail.contains(told), "{}", record.detail);
    }
}

/// The kernel that this host runs, as its distribution ships it.
fn host_kernel() -> Option<Vec<u8>> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let release = release.trim();
    let places = [
        format!("/lib/modules/{release}/vmlinuz"),
        format!("/boot/vmlinuz-{release}"),
    ];
    places.iter().find_map(|place| std::fs::read(place).ok())
}

#[test]
fn the_bzimage_of_a_distribution_boots() {
    const NAME: &str = "the_bzimage_of_a_distribution_boots";
    if !kvm_or_skip(NAME) {
        return;
    }
    let Some(kernel) = host_kernel() else {
        return skip(NAME, "no vmlinuz of this kernel on this host");
    };
    // It unpacks itself, starts, and finds nothing to run: by then all is proved.
    let (_, record) = Vm::start(&kernel, b"070701", |config| {
        config.memory_mib = 256;
        config.cmdline = "quiet earlyprintk=serial,0x3f8,nocfg,keep panic=-1".to_owned();
    })
    .end_within(Duration::from_secs(180));
    assert_eq!(record.cause, ExitCause::KernelPanic, "{}", record.detail);
    let no_init = "Kernel panic - not syncing: VFS: Unable to mount root fs";
    assert!(record.console.contains(no_init), "{}", record.console);
}

#[test]
fn a_device_is_where_the_command_line_says() {
    if !kvm_or_skip("a_device_is_where_the_command_line_says") {
        return;
    }
    let code = Code::default()
        .print_word(FIRST_DEVICE)
        .print_word(FIRST_DEVICE + 0x1000)
        .reset();
    let (_, record) = Vm::boot(code, |config| config.disks = vec![empty_disk("a")]).end();
    assert!(record.console.starts_with("virt"), "{:?}", record.console);
    assert!(!record.console[4..].contains("virt"));
    assert_eq!(record.exits["mmio_read"], 2);
}

#[test]
fn a_bad_image_or_configuration_is_named() {
    if !kvm_or_skip("a_bad_image_or_configuration_is_named") {
        return;
    }
    let (_, record) = Vm::start(b"#!/bin/sh", b"070701", |_| {}).end();
    assert_eq!(record.cause, ExitCause::BadImage);
    assert!(
        record.detail.contains("not an ELF vmlinux or bzImage"),
        "{}",
        record.detail
    );
    let (_, record) = Vm::start(&Code::default().elf(), b"hello!", |_| {}).end();
    assert_eq!(record.cause, ExitCause::BadImage);
    assert!(record.detail.contains("initramfs"), "{}", record.detail);
    let (_, record) = Vm::boot(Code::default(), |config| config.vcpus = 0).end();
    assert_eq!(record.cause, ExitCause::BadConfig);
    let (_, record) = Vm::boot(Code::default(), |config| config.kernel = FdNumber(900)).end();
    assert_eq!(record.cause, ExitCause::BadConfig);
    assert!(
        record.detail.contains("kernel is no usable descriptor"),
        "{}",
        record.detail
    );
    let long = |config: &mut beluga_proto::VmConfig| config.cmdline = "x".repeat(3000);
    let (_, record) = Vm::boot(Code::default(), long).end();
    assert_eq!(record.cause, ExitCause::BadConfig);
    assert!(record.detail.contains("command line"), "{}", record.detail);
}

#[test]
fn a_supervisor_may_come_and_go() {
    if !kvm_or_skip("a_supervisor_may_come_and_go") {
        return;
    }
    let mut vm = Vm::boot(Code::default().print("up").halt(), |_| {});
    let mut first = vm.connect();
    first.wait_for_console("up");
    first.call(ControlRequest::Pause).unwrap();
    assert!(first.status().paused);
    // The next one waits until the first one is gone, or misbehaves.
    let mut second = vm.connect();
    first.send(b"{\"nonsense\":1}");
    assert!(first.receive().is_empty());
    assert!(second.status().paused);
    second.call(ControlRequest::Resume).unwrap();
    assert!(!second.status().paused);
    let fault = second
        .call(ControlRequest::ConnectVsock { port: 1 })
        .unwrap_err();
    assert_eq!(fault.code, FaultCode::NotFound);
    drop(second);
    let mut third = vm.connect();
    third.call(ControlRequest::Stop).unwrap();
    let (status, record) = vm.end();
    assert!(status.success());
    assert_eq!(record.cause, ExitCause::Stopped);
    assert_eq!(record.console, "up");
}

#[test]
fn only_a_disk_that_exists_can_grow_and_only_by_what_is_passed() {
    if !kvm_or_skip("only_a_disk_that_exists_can_grow_and_only_by_what_is_passed") {
        return;
    }
    let vm = Vm::boot(Code::default().halt(), |config| {
        config.disks = vec![empty_disk("a")]
    });
    let mut supervisor = vm.connect();
    let mut grow = |disk: &str| {
        let extent = Extent {
            fd: FdNumber(0),
            offset: 0,
            length: 4096,
        };
        let (disk, extents) = (disk.to_owned(), vec![extent]);
        supervisor
            .call(ControlRequest::GrowDisk { disk, extents })
            .unwrap_err()
            .code
    };
    assert_eq!(grow("a"), FaultCode::InvalidArgument);
    assert_eq!(grow("b"), FaultCode::InvalidArgument);
}
