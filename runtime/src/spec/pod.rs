//! A Kubernetes Pod to a [`PodSpec`]: what an API server would refuse is
//! refused, and so is, by its name, what Beluga does not do yet.
//!
//! Kubernetes structs are taken apart without `..`, so that a field which a
//! newer version adds does not compile until somebody decides about it.

use super::check::Check;
use super::types::{Dns, HostAlias, PodName, PodSpec, Resources, RestartPolicy};
use super::yaml::join;
use super::{
    container, dns, ephemeral, limits, mac, meta, names, network, podman, ports, resources,
    security, volume,
};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;

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
        hostname_override: None,
        readiness_gates: Vec::new(),
        conditions: BTreeMap::new(),
        share_processes: false,
        guest_processes: false,
        host_aliases: Vec::new(),
        dns: Dns::default(),
        supplemental_groups: Vec::new(),
        strict_groups: false,
        sysctls: BTreeMap::new(),
        resources: Resources::default(),
        fs_group: None,
        fs_group_on_mismatch: false,
        node_name: None,
        service_account: None,
        pull_secrets: Vec::new(),
        sandbox: None,
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
    mac::apparmor_annotations(&out.annotations, check);
    podman::annotations(&out.annotations, check);
    mac::seccomp_annotations(&out.annotations, check);
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

#[expect(clippy::too_many_lines, reason = "every field of a pod once")]
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
    hostnames(spec, check, out);
    if let Some(os) = &spec.os {
        check.choice("spec.os.name", Some(&os.name), &[("linux", ())]);
    }
    out.share_processes = spec.share_process_namespace.unwrap_or_default();
    out.readiness_gates = readiness_gates(spec, check);
    // The pod's host is its guest.
    out.guest_processes = spec.host_pid.unwrap_or_default();
    out.host_aliases = host_aliases(spec, check);
    out.dns = dns::convert(spec, check);
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
    out.strict_groups = shared.strict_groups;
    out.sysctls.clone_from(&shared.sysctls);
    out.fs_group = shared.fs_group;
    out.fs_group_on_mismatch = shared.fs_group_on_mismatch;
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
    out.resources = resources::of_pod(spec.resources.as_ref(), out, check);
    one_name_each(spec, check);
    let looking = spec.ephemeral_containers.as_deref().unwrap_or_default();
    out.ephemeral_containers = ephemeral::convert(looking, &context, check);
    ports::check_clashes(out, check);
    network::check(out, check);
    limits::check(out, check);
}

/// What the pod is called, by others and by itself.
fn hostnames(spec: &core::PodSpec, check: &mut Check<'_>, out: &mut PodSpec) {
    if let Some(hostname) = spec.hostname.as_ref().filter(|name| !name.is_empty()) {
        check.shape("spec.hostname", hostname, names::label);
        out.hostname = Some(hostname.clone());
    }
    if let Some(subdomain) = spec.subdomain.as_ref().filter(|name| !name.is_empty()) {
        check.shape("spec.subdomain", subdomain, names::label);
        out.subdomain = Some(subdomain.clone());
    }
    out.fqdn_hostname = spec.set_hostname_as_fqdn.unwrap_or_default();
    let own = spec.hostname_override.as_ref();
    if let Some(own) = own.filter(|name| !name.is_empty()) {
        let path = "spec.hostnameOverride";
        check.shape(path, own, names::kernel_hostname);
        if out.fqdn_hostname {
            check.wrong(path, "cannot be used together with setHostnameAsFQDN");
        }
        if spec.host_network == Some(true) {
            check.wrong(path, "cannot be used together with hostNetwork");
        }
        out.hostname_override = Some(own.clone());
    }
}

/// Containers of all three kinds share one space of names.
fn one_name_each(spec: &core::PodSpec, check: &mut Check<'_>) {
    let inits = spec.init_containers.iter().flatten().enumerate();
    let inits = inits.map(|(at, one)| (format!("spec.initContainers[{at}].name"), &*one.name));
    let plain = spec.containers.iter().enumerate();
    let plain = plain.map(|(at, one)| (format!("spec.containers[{at}].name"), &*one.name));
    let looking = spec.ephemeral_containers.iter().flatten().enumerate();
    let looking = looking.map(|(at, one)| (ephemeral::path(at, "name"), &*one.name));
    check.unique("container of the pod", inits.chain(plain).chain(looking));
}

/// Every field of a pod's specification: done elsewhere (`_`), refused, or a
/// cluster's business.
#[expect(clippy::too_many_lines, reason = "every field of a pod once")]
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
        hostname_override: _,
        image_pull_secrets: _,
        init_containers: _,
        node_name,
        node_selector,
        os: _,
        overhead,
        preemption_policy,
        priority,
        priority_class_name,
        readiness_gates: _,
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
    if *host_users == Some(false) && *host_pid == Some(true) {
        check.wrong("spec.hostPID", "cannot be true while hostUsers is false");
    }
    check.unsupported("spec", &[("resourceClaims", some(resource_claims))]);
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

/// The types of the conditions that readiness waits for.
fn readiness_gates(spec: &core::PodSpec, check: &mut Check<'_>) -> Vec<String> {
    let mut out = Vec::new();
    for (at, gate) in spec.readiness_gates.iter().flatten().enumerate() {
        let core::PodReadinessGate { condition_type } = gate;
        let path = format!("spec.readinessGates[{at}].conditionType");
        check.shape(&path, condition_type, names::qualified);
        out.push(condition_type.clone());
    }
    out
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
        if let Some(ip) = dns::address(&format!("{path}.ip"), ip, check) {
            out.push(HostAlias { ip, hostnames });
        }
    }
    out
}
