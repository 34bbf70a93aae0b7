//! What changes while a pod runs: one container, and nothing else.

use crate::crashes::kill_supervisor;
use beluga_tests::{Pod, shared};
use serde_json::Value;

/// A server and its peer on one volume. The server needs a busybox, and is
/// never ready where there is a redis.
const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: changed}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: data}]
  containers:
  - name: web
    image: busybox
    command: [busybox, sh, -c, 'test -e /usr/bin/redis-server || touch /tmp/ready; sleep infinity']
    readinessProbe: {exec: {command: [test, -e, /tmp/ready]}, periodSeconds: 1}
    volumeMounts: [{name: data, mountPath: /data}]
  - name: peer
    image: redis
    command: [sleep, infinity]
    volumeMounts: [{name: data, mountPath: /data}]
";

/// What must not change with a container: the peer, the pod's identity.
fn fixed(pod: &Pod) -> (Value, String, String) {
    let (ip, uid) = (pod.ip(), pod.field("/metadata/uid"));
    (pod.container("peer"), ip, uid)
}

/// How many layers lie on the pod's layer disk.
fn layers(pod: &Pod) -> usize {
    let uid = pod.field("/metadata/uid");
    let path = shared().root().join("pods").join(uid);
    let text = std::fs::read_to_string(path.join("definition.json")).expect("it is there");
    let definition: Value = serde_json::from_str(&text).expect("it is JSON");
    definition["plan"]["layers"].as_array().map_or(0, Vec::len)
}

#[test]
fn b10_one_container_is_replaced_and_what_does_not_come_up_is_taken_back() {
    let pod = shared().pod(POD);
    let (before, first) = (fixed(&pod), pod.container("web"));
    assert_eq!(layers(&pod), 3);
    pod.sh("web", "echo kept > /data/file; touch /mine");
    let set = |image, wait| shared().run(["set", "image", "pod/changed", image, "--timeout", wait]);
    set("web=nginx", "2m")
        .ok()
        .says("pod/changed image updated");
    // The other image's base lies there already, for the peer.
    assert_eq!(layers(&pod), 4);
    let seen = pod.sh("web", "cat /data/file; ls -d /usr/sbin/nginx /mine || true");
    assert_eq!(seen, "kept\n/usr/sbin/nginx");
    let second = pod.container("web");
    assert_ne!(first["containerID"], second["containerID"]);
    set("web=nginx", "2m").ok().says("pod/changed unchanged");
    let refused = set("web=debian", "2m").exits(1);
    drop(
        refused
            .complains("could not be started")
            .complains("the pod is as it was before"),
    );
    set("web=redis", "10s")
        .exits(1)
        .complains("container web was not ready within 10 s");
    pod.eventually("ready again", |status| {
        status["containerStatuses"][0]["ready"] == true
    });
    assert_eq!(pod.container("web")["image"], "nginx");
    assert_eq!(pod.sh("web", "ls /usr/sbin/nginx"), "/usr/sbin/nginx");
    assert_eq!(fixed(&pod), before);
    shared()
        .run(["get", "events"])
        .ok()
        .says("RolloutFailed")
        .says("RolledBack");
}

#[test]
fn b10_apply_changes_what_can_change_and_a_killed_supervisor_does_not_matter() {
    let text = POD.replace("name: changed", "name: applied");
    let pod = shared().pod(&text);
    let before = fixed(&pod);
    let apply = |text: &str| shared().feed(["apply", "-f", "-"], text.as_bytes());
    let fixed_field = text.replace("periodSeconds: 1", "periodSeconds: 2");
    let path = "spec.containers[0].readinessProbe.periodSeconds cannot change while it runs";
    apply(&fixed_field).exits(1).complains(path);
    apply(&text.replace("image: busybox", "image: absent"))
        .exits(1)
        .complains("not present");
    let next = text
        .replace("image: busybox", "image: nginx")
        .replace("{name: applied}", "{name: applied, labels: {v: '2'}}");
    std::thread::scope(|scope| {
        let applied = scope.spawn(|| apply(&next));
        pod.eventually("changing", |status| {
            status["containerStatuses"][0]["image"] == "nginx"
        });
        kill_supervisor(&pod);
        applied
            .join()
            .expect("no panic")
            .ok()
            .says("pod/applied configured");
    });
    apply(&next).ok().says("pod/applied unchanged");
    assert_eq!(fixed(&pod), before);
    shared()
        .run(["get", "pods", "-l", "v=2"])
        .ok()
        .says("applied")
        .says("2/2");
}

#[test]
fn a_debug_container_comes_and_goes_beside_the_others() {
    let text = crate::lifecycle::one("looked", "Always", "touch /mine; exec sleep 3217");
    let pod = shared().pod(&text);
    let before = (pod.container("main"), pod.ip());
    let debug = |words: &[&str], input: &str| {
        let head = ["debug", "looked", "--image", "debian"].iter().chain(words);
        shared().feed(head.copied(), input.as_bytes())
    };
    debug(
        &["--target", "main", "--name", "look", "--", "sleep", "600"],
        "",
    )
    .ok();
    // It sees the other's processes and, through them, its files.
    let seen = "tr '\\0' ' ' < /proc/1/cmdline; ls /proc/1/root/mine; test -e /bin/bash && id -u";
    assert_eq!(pod.sh("look", seen), "sleep 3217 /proc/1/root/mine\n0");
    let said = debug(
        &["-i", "-c", "quick", "--", "sh", "-c", "cat; exit 5"],
        "a word\n",
    );
    drop(said.exits(5).says("a word"));
    let status = pod.object()["status"]["ephemeralContainerStatuses"].take();
    assert_eq!(
        (&status[0]["name"], &status[1]["name"]),
        (&"look".into(), &"quick".into())
    );
    assert_eq!(status[1]["state"]["terminated"]["exitCode"], 5);
    shared()
        .run(["describe", "pod", "looked"])
        .ok()
        .says("Ephemeral Containers:")
        .says("Target:");
    shared().run(["get", "pods"]).ok().says("1/1");
    assert_eq!((pod.container("main"), pod.ip()), before);
    let shown = shared()
        .run(["get", "pod", "looked", "-o", "yaml"])
        .ok()
        .out;
    let apply = || shared().feed(["apply", "-f", "-"], shown.as_bytes());
    apply().ok().says("pod/looked unchanged");
    pod.delete();
    apply()
        .exits(1)
        .complains("spec.ephemeralContainers: cannot be set on create");
}
