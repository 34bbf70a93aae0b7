//! What manifests may say of a container's life, and what of it is wrong.

use beluga_proto::probe::Handler;
use beluga_runtime::spec::{self, RestartPolicy, TerminationMessage};

fn told(text: &str) -> Vec<String> {
    match spec::parse("pod.yaml", text) {
        Ok(_) => vec!["(accepted)".to_owned()],
        Err(error) => error.issues.iter().map(ToString::to_string).collect(),
    }
}

fn pod(spec: &str) -> spec::PodSpec {
    let text = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec:\n{spec}");
    let mut documents = spec::parse("pod.yaml", &text).unwrap_or_else(|error| panic!("{error}"));
    documents.remove(0).spec
}

fn refused(spec: &str) -> Vec<String> {
    told(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec:\n{spec}"
    ))
}

#[test]
fn ends_are_read() {
    let spec = pod(
        "  activeDeadlineSeconds: 5\n  os: {name: linux}\n  containers:\n  - name: a\n    image: b\n    restartPolicy: Never\n    restartPolicyRules: [{action: Restart, exitCodes: {operator: NotIn, values: [1, 2]}}]\n    lifecycle: {stopSignal: SIGUSR1}\n    terminationMessagePath: /tmp/last\n    terminationMessagePolicy: FallbackToLogsOnError\n  - {name: b, image: b}\n",
    );
    assert_eq!(spec.active_deadline_seconds, Some(5));
    let [a, b] = &spec.containers[..] else {
        panic!("two containers");
    };
    assert_eq!(a.restart_policy, Some(RestartPolicy::Never));
    assert!(a.restart_rules[0].matches(3) && !a.restart_rules[0].matches(1));
    assert_eq!(a.stop_signal.as_deref(), Some("SIGUSR1"));
    let message = TerminationMessage {
        path: "/tmp/last".into(),
        or_output: true,
    };
    assert_eq!(a.termination_message, message);
    assert_eq!(b.termination_message.path, "/dev/termination-log");
    assert_eq!((b.restart_policy, b.sidecar), (None, false));
}

#[test]
fn wrong_ends_are_told_with_their_places() {
    assert_eq!(
        refused(
            "  activeDeadlineSeconds: 0\n  containers:\n  - name: a\n    image: b\n    restartPolicy: always\n    terminationMessagePath: log\n    terminationMessagePolicy: Fallback\n    restartPolicyRules:\n    - {action: RestartAllContainers, exitCodes: {operator: in, values: [300]}}\n    - {action: Restart}\n  - name: b\n    image: b\n    lifecycle: {stopSignal: SIGNO}\n    restartPolicyRules: [{action: Restart, exitCodes: {operator: In}}]\n  - name: c\n    image: b\n    lifecycle: {stopSignal: SIGUSR1}\n"
        ),
        [
            "5:26: spec.activeDeadlineSeconds: 0 is not a number of seconds from 1 to 2147483647",
            "9:20: spec.containers[0].restartPolicy: \"always\" is not one of Always, OnFailure, Never (did you mean Always?)",
            "10:29: spec.containers[0].terminationMessagePath: \"log\" is not an absolute path of a file",
            "11:31: spec.containers[0].terminationMessagePolicy: \"Fallback\" is not one of File, FallbackToLogsOnError",
            "13:16: spec.containers[0].restartPolicyRules[0].action: \"RestartAllContainers\" is not one of Restart",
            "13:60: spec.containers[0].restartPolicyRules[0].exitCodes.operator: \"in\" is not one of In, NotIn (did you mean In?)",
            "13:73: spec.containers[0].restartPolicyRules[0].exitCodes.values[0]: 300 is not an exit code from 0 to 255",
            "14:7: spec.containers[0].restartPolicyRules[1].exitCodes: required: after which exit codes",
            "17:29: spec.containers[1].lifecycle.stopSignal: \"SIGNO\" is not a signal, like SIGTERM",
            "18:5: spec.containers[1].restartPolicyRules: must stand beside a restartPolicy of the container",
            "18:44: spec.containers[1].restartPolicyRules[0].exitCodes.values: required: at least one exit code",
            "21:29: spec.containers[2].lifecycle.stopSignal: needs spec.os.name (write os: {name: linux} in spec)",
        ]
    );
}

