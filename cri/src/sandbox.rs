//! Sandboxes: what is asked for becomes the engine's, and how they are becomes the
//! interface's.

use crate::config::Config;
use crate::error::{CallError, missing};
use crate::pods::{self, SandboxNote, nanos};
use crate::resources::limits;
use beluga_proto::PodUid;
use beluga_runtime::engine::{PodView, sandbox};
use beluga_runtime::host::network::Net;
use beluga_runtime::settings::Settings;
use beluga_runtime::spec::{
    ContainerPort, Dns, HostPort, NETWORK, PodSpec, Sandbox, label, parent_cgroup,
};
use beluga_runtime::store::status::Phase;
use beluga_runtime::{cni, error_chain};
use k8s_cri::v1 as cri;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

/// Most characters of a pod's name that are taken from the request's.
const NAME: usize = 40;

/// Which groups may ping without the right to open raw sockets.
const PING_GROUPS: &str = "net.ipv4.ping_group_range";

/// The pod that a request asks for.
pub fn spec(
    config: cri::PodSandboxConfig,
    handler: String,
    (own, settings): (&Config, &Settings),
) -> Result<PodSpec, CallError> {
    if !handler.is_empty() && !own.handlers.contains(&handler) {
        return Err(CallError::Invalid {
            field: "runtime_handler",
            why: format!("there is no runtime {handler:?}"),
        });
    }
    let metadata = config.metadata.clone().ok_or_else(|| missing("metadata"))?;
    let linux = config.linux.clone().unwrap_or_default();
    let security = linux.security_context.unwrap_or_default();
    if security.run_as_group.is_some() && security.run_as_user.is_none() {
        return Err(CallError::Invalid {
            field: "run_as_group",
            why: "runAsGroup is specified without runAsUser".to_owned(),
        });
    }
    let strict_groups = is_strict(security.supplemental_groups_policy());
    let namespaces = security.namespace_options.unwrap_or_default();
    let pid = of_pid(&namespaces)?;
    let resources = linux.resources.map(|one| limits(&one));
    let note = SandboxNote {
        config: config.clone(),
        handler,
    };
    let made = Sandbox {
        note: serde_json::to_string(&note).unwrap_or_default(),
        ports: ports(&config.port_mappings)?,
        mounts: sandbox::mounts_directory(settings),
        cgroup_parent: cgroup(&linux.cgroup_parent)?,
        netns: None,
    };
    let mut spec = PodSpec::of_sandbox(name(&metadata), namespace(&metadata), made);
    spec.annotations
        .insert(NETWORK.to_owned(), own.network.clone());
    spec.share_processes = pid == cri::NamespaceMode::Pod;
    // The node of a container is its pod's machine.
    spec.guest_processes = pid == cri::NamespaceMode::Node;
    spec.hostname = Some(config.hostname).filter(|name| !name.is_empty());
    if let Some(name) = &spec.hostname {
        label(name).map_err(|why| CallError::Invalid {
            field: "hostname",
            why: why.to_string(),
        })?;
    }
    spec.dns = dns(config.dns_config)?;
    spec.sysctls = sysctls(linux.sysctls);
    spec.strict_groups = strict_groups;
    spec.supplemental_groups = groups(&security.supplemental_groups)?;
    spec.resources = resources.unwrap_or_default();
    let memory = u64::from(own.memory_mib) << 20;
    spec.resources.memory_limit.get_or_insert(memory);
    Ok(spec)
}

/// Whether pods can be in a network of that name, or why not. Our own is made with its
/// first pod; one of CNI comes when the cluster brings it, and until then a kubelet that
/// is told so gets no pods for its node.
pub fn network(name: &str, settings: &Settings) -> Result<(), String> {
    let mut spec = PodSpec::of_sandbox(String::new(), String::new(), Sandbox::default());
    spec.annotations.insert(NETWORK.to_owned(), name.to_owned());
    if let Some(own) = spec.native_network() {
        Net::open(settings, own).map_err(|error| error_chain(&error))?;
    }
    if !spec.cni_networks().is_empty() {
        let wanted = cni::Wanted {
            uid: &PodUid::from_random([0; 16]),
            name: "",
            spec: &spec,
        };
        cni::preview(settings, wanted).map_err(|error| error_chain(&error))?;
    }
    Ok(())
}

