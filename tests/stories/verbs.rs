//! Verbs that people bring along from kubectl and podman.

use crate::exec::POD as IDLE;
use crate::lifecycle::one;
use beluga_tests::{Common, CommonPod, Pod, Ran, SOON, run, run_with_input, shared};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

#[test]
fn b13_wait_ends_when_the_condition_holds() {
    let name = IDLE.name();
    let wait = |what: &str| shared().types(&format!("wait {what}")).ok();
    wait(&format!("pod/{name} --for=condition=Ready --timeout=60s"))
        .says(&format!("pod/{name} condition met"));
    wait("pod -l app=idle --for=jsonpath={.status.phase}=Running");
}

#[test]
fn b13_wait_gives_up_in_time_and_at_once_where_there_is_no_pod() {
    let name = IDLE.name();
    let begun = Instant::now();
    shared()
        .types(&format!("wait pod/{name} --for=delete --timeout=1s"))
        .fails(
            1,
            &format!("timed out waiting for the condition on pods/{name}"),
        );
    assert!(begun.elapsed() < Duration::from_secs(30));
    let nobody = shared().types("wait pod/nobody --for=condition=Ready");
    nobody.fails(1, "not found");
}

#[test]
fn b13_labels_choose_pods() {
    let found = format!("pod/{}\n", IDLE.name());
    let get = |labels: &str| shared().types(&format!("get pods -l '{labels}' -o name"));
    get("tier in (front,back),app=idle").ok().prints(&found);
    get("app=idle,tier!=front").ok().prints("");
    get("app in (idle").fails(2, "app in (idle");
}

#[test]
fn b13_events_are_listed_and_are_objects() {
    let pod = format!("pod/{}", IDLE.name());
    let events = shared().types("get events").ok();
    events.tells(&["Started", &pod]);
    let events = shared().types("get events -o json").ok().json();
    assert_eq!(events["items"][0]["kind"], "Event");
}

/// A pod whose first container has run once before, and whose other one computes
/// and holds memory.
static BUSY: Common = Common::new(8, || {
    shared().pod(
        "
apiVersion: v1
kind: Pod
metadata: {name: busy}
spec:
  terminationGracePeriodSeconds: 2
  volumes: [{name: mark, emptyDir: {}}]
  containers:
  - name: main
    image: busybox
    command: [sh, -c, 'if [ -e /mark/first ]; then echo second; sleep 600; fi; touch /mark/first; echo first; exit 3']
    volumeMounts: [{name: mark, mountPath: /mark}]
  - name: hog
    image: busybox
    command: [sh, -c, 'dd if=/dev/zero of=/dev/shm/held bs=1M count=24 2>/dev/null; while :; do :; done']
  - name: reader
    image: busybox
    restartPolicy: Never
    stdin: true
    stdinOnce: true
    command: [sh, -c, 'read line; echo got $line; exit 5']
",
    )
});

/// The busy pod, once it holds its memory.
fn holding() -> CommonPod {
    let pod = BUSY.pod();
    pod.eventually("uses memory", |_| {
        let held = pod.try_exec("hog", &["stat", "-c", "%s", "/dev/shm/held"]);
        held.out.trim() == (24 << 20).to_string()
    });
    pod
}

/// The line of `top` of the busy pod that has this word.
#[track_caller]
fn top(more: &str, word: &str) -> String {
    let all = shared().types(&format!("top pod busy --no-headers {more}"));
    let all = all.ok();
    let line = all.out.lines().find(|line| line.contains(word));
    line.unwrap_or_else(|| panic!("no line of it: {all}"))
        .to_owned()
}

/// Figures of a line of `top`, which have this unit.
#[track_caller]
fn figures<const N: usize>(line: &str, unit: &str, columns: [usize; N]) -> [u64; N] {
    columns.map(|column| {
        let cell = line.split_whitespace().nth(column).unwrap_or_default();
        let digits = cell.strip_suffix(unit);
        let digits = digits.unwrap_or_else(|| panic!("{cell:?} of {line:?}"));
        digits.parse().expect("a number")
    })
}

