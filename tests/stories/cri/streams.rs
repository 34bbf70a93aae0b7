//! Commands and ports over streams, whose addresses the server gives.

use super::SHARED;
use beluga_tests::cri::{
    self, AttachRequest, ContainerConfig, Cri, ExecRequest, PortForwardRequest, busybox,
};
use beluga_tests::{SOON, run};
use std::io::{Read as _, Write as _};

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

#[test]
fn a_command_and_a_port_are_reached_over_streams_whose_address_is_good_once() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let id = cri.container(
        sandbox,
        busybox("streams", "echo served | nc -l -p 7100; sleep 1000"),
    );
    let url = command(cri, &id, "cat; echo err >&2; exit 3", false);
    let said = [b"\0typed\n".to_vec(), vec![255, 0]];
    let heard = cri.converse(&url, "v5.channel.k8s.io", &said, |_| false);
    assert_eq!(
        (&heard[&1][..], &heard[&2][..]),
        (&b"typed\n"[..], &b"err\n"[..])
    );
    let status: serde_json::Value = serde_json::from_slice(&heard[&3]).expect("a status");
    assert_eq!(status["details"]["causes"][0]["message"], "3");
    let again = std::net::TcpStream::connect(url[7..].split('/').next().expect("a host"));
    let path = url.rsplit('/').next().expect("a path");
    write!(
        again.as_ref().expect("connected"),
        "GET /{path} HTTP/1.1\r\n\r\n"
    )
    .expect("asked");
    let mut answer = String::new();
    again
        .expect("connected")
        .read_to_string(&mut answer)
        .expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    let url = ports(cri, sandbox, &[7100]);
    let heard = cri.converse(&url, "v4.channel.k8s.io", &[], |heard| {
        heard
            .get(&0)
            .is_some_and(|bytes| bytes.ends_with(b"served\n"))
    });
    assert_eq!(
        heard[&0],
        [&7100u16.to_le_bytes()[..], b"served\n"].concat()
    );
    cri.remove(&id);
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
    let status: serde_json::Value = serde_json::from_slice(&heard[&3]).expect("a status");
    assert_eq!(status["details"]["causes"][0]["message"], "5");
    cri.remove(&id);
}

#[test]
fn whoever_attaches_types_into_the_program_and_reads_what_it_says() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let shell = ContainerConfig {
        command: vec!["/bin/sh".to_owned()],
        stdin: true,
        stdin_once: true,
        ..busybox("attach", "")
    };
    let id = cri.container(sandbox, shell);
    let request = AttachRequest {
        container_id: id.clone(),
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    };
    let url = cri.call(async { cri.runtime().attach(request).await });
    let said = [b"\0echo -n hello\n".to_vec(), vec![255, 0]];
    let url = url.expect("an address").url;
    let heard = cri.converse(&url, "v5.channel.k8s.io", &said, |_| false);
    assert_eq!(cri::text(&heard[&1]), "hello");
    assert_eq!(heard.get(&2), None);
    // Its input has ended with its first client.
    assert_eq!(cri.ended(&id).exit_code, 0);
    cri.remove(&id);
}

/// What a client of SPDY, made apart from ours, hears at an address.
fn spdy(url: &str, protocol: &str, said: &str, streams: &[&str]) -> serde_json::Value {
    let mut python = std::process::Command::new("python3");
    python
        .args(["-c", include_str!("spdy.py"), url, protocol, said])
        .args(streams);
    let heard = run(&mut python, SOON).ok();
    serde_json::from_str(heard.text()).expect("JSON")
}

#[test]
fn the_same_is_served_over_spdy() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let id = cri.container(sandbox, busybox("spdy", "sleep 1000"));
    let url = command(cri, &id, "cat; echo err >&2; exit 4", false);
    let streams = ["error", "stdin", "stdout", "stderr"];
    let heard = spdy(&url, "v4.channel.k8s.io", "typed", &streams);
    assert_eq!(
        (&heard["stdout"], &heard["stderr"]),
        (&"typed".into(), &"err\n".into())
    );
    assert!(
        heard["error"]
            .as_str()
            .expect("an end")
            .contains("\"message\":\"4\""),
        "{heard}"
    );
    let url = ports(cri, sandbox, &[]);
    let heard = spdy(&url, "portforward.k8s.io", "", &["7201"]);
    let error = heard["error"].as_str().expect("an error");
    assert!(error.contains("cannot forward port 7201"), "{heard}");
    cri.remove(&id);
}
