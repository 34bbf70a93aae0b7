//! What changes while a pod runs: one container, and nothing else.

use crate::crashes::kill_supervisor;
use beluga_tests::{Common, Pod, shared};
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
        .complains("cannot pull the image");
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

/// One that is looked at, and one that holds memory.
static LOOKED: Common = Common::new(2, || {
    let line = "dd if=/dev/zero of=/dev/shm/held bs=1M count=24 2>/dev/null; sleep infinity";
    let text = crate::lifecycle::one("looked", "Always", "touch /mine; exec sleep 3217");
    let holder = format!(
        "  - name: holder\n    image: busybox\n    command: [sh, -c, {line:?}]\n    \
         resources: {{limits: {{memory: 64Mi}}}}\n"
    );
    shared().pod(&(text + &holder))
});

#[test]
fn a_debug_container_comes_and_goes_beside_the_others() {
    let pod = LOOKED.pod();
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
        &["-it", "-c", "quick", "--", "sh", "-c", "cat; exit 5"],
        "a word\n",
    );
    drop(said.exits(5).says("a word"));
    let terminal = "beluga debug looked --image debian -itq -- sh -c 'sleep 2; tty; exit 3'";
    let mut script = std::process::Command::new("script");
    script.args(["-qec", terminal, "/dev/null"]);
    script
        .env("BELUGA_ROOT", shared().root())
        .env("BELUGA_STATE", shared().state());
    drop(
        beluga_tests::run(&mut script, beluga_tests::SOON)
            .exits(3)
            .says("/dev/pts/"),
    );
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
    let listed = shared().run(["get", "pod", "looked", "--no-headers"]).ok();
    listed.says("2/2");
    assert_eq!((pod.container("main"), pod.ip()), before);
    let shown = shared()
        .run(["get", "pod", "looked", "-o", "yaml"])
        .ok()
        .out;
    let apply = |text: &str| shared().feed(["apply", "-f", "-"], text.as_bytes());
    apply(&shown).ok().says("pod/looked unchanged");
    apply(&shown.replace("looked", "another"))
        .exits(1)
        .complains("spec.ephemeralContainers: cannot be set on create");
}

/// Two containers whose limits are told by their cgroups.
const SIZED: &str = "
apiVersion: v1
kind: Pod
metadata: {name: sized, labels: {tier: front}}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: told, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}]
  containers:
  - name: live
    image: busybox
    command: [sleep, infinity]
    resources: {requests: {memory: 32Mi}, limits: {cpu: 500m, memory: 64Mi}}
    volumeMounts: [{name: told, mountPath: /told}]
  - name: again
    image: busybox
    command: [sleep, infinity]
    resources: {limits: {cpu: 100m, memory: 16Mi}}
    resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}]
";

/// A patch of one container's limits; the first one asks for less memory than it may have.
fn limits(name: &str, cpu: &str, memory: &str) -> String {
    let request = if name == "live" { "20Mi" } else { memory };
    format!(
        "{{\"spec\":{{\"containers\":[{{\"name\":\"{name}\",\"resources\":{{\"limits\":{{\"cpu\":\"{cpu}\",\"memory\":\"{memory}\"}},\"requests\":{{\"cpu\":\"{cpu}\",\"memory\":\"{request}\"}}}}}}]}}}}"
    )
}

