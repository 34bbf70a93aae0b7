//! Deployments and their like: pods from a template.

use beluga_tests::{Beluga, eventually, shared};
use serde_json::Value;
use std::collections::BTreeSet;

/// A Deployment of pods with a volume each, which hold their own IP.
pub fn deployment(name: &str, replicas: usize) -> String {
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: main
        image: busybox
        command: [sh, -c, 'echo $IP > /own/ip; sleep 6000']
        env: [{{name: IP, valueFrom: {{fieldRef: {{fieldPath: status.podIP}}}}}}]
        volumeMounts: [{{name: own, mountPath: /own}}]
      volumes: [{{name: own, emptyDir: {{}}}}]
"
    )
}

/// Applies a manifest and gives back what it said.
#[track_caller]
pub fn apply(beluga: &Beluga, manifest: &str) -> String {
    beluga
        .feed(["apply", "-f", "-"], manifest.as_bytes())
        .ok()
        .out
}

/// The pods of an app, as objects.
#[track_caller]
pub fn pods(beluga: &Beluga, app: &str) -> Vec<Value> {
    let selector = format!("app={app}");
    let ran = beluga
        .run(["get", "pods", "-l", &selector, "-o", "json"])
        .ok();
    let list: Value = serde_json::from_str(&ran.out).unwrap_or_default();
    list["items"].as_array().cloned().unwrap_or_default()
}

/// How many different texts there are at a place of these objects.
pub fn distinct(objects: &[Value], pointer: &str) -> usize {
    let texts = objects
        .iter()
        .filter_map(|one| one.pointer(pointer)?.as_str());
    texts.collect::<BTreeSet<_>>().len()
}

/// Whether each pod's volume holds that pod's own IP.
#[track_caller]
pub fn own_volumes(beluga: &Beluga, pods: &[Value]) {
    for pod in pods {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let ran = beluga.run(["exec", name, "--", "cat", "/own/ip"]).ok();
        assert_eq!(Value::from(ran.text()), pod["status"]["podIP"]);
    }
}

#[test]
fn b15_pods_of_a_deployment_have_a_uid_an_ip_and_volumes_of_their_own() {
    let manifest = deployment("trio", 3);
    assert_eq!(apply(shared(), &manifest), "deployment.apps/trio created\n");
    let wait = [
        "wait",
        "deployment/trio",
        "--for=jsonpath={.status.readyReplicas}=3",
        "--timeout=150s",
    ];
    shared().run(wait).ok();
    let trio = pods(shared(), "trio");
    for pointer in ["/metadata/name", "/metadata/uid", "/status/podIP"] {
        assert_eq!(distinct(&trio, pointer), 3, "{pointer}");
    }
    own_volumes(shared(), &trio);
    shared()
        .run(["get", "deployments"])
        .ok()
        .says("trio")
        .says("3/3");
    assert_eq!(
        apply(shared(), &manifest),
        "deployment.apps/trio unchanged\n"
    );
    assert_eq!(distinct(&pods(shared(), "trio"), "/metadata/uid"), 3);
    assert_eq!(
        apply(shared(), &deployment("trio", 1)),
        "deployment.apps/trio configured\n"
    );
    assert_eq!(pods(shared(), "trio").len(), 1);
    shared()
        .run(["describe", "deploy", "trio"])
        .ok()
        .says("1 desired | 1 updated | 1 total");
    a_changed_template_replaces_pods_and_the_old_one_goes_last("trio");
    shared()
        .run(["delete", "deployment", "trio"])
        .ok()
        .says("deployment.apps \"trio\" deleted");
    assert!(pods(shared(), "trio").is_empty());
    shared()
        .run(["delete", "deployment", "trio"])
        .exits(1)
        .complains("\"trio\" not found");
}

