//! ConfigMaps and Secrets: kept, told in variables, refused where they are missing.

use beluga_tests::{Beluga, Common, Pod, shared};

const OBJECTS: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {key: value, other: more}
---
apiVersion: v1
kind: Secret
metadata: {name: login}
data: {user: cm9vdA==}
stringData: {password: text}
";

#[test]
fn b13_objects_are_applied_shown_and_deleted_like_kubectl_does() {
    let beluga = Beluga::fresh();
    let apply = |text: &str| beluga.feed(["apply", "-f", "-"], text.as_bytes()).ok().out;
    assert_eq!(
        apply(OBJECTS),
        "configmap/settings created\nsecret/login created\n"
    );
    assert_eq!(
        apply(OBJECTS),
        "configmap/settings unchanged\nsecret/login unchanged\n"
    );
    let changed = OBJECTS.replace("more", "else");
    assert_eq!(
        apply(&changed),
        "configmap/settings configured\nsecret/login unchanged\n"
    );
    let shown = beluga.run(["get", "secret", "login", "-o", "yaml"]).ok();
    let shown = shown.says("user: cm9vdA==").says("password: dGV4dA==");
    assert_eq!(apply(&shown.out), "secret/login unchanged\n");
    beluga.run(["get", "cm"]).ok().says("NAME").says("settings");
    beluga
        .run(["delete", "configmap", "settings"])
        .ok()
        .says("deleted");
    beluga
        .feed(["delete", "-f", "-"], OBJECTS.as_bytes())
        .exits(1)
        .complains("settings");
    beluga
        .run(["get", "secrets"])
        .ok()
        .complains("No resources found");
}

#[test]
fn what_refers_to_nothing_is_refused_with_its_place() {
    let beluga = Beluga::with_busybox();
    let whole = filled("told").replace("debian", "busybox");
    let manifest = whole.replace("told-secret, key: password", "told-secret, key: pass");
    beluga
        .feed(["run", "-f", "-"], manifest.as_bytes())
        .exits(1)
        .complains("standard input:39:75: spec.containers[1].env[0].valueFrom.secretKeyRef.key")
        .complains("couldn't find key pass in Secret default/told-secret");
    let pod = whole.split("---").next().unwrap_or_default();
    beluga
        .feed(["apply", "-f", "-"], pod.as_bytes())
        .exits(1)
        .complains("configmap \"told-map\" not found")
        .complains("secret \"told-secret\" not found");
    beluga.is_clean();
}

const FILES: &str = "
apiVersion: v1
kind: Pod
metadata: {name: filled, labels: {tier: front}, annotations: {note: seen}}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {fsGroup: 2000}
  volumes:
  - {name: map, configMap: {name: filled-map}}
  - {name: secret, secret: {secretName: filled-secret, defaultMode: 0400}}
  - {name: data, emptyDir: {}}
  - {name: large, configMap: {name: filled-large, optional: true}}
  - name: all
    projected:
      sources:
      - configMap: {name: filled-map, items: [{key: key, path: deep/er/key, mode: 0444}]}
      - secret: {name: nobody, optional: true}
      - downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}
  containers:
  - name: main
    image: debian
    command: [sleep, infinity]
    env: [{name: KEY, valueFrom: {configMapKeyRef: {name: filled-map, key: key}}}]
    volumeMounts:
    - {name: map, mountPath: /map}
    - {name: secret, mountPath: /secret}
    - {name: all, mountPath: /all}
    - {name: data, mountPath: /data}
    - {name: large, mountPath: /large}
    - {name: map, mountPath: /etc/single.conf, subPath: key}
  - name: told
    image: busybox
    command: [sh, -c, 'echo \"$0\"; sleep infinity', 'hello $(DB_key) $$(DB_key)']
    resources: {limits: {memory: 64Mi, cpu: 500m}}
    envFrom:
    - {prefix: DB_, configMapRef: {name: filled-map}}
    - {secretRef: {name: nobody, optional: true}}
    env:
    - {name: PASSWORD, valueFrom: {secretKeyRef: {name: filled-secret, key: password}}}
    - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: TIER, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['tier']\"}}}
    - {name: NOTE, valueFrom: {fieldRef: {fieldPath: \"metadata.annotations['note']\"}}}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: UID_OF_POD, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}
    - {name: HOST_IP, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}
    - {name: MILLIS, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}
    - {name: MEBI, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
    - {name: ADDRESS, valueFrom: {fileKeyRef: {volumeName: data, path: told/env, key: DB_ADDRESS}}}
    - {name: GONE, valueFrom: {fileKeyRef: {volumeName: data, path: told/env, key: X, optional: true}}}
    - {name: URL, value: 'db://$(ADDRESS)/$(GONE)'}
  initContainers:
  - name: tell
    image: busybox
    command: [sh, -c, 'mkdir /data/told && echo \"DB_ADDRESS = ''a  b''\" > /data/told/env']
    volumeMounts: [{name: data, mountPath: /data}]
";

const FILLED_WITH: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: filled-map}
data: {key: first, gone: soon}
---
apiVersion: v1
kind: Secret
metadata: {name: filled-secret}
stringData: {password: 's3cret'}
";

/// A pod that nothing changes, with a large object as well.
static FILLED: Common = Common::new(2, || {
    let text = "0123456789abcdef".repeat(65_000);
    let large = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: filled-large}}\ndata: {{key: {text:?}}}\n"
    );
    shared().pod(&format!("{large}---{}", filled("filled")))
});

