//! What changes while a pod runs: one container, and nothing else.

use crate::crashes::kill_supervisor;
use beluga_tests::{Common, Pod, Ran, SOON, shared};
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
    let definition = pod.file("definition.json");
    definition["plan"]["layers"].as_array().map_or(0, Vec::len)
}

/// Gives the pod's web server another image, within a time.
fn set(image: &str, wait: &str) -> Ran {
    shared().types(&format!(
        "set image pod/changed web={image} --timeout {wait}"
    ))
}

#[test]
fn b10_one_container_is_replaced_and_what_does_not_come_up_is_taken_back() {
    let pod = shared().pod(POD);
    let before = fixed(&pod);
    one_container_is_replaced(&pod);
    what_cannot_be_started_is_taken_back();
    what_is_not_ready_in_time_is_taken_back(&pod);
    assert_eq!(fixed(&pod), before);
    let events = shared().types("get events").ok();
    events.tells(&["RolloutFailed", "RolledBack"]);
}

fn one_container_is_replaced(pod: &Pod) {
    let first = pod.container("web");
    assert_eq!(layers(pod), 3);
    pod.sh("web", "echo kept > /data/file; touch /mine");
    let replaced = set("nginx", "2m").ok();
    replaced.says("pod/changed image updated");
    // The other image's base lies there already, for the peer.
    assert_eq!(layers(pod), 4);
    let seen = pod.sh("web", "cat /data/file; ls -d /usr/sbin/nginx /mine || true");
    assert_eq!(seen, "kept\n/usr/sbin/nginx");
    assert_ne!(first["containerID"], pod.container("web")["containerID"]);
    set("nginx", "2m").ok().says("pod/changed unchanged");
}

fn what_cannot_be_started_is_taken_back() {
    let refused = set("debian", "2m").fails(1, "could not be started");
    refused.complains("the pod is as it was before");
}

fn what_is_not_ready_in_time_is_taken_back(pod: &Pod) {
    let late = set("redis", "10s");
    late.fails(1, "container web was not ready within 10 s");
    pod.eventually("ready again", |status| {
        status["containerStatuses"][0]["ready"] == true
    });
    assert_eq!(pod.container("web")["image"], "nginx");
    assert_eq!(pod.sh("web", "ls /usr/sbin/nginx"), "/usr/sbin/nginx");
}

#[test]
fn b10_apply_changes_what_can_change_and_a_killed_supervisor_does_not_matter() {
    let text = POD.replace("name: changed", "name: applied");
    let pod = shared().pod(&text);
    let before = fixed(&pod);
    what_cannot_change_is_refused(&text);
    let next = text
        .replace("image: busybox", "image: nginx")
        .replace("{name: applied}", "{name: applied, labels: {v: '2'}}");
    the_supervisor_is_killed_while_it_changes(&pod, &next);
    let again = shared().apply(&next).ok();
    again.says("pod/applied unchanged");
    assert_eq!(fixed(&pod), before);
    let listed = shared().types("get pods -l v=2").ok();
    listed.tells(&["applied", "2/2"]);
}

fn what_cannot_change_is_refused(text: &str) {
    let fixed_field = text.replace("periodSeconds: 1", "periodSeconds: 2");
    let path = "spec.containers[0].readinessProbe.periodSeconds cannot change while it runs";
    shared().apply(&fixed_field).fails(1, path);
    let absent = text.replace("image: busybox", "image: absent");
    let refused = shared().apply(&absent);
    refused.fails(1, "cannot pull the image");
}

