//! Pods of containerd's CRI plugin in microVMs, asked for as a kubelet does.

use super::uses::{its_limits_change, what_it_uses_is_told};
use crate::network::page;
use beluga_tests::containerd::{Containerd, Release, overhead_mib};
use beluga_tests::cri::{
    Client, ContainerConfig, ContainerState, DnsConfig, HugepageLimit, Int64Value,
    LinuxContainerConfig, LinuxContainerResources, LinuxContainerSecurityContext,
    ListContainersRequest, Mount, NamespaceMode, NamespaceOption, PodSandboxConfig,
    PodSandboxState, PodSandboxStatsRequest, SecurityProfile, SupplementalGroupsPolicy, busybox,
    security_profile::ProfileType,
};
use beluga_tests::eventually;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A server with a last message, which ends when it is told to.
const SERVES: &str = "trap 'echo ended; echo bye >/dev/termination-log; exit 7' TERM
mkdir /www; echo served >/www/index.html; httpd -p 80 -h /www; echo ready; echo mind >&2
while :; do sleep 1 & wait $!; done";

/// Limits as a kubelet writes them.
pub fn limits(mib: i64) -> LinuxContainerResources {
    LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 100_000,
        cpu_shares: 256,
        memory_limit_in_bytes: mib << 20,
        oom_score_adj: 985,
        hugepage_limits: vec![HugepageLimit {
            page_size: "2MB".to_owned(),
            limit: 0,
        }],
        ..LinuxContainerResources::default()
    }
}

/// The pod's cgroup; other stories have theirs beside it.
fn group(cri: &Client) -> String {
    let logs = cri.logs("web");
    let place = logs.ancestors().nth(2).and_then(Path::file_name);
    let place = place.expect("a directory of the story's own");
    format!("/kubepods/burstable/pod{}", place.to_string_lossy())
}

fn group_path(cri: &Client) -> PathBuf {
    Path::new("/sys/fs/cgroup").join(group(cri).trim_start_matches('/'))
}

/// A kubelet makes the pod's cgroup, and limits it to what was asked for and the overhead.
fn a_kubelet_makes_its_cgroup(cri: &Client) {
    let path = group_path(cri);
    fs::create_dir_all(&path).expect("a cgroup");
    let above: Vec<&Path> = path.ancestors().skip(1).take(3).collect();
    for group in above.into_iter().rev() {
        fs::write(group.join("cgroup.subtree_control"), "+memory +cpu +pids").expect("enabled");
    }
    let most = (224 + overhead_mib()) << 20;
    fs::write(path.join("memory.max"), most.to_string()).expect("limited");
}

fn it_is_accounted_for_where_its_kubelet_looks(cri: &Client, sandbox: &str) {
    let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    let groups = fs::read_dir(group_path(cri)).expect("its cgroup").flatten();
    let procs = groups
        .map(|one| read(one.path().join("cgroup.procs")))
        .collect::<String>();
    let name = |pid: &str| read(Path::new("/proc").join(pid).join("comm"));
    let names: String = procs.lines().map(name).collect();
    for process in ["beluga-vmm", "beluga-share"] {
        assert!(names.contains(process), "{names}");
    }
    let request = PodSandboxStatsRequest {
        pod_sandbox_id: sandbox.to_owned(),
    };
    let told = cri.call(async { cri.runtime().pod_sandbox_stats(request).await });
    let told = told.expect("stats").stats.and_then(|stats| stats.linux);
    let memory = told.and_then(|linux| linux.memory?.usage_bytes);
    // No machine has less.
    assert!(memory.expect("its memory").value > 16 << 20, "{memory:?}");
}

/// A pod as a kubelet writes it.
fn pod(cri: &Client) -> PodSandboxConfig {
    let words = |text: &str| vec![text.to_owned()];
    let mut config = cri.sandbox("web");
    config.hostname = "web-0".to_owned();
    config.dns_config = Some(DnsConfig {
        servers: words("10.96.0.10"),
        searches: words("default.svc.cluster.local"),
        options: words("ndots:5"),
    });
    let linux = config.linux.get_or_insert_default();
    linux.cgroup_parent = group(cri);
    linux.resources = Some(limits(224));
    let low = "net.ipv4.ip_unprivileged_port_start".to_owned();
    linux.sysctls = [(low, "0".to_owned())].into();
    config
}

