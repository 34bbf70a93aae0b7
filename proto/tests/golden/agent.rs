//! Supervisor ⇄ agent.

use super::check;
use super::samples::{
    container, detailed_stats, exec, lifecycle_spec, nonce, process, setup, spec, start_with_files,
    stats, strict_start,
};
use beluga_proto::agent::{
    ContainerState, FilePiece, LayerExtent, ProcessExit, ResumeStream, StdioNonces, Target,
};
use beluga_proto::bytes::Bytes;
use beluga_proto::container::{CgroupLimits, DeviceSpec, Seccomp, TerminalSize};
use beluga_proto::copy::CopySpec;
use beluga_proto::pod::{VolumeKind, VolumeSetup};
use beluga_proto::probe::{Handler, HookKind, ProbeKind};
use beluga_proto::*;

#[test]
#[expect(clippy::too_many_lines, reason = "a list of one of each")]
fn requests() {
    let stdio = StdioNonces {
        stdin: nonce(1),
        stdout: nonce(2),
        stderr: nonce(3),
    };
    let target = Target::Container { id: container() };
    let resume = |byte| {
        nonce(byte).map(|nonce| ResumeStream {
            nonce,
            offset: 4096,
        })
    };
    let freeze = Request::Freeze {
        container: container(),
        frozen: true,
    };
    let requests: [(&str, Request); 23] = [
        ("setup", Request::Setup(Box::new(setup()))),
        (
            "add_layers",
            Request::AddLayers {
                layers: vec![LayerExtent {
                    partition: 1,
                    offset: 0,
                    length: 8192,
                }],
            },
        ),
        (
            "start",
            Request::Start {
                spec: Box::new(spec()),
                stdio: stdio.clone(),
            },
        ),
        (
            "exec",
            Request::Exec {
                container: container(),
                exec: exec(),
                process: Box::new(process()),
                stdio: stdio.clone(),
                copy: None,
            },
        ),
        (
            "signal",
            Request::Signal {
                target: target.clone(),
                signal: 15,
                all: false,
            },
        ),
        (
            "signal_exec",
            Request::Signal {
                target: Target::Exec { id: exec() },
                signal: 9,
                all: true,
            },
        ),
        (
            "resize",
            Request::Resize {
                target,
                size: TerminalSize {
                    rows: 50,
                    cols: 132,
                },
            },
        ),
        (
            "remove",
            Request::Remove {
                container: container(),
            },
        ),
        (
            "resume_output",
            Request::ResumeOutput {
                container: container(),
                stdout: resume(4),
                stderr: resume(5),
                stdin: nonce(6),
            },
        ),
        ("list", Request::List),
        ("stats", Request::Stats),
        ("set_clock", Request::SetClock { unix_nanos: 1 }),
        ("shutdown", Request::Shutdown),
        (
            "start_lifecycle",
            Request::Start {
                spec: Box::new(lifecycle_spec()),
                stdio: StdioNonces::default(),
            },
        ),
        (
            "write_files",
            Request::WriteFiles {
                volume: "settings".into(),
                files: vec![FilePiece {
                    path: "a/b".into(),
                    mode: 0o640,
                    content: Bytes(vec![0, 1, 255]),
                    append: true,
                }],
                first: true,
                last: false,
            },
        ),
        (
            "hook_exec",
            Request::Hook {
                container: container(),
                hook: HookKind::PreStop,
                handler: Handler::Exec {
                    command: vec!["nginx".into(), "-s".into(), "quit".into()],
                },
                timeout_millis: Some(30_000),
            },
        ),
        (
            "hook_sleep",
            Request::Hook {
                container: container(),
                hook: HookKind::PostStart,
                handler: Handler::Sleep { seconds: 5 },
                timeout_millis: None,
            },
        ),
        (
            "limit",
            Request::Limit {
                container: container(),
                limits: spec().cgroup,
            },
        ),
        (
            "exec_copy",
            Request::Exec {
                container: container(),
                exec: exec(),
                process: Box::new(process()),
                stdio: stdio.clone(),
                copy: Some(CopySpec {
                    path: "/data".into(),
                    name: Some("x".into()),
                }),
            },
        ),
        ("connect", Request::Connect { port: 80, stdio }),
        ("start_strict", strict_start()),
        ("start_file_variables", start_with_files()),
        ("freeze", freeze),
    ];
    for (id, (name, request)) in (1..).zip(requests) {
        check(
            &format!("request_{name}"),
            &HostFrame::Request { id, request },
        );
    }
}

