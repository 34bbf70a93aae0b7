//! `beluga-cri`: sandboxes and their containers through the Container Runtime
//! Interface, asked by a client of the published bindings.

mod mounts;
mod refused;
mod sandbox;
mod security;
mod streams;

use beluga_tests::cri::CommonSandbox;
use beluga_tests::cri::{
    self, ContainerFilter, ContainerState, ContainerStatsRequest, Cri, ImageSpec,
    LinuxContainerConfig, LinuxContainerResources, ListContainersRequest, Mount, PodSandboxState,
    ReopenContainerLogRequest, UpdateContainerResourcesRequest, busybox,
};
use beluga_tests::{eventually, shared};
use std::fs;

/// A server, and a sandbox that these stories share.
static SHARED: CommonSandbox = CommonSandbox::new(18);

/// Runs until it is told to end, which it does at once.
const WAITS: &str = "trap 'exit 7' TERM; echo ready; while :; do sleep 1 & wait; done";

#[test]
fn a_sandbox_runs_without_containers_and_has_an_address() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let status = cri.sandbox_status(sandbox);
    assert_eq!(status.state(), PodSandboxState::SandboxReady);
    assert_eq!(status.metadata, cri.sandbox("shared").metadata);
    let ip = status.network.expect("a network").ip;
    assert!(ip.parse::<std::net::Ipv4Addr>().is_ok(), "{ip}");
}

#[test]
fn a_container_runs_when_it_is_started_and_logs_where_the_kubelet_looks() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let id = cri.create(sandbox, busybox("says", "echo out; echo err >&2; exit 3"));
    let id = id.expect("created");
    let created = cri.container_status(&id).expect("it is there");
    assert_eq!(created.state(), ContainerState::ContainerCreated);
    cri.begin(&id).expect("started");
    let ended = cri.ended(&id);
    assert_eq!((ended.exit_code, ended.reason.as_str()), (3, "Error"));
    assert!(ended.created_at > 0 && ended.finished_at >= ended.started_at);
    let log = fs::read_to_string(&ended.log_path).expect("its log");
    assert!(ended.log_path.ends_with("/logs/shared/says/0.log"));
    assert!(
        log.contains(" stdout F out\n") && log.contains(" stderr F err\n"),
        "{log}"
    );
    assert!(cri.begin(&id).is_err(), "it runs once");
    cri.remove(&id);
    assert_eq!(cri.container_status(&id), None);
}

#[test]
fn containers_share_the_network_and_the_hostname_but_not_their_processes() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let server = cri.container(
        sandbox,
        busybox("server", "sh -c 'echo hello | nc -l -p 7000'; sleep 1000"),
    );
    let client = cri.container(sandbox, busybox("client", "sleep 1000"));
    let got = eventually("the server answers", || {
        let got = cri
            .exec(&client, "nc 127.0.0.1 7000 </dev/null", 0)
            .expect("it ran");
        (got.exit_code == 0).then(|| cri::text(&got.stdout))
    });
    assert_eq!(got, "hello");
    assert_eq!(cri.sh(&server, "hostname"), cri.sh(&client, "hostname"));
    assert!(!cri.sh(&client, "ps").contains("nc -l"));
    cri.remove(&server);
    cri.remove(&client);
}

#[test]
fn a_program_that_is_not_there_is_told_when_it_is_started() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let mut config = busybox("absent", "");
    config.command = vec!["/no/such/program".to_owned()];
    let id = cri.create(sandbox, config).expect("created");
    let error = cri.begin(&id).expect_err("there is no such program");
    assert!(error.message().contains("/no/such/program"), "{error}");
    let status = cri.ended(&id);
    assert_eq!(status.reason, "StartError");
    cri.remove(&id);
}

