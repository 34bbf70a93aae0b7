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
fn b13_objects_are_created_configured_or_unchanged() {
    let beluga = Beluga::fresh();
    let apply = |text: &str| beluga.apply(text).ok();
    apply(OBJECTS).prints("configmap/settings created\nsecret/login created\n");
    apply(OBJECTS).prints("configmap/settings unchanged\nsecret/login unchanged\n");
    let changed = OBJECTS.replace("more", "else");
    apply(&changed).prints("configmap/settings configured\nsecret/login unchanged\n");
    let shown = beluga.types("get secret login -o yaml").ok();
    let shown = shown.tells(&["user: cm9vdA==", "password: dGV4dA=="]);
    apply(&shown.out).prints("secret/login unchanged\n");
}

#[test]
fn b13_objects_are_applied_shown_and_deleted_like_kubectl_does() {
    let beluga = Beluga::fresh();
    beluga.apply(OBJECTS).ok();
    let table = beluga.types("get cm").ok();
    table.tells(&["NAME", "settings"]);
    let deleted = beluga.types("delete configmap settings").ok();
    deleted.says("deleted");
    let rest = beluga.feed(["delete", "-f", "-"], OBJECTS.as_bytes());
    rest.fails(1, "settings");
    let empty = beluga.types("get secrets").ok();
    empty.complains("No resources found");
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
    let alone = beluga.apply(pod).exits(1);
    alone
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

/// A pod with a large object as well. Some stories change what the others look at, and
/// put it back.
static FILLED: Common = Common::new(7, || {
    let text = "0123456789abcdef".repeat(65_000);
    let large = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: filled-large}}\ndata: {{key: {text:?}}}\n"
    );
    shared().pod(&format!("{large}---{}", filled("filled")))
});

/// The pod of these stories with its objects, under this name.
fn filled(name: &str) -> String {
    format!("{FILES}---{FILLED_WITH}").replace("filled", name)
}

#[test]
fn b13_variables_come_from_objects_and_from_the_pod_itself() {
    let pod = FILLED.alone();
    assert_eq!(pod.logs("told"), "hello first $(DB_key)\n");
    let told = "echo $DB_key $DB_gone $PASSWORD $NAME $TIER $NOTE $MILLIS $MEBI";
    let said = pod.sh("told", told);
    assert_eq!(said, "first soon s3cret filled front seen 500 64");
    let told = format!("{} {}", pod.ip(), pod.field("/metadata/uid"));
    assert_eq!(pod.sh("told", "echo $IP $UID_OF_POD"), told);
    pod.sh("told", "ping -c 1 $HOST_IP");
}

#[test]
fn b13_variables_come_from_files_and_secrets_are_not_described() {
    let pod = FILLED.alone();
    // What a file had when the container started, also for commands beside it.
    let said = pod.sh("told", "echo \"$ADDRESS|${GONE-none}|$URL\"");
    assert_eq!(said, "a  b|none|db://a  b/$(GONE)");
    let described = pod.described();
    assert!(!described.out.contains("s3cret"), "{described}");
}

#[test]
fn b28_volumes_of_files_have_the_kubelets_layout() {
    let pod = FILLED.alone();
    // A megabyte arrives whole.
    let large = pod.sh("main", "wc -c < /large/key; tail -c 20 /large/key");
    assert_eq!(large, "1040000\ncdef0123456789abcdef");
    let all = "cat /map/key /secret/password /all/deep/er/key /etc/single.conf";
    assert_eq!(pod.sh("main", all), "firsts3cretfirstfirst");
    assert_eq!(pod.sh("main", "cat /all/labels"), "tier=\"front\"");
    assert_eq!(pod.sh("main", "readlink /map/key"), "..data/key");
    let time = "readlink /map/..data | grep -qE '^\\.\\.20[0-9_]+\\.[0-9]+$'";
    pod.sh("main", time);
}

#[test]
fn b28_volumes_of_files_have_the_kubelets_layout_modes_and_group() {
    let pod = FILLED.alone();
    let stat = "stat -L -c '%a %g' /map/key /secret/password /all/deep/er/key /data /map";
    let modes = "644 2000\n440 2000\n444 2000\n2777 2000\n2777 2000";
    assert_eq!(pod.sh("main", stat), modes);
    let made = "touch /data/x && stat -c %g /data/x && id -G";
    assert_eq!(pod.sh("main", made), "2000\n0 2000");
    let refused = pod.exec("main", "touch /map/x");
    refused.fails(1, "Read-only file system");
}

/// Says whether the first change of a directory of files was one of their link.
const WATCH: &str = "import ctypes,os; c=ctypes.CDLL(None); f=c.inotify_init1(0); c.inotify_add_watch(f,b'/map',0x80); \
                     print('ready',flush=True); d=os.read(f,256); print('saw', b'..data' in d, flush=True)";

