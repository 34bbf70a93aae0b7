//! The network of an ordinary user's pod: a network namespace that is the pod's, made
//! in the supervisor's namespace of users, and in it a card behind which pasta (of the
//! project passt) carries what comes out to sockets of the host.
//!
//! ```text
//! the pod's:  VM ══ tap0 ─tc─ eth0 ══ pasta ─sockets of the user─► the host's network
//! ```
//! Every pod has the same addresses: nobody else is in its network. pasta ends when it
//! is told to; which process it is says a file beside the namespace's own.

use super::process::{self, POD_VARIABLE};
use crate::path_error::PathError;
use crate::plan::{Card, Carried, CarriedDns, PastaPlan, Plan};
use crate::settings::Settings;
use crate::store::ProcessRef;
use crate::sys::netns;
use beluga_proto::PodUid;
use beluga_proto::pod::{Address, Route};
use beluga_proto::vm::MacAddress;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The program, which is Debian's package passt.
pub const PROGRAM: &str = "pasta";

/// What the network is called where networks are named.
const NETWORK: &str = "pasta";

const CARD: &str = "eth0";
const MAC: MacAddress = MacAddress([0x52, 0x55, 0x0a, 0x00, 0x02, 0x64]);
/// Of pasta, in whose place it would show the host's own.
const GATEWAY_MAC: &str = "52:55:0a:00:02:02";
const MTU: u16 = 1500;
const PREFIX: u8 = 24;
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 100));
const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 2));
const RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 3));

/// How long pasta may take to end.
const PATIENCE_MILLIS: u32 = 3000;

/// Longest that is shown of what it says, in bytes.
const MAX_SAID: usize = 500;

/// Why a pod has no network.
#[derive(Debug, thiserror::Error)]
pub enum PastaError {
    /// A file, or the namespace itself.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The program is not there.
    #[error("cannot run pasta, which carries an ordinary user's network: install passt")]
    Missing {
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It did not come up.
    #[error("pasta cannot carry the pod's network: {said}")]
    Failed {
        /// What it said last.
        said: String,
    },
}

/// The network that a pod gets. Nothing is made.
#[must_use]
pub fn place(settings: &Settings, uid: &PodUid) -> Carried {
    let netns = settings.run_dir(uid).join("netns");
    let address = Address {
        ip: ADDRESS,
        prefix: PREFIX,
    };
    let card = Card {
        name: CARD.to_owned(),
        tap: "tap0".to_owned(),
        mac: MAC,
        mtu: MTU,
        addresses: vec![address],
        routes: vec![Route {
            to: None,
            via: Some(GATEWAY),
        }],
    };
    let resolv_conf = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    Carried {
        networks: vec![NETWORK.to_owned()],
        netns: netns.clone(),
        cards: vec![card],
        dns: CarriedDns {
            nameservers: vec![RESOLVER.to_string()],
            searches: searches(&resolv_conf),
            options: Vec::new(),
        },
        pasta: Some(PastaPlan {
            pod: uid.clone(),
            netns,
            card: CARD.to_owned(),
            mac: MAC,
            mtu: MTU,
            address,
            gateway: GATEWAY,
            resolver: RESOLVER,
        }),
        ..Carried::default()
    }
}

/// The domains that the host looks in; the last line counts (resolv.conf(5)).
fn searches(resolv_conf: &str) -> Vec<String> {
    let mut lines = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        matches!(words.next()?, "search" | "domain").then(|| words.map(str::to_owned).collect())
    });
    lines.next_back().unwrap_or_default()
}

/// Makes the namespace, and has pasta make its card. Call in a namespace of users
/// and mounts of the supervisor's own.
pub fn connect(plan: &PastaPlan) -> Result<(), PastaError> {
    let netns = &plan.netns;
    fs::write(netns, "").map_err(PathError::on("make", netns))?;
    netns::make(netns).map_err(PathError::on("make the network namespace", netns))?;
    let log_path = log_file(plan);
    let log = fs::File::create(&log_path).map_err(PathError::on("make", &log_path))?;
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let mut command = Command::new(PROGRAM);
    command.args(arguments(plan));
    if !has_way_out(&routes) {
        // It will not begin without an interface to take for the way out, though
        // nothing of that one is wanted.
        command.args(["--interface", "lo"]);
    }
    let status = command
        .env(POD_VARIABLE, plan.pod.as_str())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        // It goes to the background when the card is there.
        .status()
        .map_err(|source| PastaError::Missing { source })?;
    if status.success() {
        return Ok(());
    }
    Err(PastaError::Failed {
        said: said(&log_path).unwrap_or_else(|| status.to_string()),
    })
}

