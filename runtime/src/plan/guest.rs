//! What the agent is told of the pod: names, addresses, volumes.

use super::carried::{Card, CarriedDns};
use super::downward::Facts;
use super::types::{HostFacts, Identity, Warning};
use super::{MAX_KERNEL_NAME, PlanError, claims, container, shares, size};
use crate::spec::{Medium, PodSpec, Volume, VolumeSource, is_allowed_sysctl};
use beluga_proto::PodSetup;
use beluga_proto::container::CgroupLimits;
use beluga_proto::pod::{Interface, Route, VolumeKind, VolumeSetup};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

/// Size of /dev/shm, as containerd gives it to a sandbox.
const SHM_BYTES: u64 = 64 << 20;

/// Most name servers that a resolver reads (resolv.conf(5)).
const MAX_NAMESERVERS: usize = 3;

/// Most search domains of a pod, and most characters of them all, as in Kubernetes.
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_LINE: usize = 2048;

/// What a cluster's domain is called unless somebody changes it.
const CLUSTER_DOMAIN: &str = "cluster.local";

/// Longest host name in bytes (Linux has 64, DNS 63).
const MAX_HOSTNAME: usize = 63;

/// What the agent is told first. The clock is the sender's to fill in.
pub fn setup(facts: &Facts<'_>, host: &HostFacts, images: &BTreeMap<String, Vec<u8>>) -> PodSetup {
    let (spec, identity) = (facts.spec, facts.identity);
    let hostname = hostname(spec, identity);
    let network = host.network.as_ref().zip(identity.network.as_ref());
    let carried = identity.carried.iter().flat_map(|all| &all.cards);
    PodSetup {
        interfaces: network
            .map(|(shared, own)| Interface {
                name: "eth0".into(),
                mac: own.mac,
                mtu: shared.mtu,
                addresses: own.places().collect(),
                routes: shared
                    .gateways()
                    // There is nothing behind an internal network's.
                    .filter(|_| !shared.beyond.internal)
                    .map(|gateway| Route {
                        to: None,
                        via: Some(gateway.ip),
                    })
                    .collect(),
            })
            .into_iter()
            .chain(carried.map(Card::interface))
            .collect(),
        hosts: hosts(spec, identity),
        resolv_conf: resolv_conf(spec, host, identity),
        hostname,
        scratch: Some("vdb".into()),
        shm_bytes: SHM_BYTES,
        volumes: spec
            .volumes
            .iter()
            .map(|volume| volume_setup(facts, volume, kind(facts, host, volume, images)))
            .collect(),
        share_processes: spec.share_processes,
        guest_processes: spec.guest_processes,
        no_exec: host.tenant.is_some_and(|tenant| !tenant.exec),
        sysctls: spec.sysctls.clone(),
        cgroup: limits(facts),
        clock_unix_nanos: 0,
    }
}

fn volume_setup(facts: &Facts<'_>, volume: &Volume, kind: VolumeKind) -> VolumeSetup {
    let spec = facts.spec;
    let is_directory = claims::directory(facts, volume).is_some();
    let is_kept_as_it_is = match volume.source {
        // The host's files stay as they are, as the kubelet has it, and those of an
        // image cannot change.
        VolumeSource::HostPath { .. } | VolumeSource::Image { .. } => true,
        // Nor can what is served to be read only.
        _ => is_directory && shares::is_read_only(spec, volume),
    };
    VolumeSetup {
        name: volume.name.clone(),
        kind,
        group: spec.fs_group.filter(|_| !is_kept_as_it_is),
        group_on_mismatch: spec.fs_group_on_mismatch
            && !is_directory
            && matches!(
                volume.source,
                VolumeSource::Claim { .. } | VolumeSource::Ephemeral { .. }
            ),
        shared: spec
            .all_containers()
            .flat_map(|one| &one.mounts)
            .any(|mount| mount.volume == volume.name && !mount.propagation.is_none()),
    }
}

/// What all containers together may use. A sandbox's amounts are those of its
/// machine: what its containers may use is for their maker to say. There is no
/// weight and no protection: beside the containers there is only the agent.
fn limits(facts: &Facts<'_>) -> CgroupLimits {
    let own = match facts.spec.sandbox {
        None => container::limits(&facts.spec.resources, None),
        Some(_) => CgroupLimits::default(),
    };
    CgroupLimits {
        cpu_weight: None,
        memory_low: None,
        pids_max: facts.pids_max,
        ..own
    }
}

/// Errors with a name that is too long for the kernel, as a kubelet does, and with
/// a kernel parameter that is not safe, and that nobody has allowed.
pub fn check(spec: &PodSpec, host: &HostFacts, identity: &Identity) -> Result<(), PlanError> {
    let name = hostname(spec, identity);
    if name.len() > MAX_KERNEL_NAME {
        return Err(PlanError::HostName { name });
    }
    let mut names = spec.sysctls.keys();
    match names.find(|name| !is_allowed_sysctl(name, &host.unsafe_sysctls)) {
        Some(name) => Err(PlanError::Sysctl { name: name.clone() }),
        None => Ok(()),
    }
}

