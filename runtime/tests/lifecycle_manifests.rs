//! What manifests may say of a container's life, and what of it is wrong.

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