/// The pod of these stories, under another name for each.
fn filled(name: &str) -> String {
    format!("{FILES}---{FILLED_WITH}").replace("filled", name)
}

#[test]
fn b13_variables_come_from_objects_and_from_the_pod_itself() {
    let pod = FILLED.pod();
    assert_eq!(pod.logs("told"), "hello first $(DB_key)\n");
    let said = pod.sh(
        "told",
        "echo $DB_key $DB_gone $PASSWORD $NAME $TIER $NOTE $MILLIS $MEBI",
    );
    assert_eq!(said, "first soon s3cret filled front seen 500 64");
    assert_eq!(pod.sh("told", "echo $IP"), pod.ip());
    assert_eq!(
        pod.sh("told", "echo $UID_OF_POD"),
        pod.field("/metadata/uid")
    );
    pod.sh("told", "ping -c 1 $HOST_IP");
    // What a file had when the container started, also for commands beside it.
    assert_eq!(
        pod.sh("told", "echo \"$ADDRESS|${GONE-none}|$URL\""),
        "a  b|none|db://a  b/$(GONE)"
    );
    let described = shared().run(["describe", "pod", "filled"]).ok();
    assert!(!described.out.contains("s3cret"), "{described}");
}

#[test]
fn b28_volumes_of_files_have_the_kubelets_layout_modes_and_group() {
    let pod = FILLED.pod();
    // A megabyte arrives whole.
    assert_eq!(pod.sh("main", "wc -c < /large/key"), "1040000");
    assert_eq!(
        pod.sh("main", "tail -c 20 /large/key"),
        "cdef0123456789abcdef"
    );
    assert_eq!(
        pod.sh(
            "main",
            "cat /map/key /secret/password /all/deep/er/key /etc/single.conf"
        ),
        "firsts3cretfirstfirst"
    );
    assert_eq!(pod.sh("main", "cat /all/labels"), "tier=\"front\"");
    assert_eq!(pod.sh("main", "readlink /map/key"), "..data/key");
    pod.sh(
        "main",
        "readlink /map/..data | grep -qE '^\\.\\.20[0-9_]+\\.[0-9]+$'",
    );
    let stat = "stat -L -c '%a %g' /map/key /secret/password /all/deep/er/key /data /map";
    assert_eq!(
        pod.sh("main", stat),
        "644 2000\n440 2000\n444 2000\n2777 2000\n2777 2000"
    );
    assert_eq!(
        pod.sh("main", "touch /data/x && stat -c %g /data/x && id -G"),
        "2000\n0 2000"
    );
    pod.try_exec("main", &["touch", "/map/x"])
        .exits(1)
        .complains("Read-only file system");
}

#[test]
fn b28_a_changed_object_reaches_running_pods_whole_and_fires_inotify() {
    let pod = shared().pod(&filled("renewed"));
    let watch = "import ctypes,os; c=ctypes.CDLL(None); f=c.inotify_init1(0); c.inotify_add_watch(f,b'/map',0x80); \
                 print('ready',flush=True); d=os.read(f,256); print('saw', b'..data' in d, flush=True)";
    pod.sh(
        "main",
        &format!(
            "python3 -c \"{watch}\" >/tmp/i 2>&1 & until grep -q ready /tmp/i; do sleep 0.1; done"
        ),
    );
    let next = FILLED_WITH
        .replace("first, gone: soon", "second, fresh: here")
        .replace("s3cret", "n3w");
    shared()
        .feed(
            ["apply", "-f", "-"],
            next.replace("filled", "renewed").as_bytes(),
        )
        .ok()
        .says("configured");
    assert_eq!(
        pod.sh(
            "main",
            "cat /map/key /map/fresh /secret/password /all/deep/er/key"
        ),
        "secondheren3wsecond"
    );
    assert_eq!(
        pod.sh("main", "ls -A /map | grep -v '^\\.\\.20'"),
        "..data\nfresh\nkey"
    );
    assert_eq!(
        pod.sh("main", "cat /etc/single.conf; echo $KEY"),
        "firstfirst"
    );
    assert_eq!(
        pod.sh(
            "main",
            "until grep -q saw /tmp/i; do sleep 0.1; done; tail -1 /tmp/i"
        ),
        "saw True"
    );
    shared()
        .run(["describe", "pod", "renewed"])
        .ok()
        .says("VolumesUpdated");
    a_change_reaches_a_pod_whose_supervisor_was_killed(&pod);
    shared()
        .feed(["delete", "-f", "-"], filled("renewed").as_bytes())
        .ok();
    shared().run(["get", "secret", "renewed-secret"]).exits(1);
}

