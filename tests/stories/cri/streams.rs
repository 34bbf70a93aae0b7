//! Commands and ports over streams, whose addresses the server gives.

use super::SHARED;
use beluga_tests::cri::{
    self, AttachRequest, Cri, ExecRequest, Heard, PortForwardRequest, busybox,
};
use beluga_tests::{SOON, eventually, run};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// The address of a shell line's streams, or of its terminal.
fn command(cri: &Cri, container: &str, line: &str, tty: bool) -> String {
    let request = ExecRequest {
        container_id: container.to_owned(),
        cmd: ["sh", "-c", line].map(str::to_owned).to_vec(),
        stdin: true,
        stdout: true,
        stderr: !tty,
        tty,
    };
    let answer = cri.call(async { cri.runtime().exec(request).await });
    answer.expect("an address").url
}

/// The address of a sandbox's ports.
fn ports(cri: &Cri, sandbox: &str, ports: &[i32]) -> String {
    let request = PortForwardRequest {
        pod_sandbox_id: sandbox.to_owned(),
        port: ports.to_vec(),
    };
    let answer = cri.call(async { cri.runtime().port_forward(request).await });
    answer.expect("an address").url
}

/// What the error channel says: the code that a command ended with.
fn code(heard: &[u8]) -> String {
    let status: Value = serde_json::from_slice(heard).expect("a status");
    let code = &status["details"]["causes"][0]["message"];
    code.as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_command_is_reached_over_streams() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let id = cri.container(sandbox, busybox("streams", "sleep 1000"));
    let url = command(cri, &id, "cat; echo err >&2; exit 3", false);
    let said = [b"\0typed\n".to_vec(), vec![255, 0]];
    let heard = cri.converse(&url, "v5.channel.k8s.io", &said, |_| false);
    assert_eq!(heard[&1], b"typed\n");
    assert_eq!(heard[&2], b"err\n");
    assert_eq!(code(&heard[&3]), "3");
    assert!(get(&url).starts_with("HTTP/1.1 404"), "it is good once");
    cri.remove(&id);
}

#[test]
fn a_dashboard_reaches_a_command_in_base64() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let id = cri.container(sandbox, busybox("dashboard", "sleep 1000"));
    let url = command(cri, &id, "echo out; exit 3", false);
    let heard = cri.converse(&url, "base64.channel.k8s.io", &[], |_| false);
    assert_eq!(heard[&b'1'], b"b3V0Cg==");
    // Before the fourth protocol an end is told in words.
    assert!(heard[&b'3'].starts_with(b"Y29tbWFuZCB0ZXJtaW5hdGVk"));
    cri.remove(&id);
}

/// What comes of an address that is asked for plainly.
fn get(url: &str) -> String {
    let host = url[7..].split('/').next().expect("a host");
    let path = url.rsplit('/').next().expect("a path");
    let mut stream = TcpStream::connect(host).expect("connected");
    write!(stream, "GET /{path} HTTP/1.1\r\n\r\n").expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn a_port_is_reached_over_streams() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let serves = "echo served | nc -l -p 7100; sleep 1000";
    let id = cri.container(sandbox, busybox("serves", serves));
    listens(cri, &id, 7100);
    let url = ports(cri, sandbox, &[7100]);
    let served = [&7100u16.to_le_bytes()[..], b"served\n"].concat();
    let enough = |heard: &Heard| {
        heard
            .get(&0)
            .is_some_and(|bytes| bytes.len() >= served.len())
    };
    let heard = cri.converse(&url, "v4.channel.k8s.io", &[], enough);
    assert_eq!(heard[&0], served);
    cri.remove(&id);
}

/// Waits until somebody listens at a port of the sandbox.
fn listens(cri: &Cri, id: &str, port: u16) {
    let look = format!("netstat -ltn | grep -c :{port} || true");
    eventually("it listens", || (cri.sh(id, &look) != "0").then_some(()));
}

#[test]
fn a_terminal_has_the_size_that_its_client_tells() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let id = cri.container(sandbox, busybox("terminal", "sleep 1000"));
    let url = command(cri, &id, "read go; tty; stty size; exit 5", true);
    let said = [
        b"\x04{\"Width\":100,\"Height\":30}".to_vec(),
        b"\0go\n".to_vec(),
    ];
    let heard = cri.converse(&url, "v5.channel.k8s.io", &said, |_| false);
    let shown = cri::text(&heard[&1]);
    assert!(shown.contains("/dev/pts/"), "{shown}");
    assert!(shown.ends_with("30 100"), "{shown}");
    assert_eq!(code(&heard[&3]), "5");
    cri.remove(&id);
}

/// The address of a container's own streams.
fn attach(cri: &Cri, container: &str) -> String {
    let request = AttachRequest {
        container_id: container.to_owned(),
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    };
    let answer = cri.call(async { cri.runtime().attach(request).await });
    answer.expect("an address").url
}

#[test]
fn whoever_attaches_types_into_the_program_and_reads_what_it_says() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let mut shell = busybox("attach", "");
    shell.command = vec!["/bin/sh".to_owned()];
    (shell.stdin, shell.stdin_once) = (true, true);
    let id = cri.container(sandbox, shell);
    let said = [b"\0echo -n hello\n".to_vec(), vec![255, 0]];
    let url = attach(cri, &id);
    let heard = cri.converse(&url, "v5.channel.k8s.io", &said, |_| false);
    assert_eq!(cri::text(&heard[&1]), "hello");
    assert_eq!(heard.get(&2), None);
    // Its input has ended with its first client.
    assert_eq!(cri.ended(&id).exit_code, 0);
    cri.remove(&id);
}

/// What a client of SPDY, made apart from ours, hears at an address.
fn spdy(url: &str, protocol: &str, said: &str, streams: &[&str]) -> Value {
    let mut python = std::process::Command::new("python3");
    python
        .args(["-c", include_str!("spdy.py"), url, protocol, said])
        .args(streams);
    let heard = run(&mut python, SOON).ok();
    serde_json::from_str(heard.text()).expect("JSON")
}

#[test]
fn a_command_is_reached_over_spdy() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let id = cri.container(sandbox, busybox("spdy", "sleep 1000"));
    let url = command(cri, &id, "cat; echo err >&2; exit 4", false);
    let streams = ["error", "stdin", "stdout", "stderr"];
    let heard = spdy(&url, "v4.channel.k8s.io", "typed", &streams);
    assert_eq!(heard["stdout"], "typed");
    assert_eq!(heard["stderr"], "err\n");
    let end = heard["error"].as_str().expect("an end");
    assert!(end.contains("\"message\":\"4\""), "{heard}");
    cri.remove(&id);
}

#[test]
fn a_port_where_nobody_listens_is_told_over_spdy() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let url = ports(cri, sandbox, &[]);
    let heard = spdy(&url, "portforward.k8s.io", "", &["7201"]);
    let error = heard["error"].as_str().expect("an error");
    assert!(error.contains("cannot forward port 7201"), "{heard}");
}