fn cgroup(parent: &str) -> Result<Option<PathBuf>, CallError> {
    parent_cgroup(parent).map_err(|error| CallError::Invalid {
        field: "cgroup_parent",
        why: error.to_string(),
    })
}

/// A name for the engine: unique, and telling to people.
fn name(metadata: &cri::PodSandboxMetadata) -> String {
    let random: [u8; 4] = beluga_runtime::pod::random_bytes();
    let mut name = plain(&metadata.name);
    name.truncate(NAME);
    let name = name.trim_end_matches('-');
    format!("{name}-{:08x}", u32::from_le_bytes(random))
}

fn namespace(metadata: &cri::PodSandboxMetadata) -> String {
    let mut namespace = plain(&metadata.namespace);
    namespace.truncate(63);
    namespace.trim_end_matches('-').to_owned()
}

/// The nearest that is a label.
fn plain(text: &str) -> String {
    let fitting = |one: char| match one.to_ascii_lowercase() {
        fits @ ('a'..='z' | '0'..='9') => fits,
        _ => '-',
    };
    let text: String = text.chars().map(fitting).collect();
    match text.trim_matches('-') {
        "" => "default".to_owned(),
        text => text.to_owned(),
    }
}

/// Whose processes containers see. Errors where a namespace is to be the host's.
fn of_pid(options: &cri::NamespaceOption) -> Result<cri::NamespaceMode, CallError> {
    let host = cri::NamespaceMode::Node;
    let refused = [
        (options.network() == host, "hostNetwork"),
        (options.ipc() == host, "hostIPC"),
    ];
    if let Some((_, field)) = refused.into_iter().find(|(is_asked, _)| *is_asked) {
        return Err(CallError::Refused {
            field: field.to_owned(),
            why: "a pod runs in a machine of its own and cannot share the host's",
        });
    }
    if options
        .userns_options
        .as_ref()
        .is_some_and(|one| one.mode() == cri::NamespaceMode::Pod)
    {
        return Err(CallError::Refused {
            field: "hostUsers: false".to_owned(),
            why: "the users of a pod are those of its machine, and never the host's",
        });
    }
    Ok(options.pid())
}

fn ports(mappings: &[cri::PortMapping]) -> Result<Vec<ContainerPort>, CallError> {
    // Ports that the host does not publish are listed too.
    let published = mappings.iter().filter(|one| one.host_port != 0);
    published
        .map(|one| {
            let number = |port: i32| {
                u16::try_from(port)
                    .ok()
                    .filter(|port| *port > 0)
                    .ok_or_else(|| {
                        let why = format!("{port} is no port");
                        let field = "port_mappings";
                        CallError::Invalid { field, why }
                    })
            };
            let ip = match one.host_ip.as_str() {
                "" | "0.0.0.0" | "::" => None,
                ip => Some(ip.parse().map_err(|_| CallError::Invalid {
                    field: "port_mappings.host_ip",
                    why: format!("{ip:?} is no address"),
                })?),
            };
            Ok(ContainerPort {
                name: None,
                port: number(one.container_port)?,
                protocol: one.protocol().as_str_name().to_owned(),
                host: Some(HostPort {
                    ip,
                    port: number(one.host_port)?,
                }),
            })
        })
        .collect()
}

fn dns(config: Option<cri::DnsConfig>) -> Result<Dns, CallError> {
    // One that says nothing is as good as none: what is said is the node's.
    let config = config.filter(|one| *one != cri::DnsConfig::default());
    let Some(config) = config else {
        return Ok(Dns {
            from_host: true,
            ..Dns::default()
        });
    };
    let servers = config.servers.iter().map(|server| {
        server.parse().map_err(|_| CallError::Invalid {
            field: "dns_config.servers",
            why: format!("{server:?} is no address"),
        })
    });
    Ok(Dns {
        from_host: false,
        cluster: false,
        nameservers: servers.collect::<Result<_, _>>()?,
        searches: config.searches,
        options: config.options,
    })
}

