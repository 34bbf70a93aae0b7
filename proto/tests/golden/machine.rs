//! Supervisor ⇄ VMM.

use super::check;
use beluga_proto::control::VmStatus;
use beluga_proto::exit::StampedAt;
use beluga_proto::vm::{
    DiskConfig, Extent, FdNumber, JailConfig, MacAddress, NetConfig, ShareConfig, VM_VERSION,
    VsockConfig,
};
use beluga_proto::*;
use std::collections::BTreeMap;

fn stamps() -> Vec<StampedAt> {
    vec![StampedAt {
        stamp: Stamp::Init,
        nanos: 1,
        cpu_nanos: 2,
        exits: 3,
    }]
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list of one of each")]
fn the_machine() {
    let disk = |id: &str, read_only: bool| DiskConfig {
        id: id.into(),
        read_only,
        extents: vec![Extent {
            fd: FdNumber(10),
            offset: 0,
            length: 4096,
        }],
        discard: !read_only,
        flush: false,
        rate: None,
    };
    let config = VmConfig {
        version: VM_VERSION,
        name: "web".into(),
        vcpus: 2,
        memory_mib: 256,
        kernel: FdNumber(3),
        initramfs: FdNumber(4),
        cmdline: "quiet panic=-1".into(),
        disks: vec![disk("layers", true), disk("scratch", false)],
        nets: vec![NetConfig {
            id: "eth0".into(),
            tap: FdNumber(5),
            mac: MacAddress([2, 0, 10, 88, 0, 2]),
            mtu: 1500,
            limits: None,
        }],
        vsock: Some(VsockConfig { guest_cid: 3 }),
        rng: true,
        balloon: true,
        shares: Vec::new(),
        control: FdNumber(6),
        exit_record: FdNumber(7),
        jail: None,
    };
    check("vm_config", &config);
    check(
        "vm_config_shares",
        &VmConfig {
            shares: vec![ShareConfig {
                tag: "share0".into(),
                server: FdNumber(8),
            }],
            ..config.clone()
        },
    );
    check(
        "vm_config_jail",
        &VmConfig {
            jail: Some(JailConfig {
                user: Some(0x7000_0001),
            }),
            ..config
        },
    );
    check(
        "exit_record",
        &ExitRecord {
            cause: ExitCause::KernelPanic,
            detail: "the guest kernel panicked".into(),
            end: None,
            stamps: stamps(),
            exits: BTreeMap::from([("io_out".into(), 9)]),
            console: "Kernel panic - not syncing\n".into(),
        },
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list of one of each")]
fn control() {
    let requests = [
        ("status", ControlRequest::Status),
        ("pause", ControlRequest::Pause),
        ("resume", ControlRequest::Resume),
        (
            "grow_disk",
            ControlRequest::GrowDisk {
                disk: "layers".into(),
                extents: vec![Extent {
                    fd: FdNumber(0),
                    offset: 0,
                    length: 4096,
                }],
            },
        ),
        ("connect_vsock", ControlRequest::ConnectVsock { port: 5000 }),
        ("stop", ControlRequest::Stop),
    ];
    for (id, (name, request)) in (1..).zip(requests) {
        check(&format!("control_{name}"), &ControlCall { id, request });
    }
    let status = VmStatus {
        version: VM_VERSION,
        paused: false,
        stamps: stamps(),
        exits: BTreeMap::from([("mmio_read".into(), 4)]),
        devices: BTreeMap::from([("layers".into(), BTreeMap::from([("interrupts".into(), 5)]))]),
        console: String::new(),
    };
    let messages = [
        (
            "done",
            ControlMessage::Reply {
                id: 1,
                result: Ok(ControlReply::Done),
            },
        ),
        (
            "status_reply",
            ControlMessage::Reply {
                id: 2,
                result: Ok(ControlReply::Status(Box::new(status))),
            },
        ),
        (
            "fault",
            ControlMessage::Reply {
                id: 3,
                result: Err(Fault::new(FaultCode::NotFound, "no disk \"x\"")),
            },
        ),
        (
            "vsock_opened",
            ControlMessage::VsockOpened {
                host_port: 1024,
                guest_port: 99,
            },
        ),
        (
            "disk_stalled",
            ControlMessage::DiskStalled {
                disk: "scratch".into(),
                stalled: true,
            },
        ),
    ];
    for (name, message) in messages {
        check(&format!("control_message_{name}"), &message);
    }
}