/// Of a Deployment of one pod, which is gone in the end.
fn a_changed_template_replaces_pods_and_the_old_one_goes_last(name: &str) {
    let target = format!("deployment/{name}");
    let available = [
        "wait",
        &target,
        "--for=condition=Available",
        "--timeout=90s",
    ];
    shared().run(available).ok();
    let before = pods(shared(), name).remove(0);
    let changed = deployment(name, 1).replace("sleep 6000", "sleep 6001");
    let said = apply(shared(), &changed);
    assert_eq!(said, format!("deployment.apps/{name} configured\n"));
    let after = pods(shared(), name);
    assert_eq!(after.len(), 1);
    assert_ne!(before["metadata"]["uid"], after[0]["metadata"]["uid"]);
    // The new one was ready before the old one went.
    shared().run(["logs", &target]).ok();
    shared().run(["exec", &target, "--", "cat", "/own/ip"]).ok();
    // Nothing makes a pod anew but a command.
    let pod = after[0]["metadata"]["name"].as_str().unwrap_or_default();
    shared().run(["delete", "pod", pod]).ok();
    shared().run(["get", "deployment", name]).ok().says("0/1");
}

/// A StatefulSet of one pod, with a claim of its own.
const SET: &str = "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: set}
spec:
  serviceName: sets
  persistentVolumeClaimRetentionPolicy: {whenDeleted: Delete}
  selector: {matchLabels: {app: set}}
  template:
    metadata: {labels: {app: set}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: main, image: busybox, command: [sh, -c, 'echo run >> /data/runs; sleep 6000'], volumeMounts: [{name: data, mountPath: /data}]}
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 16Mi}}}
";

#[test]
fn b32_a_dry_run_shows_the_first_pod_as_it_will_be() {
    let ran = shared().feed(["run", "--dry-run", "-f", "-"], SET.as_bytes());
    let ran = ran.ok().says("# statefulset.apps/set: one pod");
    ran.says("  name: set-0")
        .says("hostname: set-0")
        .says("data-set-0.img");
    let none = SET.replace("serviceName", "replicas: 0\n  serviceName");
    let ran = shared().feed(["run", "--dry-run", "-f", "-"], none.as_bytes());
    assert_eq!(ran.ok().out, "# statefulset.apps/set: no pods\n");
    let map = "{apiVersion: v1, kind: ConfigMap, metadata: {name: dry}}";
    let ran = shared().feed(["apply", "--dry-run", "-f", "-"], map.as_bytes());
    assert_eq!(ran.ok().out, "# configmap/dry created (dry run)\n");
    shared().run(["get", "configmap", "dry"]).exits(1);
}

#[test]
fn b32_a_numbered_pod_keeps_its_name_and_its_claim() {
    apply(shared(), SET);
    let runs = |count: usize| {
        eventually("the runs are on the claim", || {
            let ran = shared().run(["exec", "set-0", "--", "cat", "/data/runs"]);
            (ran.out == "run\n".repeat(count)).then_some(())
        });
    };
    runs(1);
    shared().run(["get", "pvc", "data-set-0"]).ok().says("16Mi");
    shared().types("exec set-0 -- nslookup set-0.sets").ok();
    shared().run(["delete", "pod", "set-0"]).ok();
    assert_eq!(apply(shared(), SET), "statefulset.apps/set unchanged\n");
    runs(2);
    shared().run(["delete", "statefulset", "set"]).ok();
    shared().run(["get", "pvc", "data-set-0"]).exits(1);
}

/// A ReplicationController of one pod, whose selector is that of its template.
const CONTROLLER: &str = "
apiVersion: v1
kind: ReplicationController
metadata: {name: rc}
spec:
  template:
    metadata: {labels: {app: rc}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: main, image: busybox, command: [sleep, '6000']}]
";

/// The only pod of the controller, once it is ready: its metadata.
#[track_caller]
fn pod_of_controller() -> serde_json::Value {
    let ready = "wait rc/rc --for=jsonpath={.status.readyReplicas}=1 --timeout=90s";
    shared().types(ready).ok();
    let mut all = pods(shared(), "rc");
    assert_eq!(all.len(), 1);
    all.remove(0)["metadata"].take()
}

#[test]
fn a_pod_of_a_replication_controller_that_is_deleted_is_replaced_by_apply() {
    let said = apply(shared(), CONTROLLER);
    assert_eq!(said, "replicationcontroller/rc created\n");
    let before = pod_of_controller();
    let name = before["name"].as_str().unwrap_or_default();
    shared().run(["delete", "pod", name]).ok();
    let said = apply(shared(), CONTROLLER);
    assert_eq!(said, "replicationcontroller/rc unchanged\n");
    assert_ne!(pod_of_controller()["uid"], before["uid"]);
    shared().types("delete rc rc").ok();
    assert!(pods(shared(), "rc").is_empty());
}
