//! From start to end: order, signals, exit codes, restarts.

use beluga_tests::{Pod, shared};

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
fn b06_on_failure_restarts_until_success_with_a_fresh_root() {
    // The volume remembers what the root file system must not.
    let line = "test -e /fresh && exit 9; touch /fresh; echo x >> /dev/shm/runs; test $(wc -l < /dev/shm/runs) = 3";
    let pod = shared().pod(&one("b06-on-failure", "OnFailure", line));
    pod.eventually("succeeded", |status| status["phase"] == "Succeeded");
    assert_eq!(pod.container("main")["restartCount"], 2);
}

/// A container that notes when it starts, and, at its end, when it ends.
fn noting(name: &str, more: &str) -> String {
    let line = format!(
        "trap 'echo -{name} >> /dev/shm/order; cat /dev/shm/order; exit 0' TERM; \
         echo +{name} >> /dev/shm/order; sleep 600 & wait"
    );
    format!("  - {{name: {name}, image: busybox, command: [sh, -c, {line:?}]{more}}}\n")
}

/// An init container that stays, and has started once it has noted that.
fn sidecar(name: &str) -> String {
    let grep =
        format!("{{exec: {{command: [grep, -q, +{name}, /dev/shm/order]}}, periodSeconds: 1}}");
    noting(
        name,
        &format!(", restartPolicy: Always, startupProbe: {grep}"),
    )
}

#[test]
fn b07_sidecars_start_in_order_and_stop_last_in_reverse_order() {
    let ready = "{exec: {command: [grep, -q, +app, /dev/shm/order]}, periodSeconds: 1}";
    let app = noting("app", &format!(", readinessProbe: {ready}"));
    let step = "{name: step, image: busybox, command: [sh, -c, 'echo +step >> /dev/shm/order']}";
    let (one, two) = (sidecar("one"), sidecar("two"));
    let pod = shared().pod(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: sidecars}}\nspec:\n  terminationGracePeriodSeconds: 60\n  \
         initContainers:\n{one}  - {step}\n{two}  containers:\n{app}"
    ));
    shared().types("get pod sidecars").ok().says("3/3");
    shared().types("stop sidecars").ok();
    let all = "+one\n+step\n+two\n+app\n-app\n-two\n-one\n";
    assert_eq!(pod.logs("one"), all);
}

#[test]
fn b08_after_the_grace_period_it_is_killed() {
    let deaf = "trap '' TERM; while :; do sleep 0.2; done";
    let killed = "  - {name: killed, image: busybox, command: [sh, -c, 'sleep 600 & wait $!']}\n";
    let pod = shared().pod(&(one("b08-deaf", "Never", deaf) + killed));
    a_signal_from_outside_is_137(&pod, "killed");
    let start = std::time::Instant::now();
    pod.delete();
    assert!(
        start.elapsed().as_secs() >= 2,
        "the grace period of two seconds was not kept"
    );
}

fn a_signal_from_outside_is_137(pod: &Pod, container: &str) {
    // The command would stay, but ends with the container that it ends: 137, as
    // kubectl and runc have it.
    let line = "kill -9 $(pidof sleep); sleep 600";
    pod.try_exec(container, &["sh", "-c", line]).exits(137);
    pod.eventually("ended", |_| {
        pod.container(container)["state"]["terminated"]["exitCode"] == 137
    });
}
