//! What a request says of the sandbox itself.

use beluga_tests::cri::{
    ContainerEventResponse, ContainerEventType, Cri, DnsConfig, GetEventsRequest,
    LinuxContainerResources, LinuxPodSandboxConfig, ListPodSandboxMetricsRequest, PodSandboxConfig,
    PortMapping, Response, Status, Streaming, busybox,
};
use beluga_tests::{eventually, shared};
use std::fs;
use std::io::Read as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};

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
    it_lies_in_its_cgroup(&sandbox);
    let server = "while :; do echo served | nc -l -p 80; done";
    let server = cri.container(&sandbox, busybox("server", server));
    let id = cri.container(&sandbox, busybox("looks", "sleep 1000"));
    names_and_parameters_are_as_asked(&cri, &id);
    processes_are_the_pods(&cri, &id);
    assert_eq!(eventually("the port is served", served), "served\n");
    who_takes_too_much_memory_ends_and_is_told_of(&cri, &sandbox);
    what_is_used_is_told_of_the_others(&cri, &sandbox);
    cri.stop(&server, 0);
    cri.remove_sandbox(&sandbox);
    assert_eq!(served(), None);
    its_cgroup_is_gone();
}

/// The cgroup that the request has named.
fn parent() -> PathBuf {
    Path::new("/sys/fs/cgroup").join(PARENT)
}

fn it_lies_in_its_cgroup(sandbox: &str) {
    let groups = fs::read_dir(parent().join("podtold")).expect("its cgroup");
    let paths = groups.flatten().map(|one| one.path().display().to_string());
    let paths: Vec<String> = paths.collect();
    let is_there = paths.iter().any(|path| path.ends_with(sandbox));
    assert!(is_there, "{paths:?}");
}

/// What the pod had there is gone, and its parent is whose it is.
fn its_cgroup_is_gone() {
    for place in [parent().join("podtold"), parent()] {
        fs::remove_dir(place).expect("it is empty");
    }
}

fn names_and_parameters_are_as_asked(cri: &Cri, id: &str) {
    assert_eq!(cri.sh(id, "hostname"), "told-hostname");
    let names = cri.sh(id, "cat /etc/resolv.conf");
    assert!(names.contains("nameserver 10.10.10.10"), "{names}");
    assert!(names.contains("search google.com"), "{names}");
    assert!(names.contains("options ndots:8"), "{names}");
    let parameters = "cd /proc/sys; cat kernel/shm_rmid_forced fs/mqueue/msg_max";
    assert_eq!(cri.sh(id, parameters), "1\n100");
}

/// They are so by default, and the first is nobody's program.
fn processes_are_the_pods(cri: &Cri, id: &str) {
    assert!(cri.sh(id, "ps").contains("nc -l -p 80"));
    assert!(!cri.sh(id, "cat /proc/1/cmdline").contains("nc"));
}

fn who_takes_too_much_memory_ends_and_is_told_of(cri: &Cri, sandbox: &str) {
    let events = GetEventsRequest::default();
    let events = cri.call(async { cri.runtime().get_container_events(events).await });
    let small = LinuxContainerResources {
        memory_limit_in_bytes: 15 << 20,
        memory_swap_limit_in_bytes: 15 << 20,
        ..LinuxContainerResources::default()
    };
    let mut greedy = busybox("greedy", "dd if=/dev/zero of=/dev/null bs=20M");
    greedy.linux.get_or_insert_default().resources = Some(small);
    let id = cri.container(sandbox, greedy);
    let ended = cri.ended(&id);
    let how = (ended.exit_code, ended.reason.as_str());
    assert_eq!(how, (137, "OOMKilled"));
    hears_of_end(cri, &mut events.expect("events"), &id);
}

fn what_is_used_is_told_of_the_others(cri: &Cri, sandbox: &str) {
    let used = metric(cri, sandbox, "container_memory_usage_bytes");
    assert_eq!(used.len(), 2, "{used:?}");
    assert!(used.iter().all(|one| *one > 0), "{used:?}");
}