/// A container as a kubelet writes it, which makes the directory of its log as well.
fn container(cri: &Client, name: &str, line: &str, mib: i64) -> ContainerConfig {
    fs::create_dir_all(cri.logs("web").join(name)).expect("a directory");
    let paths = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
    let security = LinuxContainerSecurityContext {
        namespace_options: Some(NamespaceOption {
            pid: NamespaceMode::Container.into(),
            ..NamespaceOption::default()
        }),
        seccomp: Some(SecurityProfile {
            profile_type: ProfileType::RuntimeDefault.into(),
            ..SecurityProfile::default()
        }),
        no_new_privs: true,
        masked_paths: paths(&["/proc/acpi", "/proc/kcore", "/sys/firmware"]),
        readonly_paths: paths(&["/proc/bus", "/proc/sys"]),
        ..LinuxContainerSecurityContext::default()
    };
    let mut config = busybox(name, line);
    config.linux = Some(LinuxContainerConfig {
        resources: Some(limits(mib)),
        security_context: Some(security),
    });
    config
}

#[test]
fn a_pod_of_the_cri_plugin_is_a_machine_and_leaves_nothing() {
    a_pod_lives_and_leaves_nothing(Release::Bookworm);
}

#[test]
fn such_is_a_pod_of_containerd_1_7() {
    a_pod_lives_and_leaves_nothing(Release::Trixie);
}

#[test]
fn such_is_a_pod_of_containerd_2() {
    a_pod_lives_and_leaves_nothing(Release::Forky);
}

/// They have the same addresses, and one looks whether anything of the host's is left.
static TURN: Mutex<()> = Mutex::new(());

fn a_pod_lives_and_leaves_nothing(release: Release) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (containerd, cri) = Containerd::with_cri(release);
    what_is_the_hosts_is_refused(&cri);
    a_kubelet_makes_its_cgroup(&cri);
    let sandbox = cri.run(pod(&cri)).expect("it runs");
    it_is_accounted_for_where_its_kubelet_looks(&cri, &sandbox);
    let volume = containerd.place().join("volume");
    let served = serve(&cri, &sandbox, &volume);
    it_is_as_it_was_asked_for(&cri, &sandbox, &served);
    others_run_beside_it(&containerd, &cri, (&sandbox, &served));
    if release == Release::Forky {
        groups_are_those_that_were_asked_for(&cri, &sandbox);
    }
    what_it_uses_is_told_and_bounded(&cri, (&sandbox, &served));
    a_new_containerd_finds_it(&containerd, &cri, (&sandbox, &served));
    it_ends_as_it_is_told(&cri, &served, &volume);
    if release == Release::Forky {
        what_has_lost_its_shim_is_cleared(&containerd);
    }
    the_sandbox_ends(&cri, &sandbox);
    nothing_is_left(&containerd, &cri);
}

fn others_run_beside_it(containerd: &Containerd, cri: &Client, (sandbox, served): (&str, &str)) {
    neighbours_share_localhost_and_not_their_processes(cri, sandbox);
    processes_are_those_of_whom_it_is_said(cri, sandbox, served);
    what_cannot_be_run_is_told_by_its_name(cri, sandbox);
    commands_answer_in_it(cri, served);
    ctr_runs_in_it_too(containerd, sandbox);
}

fn what_it_uses_is_told_and_bounded(cri: &Client, (sandbox, served): (&str, &str)) {
    what_it_uses_is_told(cri, served, 64);
    its_limits_change(cri, served);
    the_end_for_memory_has_its_reason(cri, sandbox);
}

fn what_is_the_hosts_is_refused(cri: &Client) {
    let mut config = pod(cri);
    let linux = config.linux.get_or_insert_default();
    linux.sysctls.clear();
    let security = linux.security_context.get_or_insert_default();
    let namespaces = security.namespace_options.get_or_insert_default();
    namespaces.network = NamespaceMode::Node.into();
    let error = cri.run(config).expect_err("it is the host's");
    let message = error.message();
    assert!(message.contains("hostNetwork is not supported"), "{error}");
}

/// A server, with what a kubelet mounts into containers.
fn serve(cri: &Client, sandbox: &str, volume: &Path) -> String {
    fs::create_dir_all(volume.join("shm")).expect("a directory");
    fs::write(volume.join("token"), "secret").expect("a file");
    fs::write(volume.join("last"), "").expect("a file");
    let mount = |source: &str, to: &str, readonly| Mount {
        host_path: volume.join(source).display().to_string(),
        container_path: to.to_owned(),
        readonly,
        ..Mount::default()
    };
    let mut config = container(cri, "served", SERVES, 64);
    config.mounts = vec![
        mount("", "/var/run/secrets", true),
        mount("last", "/dev/termination-log", false),
        mount("shm", "/dev/shm", false),
    ];
    cri.container(sandbox, config)
}