fn a_change_reaches_a_pod_whose_supervisor_was_killed(pod: &Pod) {
    crate::crashes::kill_supervisor(pod);
    let next = filled("renewed").replace("key: first", "key: third");
    let told = shared().feed(["apply", "-f", "-"], next.as_bytes()).ok();
    drop(
        told.says("configmap/renewed-map configured")
            .says("pod/renewed unchanged"),
    );
    assert_eq!(pod.sh("main", "cat /map/key"), "third");
}

const CLAIM: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: kept}
spec: {accessModes: [ReadWriteOncePod], resources: {requests: {storage: 64Mi}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: shelf}
spec:
  accessModes: [ReadWriteOncePod]
  storageClassName: beluga-directory
  resources: {requests: {storage: 1Gi}}
";

/// A pod that has the claims, a disk and a directory, each once as it is and once below
/// a directory of it.
fn claimant(name: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {{fsGroup: 2000}}
  volumes:
  - {{name: disk, persistentVolumeClaim: {{claimName: kept}}}}
  - {{name: shelf, persistentVolumeClaim: {{claimName: shelf}}}}
  containers:
  - name: main
    image: busybox
    command: [sleep, infinity]
    volumeMounts:
    - {{name: disk, mountPath: /data}}
    - {{name: disk, mountPath: /sub, subPath: one/two}}
    - {{name: shelf, mountPath: /shelf}}
    - {{name: shelf, mountPath: /part, subPath: one/two}}
"
    )
}

#[test]
fn b32_a_claim_outlives_its_pods_and_has_one_at_a_time() {
    let first = shared().pod(&format!("{CLAIM}---{}", claimant("claims-a")));
    first.sh(
        "main",
        "echo text > /data/file; echo below > /sub/file; sync",
    );
    assert_eq!(
        first.sh("main", "stat -c %g /data /data/file"),
        "2000\n2000"
    );
    shared()
        .run(["get", "pvc"])
        .ok()
        .says("kept")
        .says("64Mi")
        .says("RWOP");
    a_directory_is_kept_too(&first);
    let second = claimant("claims-b");
    let refused = shared()
        .feed(["apply", "-f", "-"], second.as_bytes())
        .exits(1);
    drop(refused.complains("claims-a"));
    for claim in ["kept", "shelf"] {
        let refused = shared().run(["delete", "pvc", claim]).exits(1);
        drop(refused.complains("claims-a"));
    }
    first
        .try_exec(
            "main",
            &["dd", "if=/dev/zero", "of=/data/fill", "bs=1M", "count=100"],
        )
        .exits(1)
        .complains("No space left");
    first.sh("main", "rm /data/fill");
    first.delete();
    let second = shared().pod(&second);
    assert_eq!(
        second.sh("main", "cat /data/file /data/one/two/file"),
        "text\nbelow"
    );
    assert_eq!(
        second.sh("main", "cat /part/file /shelf/one/two/file"),
        "below\nbelow"
    );
    second.delete();
    shared().run(["delete", "pvc", "kept"]).ok().says("deleted");
    the_directory_goes_with_its_claim();
    shared().run(["get", "pvc", "kept"]).exits(1);
}

/// Where the directory of the claim is on the host.
fn shelf() -> std::path::PathBuf {
    let below = "objects/default/persistentvolumeclaim/shelf.dir";
    shared().root().join(below)
}

/// A claim that is a directory has its class, and a group; that of a pod's files stays.
fn a_directory_is_kept_too(pod: &Pod) {
    pod.sh("main", "echo below > /part/file");
    let file = shelf().join("one/two/file");
    let found = std::fs::read_to_string(file).expect("it is on the host");
    assert_eq!(found, "below\n");
    assert_eq!(pod.sh("main", "stat -c '%g %a' /shelf"), "2000 2777");
    let told = shared().run(["get", "pvc", "shelf"]).ok();
    drop(told.says("1Gi").says("RWOP").says("beluga-directory"));
    let told = shared().run(["describe", "pvc", "shelf"]).ok();
    drop(told.says("claims-a").says(&shelf().display().to_string()));
}

fn the_directory_goes_with_its_claim() {
    let deleted = shared().run(["delete", "pvc", "shelf"]).ok();
    drop(deleted.says("deleted"));
    assert!(!shelf().exists());
}
