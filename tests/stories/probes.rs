//! The life of containers as the kubelet has it: probes, hooks, last messages,
//! deadlines, stop signals, restarts by rule.

use crate::lifecycle::one;
use beluga_tests::{eventually, shared};

/// A pod like [`one`] with more lines in its container.
fn with(name: &str, restart: &str, line: &str, more: &str) -> String {
    let more: String = more.lines().map(|line| format!("    {line}\n")).collect();
    one(name, restart, line) + &more
}

#[test]
fn b08_the_last_message_of_a_run_is_in_its_status() {
    let line = "echo out of memory > /dev/termination-log; exit 3";
    let pod = shared().pod(&one("b08-message", "Never", line));
    let end = pod.container("main")["state"]["terminated"].clone();
    assert_eq!(end["message"], "out of memory\n");
    let said = shared().run(["describe", "pod", "b08-message"]).ok();
    said.says("Message:").says("out of memory");
}

#[test]
fn b08_without_a_message_the_end_of_the_output_is_one() {
    let pod = shared().pod(&with(
        "b08-fallback",
        "Never",
        "for i in $(seq 100); do echo line $i; done; exit 1",
        "terminationMessagePath: /run/last\nterminationMessagePolicy: FallbackToLogsOnError\nsecurityContext: {readOnlyRootFilesystem: true, runAsUser: 1000}",
    ));
    let end = pod.container("main")["state"]["terminated"].clone();
    let message = end["message"].as_str().unwrap_or_default();
    assert!(
        message.starts_with("line 21\n") && message.ends_with("line 100\n"),
        "{message}"
    );
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

#[test]
fn b08_the_manifest_names_the_stop_signal() {
    let manifest = with(
        "b08-signal",
        "Never",
        "trap 'echo usr1; exit 7' USR1; echo set; while :; do sleep 0.2; done",
        "lifecycle: {stopSignal: SIGUSR1}",
    );
    let pod = shared().pod(&manifest.replace("spec:\n", "spec:\n  os: {name: linux}\n"));
    eventually("the trap is set", || {
        (pod.logs("main") == "set\n").then_some(())
    });
    let mut follow = shared().command(["logs", "-f", "b08-signal"]);
    let follow = follow.stdout(std::process::Stdio::piped()).spawn();
    pod.delete();
    let said = follow.expect("beluga").wait_with_output().expect("ended");
    assert_eq!(String::from_utf8_lossy(&said.stdout), "set\nusr1\n");
}

#[test]
fn b06_one_container_has_a_policy_of_its_own() {
    let pod = shared().pod(&with(
        "b06-own",
        "Never",
        "echo x >> /dev/shm/runs; test $(wc -l < /dev/shm/runs) -lt 3 && exit 42; exit 1",
        "restartPolicy: Never\nrestartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [42]}}]",
    ));
    pod.eventually("failed", |status| status["phase"] == "Failed");
    let main = pod.container("main");
    assert_eq!(main["restartCount"], 2);
    assert_eq!(main["state"]["terminated"]["exitCode"], 1);
}

/// A probe's line in a manifest: every second, with patience for a slow host.
fn probe(field: &str, what: &str, more: &str) -> String {
    format!("{field}: {{{what}, periodSeconds: 1, timeoutSeconds: 20{more}}}\n")
}

#[test]
fn b08_a_failed_liveness_probe_restarts_the_container() {
    let check = "exec: {command: [cat, /tmp/healthy]}";
    let pod = shared().pod(&with(
        "b08-liveness",
        "Always",
        "touch /tmp/healthy; test -e /dev/shm/second && exec sleep 600; sleep 3; touch /dev/shm/second; rm /tmp/healthy; sleep 600",
        &probe("livenessProbe", check, ", failureThreshold: 2"),
    ));
    pod.eventually("restarted", |status| {
        status.to_string().contains("\"restartCount\":1")
    });
    let said = shared().run(["describe", "pod", "b08-liveness"]).ok();
    said.says("Liveness:      exec [cat /tmp/healthy] delay=0s timeout=20s period=1s #success=1 #failure=2")
        .says("Liveness probe failed: cat: can't open '/tmp/healthy': No such file or directory")
        .says("Container main failed liveness probe, will be restarted");
}

#[test]
fn b10_readiness_is_what_the_probe_says() {
    let check = probe(
        "readinessProbe",
        "exec: {command: [test, -e, /tmp/ready]}",
        ", failureThreshold: 1",
    );
    let manifest = with(
        "b10-readiness",
        "Always",
        "touch /tmp/ready; sleep 600",
        &check,
    );
    let pod = shared().pod(&manifest);
    shared()
        .run(["get", "pod", "b10-readiness"])
        .ok()
        .says("1/1");
    pod.sh("main", "rm /tmp/ready");
    pod.eventually("not ready", |status| {
        status["containerStatuses"][0]["ready"] == false
    });
    shared()
        .run(["get", "pod", "b10-readiness"])
        .ok()
        .says("0/1");
    pod.sh("main", "touch /tmp/ready");
    pod.eventually("ready", |status| {
        status["containerStatuses"][0]["ready"] == true
    });
    assert_eq!(pod.container("main")["restartCount"], 0);
}

#[test]
fn b08_startup_holds_the_other_probes_back() {
    let startup = probe(
        "startupProbe",
        "exec: {command: [test, -e, /tmp/up]}",
        ", failureThreshold: 90",
    );
    // Without the startup probe, this one would end the container at once.
    let alive = probe(
        "livenessProbe",
        "exec: {command: [test, -e, /tmp/up]}",
        ", failureThreshold: 1",
    );
    let line = "sleep 4; touch /tmp/up; sleep 600";
    let pod = shared().pod(&with("b08-startup", "Never", line, &(startup + &alive)));
    let main = pod.container("main");
    assert_eq!(
        (&main["started"], &main["restartCount"]),
        (&true.into(), &0.into())
    );
    let said = shared()
        .run(["describe", "pod", "b08-startup"])
        .ok()
        .says("Startup probe failed:");
    assert!(!said.out.contains("Liveness probe failed"), "{said}");
}

#[test]
fn b08_http_and_tcp_probes_reach_servers_of_the_pod() {
    let timing = "periodSeconds: 1, timeoutSeconds: 20, failureThreshold: 1000";
    let pod = shared().pod(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: b08-http}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: nginx
    command: [sh, -c, 'mkdir -p /var/www/html; echo hello > /var/www/html/index.html; exec nginx -g \"daemon off;\"']
    ports: [{{containerPort: 80, name: http}}]
    readinessProbe: {{httpGet: {{port: http}}, {timing}}}
    livenessProbe: {{httpGet: {{path: /nope, port: 80, host: localhost}}, {timing}}}
  - name: db
    image: redis
    readinessProbe: {{tcpSocket: {{port: 6379}}, {timing}}}
    livenessProbe: {{tcpSocket: {{port: 6380}}, {timing}}}
"
    ));
    let refused = format!("dial tcp {}:6380: connect: connection refused", pod.ip());
    eventually("both liveness probes were tried", || {
        let said = shared().run(["describe", "pod", "b08-http"]).out;
        let both =
            said.contains("HTTP probe failed with statuscode: 404") && said.contains(&refused);
        both.then_some(())
    });
}

