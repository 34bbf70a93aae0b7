//! The life of containers as the kubelet has it: probes, deadlines, how they are stopped.

use crate::lifecycle::one;
use beluga_tests::{Common, Pod, eventually, registry, shared};
use serde_json::Value;
use std::process::{Child, Stdio};

/// Each container of it has probes of another kind.
static PROBED: Common = Common::new(7, || {
    let certificate = format!("value: {:?}", certificate());
    let manifest = include_str!("../pods/probed.yaml");
    shared().pod(&manifest.replace("value: \"\"", &certificate))
});

/// A key, and a certificate for nobody whom anybody would trust.
fn certificate() -> String {
    let line = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
        -subj /CN=nobody -keyout /dev/stdout 2>/dev/null";
    registry::sh(line).ok().out
}

#[test]
fn b08_a_pod_past_its_deadline_has_failed() {
    let manifest = one(
        "b08-deadline",
        "Always",
        "trap 'exit 0' TERM; while :; do sleep 0.2; done",
    );
    let pod = shared().pod(&manifest.replace("spec:\n", "spec:\n  activeDeadlineSeconds: 3\n"));
    pod.eventually("failed", |status| status["phase"] == "Failed");
    assert_eq!(pod.field("/status/reason"), "DeadlineExceeded");
    assert_eq!(pod.container("main")["restartCount"], 0);
}

/// Follows what the containers say until the value is waited for.
fn follow(pod: &Pod, names: [&str; 4]) -> [Child; 4] {
    names.map(|name| {
        let set = || (pod.logs(name) == "set\n").then_some(());
        eventually("its trap is set", set);
        let mut follow = shared().command(["logs", "-f", "-c", name, pod.name()]);
        follow.stdout(Stdio::piped()).spawn().expect("beluga")
    })
}

#[test]
fn b08_each_container_is_stopped_as_the_manifest_says() {
    let pod = shared().pod(include_str!("../pods/stops.yaml"));
    let all = follow(&pod, ["term", "usr1", "hooked", "pre-stop"]);
    pod.delete();
    let said = all.map(|follow| follow.wait_with_output().expect("ended").stdout);
    let [term, usr1, hooked, pre_stop] =
        said.map(|bytes| String::from_utf8_lossy(&bytes).replace('\n', " "));
    assert_eq!(term, "set got-term ");
    assert_eq!(usr1, "set got-term got-usr1 ");
    assert_eq!(hooked, "set GET /bye HTTP/1.1 ");
    assert_eq!(pre_stop, "set stopping stopped got-term ");
}

#[test]
fn b08_a_failed_liveness_probe_restarts_the_container() {
    let pod = PROBED.pod();
    eventually("restarted", || {
        (pod.container("liveness")["restartCount"] == 1).then_some(())
    });
    // The probe's own grace period was long enough, the pod's would not have been.
    pod.sh("liveness", "test -e /dev/shm/in-time");
    let said = shared().run(["describe", "pod", "probed"]).ok();
    said.says("Liveness:      exec [cat /tmp/healthy] delay=0s timeout=20s period=1s #success=1 #failure=2")
        .says("Liveness probe failed: cat: can't open '/tmp/healthy': No such file or directory")
        .says("Container liveness failed liveness probe, will be restarted");
}

/// Waits until a container is ready, or not.
fn becomes(pod: &Pod, ready: bool) {
    eventually("ready or not", || {
        (pod.container("readiness")["ready"] == ready).then_some(())
    });
}

/// Whether a status says that the pod is not ready, since when and why.
fn is_not_ready(status: &Value) -> bool {
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    let ready = conditions.find(|one| one["type"] == "Ready");
    ready.is_some_and(|one| {
        let why = one["message"].as_str().unwrap_or_default();
        one["status"] == "False"
            && one["reason"] == "ContainersNotReady"
            && why.starts_with("containers with unready status: [")
            && why.contains("readiness")
            && one["lastTransitionTime"].as_str() > status["startTime"].as_str()
    })
}

#[test]
fn b10_readiness_is_what_the_probe_says() {
    let pod = PROBED.pod();
    becomes(&pod, true);
    pod.sh("readiness", "rm /tmp/ready");
    becomes(&pod, false);
    pod.eventually("not ready, with its reason and time", is_not_ready);
    let row = shared().types("get pod probed --no-headers").ok();
    assert!(!row.out.contains("8/8"), "{row}");
    pod.sh("readiness", "touch /tmp/ready");
    becomes(&pod, true);
    assert_eq!(pod.container("readiness")["restartCount"], 0);
}

#[test]
fn b08_startup_holds_the_other_probes_back() {
    let pod = PROBED.pod();
    let status = pod.container("startup");
    assert_eq!(status["started"], true);
    assert_eq!(status["restartCount"], 0);
    let said = shared().run(["describe", "pod", "probed"]).ok();
    said.says("Startup probe failed:");
}

#[test]
fn b08_http_and_tcp_probes_reach_servers_of_the_pod() {
    let pod = PROBED.pod();
    let refused = format!("dial tcp {}:6380: connect: connection refused", pod.ip());
    eventually("both liveness probes were tried", || {
        let said = shared().run(["describe", "pod", "probed"]).out;
        let both =
            said.contains("HTTP probe failed with statuscode: 404") && said.contains(&refused);
        both.then_some(())
    });
    for name in ["web", "db"] {
        assert_eq!(pod.container(name)["ready"], true, "{name}");
    }
    // What asks is who the manifest says it is.
    let asked = pod.logs("web");
    assert!(asked.contains("\"of-its-own/1\""), "{asked}");
}

#[test]
fn b08_a_probe_that_times_out_is_killed_with_its_children() {
    let pod = PROBED.pod();
    eventually("it timed out", || {
        let said = shared().run(["describe", "pod", "probed"]).out;
        said.contains("sleep 4321\" timed out").then_some(())
    });
    pod.sh("timeout", "test -e /dev/shm/ran");
    let left = "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep 432[1]'";
    assert_eq!(pod.try_exec("timeout", &["sh", "-c", left]).text(), "0");
}

#[test]
fn b08_grpc_probes_speak_the_health_protocol() {
    let pod = PROBED.pod();
    let unhealthy = "Liveness probe failed: service unhealthy (responded with \"NOT_SERVING\")";
    eventually("the liveness probe was answered", || {
        let said = shared().run(["describe", "pod", "probed"]).out;
        said.contains(unhealthy).then_some(())
    });
    shared()
        .run(["describe", "pod", "probed"])
        .ok()
        .says("grpc <pod>:9000 ready delay=0s timeout=20s period=1s #success=1 #failure=1000");
    assert_eq!(pod.container("grpc")["ready"], true);
}

#[test]
fn b08_probes_speak_tls_with_a_server_that_nobody_knows() {
    let pod = PROBED.pod();
    eventually("both probes were answered", || {
        let said = shared().run(["describe", "pod", "probed"]).out;
        let both = said.contains("HTTP probe failed with statuscode: 503")
            && said.contains("http-get https://:8443/ready delay=0s");
        (both && pod.container("tls")["ready"] == true).then_some(())
    });
}
