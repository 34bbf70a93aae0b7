//! TLS of probes and hooks, which the supervisor speaks for the agent.

use super::check;
use super::samples::{container, nonce};
use beluga_proto::agent::StdioNonces;
use beluga_proto::bytes::Bytes;
use beluga_proto::probe::{Handler, HookKind};
use beluga_proto::{AgentFrame, Event, HostFrame, Request};

#[test]
fn tls_of_an_attempt() {
    let stdio = StdioNonces {
        stdin: nonce(1),
        stdout: nonce(2),
        stderr: None,
    };
    let answer = |bytes: &[u8], failure: Option<&str>| Request::TlsAnswer {
        attempt: 7,
        bytes: Bytes(bytes.to_vec()),
        failure: failure.map(str::to_owned),
    };
    let hook = Request::Hook {
        container: container(),
        hook: HookKind::PostStart,
        handler: Handler::Http {
            host: None,
            port: 8443,
            path: "/begun".into(),
            headers: vec![("Host".into(), "web".into())],
            tls: true,
        },
        timeout_millis: None,
    };
    let connect = Request::TlsConnect { attempt: 7, stdio };
    let requests = [
        ("hook_https", hook),
        ("tls_connect", connect),
        ("tls_answer", answer(b"HTTP/1.1 200 OK\r\n", None)),
        ("tls_failure", answer(b"", Some("UnknownIssuer"))),
    ];
    for (id, (name, request)) in (1..).zip(requests) {
        check(
            &format!("request_{name}"),
            &HostFrame::Request { id, request },
        );
    }
    let event = Event::TlsWanted {
        attempt: 7,
        request: Bytes(b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        timeout_millis: Some(1000),
    };
    check("event_tls_wanted", &AgentFrame::Event { seq: 1, event });
}
