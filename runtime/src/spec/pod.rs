//! A Kubernetes Pod to a [`PodSpec`]: what an API server would refuse is
//! refused, and so is, by its name, what Beluga does not do yet.
//!
//! Kubernetes structs are taken apart without `..`, so that a field which a
//! newer version adds does not compile until somebody decides about it.

use super::check::Check;
use super::types::{Dns, HostAlias, PodName, PodSpec, Resources, RestartPolicy};
use super::yaml::join;
use super::{
    container, ephemeral, limits, meta, names, network, ports, resources, security, volume,
};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Converts a pod whose defaults are filled in.
pub fn convert(pod: &core::Pod, check: &mut Check<'_>) -> PodSpec {
    let core::Pod {
        metadata,
        spec,
        status: _, // the system's own; kubectl ignores it as well
    } = pod;
    let mut out = empty();
    identity(metadata, check, &mut out);
    match spec {
        Some(spec) => convert_spec(spec, check, &mut out),
        None => check.wrong("spec", "required"),
    }
    out
}

fn empty() -> PodSpec {
    PodSpec {
        name: PodName::Exact(String::new()),
        namespace: String::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        init_containers: Vec::new(),
        containers: Vec::new(),
        ephemeral_containers: Vec::new(),
        volumes: Vec::new(),
        restart_policy: RestartPolicy::Always,
        grace_seconds: 0,
        active_deadline_seconds: None,
        hostname: None,
        subdomain: None,
        fqdn_hostname: false,
        share_processes: false,
        host_aliases: Vec::new(),
        dns: Dns::default(),
        supplemental_groups: Vec::new(),
        sysctls: BTreeMap::new(),
        resources: Resources::default(),
        fs_group: None,
        node_name: None,
        service_account: None,
        pull_secrets: Vec::new(),
    }
}

fn identity(metadata: &ObjectMeta, check: &mut Check<'_>, out: &mut PodSpec) {
    let ObjectMeta {
        annotations: _,        // with the labels
        creation_timestamp: _, // this and others below are the system's own
        deletion_grace_period_seconds: _,
        deletion_timestamp: _,
        finalizers,
        generate_name,
        generation: _,
        labels: _,
        managed_fields: _,
        name,
        namespace,
        owner_references,
        resource_version: _,
        self_link: _,
        uid: _,
    } = metadata;
    out.name = match (name.as_deref(), generate_name.as_deref()) {
        (Some(name), _) if !name.is_empty() => {
            check.shape("metadata.name", name, names::subdomain);
            PodName::Exact(name.to_owned())
        }
        (_, Some(prefix)) if !prefix.is_empty() => {
            // The prefix may end in '-': letters follow it.
            check.shape("metadata.generateName", &format!("{prefix}x"), |text| {
                names::subdomain(text)
            });
            PodName::Generate(prefix.to_owned())
        }
        _ => {
            check.wrong(
                "metadata.name",
                "required: the pod's name (or metadata.generateName)",
            );
            PodName::Exact(String::new())
        }
    };
    out.namespace = namespace.clone().unwrap_or_default();
    check.shape("metadata.namespace", &out.namespace, names::label);
    (out.labels, out.annotations) = meta::labels(metadata, check);
    check.ignore(
        "metadata",
        &[
            ("finalizers", some(finalizers)),
            ("ownerReferences", some(owner_references)),
        ],
    );
}

/// Whether a list or map is there and not empty.
pub fn some<T>(list: &Option<T>) -> bool
where
    for<'a> &'a T: IntoIterator,
{
    list.as_ref()
        .is_some_and(|list| list.into_iter().next().is_some())
}

/// Whether a text is there and not empty.
fn text(text: &Option<String>) -> bool {
    text.as_ref().is_some_and(|text| !text.is_empty())
}

