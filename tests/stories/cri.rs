//! `beluga-cri`: sandboxes and their containers through the Container Runtime
//! Interface, asked by a client of the published bindings.

mod mounts;
mod refused;
mod sandbox;
mod security;
mod streams;

use beluga_tests::cri::{
    self, CommonSandbox, ContainerConfig, ContainerState, Cri, LinuxContainerResources, Mount,
    PodSandboxState, busybox,
};
use beluga_tests::{eventually, shared};
use std::fs;
use std::path::{Path, PathBuf};

/// A server, and a sandbox that these stories share.
static SHARED: CommonSandbox = CommonSandbox::new(38);

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
    let again = cri.run(cri.sandbox("shared")).expect_err("it is there");
    assert_eq!(again.code(), cri::Code::AlreadyExists, "{again}");
}

#[test]
fn a_container_runs_when_it_is_started_and_once() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let id = cri.create(sandbox, busybox("once", "exit 3"));
    let id = id.expect("created");
    let created = cri.container_status(&id).expect("it is there");
    assert_eq!(created.state(), ContainerState::ContainerCreated);
    cri.begin(&id).expect("started");
    let ended = cri.ended(&id);
    assert_eq!((ended.exit_code, ended.reason.as_str()), (3, "Error"));
    assert!(ended.created_at > 0 && ended.finished_at >= ended.started_at);
    assert!(cri.begin(&id).is_err(), "it runs once");
    cri.remove(&id);
    assert_eq!(cri.container_status(&id), None);
}

#[test]
fn a_container_logs_where_the_kubelet_looks() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let id = cri.container(sandbox, busybox("says", "echo out; echo err >&2"));
    let ended = cri.ended(&id);
    let log = fs::read_to_string(&ended.log_path).expect("its log");
    assert!(ended.log_path.ends_with("/logs/shared/says/0.log"));
    assert!(log.contains(" stdout F out\n"), "{log}");
    assert!(log.contains(" stderr F err\n"), "{log}");
    cri.remove(&id);
}

#[test]
fn containers_share_the_network_and_the_hostname_but_not_their_processes() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let serves = "sh -c 'echo hello | nc -l -p 7000'; sleep 1000";
    let server = cri.container(sandbox, busybox("server", serves));
    let client = cri.container(sandbox, busybox("client", "sleep 1000"));
    let ask = || cri.exec(&client, "nc 127.0.0.1 7000 </dev/null", 0);
    let got = eventually("the server answers", || {
        ask().ok().filter(|got| got.exit_code == 0)
    });
    assert_eq!(cri::text(&got.stdout), "hello");
    assert_eq!(cri.sh(&server, "hostname"), cri.sh(&client, "hostname"));
    assert!(!cri.sh(&client, "ps").contains("nc -l"));
    [server, client].iter().for_each(|id| cri.remove(id));
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
fn a_command_answers() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let id = cri.container(sandbox, busybox("answers", "sleep 1000"));
    let answer = cri.exec(&id, "echo out; echo err >&2; exit 5", 0);
    let answer = answer.expect("it ran");
    assert_eq!(answer.exit_code, 5);
    assert_eq!(answer.stdout, b"out\n");
    assert_eq!(answer.stderr, b"err\n");
    cri.remove(&id);
}

#[test]
fn a_command_that_takes_too_long_leaves_no_process() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let id = cri.container(sandbox, busybox("late", "sleep 1000"));
    let late = cri.exec(&id, "sleep 4321 & sleep 4321", 1);
    let late = late.expect_err("it is late");
    assert_eq!(late.code(), cri::Code::DeadlineExceeded);
    eventually("no process is left", || {
        (!cri.sh(&id, "ps").contains("sleep 4321")).then_some(())
    });
    cri.remove(&id);
}

#[test]
fn a_command_whose_caller_has_gone_leaves_no_process() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let id = cri.container(sandbox, busybox("given-up", "sleep 1000"));
    cri.exec_and_go(&id, "touch /begun; sleep 5432");
    eventually("it has begun", || {
        (cri.sh(&id, "ls /").contains("begun")).then_some(())
    });
    eventually("no process is left", || {
        (!cri.sh(&id, "ps").contains("sleep 5432")).then_some(())
    });
    cri.remove(&id);
}