#[test]
fn volumes_of_the_host() {
    let kinds = [("directory", false), ("file", true)];
    for (name, is_file) in kinds {
        let volume = VolumeSetup {
            name: "data".into(),
            kind: VolumeKind::Share {
                tag: "share0".into(),
                is_file,
            },
            group: None,
            group_on_mismatch: false,
            shared: false,
        };
        check(&format!("volume_share_{name}"), &volume);
    }
}

#[test]
fn what_all_containers_share() {
    let setup = PodSetup {
        cgroup: CgroupLimits {
            cpu_quota_micros: Some(50_000),
            memory_max: Some(64 << 20),
            pids_max: Some(256),
            ..CgroupLimits::default()
        },
        ..setup()
    };
    let request = Request::Setup(Box::new(setup));
    check(
        "request_setup_limits",
        &HostFrame::Request { id: 1, request },
    );
    let volume = VolumeSetup {
        name: "data".into(),
        kind: VolumeKind::Disk {
            device: "vdc".into(),
        },
        group: Some(2000),
        group_on_mismatch: true,
        shared: false,
    };
    check("volume_disk_on_mismatch", &volume);
}

#[test]
fn volumes_that_are_images_and_disks() {
    let kinds = [
        ("image", VolumeKind::Image { layers: vec![2, 3] }),
        (
            "block",
            VolumeKind::Block {
                device: "vdc".into(),
            },
        ),
    ];
    for (name, kind) in kinds {
        let volume = VolumeSetup {
            name: "data".into(),
            kind,
            group: None,
            group_on_mismatch: false,
            shared: false,
        };
        check(&format!("volume_{name}"), &volume);
    }
    let device = DeviceSpec {
        volume: "data".into(),
        destination: "/dev/xvda".into(),
        read_only: true,
    };
    check("device", &device);
    let program = Bytes(vec![6, 0, 0, 0, 0, 0, 0xff, 0x7f]);
    check("seccomp_filter", &Seccomp::Filter { program });
}

#[test]
fn other_host_frames() {
    check(
        "host_welcome",
        &HostFrame::Welcome(Welcome {
            protocol: 1,
            token: Nonce::from_random([7; 16]),
            acked: 3,
        }),
    );
    check(
        "host_refused",
        &HostFrame::Refused(Fault::new(FaultCode::Protocol, "too old")),
    );
    check("host_ack_events", &HostFrame::AckEvents { seq: 9 });
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list of one of each")]
fn agent_frames() {
    check(
        "agent_hello",
        &AgentFrame::Hello(Hello {
            protocols: (1, 1),
            version: "0.1.0".into(),
            boot_id: "7d4f2c0a-0000-4000-8000-000000000000".into(),
            token: nonce(7),
        }),
    );
    let exit = ProcessExit {
        code: 137,
        signal: Some(9),
        oom_killed: true,
        unix_nanos: 5,
    };
    let replies = [
        ("done", Ok(Reply::Done)),
        ("started", Ok(Reply::Started { pid: 42 })),
        (
            "containers",
            Ok(Reply::Containers {
                containers: vec![ContainerState {
                    id: container(),
                    name: "app".into(),
                    pid: 42,
                    exit: Some(exit),
                    message: None,
                }],
            }),
        ),
        ("stats", Ok(Reply::Stats(Box::new(stats())))),
        (
            "fault",
            Err(Fault::new(FaultCode::CommandNotFound, "sh: not found")),
        ),
        (
            "detailed_stats",
            Ok(Reply::Stats(Box::new(detailed_stats()))),
        ),
    ];
    for (id, (name, result)) in (1..).zip(replies) {
        check(&format!("reply_{name}"), &AgentFrame::Reply { id, result });
    }
    let events = [
        (
            "exited",
            Event::Exited {
                container: container(),
                exit,
                message: None,
            },
        ),
        ("exec_exited", Event::ExecExited { exec: exec(), exit }),
        (
            "oom_killed",
            Event::OomKilled {
                container: container(),
            },
        ),
        (
            "warning",
            Event::Warning {
                message: "clock stepped".into(),
            },
        ),
        (
            "exited_message",
            Event::Exited {
                container: container(),
                exit,
                message: Some("disk full\n".into()),
            },
        ),
        (
            "probed",
            Event::Probed {
                container: container(),
                kind: ProbeKind::Liveness,
                passed: Some(false),
                failures: 3,
                message: "failed: no such file".into(),
            },
        ),
        (
            "hook_ended",
            Event::HookEnded {
                container: container(),
                hook: HookKind::PostStart,
                failure: Some("exited with 1".into()),
            },
        ),
    ];
    for (seq, (name, event)) in (1..).zip(events) {
        check(&format!("event_{name}"), &AgentFrame::Event { seq, event });
    }
}