/// Makes the objects of the filled pod what they were, when it is dropped.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        shared().apply(FILLED_WITH);
    }
}

/// Changes the objects of the filled pod for as long as the value lives.
fn changed() -> Restored {
    let next = FILLED_WITH.replace("first, gone: soon", "second, fresh: here");
    let applied = shared().apply(&next.replace("s3cret", "n3w")).ok();
    applied.says("configured");
    Restored
}

#[test]
fn b28_a_changed_object_reaches_running_pods_whole() {
    let pod = FILLED.alone();
    let _restored = changed();
    let all = "cat /map/key /map/fresh /secret/password /all/deep/er/key";
    assert_eq!(pod.sh("main", all), "secondheren3wsecond");
    let names = pod.sh("main", "ls -A /map | grep -v '^\\.\\.20'");
    assert_eq!(names, "..data\nfresh\nkey");
    // But not what was told at the start.
    let first = pod.sh("main", "cat /etc/single.conf; echo $KEY");
    assert_eq!(first, "firstfirst");
    pod.described().says("VolumesUpdated");
}

#[test]
fn b28_a_changed_object_fires_inotify() {
    let pod = FILLED.alone();
    let begin = format!(
        "python3 -c \"{WATCH}\" >/tmp/i 2>&1 & until grep -q ready /tmp/i; do sleep 0.1; done"
    );
    pod.sh("main", &begin);
    let _restored = changed();
    let saw = "until grep -q saw /tmp/i; do sleep 0.1; done; tail -1 /tmp/i";
    assert_eq!(pod.sh("main", saw), "saw True");
}

#[test]
fn b28_a_changed_object_reaches_a_pod_whose_supervisor_was_killed() {
    let pod = FILLED.alone();
    crate::crashes::kill_supervisor(&pod);
    let _restored = Restored;
    let next = filled("filled").replace("key: first", "key: third");
    let told = shared().apply(&next).ok();
    told.tells(&["configmap/filled-map configured", "pod/filled unchanged"]);
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
    a_disk_has_a_group_and_a_size(&first);
    a_directory_has_a_class_and_a_group(&first);
    nobody_else_has_them_nor_takes_them_away();
    first.delete();
    let second = shared().pod(&claimant("claims-b"));
    let disk = second.sh("main", "cat /data/file /data/one/two/file");
    assert_eq!(disk, "text\nbelow");
    let shelf = second.sh("main", "cat /part/file /shelf/one/two/file");
    assert_eq!(shelf, "below\nbelow");
    second.delete();
    they_go_when_they_are_deleted();
}

fn a_disk_has_a_group_and_a_size(pod: &Pod) {
    let fill = "echo text > /data/file; echo below > /sub/file; sync";
    pod.sh("main", fill);
    let groups = pod.sh("main", "stat -c %g /data /data/file");
    assert_eq!(groups, "2000\n2000");
    let told = shared().types("get pvc").ok();
    told.tells(&["kept", "64Mi", "RWOP"]);
    let more = pod.exec("main", "dd if=/dev/zero of=/data/fill bs=1M count=100");
    more.fails(1, "No space left");
    pod.sh("main", "rm /data/fill");
}

/// Where the directory of the claim is on the host.
fn shelf() -> std::path::PathBuf {
    let below = "objects/default/persistentvolumeclaim/shelf.dir";
    shared().root().join(below)
}

/// That of a pod's files stays.
fn a_directory_has_a_class_and_a_group(pod: &Pod) {
    pod.sh("main", "echo below > /part/file");
    let file = shelf().join("one/two/file");
    let found = std::fs::read_to_string(file).expect("it is on the host");
    assert_eq!(found, "below\n");
    assert_eq!(pod.sh("main", "stat -c '%g %a' /shelf"), "2000 2777");
    let told = shared().types("get pvc shelf").ok();
    told.tells(&["1Gi", "RWOP", "beluga-directory"]);
    let told = shared().types("describe pvc shelf").ok();
    told.tells(&["claims-a", &shelf().display().to_string()]);
}

fn nobody_else_has_them_nor_takes_them_away() {
    shared().apply(&claimant("claims-b")).fails(1, "claims-a");
    shared().types("delete pvc kept").fails(1, "claims-a");
    shared().types("delete pvc shelf").fails(1, "claims-a");
}

fn they_go_when_they_are_deleted() {
    shared().types("delete pvc kept").ok().says("deleted");
    shared().types("get pvc kept").exits(1);
    shared().types("delete pvc shelf").ok().says("deleted");
    assert!(!shelf().exists());
}