fn it_is_as_it_was_asked_for(cri: &Client, sandbox: &str, served: &str) {
    let status = cri.sandbox_status(sandbox);
    assert_eq!(status.state(), PodSandboxState::SandboxReady);
    let ip = status.network.expect("a network").ip;
    let got = || Some(page(&format!("{ip}:80"))).filter(|got| got == "served\n");
    eventually("the host is served at the pod's address", got);
    let names = cri.sh(served, "hostname; cat /etc/resolv.conf /etc/hostname");
    for line in [
        "web-0",
        "nameserver 10.96.0.10",
        "search default.svc.cluster.local",
    ] {
        assert!(names.contains(line), "{names}");
    }
    let sizes = "cat /sys/fs/cgroup/memory.max; awk '/MemTotal/ {print $2 < 300000}' /proc/meminfo";
    assert_eq!(cri.sh(served, sizes), format!("{}\n1", 64 << 20));
    let volume = "cat /var/run/secrets/token; echo x >/dev/shm/x; ! touch /var/run/secrets/y";
    assert_eq!(cri.sh(served, volume), "secret");
    let status = cri.container_status(served).expect("it is there");
    assert_eq!(status.state(), ContainerState::ContainerRunning);
}

/// A container that is to see processes which are not its own.
fn looking(cri: &Client, line: &str, pid: NamespaceMode, target: &str) -> ContainerConfig {
    let mut config = container(cri, &line.replace(' ', "-"), line, 16);
    let linux = config.linux.get_or_insert_default();
    let security = linux.security_context.get_or_insert_default();
    security.namespace_options = Some(NamespaceOption {
        pid: pid.into(),
        target_id: target.to_owned(),
        ..NamespaceOption::default()
    });
    config
}

/// Two that share the pod's, one that looks at the server's, and what each of them sees.
fn processes_are_those_of_whom_it_is_said(cri: &Client, sandbox: &str, served: &str) {
    let shares = looking(cri, "sleep 1111", NamespaceMode::Pod, "");
    let sees = looking(cri, "sleep 2222", NamespaceMode::Pod, "");
    let debugger = looking(cri, "sleep 3333", NamespaceMode::Target, served);
    let [shares, sees, debugger] =
        [shares, sees, debugger].map(|config| cri.container(sandbox, config));
    let sees_both = |by: &str, one: &str, other: &str| {
        let all = cri.sh(by, "ps");
        (all.contains(one), all.contains(other))
    };
    assert_eq!(cri.sh(&sees, "cat /proc/1/comm"), "pause");
    assert_eq!(sees_both(&sees, "sleep 1111", "httpd"), (true, false));
    assert_eq!(sees_both(&debugger, "httpd", "sleep 1111"), (true, false));
    assert_eq!(sees_both(served, "sleep 3333", "sleep 1111"), (true, false));
    [shares, sees, debugger].iter().for_each(|one| cri.end(one));
}

/// The image has the account 1000 in the groups 4 and 44. containerd knows the policy since 2.
fn groups_are_those_that_were_asked_for(cri: &Client, sandbox: &str) {
    let mut config = container(cri, "strict", "sleep 1000", 16);
    let linux = config.linux.get_or_insert_default();
    let security = linux.security_context.get_or_insert_default();
    security.run_as_user = Some(Int64Value { value: 1000 });
    security.run_as_group = Some(Int64Value { value: 2000 });
    security.supplemental_groups = vec![3000];
    security.supplemental_groups_policy = SupplementalGroupsPolicy::Strict.into();
    let strict = cri.container(sandbox, config);
    let groups = cri.sh(&strict, "id -G | tr ' ' '\\n' | sort -n | xargs");
    assert_eq!(groups, "2000 3000");
    cri.end(&strict);
}

fn what_cannot_be_run_is_told_by_its_name(cri: &Client, sandbox: &str) {
    let mut config = container(cri, "absent", "", 16);
    config.command = vec!["/no/such".to_owned()];
    let absent = cri.create(sandbox, config).expect("created");
    let error = cri.begin(&absent).expect_err("it is not there");
    let message = error.message();
    assert!(
        message.contains(&format!("{absent} cannot be started")),
        "{error}"
    );
    cri.remove(&absent);
}

fn neighbours_share_localhost_and_not_their_processes(cri: &Client, sandbox: &str) {
    let client = cri.container(sandbox, container(cri, "client", "sleep 1000", 32));
    let got = "wget -qO- http://127.0.0.1/; hostname; ls /dev/shm";
    assert_eq!(cri.sh(&client, got), "served\nweb-0");
    assert!(!cri.sh(&client, "ps").contains("httpd"));
    cri.stop(&client, 0);
    assert_eq!(cri.ended(&client).exit_code, 137);
    cri.remove(&client);
}

