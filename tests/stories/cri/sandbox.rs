//! What a request says of the sandbox itself.

use beluga_tests::cri::{
    ContainerEventResponse, ContainerEventType, Cri, DnsConfig, GetEventsRequest,
    LinuxContainerConfig, LinuxContainerResources, LinuxPodSandboxConfig,
    ListPodSandboxMetricsRequest, PodSandboxConfig, PortMapping, Response, Status, Streaming,
    busybox,
};
use beluga_tests::{eventually, shared};
use std::fs;
use std::io::Read as _;
use std::net::TcpStream;
use std::path::Path;

/// The host's port that leads into the pod.
const PORT: u16 = 12_000;

/// A cgroup of somebody else's.
const PARENT: &str = "story-kubepods";

fn asked(cri: &Cri) -> PodSandboxConfig {
    let sysctls = [
        ("kernel.shm_rmid_forced", "1"),
        ("fs.mqueue.msg_max", "100"),
    ];
    PodSandboxConfig {
        hostname: "told-hostname".to_owned(),
        dns_config: Some(DnsConfig {
            servers: vec!["10.10.10.10".to_owned()],
            searches: vec!["google.com".to_owned()],
            options: vec!["ndots:8".to_owned()],
        }),
        port_mappings: vec![PortMapping {
            container_port: 80,
            host_port: PORT.into(),
            ..PortMapping::default()
        }],
        linux: Some(LinuxPodSandboxConfig {
            sysctls: sysctls
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            cgroup_parent: format!("/{PARENT}/podtold"),
            ..LinuxPodSandboxConfig::default()
        }),
        ..cri.sandbox("told")
    }
}

/// What a server of the host's port says.
fn served() -> Option<String> {
    let mut said = String::new();
    let mut stream = TcpStream::connect(("127.0.0.1", PORT)).ok()?;
    stream.read_to_string(&mut said).ok()?;
    Some(said).filter(|said| !said.is_empty())
}

/// The values of a metric of a sandbox's containers.
fn metric(cri: &Cri, sandbox: &str, name: &str) -> Vec<u64> {
    let request = ListPodSandboxMetricsRequest::default();
    let told = cri.call(async { cri.runtime().list_pod_sandbox_metrics(request).await });
    let all = told.expect("metrics").pod_metrics.into_iter();
    let own = all.filter(|one| one.pod_sandbox_id == sandbox);
    let metrics = own
        .flat_map(|one| one.container_metrics)
        .flat_map(|one| one.metrics);
    let named = metrics.filter(|one| one.name == name);
    named.filter_map(|one| Some(one.value?.value)).collect()
}

/// Waits until a container is told of as ended.
fn hears_of_end(cri: &Cri, events: &mut Streaming<ContainerEventResponse>, id: &str) {
    let kind = ContainerEventType::ContainerStoppedEvent;
    let heard = async {
        while let Some(event) = events.message().await? {
            if event.container_id == id && event.container_event_type() == kind {
                return Ok(Response::new(event));
            }
        }
        Err(Status::aborted("no more events"))
    };
    let event = cri.call(heard).expect("an event");
    let ended = event
        .containers_statuses
        .into_iter()
        .find(|one| one.id == id);
    assert_eq!(ended.expect("its status").exit_code, 137);
}

#[test]
fn names_parameters_ports_and_processes_are_as_the_request_says_and_memory_ends() {
    let cri = Cri::start(shared());
    let sandbox = cri.run(asked(&cri)).expect("it runs");
    let events = GetEventsRequest::default();
    let events = cri.call(async { cri.runtime().get_container_events(events).await });
    let mut events = events.expect("events");
    let parent = Path::new("/sys/fs/cgroup").join(PARENT);
    let groups = fs::read_dir(parent.join("podtold"))
        .expect("its cgroup")
        .flatten();
    assert!(
        groups
            .into_iter()
            .any(|one| one.path().display().to_string().ends_with(&sandbox))
    );
    let server = "while :; do echo served | nc -l -p 80; done";
    let server = cri.container(&sandbox, busybox("server", server));
    let id = cri.container(&sandbox, busybox("looks", "sleep 1000"));
    assert_eq!(cri.sh(&id, "hostname"), "told-hostname");
    let names = cri.sh(&id, "cat /etc/resolv.conf");
    for line in [
        "nameserver 10.10.10.10",
        "search google.com",
        "options ndots:8",
    ] {
        assert!(names.contains(line), "{names}");
    }
    let parameters = "cd /proc/sys; cat kernel/shm_rmid_forced fs/mqueue/msg_max";
    assert_eq!(cri.sh(&id, parameters), "1\n100");
    // By default processes are the pod's, and the first is nobody's program.
    assert!(cri.sh(&id, "ps").contains("nc -l -p 80"));
    assert!(!cri.sh(&id, "cat /proc/1/cmdline").contains("nc"));
    assert_eq!(eventually("the port is served", served), "served\n");
    let small = LinuxContainerResources {
        memory_limit_in_bytes: 15 << 20,
        memory_swap_limit_in_bytes: 15 << 20,
        ..LinuxContainerResources::default()
    };
    let mut greedy = busybox("greedy", "dd if=/dev/zero of=/dev/null bs=20M");
    greedy.linux = Some(LinuxContainerConfig {
        resources: Some(small),
        security_context: None,
    });
    let id = cri.container(&sandbox, greedy);
    let greedy = cri.ended(&id);
    assert_eq!(
        (greedy.exit_code, greedy.reason.as_str()),
        (137, "OOMKilled")
    );
    hears_of_end(&cri, &mut events, &id);
    let used = metric(&cri, &sandbox, "container_memory_usage_bytes");
    assert!(
        used.len() == 2 && used.iter().all(|one| *one > 0),
        "{used:?}"
    );
    cri.stop(&server, 0);
    cri.remove_sandbox(&sandbox);
    assert_eq!(served(), None);
    // What the pod had there is gone, and its parent is whose it is.
    for place in [parent.join("podtold"), parent] {
        fs::remove_dir(place).expect("it is empty");
    }
}