fn the_supervisor_is_killed_while_it_changes(pod: &Pod, next: &str) {
    std::thread::scope(|scope| {
        let applied = scope.spawn(|| shared().apply(next));
        pod.eventually("changing", |status| {
            status["containerStatuses"][0]["image"] == "nginx"
        });
        kill_supervisor(pod);
        let applied = applied.join().expect("no panic").ok();
        applied.says("pod/applied configured");
    });
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

/// A container of this image is looked at, with this input.
fn debug(line: &str, input: &str) -> Ran {
    let words = shlex::split(line).expect("closed quotes");
    let head = ["debug", "looked", "--image", "debian"].map(str::to_owned);
    shared().feed(head.into_iter().chain(words), input.as_bytes())
}

#[test]
fn a_debug_container_comes_and_goes_beside_the_others() {
    let pod = LOOKED.alone();
    let before = (pod.container("main"), pod.ip());
    it_sees_the_other_ones_processes_and_files(&pod);
    let said = debug("-it -c quick -- sh -c 'cat; exit 5'", "a word\n");
    said.exits(5).says("a word");
    it_has_a_terminal();
    it_is_told_of_in_the_status(&pod);
    let listed = shared().types("get pod looked --no-headers").ok();
    listed.says("2/2");
    assert_eq!((pod.container("main"), pod.ip()), before);
    it_cannot_be_applied_to_another_pod();
    it_is_no_difference_from_a_manifest(&pod);
}

fn it_sees_the_other_ones_processes_and_files(pod: &Pod) {
    debug("--target main --name look -- sleep 600", "").ok();
    let seen = "tr '\\0' ' ' < /proc/1/cmdline; ls /proc/1/root/mine; test -e /bin/bash && id -u";
    assert_eq!(pod.sh("look", seen), "sleep 3217 /proc/1/root/mine\n0");
}

fn it_has_a_terminal() {
    let line = "debug looked --image debian -itq -- sh -c 'sleep 2; tty; exit 3'";
    let said = shared().types_on_terminal(line, SOON).exits(3);
    said.says("/dev/pts/");
}

fn it_is_told_of_in_the_status(pod: &Pod) {
    let status = pod.object()["status"]["ephemeralContainerStatuses"].take();
    assert_eq!(status[0]["name"], "look");
    assert_eq!(status[1]["name"], "quick");
    assert_eq!(status[1]["state"]["terminated"]["exitCode"], 5);
    let page = pod.described();
    page.tells(&["Ephemeral Containers:", "Target:"]);
}

fn it_cannot_be_applied_to_another_pod() {
    let shown = shared().types("get pod looked -o yaml").ok().out;
    let same = shared().apply(&shown).ok();
    same.says("pod/looked unchanged");
    let other = shared().apply(&shown.replace("looked", "another"));
    let why = "spec.ephemeralContainers: cannot be set on create";
    other.fails(1, why);
}

fn it_is_no_difference_from_a_manifest(pod: &Pod) {
    let mut object = pod.object();
    let fields = object["spec"].as_object_mut().expect("a spec");
    fields.remove("ephemeralContainers");
    fields.insert("hostname".to_owned(), "other".into());
    let ran = shared().apply(&object.to_string());
    ran.fails(1, "the manifest: spec.hostname cannot change");
}

/// Two containers whose limits are told by their cgroups.
const MANIFEST: &str = "
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

static SIZED: Common = Common::new(4, || {
    shared().pod_under(("BELUGA_MEMORY_THROTTLING_FACTOR", "0.9"), MANIFEST)
});

fn patch(text: &str) -> Ran {
    shared().run(["patch", "pod", "sized", "-p", text])
}

/// The limits of a container, as its kernel has them.
fn cgroup(pod: &Pod, container: &str) -> String {
    let look = "cd /sys/fs/cgroup; cat cpu.max memory.max cpu.weight";
    pod.sh(container, look)
}

fn started(pod: &Pod, container: &str) -> Value {
    pod.container(container)["state"]["running"]["startedAt"].clone()
}

#[test]
fn b24_limits_change_while_the_pod_runs() {
    let pod = SIZED.alone();
    let high = |name: &str| pod.sh(name, "cat /sys/fs/cgroup/memory.high");
    let fixed = || (started(&pod, "live"), pod.container("again"), pod.ip());
    let before = fixed();
    assert_eq!(cgroup(&pod, "live"), "50000 100000\n67108864\n50");
    // 32Mi and nine tenths of what is above, to a page; the other may have what it asks for.
    let both = (high("live"), high("again"));
    assert_eq!(both, ("63750144".into(), "max".into()));
    let applied = patch(&limits("live", "250m", "40Mi")).ok();
    applied.says("pod/sized patched: applied");
    assert_eq!(cgroup(&pod, "live"), "25000 100000\n41943040\n25");
    assert_eq!(high("live"), "39845888");
    its_status_has_the_new_limits(&pod);
    assert_eq!(fixed(), before);
}

fn its_status_has_the_new_limits(pod: &Pod) {
    let status = pod.container("live");
    assert_eq!(status["resources"]["limits"]["memory"], "40Mi");
    assert_eq!(status["allocatedResources"]["cpu"], "250m");
}

#[test]
fn b24_limits_that_cannot_be_are_refused_and_change_nothing() {
    let pod = SIZED.alone();
    let before = (cgroup(&pod, "live"), pod.container("live"));
    let peer = pod.container("again")["resources"]["limits"]["cpu"].take();
    let peer = peer.as_str().expect("a limit");
    let more = patch(&limits("live", "1500m", "40Mi")).exits(1);
    more.complains(&format!(
        "refused: the pod's machine was started with 1 CPU and this needs 2 CPUs (live 1500m + again {peer})"
    ));
    let more = patch(&limits("live", "250m", "300Mi")).exits(1);
    let more = more.complains("was started with");
    more.complains("MiB and this needs");
    let none = "{spec: {containers: [{name: live, resources: {limits: {memory: null}}}]}}";
    patch(none).fails(1, "resource limits cannot be removed");
    assert_eq!((cgroup(&pod, "live"), pod.container("live")), before);
}

#[test]
fn b24_a_container_is_restarted_for_limits_where_its_policy_says_so() {
    let pod = SIZED.alone();
    let peer = started(&pod, "live");
    // For memory, not for CPU.
    patch(&limits("again", "50m", "16Mi")).ok();
    assert_eq!(pod.container("again")["restartCount"], 0);
    let applied = patch(&limits("again", "50m", "12Mi")).ok();
    applied.says("applied");
    assert_eq!(pod.container("again")["restartCount"], 1);
    assert_eq!(cgroup(&pod, "again"), "5000 100000\n12582912\n5");
    assert_eq!(started(&pod, "live"), peer);
}

#[test]
fn labels_change_and_reach_the_file_that_tells_them() {
    let pod = SIZED.alone();
    let told = || pod.sh("live", "cat /told/labels");
    let refused = shared().types("label pod sized tier=back");
    refused.fails(1, "--overwrite is false");
    let labeled = shared().types("label pod/sized tier=back v=2 --overwrite");
    labeled.ok().says("pod/sized labeled");
    assert_eq!(told(), "tier=\"back\"\nv=\"2\"");
    let annotated = shared().types("annotate pod sized note=x").ok();
    annotated.says("pod/sized annotated");
    assert_eq!(pod.field("/metadata/annotations/note"), "x");
    shared().types("label pod sized v-").ok();
    assert_eq!(told(), "tier=\"back\"");
}

#[test]
fn b24_a_limit_below_what_is_used_waits_for_it() {
    let pod = LOOKED.alone();
    let max = || pod.sh("holder", "cat /sys/fs/cgroup/memory.max");
    holds_its_memory(&pod);
    let patch = "{spec: {containers: [{name: holder, resources: {limits: {memory: 16Mi}, requests: {memory: 16Mi}}}]}}";
    let ran = shared().run(["patch", "pod", pod.name(), "-p", patch]).ok();
    let ran = ran.says("converging (container holder: its processes use");
    ran.says("its new limit is 16Mi");
    assert_eq!(max(), "67108864");
    let conditions = pod.object()["status"]["conditions"].to_string();
    assert!(conditions.contains("PodResizeInProgress"), "{conditions}");
    kill_supervisor(&pod);
    its_limit_comes_when_it_holds_less(&pod);
    assert_eq!(max(), "16777216");
    assert_eq!(pod.container("holder")["restartCount"], 0);
}

fn holds_its_memory(pod: &Pod) {
    let whole = "until [ \"$(stat -c %s /dev/shm/held)\" = 25165824 ]; do sleep 0.1; done";
    pod.sh("holder", whole);
}

fn its_limit_comes_when_it_holds_less(pod: &Pod) {
    pod.sh("holder", "rm /dev/shm/held");
    pod.eventually("has less", |status| {
        status["containerStatuses"][1]["resources"]["limits"]["memory"] == "16Mi"
    });
}