fn kind(
    facts: &Facts<'_>,
    host: &HostFacts,
    volume: &Volume,
    images: &BTreeMap<String, Vec<u8>>,
) -> VolumeKind {
    match &volume.source {
        VolumeSource::EmptyDir { medium, size_limit } => match medium {
            Medium::Disk => VolumeKind::EmptyDir {
                // The kubelet counts volumes against the containers' limits.
                limit_bytes: least(*size_limit, facts.spec.storage_limit()),
            },
            Medium::Memory => VolumeKind::Memory {
                limit_bytes: least(*size_limit, Some(memory_bound(facts))),
            },
        },
        VolumeSource::Files { .. } => VolumeKind::Files,
        VolumeSource::Claim { .. } if claims::directory(facts, volume).is_some() => {
            shares::kind(facts, host, volume)
        }
        VolumeSource::Claim { .. } | VolumeSource::Ephemeral { .. } => {
            let device = claims::device(facts, volume);
            if claims::is_block(facts, volume) {
                VolumeKind::Block { device }
            } else {
                VolumeKind::Disk { device }
            }
        }
        VolumeSource::HostPath { .. } => shares::kind(facts, host, volume),
        VolumeSource::Image { .. } => VolumeKind::Image {
            layers: images.get(&volume.name).cloned().unwrap_or_default(),
        },
    }
}

/// The lower of two bounds.
fn least(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

/// How large a volume in memory may be: what the pod may have, or what there is.
fn memory_bound(facts: &Facts<'_>) -> u64 {
    let own = facts.spec.memory_limit();
    own.unwrap_or_else(|| size::usable(facts.memory_mib))
}

/// The name that the kernel has: the short one, or the full one or another
/// where the manifest wants that.
pub fn hostname(spec: &PodSpec, identity: &Identity) -> String {
    match (&spec.hostname_override, full_name(spec, identity)) {
        (Some(own), _) => own.clone(),
        (None, Some(full)) if spec.fqdn_hostname => full,
        _ => short_name(spec, &identity.name),
    }
}

/// The name with its domain; only a pod with a subdomain has one.
fn full_name(spec: &PodSpec, identity: &Identity) -> Option<String> {
    let subdomain = spec.subdomain.as_ref()?;
    let (name, namespace) = (short_name(spec, &identity.name), &identity.namespace);
    Some(format!(
        "{name}.{subdomain}.{namespace}.svc.{CLUSTER_DOMAIN}"
    ))
}

/// The hostname, or the pod's name cut to the length of one.
#[must_use]
pub fn short_name(spec: &PodSpec, name: &str) -> String {
    let name = spec.hostname.as_deref().unwrap_or(name);
    let cut: String = name.chars().take(MAX_HOSTNAME).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

fn hosts(spec: &PodSpec, identity: &Identity) -> String {
    let mut out = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
         fe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    let mut own = identity.addresses();
    if own.is_empty() {
        own.push(IpAddr::from([127, 0, 0, 1]));
    }
    let mut names = short_name(spec, &identity.name);
    if let Some(own) = &spec.hostname_override {
        names.clone_from(own);
    } else if let Some(full) = full_name(spec, identity) {
        names = format!("{full}\t{names}");
    }
    for ip in own {
        let _ = writeln!(out, "{ip}\t{names}");
    }
    for alias in &spec.host_aliases {
        let _ = writeln!(out, "{}\t{}", alias.ip, alias.hostnames.join("\t"));
    }
    out
}

/// The address of the resolver that a pod with `ClusterFirst` asks.
fn resolver(spec: &PodSpec, host: &HostFacts, identity: &Identity) -> Option<IpAddr> {
    let network = host.network.as_ref().zip(identity.network.as_ref());
    let (shared, _) = network.filter(|(shared, _)| spec.dns.cluster && shared.resolver)?;
    Some(shared.gateway.ip)
}

/// What the user should know of how the pod finds names.
pub fn warnings(spec: &PodSpec, host: &HostFacts, identity: &Identity) -> Vec<Warning> {
    let without = without_resolver(spec, host, identity);
    without
        .into_iter()
        .chain(cut_off(spec, host, identity))
        .collect()
}

/// What the kubelet says where it has no cluster's name server to name.
fn without_resolver(spec: &PodSpec, host: &HostFacts, identity: &Identity) -> Option<Warning> {
    let has_one = resolver(spec, host, identity).is_some();
    // Without a network there is nothing to find.
    let is_asked_for = spec.dns.cluster && !identity.addresses().is_empty();
    if is_asked_for && identity.network.is_none() {
        let carried = identity.carried.as_ref();
        let of = match carried.is_some_and(|all| all.pasta.is_some()) {
            true => "an ordinary user",
            false => "a CNI network",
        };
        return Some(Warning {
            reason: "MissingClusterDNS".into(),
            message: format!(
                "Pods of {of} are not found by name. Falling back from \
                 \"ClusterFirst\" to the \"Default\" policy."
            ),
        });
    }
    (is_asked_for && !has_one).then(|| Warning {
        reason: "MissingClusterDNS".into(),
        message: "Port 53 of this host is another program's, at every address: pods cannot be \
                  found by name. Falling back from \"ClusterFirst\" to the \"Default\" policy."
            .into(),
    })
}

/// What resolv.conf says, before it is cut to what a resolver reads.
#[derive(Default)]
struct Resolv {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

/// The resolver's lines or the host's, then the pod's own, as the kubelet merges
/// them. A name server on the host's own loopback is of no use in a pod; the
/// resolver reaches it.
fn resolv(spec: &PodSpec, host: &HostFacts, identity: &Identity) -> Resolv {
    let dns = &spec.dns;
    let mut out = Resolv::default();
    let resolver = resolver(spec, host, identity);
    if let Some(resolver) = resolver {
        let space = &identity.namespace;
        out.servers.push(resolver.to_string());
        out.searches.extend([
            format!("{space}.svc.{CLUSTER_DOMAIN}"),
            format!("svc.{CLUSTER_DOMAIN}"),
            CLUSTER_DOMAIN.to_owned(),
        ]);
        // As the kubelet has it: a name with fewer dots is looked for in all of them.
        out.options.push("ndots:5".into());
    }
    let carried = identity.carried.as_ref().map(|all| &all.dns);
    let carried = carried.filter(|all| **all != CarriedDns::default() && resolver.is_none());
    if let (true, Some(carried)) = (dns.from_host, carried) {
        // What a network brings counts for more than what its host has.
        out.servers.extend(carried.nameservers.iter().cloned());
        out.searches.extend(carried.searches.iter().cloned());
        out.options.extend(carried.options.iter().cloned());
    } else if dns.from_host {
        of_host(&mut out, &host.resolv_conf, resolver.is_some());
    }
    let own = dns.nameservers.iter().map(ToString::to_string);
    out.servers = without_doubles(out.servers.into_iter().chain(own));
    let own = dns.searches.iter().cloned();
    out.searches = without_doubles(out.searches.into_iter().chain(own));
    let name = |option: &str| -> String { option.split(':').next().unwrap_or_default().into() };
    for own in &dns.options {
        // The pod's own stands in place of another of that name.
        out.options.retain(|option| name(option) != name(own));
        out.options.push(own.clone());
    }
    out
}

/// The host's lines; its servers and options only where there is no resolver of ours.
fn of_host(out: &mut Resolv, text: &str, has_resolver: bool) {
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("nameserver") if !has_resolver => out.servers.extend(
                words
                    .filter(|word| {
                        word.parse::<IpAddr>()
                            .is_ok_and(|ip| !ip.is_loopback() && !ip.is_unspecified())
                    })
                    .map(ToOwned::to_owned),
            ),
            Some("search" | "domain") => out.searches.extend(words.map(ToOwned::to_owned)),
            Some("options") if !has_resolver => {
                out.options.extend(words.map(ToOwned::to_owned));
            }
            _ => {}
        }
    }
}

/// Each once, where it stands first.
fn without_doubles(all: impl Iterator<Item = String>) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for one in all {
        if !out.contains(&one) {
            out.push(one);
        }
    }
    out
}

