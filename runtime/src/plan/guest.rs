//! What the agent is told of the pod: names, addresses, volumes.

use super::carried::{Card, CarriedDns};
use super::downward::Facts;
use super::types::{HostFacts, Identity, Warning};
use super::{PlanError, claims, container, shares};
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

/// Errors with a kernel parameter that is not safe, and that nobody has allowed.
pub fn check_sysctls(spec: &PodSpec, host: &HostFacts) -> Result<(), PlanError> {
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
                limit_bytes: *size_limit,
            },
            Medium::Memory => VolumeKind::Memory {
                limit_bytes: *size_limit,
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

/// What the kubelet says where it has no cluster's name server to name.
pub fn without_resolver(spec: &PodSpec, host: &HostFacts, identity: &Identity) -> Option<Warning> {
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

/// The pod's own lines, then the resolver's or the host's. A name server on the
/// host's own loopback is of no use in a pod; the resolver reaches it.
fn resolv_conf(spec: &PodSpec, host: &HostFacts, identity: &Identity) -> String {
    let dns = &spec.dns;
    let resolver = resolver(spec, host, identity);
    let mut servers: Vec<String> = dns.nameservers.iter().map(ToString::to_string).collect();
    let mut searches = dns.searches.clone();
    let mut options = dns.options.clone();
    if let Some(resolver) = resolver {
        let space = &identity.namespace;
        servers.push(resolver.to_string());
        searches.extend([
            format!("{space}.svc.{CLUSTER_DOMAIN}"),
            format!("svc.{CLUSTER_DOMAIN}"),
            CLUSTER_DOMAIN.to_owned(),
        ]);
        // As the kubelet has it: a name with fewer dots is looked for in all of them.
        if !options.iter().any(|option| option.starts_with("ndots")) {
            options.push("ndots:5".into());
        }
    }
    let carried = identity.carried.as_ref().map(|all| &all.dns);
    let carried = carried.filter(|all| **all != CarriedDns::default() && resolver.is_none());
    if let (true, Some(carried)) = (dns.from_host, carried) {
        // What a network brings counts for more than what its host has.
        servers.extend(carried.nameservers.iter().cloned());
        searches.extend(carried.searches.iter().cloned());
        options.extend(carried.options.iter().cloned());
    } else if dns.from_host {
        for line in host.resolv_conf.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") if resolver.is_none() => servers.extend(
                    words
                        .filter(|word| {
                            word.parse::<IpAddr>()
                                .is_ok_and(|ip| !ip.is_loopback() && !ip.is_unspecified())
                        })
                        .map(ToOwned::to_owned),
                ),
                Some("search" | "domain") => searches.extend(words.map(ToOwned::to_owned)),
                Some("options") if resolver.is_none() => {
                    options.extend(words.map(ToOwned::to_owned));
                }
                _ => {}
            }
        }
    }
    servers.truncate(MAX_NAMESERVERS);
    let mut out = String::new();
    for server in servers {
        let _ = writeln!(out, "nameserver {server}");
    }
    for (word, list) in [("search", searches), ("options", options)] {
        if !list.is_empty() {
            let _ = writeln!(out, "{word} {}", list.join(" "));
        }
    }
    out
}