/// Kernel parameters. Whoever may not open raw sockets may not ping either: that is
/// the kernel's own default, and so the interface's.
fn sysctls(given: HashMap<String, String>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([(PING_GROUPS.to_owned(), "1\t0".to_owned())]);
    all.extend(given);
    all
}

/// Whether a process has the groups that the request names, and no others.
pub fn is_strict(policy: cri::SupplementalGroupsPolicy) -> bool {
    policy == cri::SupplementalGroupsPolicy::Strict
}

/// Groups as numbers that a process can have.
pub fn groups(groups: &[i64]) -> Result<Vec<u32>, CallError> {
    let all = groups.iter().map(|group| {
        u32::try_from(*group).map_err(|_| CallError::Invalid {
            field: "supplemental_groups",
            why: format!("{group} is no group"),
        })
    });
    all.collect()
}

/// Whether it can have containers.
pub fn state(pod: &PodView) -> cri::PodSandboxState {
    match (pod.status.phase, pod.status.deleted) {
        (Phase::Running, None) => cri::PodSandboxState::SandboxReady,
        _ => cri::PodSandboxState::SandboxNotready,
    }
}

/// A sandbox in a list.
pub fn item(pod: &PodView) -> cri::PodSandbox {
    let note = pods::note(pod);
    cri::PodSandbox {
        id: pod.uid.to_string(),
        metadata: note.config.metadata,
        state: state(pod).into(),
        created_at: nanos(pod.status.created),
        labels: note.config.labels,
        annotations: note.config.annotations,
        runtime_handler: note.handler,
    }
}

/// A sandbox, all of it.
pub fn status(pod: &PodView) -> cri::PodSandboxStatus {
    let note = pods::note(pod);
    let mut ips = pod.status.ips.iter().map(ToString::to_string);
    let linux = note.config.linux.unwrap_or_default();
    let options = linux.security_context.and_then(|one| one.namespace_options);
    cri::PodSandboxStatus {
        id: pod.uid.to_string(),
        metadata: note.config.metadata,
        state: state(pod).into(),
        created_at: nanos(pod.status.created),
        network: Some(cri::PodSandboxNetworkStatus {
            ip: ips.next().unwrap_or_default(),
            additional_ips: ips.map(|ip| cri::PodIp { ip }).collect(),
        }),
        linux: Some(cri::LinuxPodSandboxStatus {
            namespaces: Some(cri::Namespace {
                options: Some(options.unwrap_or_default()),
            }),
        }),
        labels: note.config.labels,
        annotations: note.config.annotations,
        runtime_handler: note.handler,
    }
}