#[test]
fn a_command_answers_and_one_that_takes_too_long_leaves_no_process() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let id = cri.container(sandbox, busybox("exec", "sleep 1000"));
    let answer = cri
        .exec(&id, "echo out; echo err >&2; exit 5", 0)
        .expect("it ran");
    assert_eq!(answer.exit_code, 5);
    assert_eq!(
        (answer.stdout, answer.stderr),
        (b"out\n".to_vec(), b"err\n".to_vec())
    );
    let late = cri
        .exec(&id, "sleep 4321 & sleep 4321", 1)
        .expect_err("it is late");
    assert_eq!(late.code(), cri::Code::DeadlineExceeded);
    eventually("no process is left", || {
        (!cri.sh(&id, "ps").contains("sleep 4321")).then_some(())
    });
    cri.remove(&id);
}

#[test]
fn a_container_is_asked_to_end_and_then_killed() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let polite = cri.container(sandbox, busybox("polite", WAITS));
    let deaf = cri.container(
        sandbox,
        busybox("deaf", "trap '' TERM; while :; do sleep 1; done"),
    );
    let log = cri.logs("shared").join("polite/0.log");
    eventually("it listens to signals", || {
        let log = fs::read_to_string(&log).ok();
        log.filter(|log| log.contains("ready"))
    });
    cri.stop(&polite, 60);
    assert_eq!(cri.ended(&polite).exit_code, 7);
    cri.stop(&deaf, 1);
    assert_eq!(cri.ended(&deaf).exit_code, 137);
    // Again: nothing to do is no error.
    cri.stop(&deaf, 1);
    for id in [&polite, &deaf, &deaf] {
        cri.remove(id);
        cri.stop(id, 1);
    }
}

#[test]
fn a_log_that_was_put_aside_goes_on_in_a_new_file() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let id = cri.container(
        sandbox,
        busybox("log", "while :; do echo line; sleep 1; done"),
    );
    let path = cri.logs("shared").join("log/0.log");
    eventually("a line", || {
        fs::read_to_string(&path)
            .ok()
            .filter(|log| log.contains("line"))
    });
    fs::rename(&path, path.with_extension("log.old")).expect("put aside");
    let request = ReopenContainerLogRequest {
        container_id: id.clone(),
    };
    cri.call(async { cri.runtime().reopen_container_log(request).await })
        .expect("reopened");
    assert!(path.exists(), "it is there when the call returns");
    eventually("a line", || {
        fs::read_to_string(&path)
            .ok()
            .filter(|log| log.contains("line"))
    });
    cri.remove(&id);
}

#[test]
fn directories_and_files_of_the_host_are_mounted_while_the_sandbox_runs() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let host = cri.place.path().join("data");
    fs::create_dir_all(&host).expect("a directory");
    fs::write(host.join("note"), "from the host").expect("a file");
    let mount = |source: &str, to: &str, readonly| Mount {
        host_path: host.join(source).display().to_string(),
        container_path: to.to_owned(),
        readonly,
        ..Mount::default()
    };
    let mut config = busybox("mounts", "sleep 1000");
    config.mounts = vec![mount("", "/data", false), mount("note", "/etc/note", true)];
    config.mounts.push(mount("made/here", "/made", false));
    let id = cri.container(sandbox, config);
    assert_eq!(
        cri.sh(&id, "cat /data/note /etc/note"),
        "from the hostfrom the host"
    );
    cri.sh(
        &id,
        "echo back > /data/back; ! echo no > /etc/note; touch /made/file",
    );
    assert_eq!(
        fs::read_to_string(host.join("back")).expect("made"),
        "back\n"
    );
    assert!(host.join("made/here/file").exists());
    cri.remove(&id);
    assert_eq!(
        fs::read_to_string(host.join("note")).expect("kept"),
        "from the host"
    );
}