fn convert_spec(spec: &core::PodSpec, check: &mut Check<'_>, out: &mut PodSpec) {
    refuse_and_ignore(spec, check);
    out.restart_policy = check.choice(
        "spec.restartPolicy",
        spec.restart_policy.as_deref(),
        &[
            ("Always", RestartPolicy::Always),
            ("OnFailure", RestartPolicy::OnFailure),
            ("Never", RestartPolicy::Never),
        ],
    );
    let grace = spec.termination_grace_period_seconds.unwrap_or_default();
    out.grace_seconds = check
        .number(
            "spec.terminationGracePeriodSeconds",
            grace,
            "a number of seconds from 0 to 4294967295",
        )
        .unwrap_or_default();
    out.active_deadline_seconds = spec.active_deadline_seconds.and_then(|seconds| {
        let path = "spec.activeDeadlineSeconds";
        let range = "a number of seconds from 1 to 2147483647";
        if !(1..=i64::from(i32::MAX)).contains(&seconds) {
            check.wrong(path, format!("{seconds} is not {range}"));
        }
        u32::try_from(seconds).ok()
    });
    if let Some(hostname) = spec.hostname.as_ref().filter(|name| !name.is_empty()) {
        check.shape("spec.hostname", hostname, names::label);
        out.hostname = Some(hostname.clone());
    }
    if let Some(subdomain) = spec.subdomain.as_ref().filter(|name| !name.is_empty()) {
        check.shape("spec.subdomain", subdomain, names::label);
        out.subdomain = Some(subdomain.clone());
    }
    out.fqdn_hostname = spec.set_hostname_as_fqdn.unwrap_or_default();
    out.resources = resources::convert("spec", spec.resources.as_ref(), check);
    if let Some(os) = &spec.os {
        check.choice("spec.os.name", Some(&os.name), &[("linux", ())]);
    }
    out.share_processes = spec.share_process_namespace.unwrap_or_default();
    out.host_aliases = host_aliases(spec, check);
    out.dns = dns(spec, check);
    let all = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers);
    let containers: Vec<&str> = all.map(|one| one.name.as_str()).collect();
    out.volumes = volume::convert(
        spec.volumes.as_deref().unwrap_or_default(),
        &containers,
        check,
    );
    let shared = security::shared(spec.security_context.as_ref(), check);
    out.supplemental_groups
        .clone_from(&shared.supplemental_groups);
    out.sysctls.clone_from(&shared.sysctls);
    out.fs_group = shared.fs_group;
    out.node_name = spec.node_name.clone().filter(|name| !name.is_empty());
    let account = spec.service_account_name.as_ref();
    let account = account.or(spec.service_account.as_ref());
    let secrets = spec.image_pull_secrets.iter().flatten();
    let named = secrets.map(|one| one.name.clone());
    out.pull_secrets = named.filter(|name| !name.is_empty()).collect();
    out.service_account = account.cloned().filter(|name| !name.is_empty());
    let context = container::Context {
        volumes: &out.volumes,
        security: &shared,
        containers: &containers,
        has_os: spec.os.is_some(),
        grace_seconds: out.grace_seconds,
        restart_policy: out.restart_policy,
    };
    if spec.containers.is_empty() {
        check.wrong("spec.containers", "required: at least one container");
    }
    let inits = spec.init_containers.as_deref().unwrap_or_default();
    out.init_containers = container::convert("spec.initContainers", inits, true, &context, check);
    out.containers =
        container::convert("spec.containers", &spec.containers, false, &context, check);
    let names = inits
        .iter()
        .enumerate()
        .map(|(at, one)| (format!("spec.initContainers[{at}].name"), one.name.as_str()));
    let names = names.chain(
        spec.containers
            .iter()
            .enumerate()
            .map(|(at, one)| (format!("spec.containers[{at}].name"), one.name.as_str())),
    );
    let looking = spec.ephemeral_containers.as_deref().unwrap_or_default();
    let names = names.chain(
        looking
            .iter()
            .enumerate()
            .map(|(at, one)| (ephemeral::path(at, "name"), one.name.as_str())),
    );
    check.unique("container of the pod", names);
    out.ephemeral_containers = ephemeral::convert(looking, &context, check);
    ports::check_clashes(out, check);
    network::check(out, check);
    limits::check(out, check);
}

/// Every field of a pod's specification: done elsewhere (`_`), refused, or a
/// cluster's business.
fn refuse_and_ignore(spec: &core::PodSpec, check: &mut Check<'_>) {
    let core::PodSpec {
        active_deadline_seconds: _,
        affinity,
        automount_service_account_token,
        containers: _,
        dns_config: _,
        dns_policy: _,
        enable_service_links: _, // there are no services to link to
        ephemeral_containers: _,
        host_aliases: _,
        host_ipc,
        host_network,
        host_pid,
        host_users,
        hostname: _,
        hostname_override,
        image_pull_secrets: _,
        init_containers: _,
        node_name,
        node_selector,
        os: _,
        overhead,
        preemption_policy,
        priority,
        priority_class_name,
        readiness_gates,
        resource_claims,
        resources: _,
        restart_policy: _,
        runtime_class_name,
        scheduler_name,
        scheduling_gates,
        security_context: _,
        service_account,
        service_account_name,
        set_hostname_as_fqdn: _,
        share_process_namespace,
        subdomain: _,
        termination_grace_period_seconds: _,
        tolerations,
        topology_spread_constraints,
        volumes: _,
        workload_ref,
    } = spec;
    for (name, on) in [("hostNetwork", host_network), ("hostIPC", host_ipc)] {
        if *on == Some(true) {
            check.wrong(
                &join("spec", name),
                "refused: a pod runs in a machine of its own and cannot share the host's",
            );
        }
    }
    if *share_process_namespace == Some(true) && *host_pid == Some(true) {
        check.wrong(
            "spec.shareProcessNamespace",
            "cannot be used together with hostPID",
        );
    }
    check.unsupported(
        "spec",
        &[
            ("hostPID", *host_pid == Some(true)),
            ("hostUsers", *host_users == Some(false)),
            ("hostnameOverride", text(hostname_override)),
            ("readinessGates", some(readiness_gates)),
            ("resourceClaims", some(resource_claims)),
        ],
    );
    check.ignore(
        "spec",
        &[
            ("affinity", affinity.is_some()),
            (
                "automountServiceAccountToken",
                automount_service_account_token.is_some(),
            ),
            ("nodeName", text(node_name)),
            ("nodeSelector", some(node_selector)),
            ("overhead", some(overhead)),
            ("preemptionPolicy", text(preemption_policy)),
            ("priority", priority.is_some()),
            ("priorityClassName", text(priority_class_name)),
            ("runtimeClassName", text(runtime_class_name)),
            ("schedulerName", text(scheduler_name)),
            ("schedulingGates", some(scheduling_gates)),
            ("serviceAccount", text(service_account)),
            ("serviceAccountName", text(service_account_name)),
            ("tolerations", some(tolerations)),
            (
                "topologySpreadConstraints",
                some(topology_spread_constraints),
            ),
            ("workloadRef", workload_ref.is_some()),
        ],
    );
}

