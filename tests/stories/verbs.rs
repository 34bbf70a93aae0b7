//! Verbs that people bring along from kubectl and podman.

use crate::lifecycle::one;
use beluga_tests::{Common, SOON, run, shared};
use std::time::{Duration, Instant};

/// A pod that runs, has said nothing, and takes no input.
static IDLE: Common = Common::new(4, || {
    shared().pod(
        "
apiVersion: v1
kind: Pod
metadata: {name: idle}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: busybox, command: [sleep, infinity]}]
",
    )
});

#[expect(
    clippy::too_many_lines,
    reason = "one pod tells all of it: boots are few"
)]
#[test]
fn b13_wait_labels_events_and_watch() {
    let manifest = one("verbs", "Never", "sleep 600").replace(
        "{name: verbs}",
        "{name: verbs, labels: {app: verbs, tier: front}}",
    );
    let pod = shared().pod(&manifest);
    let run = |words: &[&str]| shared().run(words.iter().copied());
    run(&[
        "wait",
        "pod/verbs",
        "--for=condition=Ready",
        "--timeout=60s",
    ])
    .ok()
    .says("pod/verbs condition met");
    run(&[
        "wait",
        "pod",
        "-l",
        "app=verbs",
        "--for=jsonpath={.status.phase}=Running",
    ])
    .ok();
    let begun = Instant::now();
    run(&["wait", "pod/verbs", "--for=delete", "--timeout=1s"])
        .exits(1)
        .complains("timed out waiting for the condition on pods/verbs");
    assert!(begun.elapsed() < Duration::from_secs(30));
    run(&["wait", "pod/nobody", "--for=condition=Ready"])
        .exits(1)
        .complains("not found");

    assert_eq!(
        run(&[
            "get",
            "pods",
            "-l",
            "tier in (front,back),app=verbs",
            "-o",
            "name"
        ])
        .ok()
        .out,
        "pod/verbs\n"
    );
    assert_eq!(
        run(&["get", "pods", "-l", "app=verbs,tier!=front", "-o", "name"])
            .ok()
            .out,
        ""
    );
    run(&["get", "pods", "-l", "app in (verbs"])
        .exits(2)
        .complains("app in (verbs");

    run(&["get", "events"])
        .ok()
        .says("Started")
        .says("pod/verbs");
    let events = run(&["get", "events", "-o", "json"]).ok();
    let events: serde_json::Value = serde_json::from_str(&events.out).expect("JSON");
    assert_eq!(events["items"][0]["kind"], "Event");

    run(&["delete", "pod", "-l", "app=verbs", "--grace-period", "0"])
        .ok()
        .says("verbs");
    run(&["wait", "pod/verbs", "--for=delete", "--timeout=30s"]).ok();
    drop(pod);
}