#[test]
fn b24_limits_change_while_the_pod_runs() {
    let pod = shared().pod_under(("BELUGA_MEMORY_THROTTLING_FACTOR", "0.9"), SIZED);
    let high = |name: &str| pod.sh(name, "cat /sys/fs/cgroup/memory.high");
    let patch = |text: &str| shared().run(["patch", "pod", "sized", "-p", text]);
    let cgroup = |name: &str| pod.sh(name, "cd /sys/fs/cgroup; cat cpu.max memory.max cpu.weight");
    let started = |name: &str| pod.container(name)["state"]["running"]["startedAt"].clone();
    let before = (started("live"), pod.container("again"), pod.ip());
    assert_eq!(cgroup("live"), "50000 100000\n67108864\n50");
    // 32Mi and nine tenths of what is above, to a page; the other may have what it asks for.
    assert_eq!(
        (high("live").as_str(), high("again").as_str()),
        ("63750144", "max")
    );
    patch(&limits("live", "250m", "40Mi"))
        .ok()
        .says("pod/sized patched: applied");
    assert_eq!(cgroup("live"), "25000 100000\n41943040\n25");
    assert_eq!(high("live"), "39845888");
    let status = pod.container("live");
    assert_eq!(status["resources"]["limits"]["memory"], "40Mi");
    assert_eq!(status["allocatedResources"]["cpu"], "250m");
    assert_eq!((started("live"), pod.container("again"), pod.ip()), before);
    // More than the machine has.
    let refused = patch(&limits("live", "1500m", "40Mi")).exits(1);
    drop(refused.complains(
        "refused: the pod's machine was started with 1 CPU and this needs 2 CPUs (live 1500m + again 100m)",
    ));
    let more = patch(&limits("live", "250m", "300Mi")).exits(1);
    drop(
        more.complains("was started with")
            .complains("MiB and this needs"),
    );
    let half = "{spec: {containers: [{name: live, resources: {limits: {memory: null}}}]}}";
    patch(half)
        .exits(1)
        .complains("resource limits cannot be removed");
    assert_eq!(cgroup("live"), "25000 100000\n41943040\n25");
    // A policy that wants a restart for memory, not for CPU.
    let peer = started("live");
    patch(&limits("again", "50m", "16Mi")).ok();
    assert_eq!(pod.container("again")["restartCount"], 0);
    patch(&limits("again", "50m", "24Mi")).ok().says("applied");
    assert_eq!(pod.container("again")["restartCount"], 1);
    assert_eq!(cgroup("again"), "5000 100000\n25165824\n5");
    assert_eq!(started("live"), peer);
    labels(&pod);
}

/// Labels change as well, and reach the file that tells them.
fn labels(pod: &Pod) {
    shared()
        .run(["label", "pod", "sized", "tier=back"])
        .exits(1)
        .complains("--overwrite is false");
    shared()
        .run(["label", "pod/sized", "tier=back", "v=2", "--overwrite"])
        .ok()
        .says("pod/sized labeled");
    assert_eq!(pod.sh("live", "cat /told/labels"), "tier=\"back\"\nv=\"2\"");
    shared()
        .run(["annotate", "pod", "sized", "note=x"])
        .ok()
        .says("pod/sized annotated");
    assert_eq!(pod.field("/metadata/annotations/note"), "x");
    shared().run(["label", "pod", "sized", "v-"]).ok();
    assert_eq!(pod.sh("live", "cat /told/labels"), "tier=\"back\"");
}

#[test]
fn b24_a_limit_below_what_is_used_waits_for_it() {
    let pod = LOOKED.pod();
    let max = || pod.sh("holder", "cat /sys/fs/cgroup/memory.max");
    pod.sh(
        "holder",
        "until [ \"$(stat -c %s /dev/shm/held)\" = 25165824 ]; do sleep 0.1; done",
    );
    let patch = "{spec: {containers: [{name: holder, resources: {limits: {memory: 16Mi}, requests: {memory: 16Mi}}}]}}";
    let ran = shared().run(["patch", "pod", pod.name(), "-p", patch]).ok();
    drop(
        ran.says("converging (container holder: its processes use")
            .says("its new limit is 16Mi"),
    );
    assert_eq!(max(), "67108864");
    let conditions = pod.object()["status"]["conditions"].to_string();
    assert!(conditions.contains("PodResizeInProgress"), "{conditions}");
    crate::crashes::kill_supervisor(&pod);
    pod.sh("holder", "rm /dev/shm/held");
    pod.eventually("has less", |status| {
        status["containerStatuses"][1]["resources"]["limits"]["memory"] == "16Mi"
    });
    assert_eq!(max(), "16777216");
    assert_eq!(pod.container("holder")["restartCount"], 0);
}