#[test]
fn b12_top_shows_what_a_pod_uses() {
    let _pod = holding();
    let line = top("", "busy");
    let [cpu] = figures(&line, "m", [1]);
    let [used, limit, host] = figures(&line, "Mi", [2, 3, 4]);
    assert!(cpu > 200, "a loop uses a CPU: {line}");
    assert!(used >= 24 && used < limit, "{line}");
    assert!(host >= used, "the host holds what the guest uses: {line}");
    let nobody = shared().types("top pod nobody");
    nobody.fails(1, "not found");
}

#[test]
fn b12_top_shows_what_each_container_uses() {
    let _pod = holding();
    top("--containers", "main");
    let line = top("--containers", "hog");
    let [used] = figures(&line, "Mi", [3]);
    assert!(used >= 24, "{line}");
}

#[test]
fn b12_top_shows_what_the_machine_costs_beside_its_containers() {
    let _pod = holding();
    let line = top("--containers", "(machine)");
    let [used, limit, host, more] = figures(&line, "Mi", [3, 4, 5, 6]);
    assert!(used >= 24 && used < limit && host >= used, "{line}");
    assert!(more.abs_diff(host - used) <= 1, "{line}");
}

#[test]
fn b12_top_lists_the_processes_of_each_container() {
    let _pod = holding();
    let line = top("--processes", "hog");
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(
        [words[0], words[1], words[3]],
        ["busy", "hog", "sh"],
        "{line}"
    );
    let both = shared().types("top pod busy --processes --containers");
    both.exits(2).complains("cannot be used with");
}

#[test]
fn b12_top_shows_what_a_pod_has_received_and_sent() {
    let pod = holding();
    pod.sh(
        "hog",
        "ping -c 1 -s 8000 $(ip route | cut -d ' ' -f 3 | head -n 1)",
    );
    let line = top("--containers", "(machine)");
    let [received, sent] = figures(&line, "Ki", [11, 12]);
    assert!(received >= 8 && sent >= 8, "{line}");
}

/// The busy pod, once its first container runs for the second time.
fn running_again() -> CommonPod {
    let pod = BUSY.pod();
    pod.eventually("runs again", |status| {
        status["containerStatuses"][0]["restartCount"] == 1
            && !status["containerStatuses"][0]["state"]["running"].is_null()
    });
    pod
}

#[test]
fn b11_logs_of_the_run_before() {
    let _pod = running_again();
    let before = shared().types("logs busy --previous").ok();
    before.prints("first\n");
    let name = IDLE.name();
    let none = shared().types(&format!("logs --previous {name}"));
    none.fails(
        1,
        &format!("previous terminated container \"main\" in pod \"{name}\" not found"),
    );
}

#[test]
fn b11_logs_since_a_time() {
    let pod = running_again();
    let logs = |more: &str| shared().types(&format!("logs busy {more}"));
    pod.eventually("says so", |_| logs("").out == "second\n");
    logs("--since 1h").ok().prints("second\n");
    let future = logs("--since-time 2099-01-01T00:00:00Z").ok();
    future.prints("");
    logs("--since yesterday").fails(2, "like 5s");
}

#[test]
fn attach_joins_a_containers_streams() {
    let pod = BUSY.pod();
    let attach = ["attach", "-i", "-c", "reader", pod.name()];
    let ran = shared().feed(attach, b"a word\n").exits(5);
    ran.says("got a word");
    let closed = shared().feed(["attach", "-i", IDLE.name()], b"x");
    closed.fails(1, "without standard input");
}

#[test]
fn b03_stop_start_and_restart() {
    let line = "echo up; trap 'sleep 2; exit 0' TERM; sleep 600 & wait";
    let labels = "{name: again, labels: {app: again}}";
    let text = one("again", "Always", line).replace("{name: again}", labels);
    let pod = shared().pod(&text);
    pod.eventually("says so", |_| pod.logs("main") == "up\n");
    a_stopped_pod_is_still_told_of(&pod);
    a_started_pod_is_a_new_one(&pod);
    let before = pod.field("/metadata/uid");
    let restarted = shared().types("restart again").ok();
    restarted.says("pod/again restarted");
    assert_ne!(pod.field("/metadata/uid"), before);
    let nobody = shared().types("stop nobody");
    nobody.fails(1, "not found");
    pods_are_deleted_by_their_labels_and_waited_for();
}