/// A pod whose first container has run once before, and whose other one computes
/// and holds memory.
static BUSY: Common = Common::new(3, || {
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

#[test]
fn b12_top_shows_what_each_container_uses() {
    let pod = BUSY.pod();
    pod.eventually("uses memory", |_| {
        let held = pod.try_exec("hog", &["stat", "-c", "%s", "/dev/shm/held"]);
        held.out.trim() == (24 << 20).to_string()
    });
    let number = |row: &str, column: usize, unit: &str| -> u64 {
        let cell = row.split_whitespace().nth(column).unwrap_or_default();
        let digits = cell
            .strip_suffix(unit)
            .unwrap_or_else(|| panic!("{cell:?} of {row:?}"));
        digits.parse().expect("a number")
    };
    let all = shared().run(["top", "pod", "busy", "--no-headers"]).ok();
    let (cpu, memory) = (number(&all.out, 1, "m"), number(&all.out, 2, "Mi"));
    let (limit, host) = (number(&all.out, 3, "Mi"), number(&all.out, 4, "Mi"));
    assert!(cpu > 200, "a loop uses a CPU: {all}");
    assert!(memory >= 24 && memory < limit, "{all}");
    assert!(host >= memory, "the host holds what the guest uses: {all}");
    let each = shared()
        .run(["top", "pod", "busy", "--containers", "--no-headers"])
        .ok();
    let hog = each.out.lines().find(|line| line.contains("hog"));
    let hog = hog.unwrap_or_else(|| panic!("no line of it: {each}"));
    assert!(
        each.out.contains("main") && number(hog, 3, "Mi") >= 24,
        "{each}"
    );
    let machine = each.out.lines().find(|line| line.contains("(machine)"));
    let machine = machine.unwrap_or_else(|| panic!("no line of it: {each}"));
    let [used, limit, host, more] = [3, 4, 5, 6].map(|column| number(machine, column, "Mi"));
    assert!(used >= 24 && used < limit && host >= used, "{each}");
    assert!(more.abs_diff(host - used) <= 1, "{each}");
    shared()
        .run(["top", "pod", "nobody"])
        .exits(1)
        .complains("not found");
}

#[test]
fn b11_logs_of_the_run_before_and_logs_since() {
    let pod = BUSY.pod();
    pod.eventually("runs again", |status| {
        status["containerStatuses"][0]["restartCount"] == 1
            && !status["containerStatuses"][0]["state"]["running"].is_null()
    });
    let logs = |words: &[&str]| shared().run(["logs", "busy"].iter().chain(words).copied());
    assert_eq!(logs(&["--previous"]).ok().out, "first\n");
    pod.eventually("says so", |_| logs(&[]).out == "second\n");
    assert_eq!(logs(&["--since", "1h"]).ok().out, "second\n");
    assert_eq!(logs(&["--since-time", "2099-01-01T00:00:00Z"]).ok().out, "");
    logs(&["--since", "yesterday"])
        .exits(2)
        .complains("like 5s");

    let fresh = IDLE.pod();
    let refused = format!(
        "previous terminated container \"main\" in pod \"{}\" not found",
        fresh.name()
    );
    shared()
        .run(["logs", "--previous", fresh.name()])
        .exits(1)
        .complains(&refused);
}

#[test]
fn attach_joins_a_containers_streams() {
    let pod = BUSY.pod();
    shared()
        .feed(["attach", "-i", "-c", "reader", pod.name()], b"a word\n")
        .exits(5)
        .says("got a word");
    drop(pod);
    shared()
        .feed(["attach", "-i", IDLE.pod().name()], b"x")
        .exits(1)
        .complains("without standard input");
}

#[test]
fn b03_stop_start_and_restart() {
    let pod = shared().pod(&one(
        "again",
        "Always",
        "echo up; trap 'exit 0' TERM; sleep 600 & wait",
    ));
    pod.eventually("says so", |_| pod.logs("main") == "up\n");
    let first = pod.field("/metadata/uid");
    shared()
        .run(["stop", "again"])
        .ok()
        .says("pod/again stopped");
    assert!(["Succeeded", "Failed"].contains(&pod.field("/status/phase").as_str()));
    assert_eq!(pod.logs("main"), "up\n");
    assert_eq!(pod.field("/metadata/uid"), first);
    shared()
        .run(["start", "again"])
        .ok()
        .says("pod/again started");
    let second = pod.field("/metadata/uid");
    assert_ne!(first, second);
    pod.eventually("runs", |status| status["phase"] == "Running");
    shared().run(["start", "again"]).ok().says("runs already");
    shared()
        .run(["restart", "again"])
        .ok()
        .says("pod/again restarted");
    assert_ne!(pod.field("/metadata/uid"), second);
    shared()
        .run(["stop", "nobody"])
        .exits(1)
        .complains("not found");
}

#[test]
fn a_flood_of_output_is_seen_whole_and_kept_in_part() {
    // What stands behind the image is the command, flags and all.
    let words = ["run", "--name=flood", "busybox", "seq", "-w", "30000"];
    let mut command = shared().command(words);
    let ran = run(command.env("BELUGA_LOGS", "400000,3"), SOON).ok();
    let all: Vec<String> = (1..=30_000).map(|number| format!("{number:05}")).collect();
    assert!(
        ran.out.lines().eq(&all),
        "a line is missing or out of order"
    );
    let kept = shared().run(["logs", "flood"]).ok().out;
    let kept: Vec<&str> = kept.lines().collect();
    assert!(kept.len() < 29_000 && kept.len() > 5_000, "{}", kept.len());
    assert!(all.ends_with(&kept.iter().map(ToString::to_string).collect::<Vec<_>>()));
    let last = shared().run(["logs", "flood", "--tail", "9000"]).ok().out;
    assert_eq!(last.lines().count(), 9000);
    // It has ended, and its name is its own until somebody says otherwise.
    let again = shared().run(words).exits(1);
    again
        .complains("pod \"flood\" already exists; it has ended")
        .complains("run --replace");
    shared().run(["delete", "pod", "flood"]).ok();
}

#[test]
fn b14_a_name_that_is_taken() {
    let pod = IDLE.pod();
    let uid = pod.field("/metadata/uid");
    let text = one(pod.name(), "Never", "sleep 1");
    let ran = shared().feed(["run", "-d", "-f", "-"], text.as_bytes());
    ran.exits(1).complains("pod \"idle\" already exists");
    assert_eq!(pod.field("/metadata/uid"), uid);
}

#[test]
fn words_of_kubectl_and_podman_are_understood() {
    let run = |line: &str| shared().run(line.split(' '));
    let images = run("images busybox").ok().out;
    assert!(images.lines().count() == 2 && images.contains("busybox"));
    assert_eq!(run("images nobody").ok().out.lines().count(), 1);
    let pod = IDLE.pod();
    assert!(
        run("ps -aq")
            .ok()
            .out
            .lines()
            .any(|line| line == pod.name())
    );
    let manifest = run("run busybox --name x --dry-run=client -o json").ok();
    let manifest: serde_json::Value = serde_json::from_str(&manifest.out).expect("JSON");
    assert_eq!(manifest["spec"]["containers"][0]["image"], "busybox");
    let mut wrong = shared().command(["get", "pods"]);
    let wrong = beluga_tests::run(wrong.env("BELUGA_BACKOFF", "soon"), SOON);
    wrong
        .exits(1)
        .complains("BELUGA_BACKOFF=\"soon\" is not FIRST,LONGEST,RESET");
}
