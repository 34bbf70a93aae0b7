//! Usage of the pod and of its containers, from the kernel's own files. All of
//! them are read without waiting for a process.

use crate::boot::SCRATCH;
use crate::cgroup::{self, Cgroup};
use crate::quota;
use beluga_proto::ContainerId;
use beluga_proto::agent::{ContainerStats, DiskStats, InterfaceStats, PodStats, ProcessStats};
use std::path::Path;

/// Files of a container's cgroup that are told whole.
const FILES: [&str; 9] = [
    "cpu.stat",
    "memory.stat",
    "memory.events",
    "memory.peak",
    "io.stat",
    "pids.max",
    "cpu.pressure",
    "memory.pressure",
    "io.pressure",
];

/// Most descriptors that are counted per container.
const MAX_DESCRIPTORS: usize = 4096;

/// Most processes that are named per container.
const MAX_PROCESSES: usize = 1024;

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The pod without its containers.
pub fn pod() -> PodStats {
    let memory = read("/proc/meminfo");
    let bytes = |name| {
        memory
            .lines()
            .find_map(|line| {
                line.strip_prefix(name)?
                    .split_whitespace()
                    .next()?
                    .parse()
                    .ok()
            })
            .map_or(0, |kib: u64| kib * 1024)
    };
    PodStats {
        memory_total: bytes("MemTotal:"),
        memory_available: bytes("MemAvailable:"),
        cpu_nanos: cgroup::counter("/sys/fs/cgroup/cpu.stat", "usage_usec").unwrap_or(0) * 1000,
        uptime_nanos: uptime_nanos(&read("/proc/uptime")),
        interfaces: interfaces(&read("/proc/net/dev")),
        containers: Vec::new(),
        cards: read("/proc/net/dev"),
        disk: rustix::fs::statvfs(SCRATCH).ok().map(|found| DiskStats {
            bytes: found.f_blocks.saturating_mul(found.f_frsize),
            inodes: found.f_files,
            inodes_free: found.f_ffree,
        }),
    }
}

/// From `seconds.hundredths idle`.
fn uptime_nanos(text: &str) -> u64 {
    let seconds = text.split_whitespace().next().and_then(|word| {
        let (whole, hundredths) = word.split_once('.')?;
        Some((whole.parse::<u64>().ok()?, hundredths.parse::<u64>().ok()?))
    });
    seconds.map_or(0, |(whole, hundredths)| {
        whole * 1_000_000_000 + hundredths * 10_000_000
    })
}

/// Cards in /proc/net/dev but loopback: two lines of heading, then
/// `name: received-bytes and 7 more, sent-bytes …`.
fn interfaces(text: &str) -> Vec<InterfaceStats> {
    text.lines()
        .skip(2)
        .filter_map(|line| {
            let (name, counters) = line.split_once(':')?;
            let counters: Vec<u64> = counters
                .split_whitespace()
                .map(|word| word.parse().unwrap_or(0))
                .collect();
            Some(InterfaceStats {
                name: name.trim().to_owned(),
                rx_bytes: *counters.first()?,
                tx_bytes: *counters.get(8)?,
            })
        })
        .filter(|interface| interface.name != "lo")
        .collect()
}

/// One container. `writable`: directory and quota project of its writable layer.
pub fn container(
    id: &ContainerId,
    group: &Cgroup,
    writable: (&str, Option<u32>),
) -> ContainerStats {
    let file = |name: &str| format!("{}/{name}", group.path());
    let number = |name: &str| read(&file(name)).trim().parse::<u64>().unwrap_or(0);
    let memory = number("memory.current");
    let inactive = cgroup::counter(&file("memory.stat"), "inactive_file").unwrap_or(0);
    let (read_bytes, write_bytes) = transfers(&read(&file("io.stat")));
    let pids = group.processes(MAX_PROCESSES);
    let (descriptors, sockets) = descriptors(&pids);
    ContainerStats {
        id: id.clone(),
        cpu_nanos: cgroup::counter(&file("cpu.stat"), "usage_usec").unwrap_or(0) * 1000,
        memory_bytes: memory,
        working_set_bytes: memory.saturating_sub(inactive),
        pids: number("pids.current"),
        writable_bytes: writable
            .1
            .and_then(|project| quota::usage(Path::new(writable.0), project))
            .unwrap_or(0),
        read_bytes,
        write_bytes,
        processes: pids
            .into_iter()
            .map(|pid| ProcessStats {
                pid,
                command: command(pid),
            })
            .collect(),
        files: FILES
            .map(|name| (name.to_owned(), read(&file(name))))
            .into_iter()
            .filter(|(_, text)| !text.is_empty())
            .collect(),
        descriptors,
        sockets,
    }
}

/// The short name. Its arguments lie in the process's own memory, which it can
/// keep whoever reads them from for ever.
fn command(pid: u32) -> String {
    let name = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    String::from_utf8_lossy(&name)
        .trim_end_matches('\n')
        .to_owned()
}

/// Descriptors of processes, and how many of them are sockets. A container may
/// have more than can be counted while others wait.
fn descriptors(pids: &[u32]) -> (u64, u64) {
    let places = pids.iter().map(|pid| format!("/proc/{pid}/fd"));
    let all = places.filter_map(|place| std::fs::read_dir(place).ok());
    let all = all.flatten().flatten().take(MAX_DESCRIPTORS);
    all.fold((0, 0), |(all, sockets), one| {
        let target = std::fs::read_link(one.path()).unwrap_or_default();
        let is_socket = target
            .as_os_str()
            .as_encoded_bytes()
            .starts_with(b"socket:");
        (all + 1, sockets + u64::from(is_socket))
    })
}

/// Sum over the disks of io.stat: `253:0 rbytes=1 wbytes=2 …`.
fn transfers(text: &str) -> (u64, u64) {
    let sum = |key: &str| {
        text.split_whitespace()
            .filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok())
            .sum()
    };
    (sum("rbytes="), sum("wbytes="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let text = "Inter-| Receive | Transmit\n face |bytes |bytes\n\
            \x20   lo:  10 1 0 0 0 0 0 0  10 1 0 0 0 0 0 0\n\
            \x20 eth0: 500 4 0 0 0 0 0 0 700 5 0 0 0 0 0 0\n";
        let eth0 = InterfaceStats {
            name: "eth0".to_owned(),
            rx_bytes: 500,
            tx_bytes: 700,
        };
        assert_eq!(interfaces(text), [eth0]);
        assert_eq!(uptime_nanos("12.34 56.78\n"), 12_340_000_000);
        assert_eq!(uptime_nanos(""), 0);
        let io = "253:0 rbytes=1 wbytes=2 rios=3\n253:16 rbytes=10 wbytes=20\n";
        assert_eq!(transfers(io), (11, 22));
    }
}