fn a_stopped_pod_is_still_told_of(pod: &Pod) {
    let uid = pod.field("/metadata/uid");
    let stopped = shared().types_on_terminal("stop again", SOON).ok();
    let waits = "pod/again: stopping, 2 s at most (-t 0 kills at once)";
    stopped.tells(&[waits, "pod/again stopped"]);
    let phase = pod.field("/status/phase");
    assert!(["Succeeded", "Failed"].contains(&phase.as_str()));
    shared().types("get pod again").ok().says(" Stopped ");
    assert_eq!(pod.field("/status/reason"), "Stopped");
    let logs = shared().types("logs -l app=again").ok();
    logs.prints("up\n");
    assert_eq!(pod.field("/metadata/uid"), uid);
}

fn a_started_pod_is_a_new_one(pod: &Pod) {
    let before = pod.field("/metadata/uid");
    let start = || shared().types("start again").ok();
    start().says("pod/again started");
    assert_ne!(pod.field("/metadata/uid"), before);
    pod.eventually("runs", |status| status["phase"] == "Running");
    start().says("runs already");
}

fn pods_are_deleted_by_their_labels_and_waited_for() {
    let deleted = shared().types("delete pod -l app=again --grace-period 0");
    deleted.ok().says("again");
    let gone = shared().types("wait pod/again --for=delete --timeout=30s");
    gone.ok();
}

/// A pod in the foreground that says more than is kept of it; what came of it.
static FLOOD: LazyLock<Ran> = LazyLock::new(|| {
    let manifest = one("flood", "Never", "echo hello; seq -w 30000; exit 37");
    let mut command = shared().command(["run", "-f", "-"]);
    let command = command.env("BELUGA_LOGS", "400000,3");
    run_with_input(command, manifest.into_bytes(), SOON)
});

/// All that it says.
fn all_lines() -> Vec<String> {
    let numbers = (1..=30_000).map(|number| format!("{number:05}"));
    ["hello".to_owned()].into_iter().chain(numbers).collect()
}

#[test]
fn b09_foreground_exit_code_is_the_pods() {
    FLOOD.clone().exits(37).says("hello");
}

#[test]
fn a_flood_of_output_is_seen_whole() {
    let seen = FLOOD.out.lines();
    assert!(seen.eq(all_lines()), "a line is missing or out of order");
}

#[test]
fn a_flood_of_output_is_kept_in_part() {
    LazyLock::force(&FLOOD);
    let kept = shared().types("logs flood").ok().out;
    let kept: Vec<String> = kept.lines().map(str::to_owned).collect();
    assert!(kept.len() < 29_000 && kept.len() > 5_000, "{}", kept.len());
    assert!(all_lines().ends_with(&kept));
    let last = shared().types("logs flood --tail 9000").ok().out;
    assert_eq!(last.lines().count(), 9000);
}

#[test]
fn b14_the_name_of_a_pod_that_has_ended_is_taken_until_somebody_says_otherwise() {
    LazyLock::force(&FLOOD);
    let again = shared().types("run --name=flood busybox true").exits(1);
    again
        .complains("pod \"flood\" already exists; it has ended")
        .complains("run --replace");
}

#[test]
fn b14_a_name_that_is_taken() {
    let (name, uid) = (IDLE.name(), IDLE.field("/metadata/uid"));
    let text = one(name, "Never", "sleep 1");
    let ran = shared().feed(["run", "-d", "-f", "-"], text.as_bytes());
    ran.fails(1, &format!("pod \"{name}\" already exists"));
    assert_eq!(IDLE.field("/metadata/uid"), uid);
}

#[test]
fn words_of_kubectl_and_podman_are_understood() {
    let run = |line: &str| shared().types(line).ok();
    let images = run("images busybox").out;
    assert!(images.lines().count() == 2 && images.contains("busybox"));
    assert_eq!(run("images nobody").out.lines().count(), 1);
    let name = IDLE.name();
    let names = run("ps -aq").out;
    assert!(names.lines().any(|line| line == name), "{names}");
    let manifest = run("run busybox --name x --dry-run=client -o json").json();
    assert_eq!(manifest["spec"]["containers"][0]["image"], "busybox");
}

#[test]
fn a_variable_that_is_wrong_is_told_with_its_form() {
    let mut wrong = shared().command(["get", "pods"]);
    let wrong = run(wrong.env("BELUGA_BACKOFF", "soon"), SOON);
    wrong.fails(1, "BELUGA_BACKOFF=\"soon\" is not FIRST,LONGEST,RESET");
}
