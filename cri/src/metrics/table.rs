//! Every metric: its name, what it says, and where it is read.

use beluga_proto::agent::{ContainerStats, PodStats};
use beluga_runtime::spec::Resources;
use k8s_cri::v1::MetricType;

/// Microseconds of a period of CPU time.
const PERIOD: u64 = 100_000;

/// What the containers' disk is called.
const DISK: &str = "/dev/vdb";

/// What a metric is read from: a container, or a sandbox.
pub struct Known<'k> {
    /// The sandbox.
    pub pod: &'k PodStats,
    /// The container and its limits.
    pub own: Option<(&'k ContainerStats, &'k Resources)>,
    /// When it was started, in nanoseconds since 1970.
    pub started: Option<u64>,
    /// Nanoseconds since 1970.
    pub now: u64,
}

/// A value and the labels that it alone has.
pub struct Reading {
    /// In the order of the metric's keys.
    pub labels: Vec<String>,
    /// In the unit of the metric's name.
    pub value: u64,
}

/// One metric.
pub struct Metric {
    /// As cAdvisor calls it.
    pub name: &'static str,
    /// For people.
    pub help: &'static str,
    /// Whether it only grows.
    pub kind: MetricType,
    /// Labels beside those that all have.
    pub labels: &'static [&'static str],
    /// Its values; none where it says nothing of the subject.
    pub read: fn(&Known<'_>) -> Vec<Reading>,
}

impl Known<'_> {
    /// A number behind a key in a file of the container's cgroup.
    fn counter(&self, file: &str, key: &str) -> Vec<Reading> {
        self.own(|stats, _| number(stats, file, key))
    }

    /// The same, of microseconds.
    fn seconds(&self, key: &str) -> Vec<Reading> {
        self.own(|stats, _| number(stats, "cpu.stat", key) / 1_000_000)
    }

    /// Something that the container has once.
    fn own(&self, read: impl Fn(&ContainerStats, &Resources) -> u64) -> Vec<Reading> {
        let read = self.own.map(|(stats, limits)| read(stats, limits));
        read.into_iter().map(|value| with([], value)).collect()
    }

    /// Something of its writable layer.
    fn disk(&self, read: impl Fn(&ContainerStats, &PodStats) -> u64) -> Vec<Reading> {
        let read = self.own.map(|(stats, _)| read(stats, self.pod));
        read.into_iter().map(|value| with([DISK], value)).collect()
    }

    /// A key of `io.stat`, over all disks.
    fn transfers(&self, key: &str) -> Vec<Reading> {
        self.disk(|stats, _| {
            let words = file(stats, "io.stat").split_whitespace();
            let values = words.filter_map(|word| word.strip_prefix(key)?.strip_prefix('='));
            values.filter_map(|value| value.parse::<u64>().ok()).sum()
        })
    }

    /// How long the container has waited for something: `some` of it, or all.
    fn pressure(&self, what: &str, who: &str) -> Vec<Reading> {
        self.own(|stats, _| {
            let mut lines = file(stats, what).lines();
            let line = lines.find(|line| line.starts_with(who));
            let total = line.and_then(|line| line.split_once("total="));
            total
                .and_then(|(_, total)| total.trim().parse::<u64>().ok())
                .unwrap_or(0)
                / 1_000_000
        })
    }

    /// A column of `/proc/net/dev`, for each card but the loopback's.
    fn cards(&self, column: usize) -> Vec<Reading> {
        if self.own.is_some() {
            return Vec::new();
        }
        let lines = self.pod.cards.lines().skip(2);
        let cards = lines.filter_map(|line| line.split_once(':'));
        let cards = cards.map(|(name, counters)| (name.trim(), counters));
        let cards = cards.filter(|(name, _)| *name != "lo");
        let told = cards.filter_map(|(name, counters)| {
            let value = counters.split_whitespace().nth(column)?;
            Some(with([name], value.parse().ok()?))
        });
        told.collect()
    }
}

fn with<const N: usize>(labels: [&str; N], value: u64) -> Reading {
    let labels = labels.map(str::to_owned).into();
    Reading { labels, value }
}

fn file<'s>(stats: &'s ContainerStats, name: &str) -> &'s str {
    stats.files.get(name).map_or("", String::as_str)
}

pub fn number(stats: &ContainerStats, name: &str, key: &str) -> u64 {
    let mut lines = file(stats, name).lines().map(|line| line.split_once(' '));
    let found = lines.find_map(|line| line.filter(|(name, _)| *name == key));
    found
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
}

/// The only number in a file; `max` is none.
fn sole(stats: &ContainerStats, name: &str) -> u64 {
    file(stats, name).trim().parse().unwrap_or(0)
}

