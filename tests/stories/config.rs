//! ConfigMaps and Secrets: kept, told in variables, refused where they are missing.

use beluga_tests::{Beluga, shared};

const ENVIRONMENT: &str = "
apiVersion: v1
kind: Pod
metadata: {name: told, labels: {tier: front}, annotations: {note: seen}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    command: [sh, -c, 'echo \"$0\"; sleep infinity', 'hello $(DB_HOST) $$(DB_HOST)']
    resources: {limits: {memory: 64Mi, cpu: 500m}}
    envFrom:
    - {prefix: DB_, configMapRef: {name: told-settings}}
    - {secretRef: {name: nobody, optional: true}}
    env:
    - {name: PASSWORD, valueFrom: {secretKeyRef: {name: told-login, key: password}}}
    - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: TIER, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['tier']\"}}}
    - {name: NOTE, valueFrom: {fieldRef: {fieldPath: \"metadata.annotations['note']\"}}}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: UID_OF_POD, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}
    - {name: HOST_IP, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}
    - {name: MILLIS, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}
    - {name: MEBI, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: told-settings}
data: {HOST: db.example, PORT: '5432'}
---
apiVersion: v1
kind: Secret
metadata: {name: told-login}
stringData: {password: 's3cret'}
";

#[test]
fn b13_variables_come_from_objects_and_from_the_pod_itself() {
    let pod = shared().pod(ENVIRONMENT);
    assert_eq!(pod.logs("main"), "hello db.example $(DB_HOST)\n");
    let said = pod.sh(
        "main",
        "echo $DB_HOST $DB_PORT $PASSWORD $NAME $TIER $NOTE $MILLIS $MEBI",
    );
    assert_eq!(said, "db.example 5432 s3cret told front seen 500 64");
    assert_eq!(pod.sh("main", "echo $IP"), pod.ip());
    assert_eq!(
        pod.sh("main", "echo $UID_OF_POD"),
        pod.field("/metadata/uid")
    );
    pod.sh("main", "ping -c 1 $HOST_IP");
    let described = shared().run(["describe", "pod", "told"]).ok();
    assert!(!described.out.contains("s3cret"), "{described}");
    shared()
        .feed(["delete", "-f", "-"], ENVIRONMENT.as_bytes())
        .ok();
    shared().run(["get", "secret", "told-login"]).exits(1);
}

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
    let manifest = ENVIRONMENT.replace("told-login, key: password", "told-login, key: pass");
    beluga
        .feed(["run", "-f", "-"], manifest.as_bytes())
        .exits(1)
        .complains("standard input:16:74: spec.containers[0].env[0].valueFrom.secretKeyRef.key")
        .complains("couldn't find key pass in Secret default/told-login");
    let pod = ENVIRONMENT.split("---").next().unwrap_or_default();
    beluga
        .feed(["apply", "-f", "-"], pod.as_bytes())
        .exits(1)
        .complains("configmap \"told-settings\" not found")
        .complains("secret \"told-login\" not found");
    beluga.is_clean();
}