#[test]
fn probes_and_hooks_are_read_with_kubernetes_defaults() {
    let spec = pod(
        "  containers:\n  - name: a\n    image: b\n    ports: [{name: web, containerPort: 8080}]\n    startupProbe: {tcpSocket: {port: 1}, terminationGracePeriodSeconds: 7}\n    readinessProbe: {httpGet: {port: web, path: a b, host: 10.0.0.1, scheme: HTTP, httpHeaders: [{name: X, value: y}]}, successThreshold: 2}\n    livenessProbe: {grpc: {port: 9}, timeoutSeconds: 0, periodSeconds: 5, failureThreshold: 9, initialDelaySeconds: 3}\n    lifecycle: {postStart: {httpGet: {port: web}}, preStop: {sleep: {seconds: 30}}}\n  - name: b\n    image: b\n    lifecycle: {postStart: {sleep: {seconds: 2}}, preStop: {httpGet: {port: 81, host: localhost, path: bye, scheme: HTTPS, httpHeaders: [{name: X, value: z}]}}}\n",
    );
    let probes = &spec.containers[0].probes;
    let startup = probes.startup.as_ref().unwrap();
    assert_eq!(
        (startup.grace_seconds, startup.failure_threshold),
        (Some(7), 3)
    );
    let readiness = probes.readiness.as_ref().unwrap();
    assert_eq!(readiness.success_threshold, 2);
    assert_eq!(readiness.target, "http-get http://10.0.0.1:web/a b");
    let get = Handler::Http {
        host: Some([10, 0, 0, 1].into()),
        port: 8080,
        path: "/a%20b".into(),
        headers: vec![("X".into(), "y".into())],
        tls: false,
    };
    assert_eq!(readiness.handler, get);
    let liveness = probes.liveness.as_ref().unwrap();
    let times = (
        liveness.initial_delay_seconds,
        liveness.period_seconds,
        liveness.timeout_seconds,
        liveness.failure_threshold,
    );
    assert_eq!(times, (3, 5, 1, 9));
    assert_eq!(liveness.target, "grpc <pod>:9 ");
    let hooks = &spec.containers[0].hooks;
    assert_eq!(hooks.pre_stop, Some(Handler::Sleep { seconds: 30 }));
    assert!(matches!(
        hooks.post_start,
        Some(Handler::Http { port: 8080, .. })
    ));
    let hooks = &spec.containers[1].hooks;
    assert_eq!(hooks.post_start, Some(Handler::Sleep { seconds: 2 }));
    let get = Handler::Http {
        host: Some([127, 0, 0, 1].into()),
        port: 81,
        path: "/bye".into(),
        headers: vec![("X".into(), "z".into())],
        tls: true,
    };
    assert_eq!(hooks.pre_stop, Some(get));
}

#[test]
fn wrong_probes_and_hooks_are_told_with_their_places() {
    let told = refused(
        "  initContainers:\n  - {name: i, image: b, livenessProbe: {exec: {command: [a]}}}\n  containers:\n  - name: a\n    image: b\n    livenessProbe: {exec: {command: []}, successThreshold: 2}\n    readinessProbe: {terminationGracePeriodSeconds: 1, periodSeconds: -1}\n    startupProbe: {exec: {command: [a]}, tcpSocket: {port: 1}, terminationGracePeriodSeconds: 0}\n    lifecycle:\n      postStart: {tcpSocket: {port: 80}}\n      preStop: {sleep: {seconds: 31}}\n  - name: b\n    image: b\n    livenessProbe: {httpGet: {port: web, scheme: HTTPS, host: example.org, httpHeaders: [{name: \"a b\", value: \"x\\ny\"}]}}\n    readinessProbe: {tcpSocket: {port: 70000}}\n    startupProbe: {grpc: {port: 0}}\n",
    );
    assert_eq!(
        told,
        [
            "6:25: spec.initContainers[0].livenessProbe: may not be set for init containers without restartPolicy=Always",
            "10:28: spec.containers[0].livenessProbe.exec.command: required: the program to run",
            "10:60: spec.containers[0].livenessProbe.successThreshold: must be 1 for this probe",
            "11:5: spec.containers[0].readinessProbe: required: one of exec, httpGet, tcpSocket, grpc",
            "11:53: spec.containers[0].readinessProbe.terminationGracePeriodSeconds: must not be set for readinessProbes",
            "11:71: spec.containers[0].readinessProbe.periodSeconds: -1 is not a number from 0 to 2147483647",
            "12:5: spec.containers[0].startupProbe: only one of exec, httpGet, tcpSocket, grpc may be set",
            "12:95: spec.containers[0].startupProbe.terminationGracePeriodSeconds: must be greater than 0",
            "14:19: spec.containers[0].lifecycle.postStart.tcpSocket: refused: no Kubernetes has ever run such a hook",
            "15:34: spec.containers[0].lifecycle.preStop.sleep.seconds: 31 is not from 0 to the terminationGracePeriodSeconds (30)",
            "18:37: spec.containers[1].livenessProbe.httpGet.port: \"web\" is not the name of a port of the container",
            "18:63: spec.containers[1].livenessProbe.httpGet.host: \"example.org\" is not an IP address or localhost",
            "18:97: spec.containers[1].livenessProbe.httpGet.httpHeaders[0].name: \"a b\" is no name of an HTTP header",
            "18:111: spec.containers[1].livenessProbe.httpGet.httpHeaders[0].value: contains a control character",
            "19:40: spec.containers[1].readinessProbe.tcpSocket.port: 70000 is not a port from 1 to 65535",
            "20:33: spec.containers[1].startupProbe.grpc.port: 0 is not a port from 1 to 65535",
        ]
    );
}