#[test]
fn the_beginning_of_an_identifier_is_enough() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let id = cri.container(sandbox, busybox("short", "sleep 1000"));
    let other = cri.container(sandbox, busybox("beside", "sleep 1000"));
    let (short, short_sandbox) = (&id[..13], &sandbox[..13]);
    assert_eq!(cri.sh(short, "echo here"), "here");
    assert_eq!(cri.sandbox_status(short_sandbox).id, sandbox);
    cri.stop(short, 1);
    assert_eq!(cri.ended(&id).exit_code, 137);
    cri.remove(short);
    assert_eq!(cri.container_status(&id), None);
    assert_eq!(cri.sh(&other, "echo here"), "here");
    cri.remove(&other);
}

#[test]
fn a_container_is_asked_to_end() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let id = cri.container(sandbox, busybox("polite", WAITS));
    has_said(&cri.logs("shared").join("polite/0.log"), "ready");
    cri.stop(&id, 60);
    assert_eq!(cri.ended(&id).exit_code, 7);
    cri.remove(&id);
    cri.stop(&id, 1);
}

#[test]
fn a_container_that_does_not_end_is_killed() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let deaf = "trap '' TERM; while :; do sleep 1; done";
    let id = cri.container(sandbox, busybox("deaf", deaf));
    cri.stop(&id, 1);
    assert_eq!(cri.ended(&id).exit_code, 137);
    // Again: nothing to do is no error.
    cri.stop(&id, 1);
    for _ in 0..2 {
        cri.remove(&id);
        cri.stop(&id, 1);
    }
}

/// Waits until a log has a word.
fn has_said(log: &Path, word: &str) {
    eventually(&format!("{} has {word}", log.display()), || {
        let log = fs::read_to_string(log).ok();
        log.filter(|log| log.contains(word))
    });
}

#[test]
fn a_log_that_was_put_aside_goes_on_in_a_new_file() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let says = "while :; do echo line; sleep 1; done";
    let id = cri.container(sandbox, busybox("log", says));
    let log = cri.logs("shared").join("log/0.log");
    has_said(&log, "line");
    fs::rename(&log, log.with_extension("log.old")).expect("put aside");
    cri.reopen_log(&id);
    assert!(log.exists(), "it is there when the call returns");
    has_said(&log, "line");
    cri.remove(&id);
}

/// A place of the host as a container has it.
fn mount(host: PathBuf, container: &str, readonly: bool) -> Mount {
    Mount {
        host_path: host.display().to_string(),
        container_path: container.to_owned(),
        readonly,
        ..Mount::default()
    }
}

/// A directory of the host with a file in it.
fn directory(cri: &Cri, name: &str) -> PathBuf {
    let host = cri.place.path().join(name);
    fs::create_dir_all(&host).expect("a directory");
    fs::write(host.join("note"), "from the host").expect("a file");
    host
}

#[test]
fn a_directory_of_the_host_is_mounted_while_the_sandbox_runs() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let host = directory(cri, "data");
    let mut config = busybox("directory", "sleep 1000");
    config.mounts = vec![mount(host.clone(), "/data", false)];
    config
        .mounts
        .push(mount(host.join("made/here"), "/made", false));
    let id = cri.container(sandbox, config);
    assert_eq!(cri.sh(&id, "cat /data/note"), "from the host");
    cri.sh(&id, "echo back > /data/back; touch /made/file");
    let back = fs::read_to_string(host.join("back"));
    assert_eq!(back.expect("made"), "back\n");
    assert!(host.join("made/here/file").exists());
    cri.remove(&id);
}

#[test]
fn a_file_of_the_host_is_mounted_to_be_read() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let note = directory(cri, "one-file").join("note");
    let mut config = busybox("file", "sleep 1000");
    config.mounts = vec![mount(note.clone(), "/etc/note", true)];
    let id = cri.container(sandbox, config);
    assert_eq!(cri.sh(&id, "cat /etc/note"), "from the host");
    cri.sh(&id, "! echo no > /etc/note");
    cri.remove(&id);
    let kept = fs::read_to_string(note).expect("kept");
    assert_eq!(kept, "from the host");
}

/// A limit of memory.
fn limit(mib: i64) -> LinuxContainerResources {
    LinuxContainerResources {
        memory_limit_in_bytes: mib << 20,
        ..LinuxContainerResources::default()
    }
}