/// `253:16 rbytes=1 wbytes=2 …`: a value for each disk and direction.
fn devices(known: &Known<'_>) -> Vec<Reading> {
    let text = known.own.map_or("", |(stats, _)| file(stats, "io.stat"));
    let disk = |line: &str| {
        let (device, counters) = line.split_once(' ')?;
        let (major, minor) = device.split_once(':')?;
        let value = |key: &str| {
            let mut words = counters.split_whitespace();
            words.find_map(|word| word.strip_prefix(key)?.parse().ok())
        };
        let read = with([device, major, minor, "Read"], value("rbytes=")?);
        Some([
            read,
            with([device, major, minor, "Write"], value("wbytes=")?),
        ])
    };
    text.lines().filter_map(disk).flatten().collect()
}

fn faults(known: &Known<'_>) -> Vec<Reading> {
    let Some((stats, _)) = known.own else {
        return Vec::new();
    };
    let kinds = [("pgfault", "pgfault"), ("pgmajfault", "pgmajfault")];
    let told = kinds.map(|(kind, key)| {
        let value = number(stats, "memory.stat", key);
        with([kind, "container"], value)
    });
    told.into()
}

const fn metric(
    kind: MetricType,
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    read: fn(&Known<'_>) -> Vec<Reading>,
) -> Metric {
    Metric {
        name,
        help,
        kind,
        labels,
        read,
    }
}

const COUNTER: MetricType = MetricType::Counter;
const GAUGE: MetricType = MetricType::Gauge;
const NONE: &[&str] = &[];
const DEVICE: &[&str] = &["device"];
const CARD: &[&str] = &["interface"];

/// All of them, by name.
#[rustfmt::skip]
pub const METRICS: &[Metric] = &[
    metric(COUNTER, "container_blkio_device_usage_total", "Bytes read from and written to each disk", &["device", "major", "minor", "operation"], devices),
    metric(COUNTER, "container_cpu_cfs_periods_total", "Periods of CPU time that have gone by", NONE, |k| k.counter("cpu.stat", "nr_periods")),
    metric(COUNTER, "container_cpu_cfs_throttled_periods_total", "Periods in which it was throttled", NONE, |k| k.counter("cpu.stat", "nr_throttled")),
    metric(COUNTER, "container_cpu_cfs_throttled_seconds_total", "Seconds for which it was throttled", NONE, |k| k.seconds("throttled_usec")),
    metric(COUNTER, "container_cpu_system_seconds_total", "Seconds of CPU time in the kernel", NONE, |k| k.seconds("system_usec")),
    metric(COUNTER, "container_cpu_usage_seconds_total", "Seconds of CPU time", NONE, |k| k.seconds("usage_usec")),
    metric(COUNTER, "container_cpu_user_seconds_total", "Seconds of CPU time outside the kernel", NONE, |k| k.seconds("user_usec")),
    metric(GAUGE, "container_file_descriptors", "Open descriptors, as far as they were counted", NONE, |k| k.own(|s, _| s.descriptors)),
    metric(GAUGE, "container_fs_inodes_free", "Files that there can be beside those that there are", DEVICE, |k| k.disk(|_, p| p.disk.unwrap_or_default().inodes_free)),
    metric(GAUGE, "container_fs_inodes_total", "Files that there can be", DEVICE, |k| k.disk(|_, p| p.disk.unwrap_or_default().inodes)),
    metric(GAUGE, "container_fs_limit_bytes", "Size of the disk of the writable layer", DEVICE, |k| k.disk(|_, p| p.disk.unwrap_or_default().bytes)),
    metric(COUNTER, "container_fs_reads_bytes_total", "Bytes read from disks", DEVICE, |k| k.transfers("rbytes")),
    metric(COUNTER, "container_fs_reads_total", "Reads from disks", DEVICE, |k| k.transfers("rios")),
    metric(GAUGE, "container_fs_usage_bytes", "Bytes of the writable layer", DEVICE, |k| k.disk(|s, _| s.writable_bytes)),
    metric(COUNTER, "container_fs_writes_bytes_total", "Bytes written to disks", DEVICE, |k| k.transfers("wbytes")),
    metric(COUNTER, "container_fs_writes_total", "Writes to disks", DEVICE, |k| k.transfers("wios")),
    metric(GAUGE, "container_last_seen", "When it was last looked at, in seconds since 1970", NONE, |k| k.own(|_, _| k.now / 1_000_000_000)),
    metric(GAUGE, "container_memory_cache", "Bytes of file pages", NONE, |k| k.counter("memory.stat", "file")),
    metric(COUNTER, "container_memory_failcnt", "How often it met its limit", NONE, |k| k.counter("memory.events", "max")),
    metric(COUNTER, "container_memory_failures_total", "Page faults", &["failure_type", "scope"], faults),
    metric(GAUGE, "container_memory_kernel_usage", "Bytes that the kernel holds for it", NONE, |k| k.counter("memory.stat", "kernel")),
    metric(GAUGE, "container_memory_mapped_file", "Bytes of files that are mapped", NONE, |k| k.counter("memory.stat", "file_mapped")),
    metric(GAUGE, "container_memory_max_usage_bytes", "Most bytes that it has had", NONE, |k| k.own(|s, _| sole(s, "memory.peak").max(s.memory_bytes))),
    metric(GAUGE, "container_memory_rss", "Bytes of anonymous memory", NONE, |k| k.counter("memory.stat", "anon")),
    metric(GAUGE, "container_memory_swap", "Bytes that are swapped out: none, a guest has no swap", NONE, |k| k.own(|_, _| 0)),
    metric(GAUGE, "container_memory_usage_bytes", "Bytes of memory, all kinds", NONE, |k| k.own(|s, _| s.memory_bytes)),
    metric(GAUGE, "container_memory_working_set_bytes", "Bytes that are in use", NONE, |k| k.own(|s, _| s.working_set_bytes)),
    metric(COUNTER, "container_network_receive_bytes_total", "Bytes received", CARD, |k| k.cards(0)),
    metric(COUNTER, "container_network_receive_errors_total", "Errors at receiving", CARD, |k| k.cards(2)),
    metric(COUNTER, "container_network_receive_packets_dropped_total", "Packets dropped at receiving", CARD, |k| k.cards(3)),
    metric(COUNTER, "container_network_receive_packets_total", "Packets received", CARD, |k| k.cards(1)),
    metric(COUNTER, "container_network_transmit_bytes_total", "Bytes sent", CARD, |k| k.cards(8)),
    metric(COUNTER, "container_network_transmit_errors_total", "Errors at sending", CARD, |k| k.cards(10)),
    metric(COUNTER, "container_network_transmit_packets_dropped_total", "Packets dropped at sending", CARD, |k| k.cards(11)),
    metric(COUNTER, "container_network_transmit_packets_total", "Packets sent", CARD, |k| k.cards(9)),
    metric(COUNTER, "container_oom_events_total", "Processes that were killed for want of memory", NONE, |k| k.counter("memory.events", "oom_kill")),
    metric(COUNTER, "container_pressure_cpu_stalled_seconds_total", "Seconds in which nothing of it had a CPU", NONE, |k| k.pressure("cpu.pressure", "full")),
    metric(COUNTER, "container_pressure_cpu_waiting_seconds_total", "Seconds in which something of it waited for a CPU", NONE, |k| k.pressure("cpu.pressure", "some")),
    metric(COUNTER, "container_pressure_io_stalled_seconds_total", "Seconds in which all of it waited for disks", NONE, |k| k.pressure("io.pressure", "full")),
    metric(COUNTER, "container_pressure_io_waiting_seconds_total", "Seconds in which something of it waited for disks", NONE, |k| k.pressure("io.pressure", "some")),
    metric(COUNTER, "container_pressure_memory_stalled_seconds_total", "Seconds in which all of it waited for memory", NONE, |k| k.pressure("memory.pressure", "full")),
    metric(COUNTER, "container_pressure_memory_waiting_seconds_total", "Seconds in which something of it waited for memory", NONE, |k| k.pressure("memory.pressure", "some")),
    metric(GAUGE, "container_processes", "Processes", NONE, |k| k.own(|s, _| s.processes.len() as u64)),
    metric(GAUGE, "container_sockets", "Open sockets, as far as they were counted", NONE, |k| k.own(|s, _| s.sockets)),
    metric(GAUGE, "container_spec_cpu_period", "Microseconds of a period of CPU time", NONE, |k| k.own(|_, _| PERIOD)),
    metric(GAUGE, "container_spec_cpu_quota", "Microseconds that it may use of each, 0 without a limit", NONE, |k| k.own(|_, l| l.cpu_limit_milli.unwrap_or(0) * PERIOD / 1000)),
    metric(GAUGE, "container_spec_cpu_shares", "Its share of CPU time", NONE, |k| k.own(|_, l| l.cpu_request_milli.unwrap_or(0) * 1024 / 1000)),
    metric(GAUGE, "container_spec_memory_limit_bytes", "Bytes that it may have, 0 without a limit", NONE, |k| k.own(|_, l| l.memory_limit.unwrap_or(0))),
    metric(GAUGE, "container_spec_memory_reservation_limit_bytes", "Bytes that are kept for it", NONE, |k| k.own(|_, l| l.memory_request.unwrap_or(0))),
    metric(GAUGE, "container_spec_memory_swap_limit_bytes", "Bytes that it may have with swap, 0 without a limit", NONE, |k| k.own(|_, l| l.memory_limit.unwrap_or(0))),
    metric(GAUGE, "container_start_time_seconds", "When it was started, in seconds since 1970", NONE, |k| k.started.map(|at| with([], at / 1_000_000_000)).into_iter().collect()),
    metric(GAUGE, "container_threads", "Threads", NONE, |k| k.own(|s, _| s.pids)),
    metric(GAUGE, "container_threads_max", "Most threads that it may have, 0 without a limit", NONE, |k| k.own(|s, _| sole(s, "pids.max"))),
];