/// What only the verbose status says.
pub fn info(pod: &PodView) -> HashMap<String, String> {
    let status = &pod.status;
    let shown = serde_json::json!({
        "pod": pod.name,
        "namespace": pod.namespace,
        "phase": status.phase.to_string(),
        "reason": status.reason,
        "message": status.message,
        "vcpus": pod.plan.as_ref().map(|plan| plan.vm.vcpus),
        "memoryMib": pod.plan.as_ref().map(|plan| plan.vm.memory_mib),
    });
    HashMap::from([("info".to_owned(), shown.to_string())])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(config: cri::PodSandboxConfig) -> Result<PodSpec, CallError> {
        let own = Config {
            socket: "/s".into(),
            root: "/r".into(),
            state: "/t".into(),
            network: "default".into(),
            cgroup_driver: crate::config::CgroupDriver::Cgroupfs,
            handlers: vec!["beluga".into()],
            memory_mib: 256,
        };
        let settings = Settings::new(None, None).unwrap();
        spec(config, String::new(), (&own, &settings))
    }

    fn named() -> cri::PodSandboxConfig {
        cri::PodSandboxConfig {
            metadata: Some(cri::PodSandboxMetadata {
                name: "PodSandbox_1".into(),
                uid: "u".into(),
                namespace: "Some.Namespace".into(),
                attempt: 0,
            }),
            ..cri::PodSandboxConfig::default()
        }
    }

    fn with(security: cri::LinuxSandboxSecurityContext) -> cri::PodSandboxConfig {
        cri::PodSandboxConfig {
            linux: Some(cri::LinuxPodSandboxConfig {
                security_context: Some(security),
                ..cri::LinuxPodSandboxConfig::default()
            }),
            ..named()
        }
    }

    #[test]
    fn any_name_is_brought_into_the_shape_of_a_label() {
        let spec = made(named()).unwrap();
        assert_eq!(spec.namespace, "some-namespace");
        let name = spec.name.resolve([0; 5]);
        assert!(name.starts_with("podsandbox-1-"), "{name}");
        assert!(label(&name).is_ok());
        // The interface's default.
        assert!(spec.share_processes);
        assert_eq!(spec.resources.memory_limit, Some(256 << 20));
    }

    #[test]
    fn what_would_be_the_hosts_is_refused_by_name() {
        let node = cri::NamespaceMode::Node.into();
        let options = |network, ipc| cri::LinuxSandboxSecurityContext {
            namespace_options: Some(cri::NamespaceOption {
                network,
                ipc,
                ..cri::NamespaceOption::default()
            }),
            ..cri::LinuxSandboxSecurityContext::default()
        };
        for (security, what) in [
            (options(node, 0), "hostNetwork"),
            (options(0, node), "hostIPC"),
        ] {
            let error = made(with(security)).unwrap_err();
            assert!(error.to_string().starts_with(what), "{error}");
        }
        let group = cri::LinuxSandboxSecurityContext {
            run_as_group: Some(cri::Int64Value { value: 1 }),
            ..cri::LinuxSandboxSecurityContext::default()
        };
        let error = made(with(group)).unwrap_err().to_string();
        assert!(error.contains("without runAsUser"), "{error}");
    }

    #[test]
    fn names_that_say_nothing_are_the_nodes_and_what_a_request_says_of_parameters_holds() {
        let sysctls = [(PING_GROUPS.to_owned(), "0 10".to_owned())];
        let spec = made(cri::PodSandboxConfig {
            dns_config: Some(cri::DnsConfig::default()),
            linux: Some(cri::LinuxPodSandboxConfig {
                sysctls: sysctls.into(),
                ..cri::LinuxPodSandboxConfig::default()
            }),
            ..named()
        });
        let spec = spec.unwrap();
        assert!(spec.dns.from_host);
        assert_eq!(spec.sysctls[PING_GROUPS], "0 10");
        assert_eq!(made(named()).unwrap().sysctls[PING_GROUPS], "1\t0");
    }

    #[test]
    fn a_network_that_is_not_there_is_told_before_a_pod_wants_it() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| Some(place.path().join(name));
        let mut settings = Settings::new(at("root"), at("state")).unwrap();
        settings.cni.configs = place.path().join("net.d");
        assert_eq!(network("default", &settings), Ok(()));
        let error = network("blue", &settings).unwrap_err();
        assert_eq!(error, "there is no network \"blue\"");
        let error = network("cni", &settings).unwrap_err();
        assert!(error.starts_with("there is no CNI network in "), "{error}");
        std::fs::create_dir(&settings.cni.configs).unwrap();
        let config = r#"{"cniVersion": "1.0.0", "name": "a", "plugins": [{"type": "b"}]}"#;
        std::fs::write(settings.cni.configs.join("a.conflist"), config).unwrap();
        assert_eq!(network("cni", &settings), Ok(()));
        assert!(
            network("cni:other", &settings)
                .unwrap_err()
                .contains("only a")
        );
    }

    #[test]
    fn a_cgroup_is_a_path_or_a_slice_with_its_parents_in_its_name() {
        let found = |parent| cgroup(parent).unwrap();
        assert_eq!(found(""), None);
        assert_eq!(found("/kubepods/podx"), Some("kubepods/podx".into()));
        let slice = "kubepods.slice/kubepods-burstable.slice";
        assert_eq!(found("kubepods-burstable.slice"), Some(slice.into()));
        assert!(cgroup("/a/../b").is_err());
    }
}