fn host_aliases(spec: &core::PodSpec, check: &mut Check<'_>) -> Vec<HostAlias> {
    let mut out = Vec::new();
    for (at, alias) in spec.host_aliases.iter().flatten().enumerate() {
        let core::HostAlias { hostnames, ip } = alias;
        let path = format!("spec.hostAliases[{at}]");
        let hostnames = hostnames.clone().unwrap_or_default();
        for (at, name) in hostnames.iter().enumerate() {
            check.shape(&format!("{path}.hostnames[{at}]"), name, names::subdomain);
        }
        if let Some(ip) = address(&format!("{path}.ip"), ip, check) {
            out.push(HostAlias { ip, hostnames });
        }
    }
    out
}

fn address(path: &str, text: &str, check: &mut Check<'_>) -> Option<IpAddr> {
    let ip = text.parse().ok();
    if ip.is_none() {
        let shown: String = text.chars().take(60).collect();
        check.wrong(path, format!("{shown:?} is not an IP address"));
    }
    ip
}

fn dns(spec: &core::PodSpec, check: &mut Check<'_>) -> Dns {
    let (from_host, cluster) = check.choice(
        "spec.dnsPolicy",
        spec.dns_policy.as_deref(),
        &[
            ("ClusterFirst", (true, true)),
            ("ClusterFirstWithHostNet", (true, true)),
            ("Default", (true, false)),
            ("None", (false, false)),
        ],
    );
    let mut out = Dns {
        from_host,
        cluster,
        ..Dns::default()
    };
    if let Some(config) = &spec.dns_config {
        let core::PodDNSConfig {
            nameservers,
            options,
            searches,
        } = config;
        for (at, server) in nameservers.iter().flatten().enumerate() {
            let path = format!("spec.dnsConfig.nameservers[{at}]");
            out.nameservers.extend(address(&path, server, check));
        }
        out.searches = searches.clone().unwrap_or_default();
        for (at, search) in out.searches.iter().enumerate() {
            let name = search.strip_suffix('.').unwrap_or(search);
            check.shape(
                &format!("spec.dnsConfig.searches[{at}]"),
                name,
                names::subdomain,
            );
        }
        for (at, option) in options.iter().flatten().enumerate() {
            let core::PodDNSConfigOption { name, value } = option;
            let name = name.as_deref().unwrap_or_default();
            let line = match value.as_deref() {
                Some(value) if !value.is_empty() => format!("{name}:{value}"),
                _ => name.to_owned(),
            };
            check.shape(
                &format!("spec.dnsConfig.options[{at}].name"),
                &line,
                |line| {
                    // A line break would write other lines of resolv.conf.
                    let one_word = line.bytes().all(|byte| byte.is_ascii_graphic());
                    one_word.then_some(()).ok_or("must be one word")
                },
            );
            out.options.push(line);
        }
    }
    if out.nameservers.len() > 3 {
        check.wrong(
            "spec.dnsConfig.nameservers",
            "more than the 3 that a resolver reads",
        );
    }
    if out.searches.len() > 32 {
        check.wrong("spec.dnsConfig.searches", "more than 32");
    }
    let given = spec.dns_config.as_ref().map(|config| &config.nameservers);
    if !from_host && !given.is_some_and(some) {
        check.wrong(
            "spec.dnsConfig.nameservers",
            "required: at least one, with the dnsPolicy None",
        );
    }
    out
}
