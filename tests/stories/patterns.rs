//! Patterns that run unchanged.

use beluga_tests::{run, shared};
use std::process::Command;
use std::time::Duration;

#[test]
fn b36_a_sidecar_refreshes_what_nginx_serves() {
    let pod = shared().pod(
        "
apiVersion: v1
kind: Pod
metadata: {name: b36}
spec:
  terminationGracePeriodSeconds: 2
  volumes: [{name: html, emptyDir: {}}]
  containers:
  - {name: web, image: nginx, volumeMounts: [{name: html, mountPath: /var/www/html, readOnly: true}]}
  - name: refresher
    image: busybox
    command: [sh, -c, 'while :; do echo refreshed > /html/.n; mv /html/.n /html/index.html; sleep 1; done']
    volumeMounts: [{name: html, mountPath: /html}]
",
    );
    let url = format!("http://{}/", pod.ip());
    let fetch = [
        "-sS",
        "--retry",
        "10",
        "--retry-all-errors",
        "--retry-delay",
        "1",
        "-f",
        &url,
    ];
    run(Command::new("curl").args(fetch), Duration::from_secs(60))
        .ok()
        .says("refreshed");
    assert!(
        pod.logs("web").contains("GET / HTTP"),
        "the access log goes to /dev/stdout"
    );
}