#[test]
fn a_containers_limits_change_while_it_runs() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let mut config = busybox("limits", "sleep 1000");
    let linux = config.linux.get_or_insert_default();
    linux.resources = Some(limit(64));
    let id = cri.container(sandbox, config);
    let most = || cri.sh(&id, "cat /sys/fs/cgroup/memory.max");
    assert_eq!(most(), (64 << 20).to_string());
    cri.update(&id, limit(96));
    assert_eq!(most(), (96 << 20).to_string());
    cri.update(&id, limit(-1));
    assert_eq!(most(), "max");
    cri.remove(&id);
}

/// What else a cgroup is told, of a container that is killed early.
fn unified(told: [(&str, &str); 2]) -> LinuxContainerResources {
    LinuxContainerResources {
        oom_score_adj: 500,
        unified: told.map(|(key, value)| (key.into(), value.into())).into(),
        ..LinuxContainerResources::default()
    }
}

#[test]
fn what_a_cgroup_has_and_limits_do_not_name_is_honoured() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let mut config = busybox("unified", "sleep 1000");
    let linux = config.linux.get_or_insert_default();
    linux.resources = Some(unified([("pids.max", "50"), ("memory.high", "67108864")]));
    let id = cri.container(sandbox, config);
    let told = "cd /sys/fs/cgroup; cat /proc/1/oom_score_adj pids.max memory.high";
    assert_eq!(cri.sh(&id, told), "500\n50\n67108864");
    cri.remove(&id);
}

#[test]
fn what_a_container_uses_is_told() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let id = cri.container(sandbox, busybox("uses", "sleep 1000"));
    let stats = cri.stats(&id);
    let memory = stats.memory.expect("its memory");
    for told in [
        memory.working_set_bytes,
        memory.rss_bytes,
        memory.page_faults,
    ] {
        assert!(told.is_some_and(|one| one.value > 0));
    }
    let cpu = stats.cpu.and_then(|one| one.usage_core_nano_seconds);
    assert!(cpu.is_some_and(|one| one.value > 0));
    cri.remove(&id);
}

/// How many places for containers there are in the plan of a sandbox.
fn places(sandbox: &str) -> usize {
    let path = shared().root().join("pods").join(sandbox);
    let text = fs::read_to_string(path.join("definition.json")).expect("the definition");
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    value["plan"]["containers"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_container_that_is_made_again_and_again_takes_the_place_of_the_last() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let (before, times) = (places(sandbox), 12);
    for _ in 0..times {
        let id = cri.container(sandbox, busybox("again", "exit 1"));
        cri.ended(&id);
        cri.remove(&id);
    }
    assert!(places(sandbox) < times, "{before}, {}", places(sandbox));
}

/// A container of an image that is named by its identifier.
fn by_image_id() -> ContainerConfig {
    let id = shared().types("images -q --no-trunc busybox").ok();
    let mut config = busybox("by-image-id", "sleep 1000");
    config.image.get_or_insert_default().image = id.text().to_owned();
    config
}

#[test]
fn a_killed_server_finds_everything_again_and_a_stopped_sandbox_keeps_its_containers() {
    let cri = Cri::start(shared());
    let sandbox = cri.run(cri.sandbox("stopped")).expect("it runs");
    let running = cri.container(&sandbox, by_image_id());
    let created = cri.create(&sandbox, busybox("created", "true"));
    let created = created.expect("created");
    it_is_found_again(&cri, &sandbox, &running);
    it_keeps_its_containers(&cri, &sandbox, &running);
    cri.remove(&created);
    assert_eq!(cri.container_status(&created), None);
    assert_eq!(cri.listed("by-image-id"), [running.as_str()]);
    cri.remove_sandbox(&sandbox);
    cri.remove_sandbox(&sandbox);
    assert_eq!(cri.container_status(&running), None);
}

fn it_is_found_again(cri: &Cri, sandbox: &str, running: &str) {
    cri.restart();
    let state = cri.sandbox_status(sandbox).state();
    assert_eq!(state, PodSandboxState::SandboxReady);
    assert_eq!(cri.listed("by-image-id"), [running]);
    assert_eq!(cri.sh(running, "echo here"), "here");
}

fn it_keeps_its_containers(cri: &Cri, sandbox: &str, running: &str) {
    cri.stop_sandbox(sandbox);
    let state = cri.sandbox_status(sandbox).state();
    assert_eq!(state, PodSandboxState::SandboxNotready);
    assert_eq!(cri.ended(running).exit_code, 137);
    cri.stop_sandbox(sandbox);
}