fn arguments(plan: &PastaPlan) -> Vec<String> {
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let valued = [
        ("--netns", path(&plan.netns)),
        ("--ns-ifname", plan.card.clone()),
        ("--ns-mac-addr", plan.mac.to_string()),
        ("--mac-addr", GATEWAY_MAC.to_owned()),
        ("--mtu", plan.mtu.to_string()),
        ("--address", plan.address.ip.to_string()),
        ("--netmask", plan.address.prefix.to_string()),
        ("--gateway", plan.gateway.to_string()),
        ("--dns-forward", plan.resolver.to_string()),
        // Neither side reaches ports of the other's loopback.
        ("--tcp-ports", "none".to_owned()),
        ("--udp-ports", "none".to_owned()),
        ("--tcp-ns", "none".to_owned()),
        ("--udp-ns", "none".to_owned()),
        ("--pid", path(&pid_file(plan))),
        ("--log-file", path(&log_file(plan))),
    ];
    // By default the gateway's address would lead to the host's loopback.
    let plain = [
        "--quiet",
        "--ipv4-only",
        "--config-net",
        "--netns-only",
        "--no-map-gw",
    ];
    let plain = plain.into_iter().map(str::to_owned);
    let valued = valued
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value]);
    plain.chain(valued).collect()
}

/// Whether a host's table of IPv4 routes (proc_net(5)) has one to everywhere.
fn has_way_out(routes: &str) -> bool {
    routes.lines().skip(1).any(|line| {
        let mut words = line.split_ascii_whitespace();
        words.nth(1) == Some("00000000") && words.nth(5) == Some("00000000")
    })
}

/// What pasta said last, where it said anything.
fn said(log: &Path) -> Option<String> {
    last_of(&fs::read_to_string(log).ok()?)
}

/// The last line without the time and the word before it: `0.9096: ERROR:   Failed`.
fn last_of(log: &str) -> Option<String> {
    let last = log.lines().rfind(|line| !line.trim().is_empty())?;
    let (_, message) = last.split_once("ERROR:").unwrap_or(("", last));
    Some(message.trim().chars().take(MAX_SAID).collect())
}

/// The process that carries a pod's network; `None` where none does.
#[must_use]
pub fn of(plan: &Plan) -> Option<ProcessRef> {
    let carried = plan.identity.carried.as_ref()?;
    running(carried.pasta.as_ref()?)
}

fn running(plan: &PastaPlan) -> Option<ProcessRef> {
    let text = fs::read_to_string(pid_file(plan)).ok()?;
    let found = process::identify(text.trim().parse().ok()?)?;
    is_of(plan, found.pid).then_some(found)
}

/// Ends pasta and removes the namespace. What is gone already is no error.
pub fn disconnect(plan: &PastaPlan) -> Result<(), PastaError> {
    let pid_file = pid_file(plan);
    if let Some(pidfd) = running(plan).and_then(process::open) {
        process::kill(&pidfd).map_err(PathError::on("end the process of", &pid_file))?;
        let _ = process::wait_end(&pidfd, PATIENCE_MILLIS);
    }
    netns::remove(&plan.netns)
        .map_err(PathError::on("remove the network namespace", &plan.netns))?;
    PathError::remove_file(&pid_file)?;
    Ok(PathError::remove_file(&log_file(plan))?)
}

/// Whether a process is the pod's pasta, by the words that it was started with.
fn is_of(plan: &PastaPlan, pid: i32) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let netns = plan.netns.as_os_str().as_bytes();
    line.split(|byte| *byte == 0).any(|word| word == netns)
}

fn pid_file(plan: &PastaPlan) -> PathBuf {
    plan.netns.with_file_name("pasta.pid")
}

fn log_file(plan: &PastaPlan) -> PathBuf {
    plan.netns.with_file_name("pasta.log")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_last_line_of_domains_counts() {
        assert_eq!(
            searches("nameserver 1.2.3.4\nsearch a b\ndomain c\n"),
            ["c"]
        );
        assert!(searches("options ndots:2\n").is_empty());
    }

    #[test]
    fn a_route_to_everywhere_is_a_way_out() {
        let head = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\n";
        let to_all = "wan\t00000000\tFE0200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
        let to_one = "wan\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert!(!has_way_out(head) && !has_way_out(&format!("{head}{to_one}")));
        assert!(has_way_out(&format!("{head}{to_one}{to_all}")));
    }

    #[test]
    fn what_pasta_says_is_told_without_its_clock() {
        let log = "pasta unknown version: pasta (286)\n0.9096: ERROR:   No such thing\n\n";
        assert_eq!(last_of(log).as_deref(), Some("No such thing"));
        assert_eq!(last_of("usage: pasta\n").as_deref(), Some("usage: pasta"));
        assert_eq!(last_of(""), None);
    }

    #[test]
    fn pasta_opens_no_port_and_maps_no_loopback() {
        let settings = Settings::new(Some("/r".into()), Some("/s".into())).unwrap();
        let carried = place(&settings, &PodUid::from_random([1; 16]));
        let words = arguments(&carried.pasta.unwrap());
        for port in ["--tcp-ports", "--udp-ports", "--tcp-ns", "--udp-ns"] {
            let at = words.iter().position(|word| word == port).unwrap();
            assert_eq!(words[at + 1], "none", "{port}");
        }
        assert!(words.iter().any(|word| word == "--no-map-gw"), "{words:?}");
    }

    #[test]
    fn a_process_of_that_number_is_not_taken_for_pasta() {
        let settings = Settings::new(Some("/r".into()), Some("/s".into())).unwrap();
        let carried = place(&settings, &PodUid::from_random([1; 16]));
        let own = std::process::id().cast_signed();
        assert!(!is_of(&carried.pasta.unwrap(), own));
    }
}