fn commands_answer_in_it(cri: &Client, id: &str) {
    let answer = cri.exec(id, "echo out; echo err >&2; exit 5", 0);
    let answer = answer.expect("it ran");
    assert_eq!(answer.exit_code, 5);
    assert_eq!(
        (answer.stdout, answer.stderr),
        (b"out\n".to_vec(), b"err\n".to_vec())
    );
    cri.exec(id, "sleep 4321 & sleep 4321", 1)
        .expect_err("it is late");
    eventually("no process is left", || {
        (!cri.sh(id, "ps").contains("sleep 4321")).then_some(())
    });
}

/// Each release has a `ctr` of its own.
fn ctr_runs_in_it_too(containerd: &Containerd, sandbox: &str) {
    let of = format!("io.kubernetes.cri.sandbox-id={sandbox}");
    let member = "io.kubernetes.cri.container-type=container";
    let more = ["--rm", "--annotation", member, "--annotation", &of];
    let line = "hostname; echo err >&2; exit 37";
    let ran = containerd.run_in("k8s.io", &more, "aside", line).exits(37);
    ran.says("web-0").complains("err");
}

fn the_end_for_memory_has_its_reason(cri: &Client, sandbox: &str) {
    let greedy = container(cri, "greedy", "dd if=/dev/zero of=/dev/null bs=20M", 15);
    let greedy = cri.container(sandbox, greedy);
    assert_eq!(cri.ended(&greedy).exit_code, 137);
    eventually("it is told why", || {
        let status = cri.container_status(&greedy)?;
        (status.reason == "OOMKilled").then_some(())
    });
    cri.remove(&greedy);
}

fn a_new_containerd_finds_it(
    containerd: &Containerd,
    cri: &Client,
    (sandbox, served): (&str, &str),
) {
    containerd.restart();
    eventually("its plugin serves", || cri.is_ready().then_some(()));
    let status = cri.sandbox_status(sandbox);
    assert_eq!(status.state(), PodSandboxState::SandboxReady);
    let status = cri.container_status(served).expect("it is there");
    assert_eq!(status.state(), ContainerState::ContainerRunning);
    assert_eq!(cri.sh(served, "echo still here"), "still here");
}

fn it_ends_as_it_is_told(cri: &Client, served: &str, volume: &Path) {
    cri.stop(served, 60);
    let status = cri.ended(served);
    assert_eq!(status.exit_code, 7);
    let log = fs::read_to_string(&status.log_path).expect("its log");
    for line in ["stdout F ready", "stderr F mind", "stdout F ended"] {
        assert!(log.contains(&format!(" {line}\n")), "{log}");
    }
    let read = |name: &str| fs::read_to_string(volume.join(name)).expect("a file");
    assert_eq!(
        (read("last"), read("shm/x")),
        ("bye\n".into(), "x\n".into())
    );
    cri.remove(served);
    assert_eq!(cri.container_status(served), None);
}

/// Nobody asks the engine meanwhile: whoever does gives the pod a supervisor again.
fn what_has_lost_its_shim_is_cleared(containerd: &Containerd) {
    containerd.kill_shims();
    let pods = containerd.beluga.root().join("pods");
    eventually("its machine has gone, and its record", || {
        let mut left = fs::read_dir(&pods).expect("it is there");
        left.next().is_none().then_some(())
    });
}

fn the_sandbox_ends(cri: &Client, sandbox: &str) {
    cri.stop_sandbox(sandbox);
    let status = cri.sandbox_status(sandbox);
    assert_eq!(status.state(), PodSandboxState::SandboxNotready);
    cri.remove_sandbox(sandbox);
    fs::remove_dir(group_path(cri)).expect("its cgroup is empty");
}

fn nothing_is_left(containerd: &Containerd, cri: &Client) {
    let request = ListContainersRequest::default();
    let listed = cri.call(async { cri.runtime().list_containers(request).await });
    assert_eq!(listed.expect("a list").containers, []);
    eventually("the shim has gone", || {
        containerd.shims().is_empty().then_some(())
    });
    containerd.is_clean();
    let names = |place: &Path| {
        let entries = fs::read_dir(place).into_iter().flatten().flatten();
        let names = entries.map(|one| one.file_name().to_string_lossy().into_owned());
        names.collect::<Vec<_>>()
    };
    let held = names(&containerd.place().join("leases/pods"));
    assert!(!held.iter().any(|one| one.starts_with("10.")), "{held:?}");
    let spaces = names(Path::new("/run/netns"));
    assert!(
        !spaces.iter().any(|one| one.starts_with("cni-")),
        "{spaces:?}"
    );
}