#[test]
fn b08_a_probe_that_times_out_is_killed_with_its_children() {
    // A child in a session of its own, where a signal to a process group fails.
    let line = "touch /dev/shm/ran; setsid sleep 4321 & sleep 4321";
    let timing = "periodSeconds: 600, timeoutSeconds: 2, failureThreshold: 9";
    let check = format!("livenessProbe: {{exec: {{command: [sh, -c, '{line}']}}, {timing}}}");
    let pod = shared().pod(&with("b08-timeout", "Always", "sleep 600", &check));
    eventually("it timed out", || {
        let said = shared().run(["describe", "pod", "b08-timeout"]).out;
        said.contains("sleep 4321\" timed out").then_some(())
    });
    pod.sh("main", "test -e /dev/shm/ran");
    let left = "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep 432[1]'";
    assert_eq!(pod.try_exec("main", &["sh", "-c", left]).text(), "0");
}

#[test]
fn b08_the_hook_before_the_stop_signal_runs_and_is_waited_for() {
    let hook = "lifecycle: {preStop: {exec: {command: [sh, -c, 'echo stopping > /proc/1/fd/1; sleep 1; echo stopped > /proc/1/fd/1']}}}";
    let line = "trap 'echo got-term; exit 0' TERM; echo up; while :; do sleep 0.2; done";
    let manifest = with("b08-pre-stop", "Never", line, hook).replace("Seconds: 2", "Seconds: 60");
    let pod = shared().pod(&manifest);
    eventually("it is up", || (pod.logs("main") == "up\n").then_some(()));
    let mut follow = shared().command(["logs", "-f", "b08-pre-stop"]);
    let follow = follow.stdout(std::process::Stdio::piped()).spawn();
    pod.delete();
    let said = follow.expect("beluga").wait_with_output().expect("ended");
    assert_eq!(
        String::from_utf8_lossy(&said.stdout),
        "up\nstopping\nstopped\ngot-term\n"
    );
}

#[test]
fn b08_a_failed_start_hook_ends_the_container() {
    let hook = "lifecycle: {postStart: {exec: {command: [sh, -c, 'exit 3']}}}";
    let line = "trap 'exit 9' TERM; while :; do sleep 0.2; done";
    let pod = shared().pod(&with("b08-post-start", "Never", line, hook));
    assert_eq!(pod.field("/status/phase"), "Failed");
    let said = shared().run(["describe", "pod", "b08-post-start"]).ok();
    said.says("FailedPostStartHook")
        .says("PostStartHook failed");
}

#[test]
fn b08_grpc_probes_speak_the_health_protocol() {
    let pod = shared().pod(include_str!("../pods/grpc.yaml"));
    let unhealthy = "Liveness probe failed: service unhealthy (responded with \"NOT_SERVING\")";
    eventually("the liveness probe was answered", || {
        let said = shared().run(["describe", "pod", pod.name()]).out;
        said.contains(unhealthy).then_some(())
    });
    shared()
        .run(["describe", "pod", pod.name()])
        .ok()
        .says("grpc <pod>:9000 ready delay=0s timeout=20s period=1s #success=1 #failure=1000");
}