/// What of resolv.conf is more than a resolver reads, in the kubelet's words.
fn cut_off(spec: &PodSpec, host: &HostFacts, identity: &Identity) -> Vec<Warning> {
    let all = resolv(spec, host, identity);
    let warn = |what: &str, line: &str, applied: &[String]| Warning {
        reason: "DNSConfigForming".into(),
        message: format!(
            "{what} have been omitted, the applied {line} line is: {}",
            applied.join(" ")
        ),
    };
    let mut out = Vec::new();
    if let Some(applied) = all.servers.get(..MAX_NAMESERVERS)
        && all.servers.len() > MAX_NAMESERVERS
    {
        let what = "Nameserver limits were exceeded, some nameservers";
        out.push(warn(what, "nameserver", applied));
    }
    let searches = readable(&all.searches);
    if searches.len() < all.searches.len() {
        let what = "Search Line limits were exceeded, some search paths";
        out.push(warn(what, "search", searches));
    }
    out
}

/// As many search domains as a resolver reads.
fn readable(searches: &[String]) -> &[String] {
    let mut length = 0;
    let fit = searches.iter().take(MAX_SEARCHES).take_while(|one| {
        length += one.len() + 1;
        length <= MAX_SEARCH_LINE + 1
    });
    let count = fit.count();
    &searches[..count]
}

fn resolv_conf(spec: &PodSpec, host: &HostFacts, identity: &Identity) -> String {
    let all = resolv(spec, host, identity);
    let mut out = String::new();
    for server in all.servers.iter().take(MAX_NAMESERVERS) {
        let _ = writeln!(out, "nameserver {server}");
    }
    for (word, list) in [
        ("search", readable(&all.searches)),
        ("options", &all.options),
    ] {
        if !list.is_empty() {
            let _ = writeln!(out, "{word} {}", list.join(" "));
        }
    }
    out
}