#[test]
fn what_a_container_uses_is_told_and_its_limits_change_while_it_runs() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let limit = |bytes| LinuxContainerResources {
        memory_limit_in_bytes: bytes,
        ..LinuxContainerResources::default()
    };
    let mut config = busybox("limits", "sleep 1000");
    config.linux = Some(LinuxContainerConfig {
        resources: Some(limit(64 << 20)),
        security_context: None,
    });
    let id = cri.container(sandbox, config);
    assert_eq!(
        cri.sh(&id, "cat /sys/fs/cgroup/memory.max"),
        (64 << 20).to_string()
    );
    let request = UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(limit(96 << 20)),
        ..UpdateContainerResourcesRequest::default()
    };
    cri.call(async { cri.runtime().update_container_resources(request).await })
        .expect("updated");
    assert_eq!(
        cri.sh(&id, "cat /sys/fs/cgroup/memory.max"),
        (96 << 20).to_string()
    );
    let container_id = id.clone();
    let stats = ContainerStatsRequest { container_id };
    let stats = cri
        .call(async { cri.runtime().container_stats(stats).await })
        .expect("stats");
    let stats = stats.stats.expect("stats");
    assert!(
        stats
            .memory
            .and_then(|one| one.working_set_bytes)
            .is_some_and(|one| one.value > 0)
    );
    assert!(
        stats
            .cpu
            .and_then(|one| one.usage_core_nano_seconds)
            .is_some_and(|one| one.value > 0)
    );
    cri.remove(&id);
}

#[test]
fn a_container_that_is_made_again_and_again_takes_the_place_of_the_last() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let places = || {
        let path = shared()
            .root()
            .join("pods")
            .join(sandbox)
            .join("definition.json");
        let text = fs::read_to_string(path).expect("the definition");
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        value["plan"]["containers"].as_array().map_or(0, Vec::len)
    };
    let most = 12;
    for _ in 0..most {
        let id = cri.container(sandbox, busybox("again", "exit 1"));
        cri.ended(&id);
        cri.remove(&id);
    }
    assert!(places() < most, "{} places", places());
}

/// The containers that are listed, by a label.
fn listed(cri: &Cri, name: &str) -> Vec<String> {
    let request = ListContainersRequest {
        filter: Some(ContainerFilter {
            label_selector: [("name".to_owned(), name.to_owned())].into(),
            ..ContainerFilter::default()
        }),
    };
    let listed = cri.call(async { cri.runtime().list_containers(request).await });
    let all = listed.expect("a list").containers.into_iter();
    all.map(|one| one.id).collect()
}

#[test]
fn a_killed_server_finds_everything_again_and_a_stopped_sandbox_keeps_its_containers() {
    let cri = Cri::start(shared());
    let sandbox = cri.run(cri.sandbox("stopped")).expect("it runs");
    let by_id = shared().run(["images", "-q", "--no-trunc", "busybox"]).ok();
    let mut config = busybox("by-image-id", "sleep 1000");
    config.image = Some(ImageSpec {
        image: by_id.text().to_owned(),
        ..ImageSpec::default()
    });
    let running = cri.container(&sandbox, config);
    let created = cri
        .create(&sandbox, busybox("created", "true"))
        .expect("created");
    cri.restart();
    assert_eq!(
        cri.sandbox_status(&sandbox).state(),
        PodSandboxState::SandboxReady
    );
    assert_eq!(listed(&cri, "by-image-id"), [running.as_str()]);
    assert_eq!(cri.sh(&running, "echo here"), "here");
    cri.stop_sandbox(&sandbox);
    assert_eq!(
        cri.sandbox_status(&sandbox).state(),
        PodSandboxState::SandboxNotready
    );
    assert_eq!(cri.ended(&running).exit_code, 137);
    cri.stop_sandbox(&sandbox);
    cri.remove(&created);
    assert_eq!(cri.container_status(&created), None);
    assert_eq!(listed(&cri, "by-image-id"), [running.as_str()]);
    cri.remove_sandbox(&sandbox);
    cri.remove_sandbox(&sandbox);
    assert_eq!(cri.container_status(&running), None);
}
