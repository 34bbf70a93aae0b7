//! From start to end: order, signals, exit codes, restarts.

use beluga_tests::shared;

/// A one-container pod that runs a shell line.
pub fn one(name: &str, restart: &str, line: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: {restart}
  terminationGracePeriodSeconds: 2
  containers:
  - name: main
    image: busybox
    command: [sh, -c, {line:?}]
"
    )
}

#[test]
fn b01_containers_of_a_pod_are_one_unit() {
    let pod = shared().pod(include_str!("../pods/two-containers.yaml"));
    let name = pod.name().to_owned();
    shared().run(["get", "pods"]).ok().says(&name).says("2/2");
    pod.delete();
    shared()
        .run(["get", "pod", &name])
        .exits(1)
        .complains("not found");
}

#[test]
fn b03_a_replacement_has_a_new_uid() {
    let manifest = one("b03", "Never", "exit 0");
    let first = shared().pod(&manifest);
    let uid = first.field("/metadata/uid");
    first.delete();
    assert_ne!(shared().pod(&manifest).field("/metadata/uid"), uid);
}

#[test]
fn b06_on_failure_restarts_until_success_with_a_fresh_root() {
    // The volume remembers what the root file system must not.
    let line = "test -e /fresh && exit 9; touch /fresh; echo x >> /dev/shm/runs; test $(wc -l < /dev/shm/runs) = 3";
    let pod = shared().pod(&one("b06-on-failure", "OnFailure", line));
    pod.eventually("succeeded", |status| status["phase"] == "Succeeded");
    assert_eq!(pod.container("main")["restartCount"], 2);
}

#[test]
fn b07_init_containers_run_in_order_before_the_app() {
    let step = |name: &str| {
        format!(
            "  - {{name: {name}, image: busybox, command: [sh, -c, 'echo {name} >> /dev/shm/order']}}\n"
        )
    };
    let pod = shared().pod(&format!(
        "{}  initContainers:\n{}{}",
        one("b07", "Never", "cat /dev/shm/order"),
        step("first"),
        step("second")
    ));
    pod.eventually("succeeded", |status| status["phase"] == "Succeeded");
    assert_eq!(pod.logs("main"), "first\nsecond\n");
}

#[test]
fn b07_a_failing_init_container_blocks_the_app() {
    let pod = shared().pod(&format!(
        "{}  initContainers:\n  - {{name: bad, image: busybox, command: ['false']}}\n",
        one("b07-bad", "Never", "echo never")
    ));
    assert_eq!(pod.field("/status/phase"), "Failed");
    assert!(pod.container("main")["state"].get("terminated").is_none());
    assert_eq!(pod.container("bad")["state"]["terminated"]["exitCode"], 1);
}

/// A container that notes when it starts, and, at its end, when it ends.
fn noting(name: &str, more: &str) -> String {
    let line = format!(
        "trap 'echo -{name} >> /dev/shm/order; cat /dev/shm/order; exit 0' TERM; \
         echo +{name} >> /dev/shm/order; sleep 600 & wait"
    );
    format!("  - {{name: {name}, image: busybox, command: [sh, -c, {line:?}]{more}}}\n")
}

#[test]
fn b07_sidecars_start_in_order_and_stop_last_in_reverse_order() {
    let sidecar = |name: &str| {
        let probe =
            format!("{{exec: {{command: [grep, -q, +{name}, /dev/shm/order]}}, periodSeconds: 1}}");
        noting(
            name,
            &format!(", restartPolicy: Always, startupProbe: {probe}"),
        )
    };
    let step =
        "  - {name: step, image: busybox, command: [sh, -c, 'echo +step >> /dev/shm/order']}\n";
    let pod = shared().pod(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: sidecars}}\nspec:\n  terminationGracePeriodSeconds: 60\n  \
         initContainers:\n{}{step}{}  containers:\n{}",
        sidecar("one"),
        sidecar("two"),
        noting("app", ", readinessProbe: {exec: {command: [grep, -q, +app, /dev/shm/order]}, periodSeconds: 1}")
    ));
    shared().run(["get", "pod", "sidecars"]).ok().says("3/3");
    shared().run(["stop", "sidecars"]).ok();
    let all = "+one\n+step\n+two\n+app\n-app\n-two\n-one\n";
    assert_eq!(pod.logs("one"), all);
}

#[test]
fn b08_after_the_grace_period_it_is_killed() {
    let pod = shared().pod(&one(
        "b08-deaf",
        "Never",
        "trap '' TERM; while :; do sleep 0.2; done",
    ));
    let start = std::time::Instant::now();
    pod.delete();
    assert!(
        start.elapsed().as_secs() >= 2,
        "the grace period of two seconds was not kept"
    );
}

#[test]
fn b09_foreground_exit_code_is_the_pods() {
    shared()
        .feed(
            ["run", "-f", "-"],
            one("b09-run", "Never", "echo hello; exit 37").as_bytes(),
        )
        .exits(37)
        .says("hello");
    shared()
        .run(["delete", "pod", "b09-run", "--ignore-not-found"])
        .ok();
}

#[test]
fn b09_a_signal_from_outside_is_137() {
    let pod = shared().pod(&one("b09-outside", "Never", "sleep 600 & wait $!"));
    // The command would stay, but ends with the container that it ends: 137, as
    // kubectl and runc have it.
    let line = "kill -9 $(pidof sleep); sleep 600";
    pod.try_exec("main", &["sh", "-c", line]).exits(137);
    pod.eventually("ended", |status| status["phase"] != "Running");
    assert_eq!(
        pod.container("main")["state"]["terminated"]["exitCode"],
        137
    );
}

#[test]
fn b11_a_crashed_container_restarts_alone() {
    let pod = shared().pod(
        "
apiVersion: v1
kind: Pod
metadata: {name: b11}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: crasher, image: busybox, command: [sh, -c, 'touch /x; sleep 600 & wait; exit 3']}
  - {name: peer, image: busybox, command: [sleep, infinity]}
",
    );
    let before = (
        pod.ip(),
        pod.field("/metadata/uid"),
        pod.container("peer")["state"].clone(),
    );
    // The command ends with the container that it ends.
    pod.try_exec("crasher", &["sh", "-c", "kill $(pidof sleep)"]);
    pod.eventually("restarted", |status| {
        status.to_string().contains("\"restartCount\":1")
    });
    assert_eq!(
        before,
        (
            pod.ip(),
            pod.field("/metadata/uid"),
            pod.container("peer")["state"].clone()
        )
    );
}
