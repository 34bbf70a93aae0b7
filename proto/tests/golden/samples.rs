//! One of each of what messages are about, every field filled in.

use beluga_proto::agent::{
    ContainerStats, DiskStats, InterfaceStats, PodStats, ProcessStats, StdioNonces,
};
use beluga_proto::container::{
    CgroupLimits, CoveredPaths, MountSpec, Propagation, Rlimit, Seccomp, TerminalSize, UserSpec,
};
use beluga_proto::pod::{Address, Interface, Route, VolumeKind, VolumeSetup};
use beluga_proto::probe::{Handler, ProbeKind, ProbeSpec};
use beluga_proto::variable::{self, FileVariable};
use beluga_proto::vm::MacAddress;
use beluga_proto::*;
use std::collections::BTreeMap;

pub fn container() -> ContainerId {
    ContainerId::from_random([0xc1; 16])
}

pub fn exec() -> ExecId {
    ExecId::from_random([0xe1; 16])
}

pub fn nonce(byte: u8) -> Option<Nonce> {
    Some(Nonce::from_random([byte; 16]))
}

pub fn process() -> ExecSpec {
    ExecSpec {
        args: vec!["sh".into(), "-c".into(), "exit 37".into()],
        env: vec!["PATH=/usr/bin:/bin".into()],
        cwd: "/".into(),
        user: UserSpec {
            image_user: "nobody:nogroup".into(),
            uid: Some(1000),
            gid: Some(1000),
            supplementary: vec![2000],
            refuse_root: true,
            strict_groups: false,
        },
        capabilities: vec!["CAP_CHOWN".into()],
        no_new_privileges: true,
        seccomp: Seccomp::RuntimeDefault,
        rlimits: vec![Rlimit {
            name: "nofile".into(),
            soft: 1024,
            hard: u64::MAX,
        }],
        oom_score_adj: 1000,
        tty: Some(TerminalSize { rows: 24, cols: 80 }),
        stdin: true,
    }
}

pub fn setup() -> PodSetup {
    PodSetup {
        hostname: "web".into(),
        interfaces: vec![Interface {
            name: "eth0".into(),
            mac: MacAddress([2, 0, 10, 88, 0, 2]),
            mtu: 1500,
            addresses: vec![Address {
                ip: [10, 88, 0, 2].into(),
                prefix: 24,
            }],
            routes: vec![Route {
                to: None,
                via: Some([10, 88, 0, 1].into()),
            }],
        }],
        hosts: "127.0.0.1 localhost\n".into(),
        resolv_conf: "nameserver 10.88.0.1\n".into(),
        scratch: Some("vdb".into()),
        shm_bytes: 64 << 20,
        volumes: vec![
            VolumeSetup {
                name: "data".into(),
                kind: VolumeKind::EmptyDir {
                    limit_bytes: Some(1 << 20),
                },
                group: None,
                group_on_mismatch: false,
                shared: false,
            },
            VolumeSetup {
                name: "tmp".into(),
                kind: VolumeKind::Memory { limit_bytes: None },
                group: None,
                group_on_mismatch: false,
                shared: false,
            },
        ],
        share_processes: true,
        guest_processes: false,
        no_exec: false,
        sysctls: BTreeMap::from([("net.core.somaxconn".into(), "128".into())]),
        cgroup: CgroupLimits::default(),
        clock_unix_nanos: 1_700_000_000_000_000_000,
    }
}

pub fn spec() -> ContainerSpec {
    ContainerSpec {
        id: container(),
        name: "app".into(),
        layers: vec![1, 2],
        writable_limit: Some(1 << 30),
        read_only_root: false,
        process: process(),
        file_variables: Vec::new(),
        devices: Vec::new(),
        mounts: vec![MountSpec {
            volume: "data".into(),
            destination: "/data".into(),
            sub_path: Some("a/b".into()),
            read_only: true,
            propagation: Propagation::None,
        }],
        cgroup: CgroupLimits {
            cpu_quota_micros: Some(50_000),
            cpu_weight: Some(100),
            memory_max: Some(64 << 20),
            memory_low: Some(32 << 20),
            memory_high: None,
            pids_max: Some(1024),
        },
        privileged: false,
        mask_paths: true,
        covered: CoveredPaths::default(),
        termination_log: None,
        probes: Vec::new(),
        probes_wait: false,
        processes_of: None,
        own_processes: false,
        root: None,
    }
}

pub fn lifecycle_spec() -> ContainerSpec {
    let probe = |kind, handler| ProbeSpec {
        kind,
        handler,
        initial_delay_seconds: 5,
        period_seconds: 10,
        timeout_seconds: 1,
        success_threshold: 1,
        failure_threshold: 3,
    };
    ContainerSpec {
        probes: vec![
            probe(
                ProbeKind::Startup,
                Handler::Tcp {
                    host: None,
                    port: 6379,
                },
            ),
            probe(
                ProbeKind::Readiness,
                Handler::Http {
                    host: Some([127, 0, 0, 1].into()),
                    port: 80,
                    path: "/ready?x=1".into(),
                    headers: vec![("Host".into(), "web".into())],
                    tls: false,
                },
            ),
            probe(
                ProbeKind::Liveness,
                Handler::Grpc {
                    port: 9000,
                    service: "web".into(),
                },
            ),
        ],
        probes_wait: true,
        processes_of: None,
        own_processes: false,
        root: None,
        termination_log: Some("/dev/termination-log".into()),
        ..spec()
    }
}

pub fn stats() -> PodStats {
    PodStats {
        memory_total: 1,
        memory_available: 2,
        cpu_nanos: 3,
        uptime_nanos: 4,
        interfaces: vec![InterfaceStats {
            name: "eth0".into(),
            rx_bytes: 5,
            tx_bytes: 6,
        }],
        containers: vec![ContainerStats {
            id: container(),
            cpu_nanos: 7,
            memory_bytes: 8,
            working_set_bytes: 9,
            pids: 10,
            writable_bytes: 11,
            read_bytes: 12,
            write_bytes: 13,
            processes: vec![ProcessStats {
                pid: 42,
                command: "sh".into(),
            }],
            files: BTreeMap::new(),
            descriptors: 0,
            sockets: 0,
        }],
        cards: String::new(),
        disk: None,
    }
}

/// What is told to those who want all of it.
pub fn detailed_stats() -> PodStats {
    let mut stats = stats();
    for one in &mut stats.containers {
        one.files = [("pids.max".to_owned(), "max\n".to_owned())].into();
        (one.descriptors, one.sockets) = (14, 15);
    }
    let disk = DiskStats {
        bytes: 16,
        inodes: 17,
        inodes_free: 18,
    };
    PodStats {
        cards: "eth0".into(),
        disk: Some(disk),
        ..stats
    }
}

/// A container that waits for what files say.
pub fn start_with_files() -> Request {
    let mut spec = spec();
    spec.process.env = vec![format!("ADDRESS={}", variable::placeholder(0))];
    spec.file_variables = vec![FileVariable {
        name: "ADDRESS".into(),
        volume: "data".into(),
        path: "a/env".into(),
        key: "DB".into(),
        optional: true,
    }];
    Request::Start {
        spec: Box::new(spec),
        stdio: StdioNonces::default(),
    }
}

/// Fields that are only there where a manifest has them.
pub fn strict_start() -> Request {
    let mut spec = spec();
    spec.process.user.strict_groups = true;
    spec.cgroup.memory_high = Some(48 << 20);
    spec.mounts[0].propagation = container::Propagation::HostToContainer;
    Request::Start {
        spec: Box::new(spec),
        stdio: StdioNonces::default(),
    }
}
