use super::*;
use std::net::TcpListener;

/// An attempt over TLS at a server that takes connections, connected.
fn asked(poller: &Poller) -> (TcpListener, Check) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let page = Page {
        address: listener.local_addr().unwrap(),
        path: "/",
        tls: true,
        headers: &[],
        any_status: false,
    };
    let check = Check::http(&page, poller, 1).unwrap();
    let mut check = check.within(Some(Duration::ZERO));
    drop(listener.accept().unwrap());
    assert_eq!(check.advance(poller, 1, None), None);
    let request = check.tls().unwrap().wants_tls(poller).unwrap();
    assert!(request.starts_with(b"GET / HTTP/1.1\r\n"));
    (listener, check)
}

#[test]
fn a_container_is_not_blamed_where_nobody_speaks_tls() {
    let poller = Poller::new().unwrap();
    let (_listener, mut check) = asked(&poller);
    assert_eq!(
        check.look_at_clock(Instant::now(), None),
        Some(Outcome::Errored("nobody spoke TLS in time".to_owned()))
    );
}

#[test]
fn a_container_is_blamed_for_an_answer_that_does_not_come() {
    let poller = Poller::new().unwrap();
    let (_listener, mut check) = asked(&poller);
    let connection = check.tls().unwrap().for_tls().unwrap();
    assert!(connection.is_ok() && check.tls().unwrap().for_tls().is_none());
    let over = check.look_at_clock(Instant::now(), None);
    assert!(matches!(over, Some(Outcome::Failed(_))), "{over:?}");
}

#[test]
fn what_comes_over_tls_is_judged_like_any_answer() {
    let poller = Poller::new().unwrap();
    let answered = |bytes: &[u8], failure: Option<&str>| {
        let (_listener, mut check) = asked(&poller);
        let failure = failure.map(str::to_owned);
        check.tls_answer(bytes, failure, &poller, 1)
    };
    let good = answered(b"HTTP/1.1 200 OK\r\n", None);
    assert_eq!(good, Some(Outcome::Passed));
    for (bytes, failure) in [
        (&b"HTTP/1.1 503 Busy\r\n"[..], None),
        (b"", None),
        (b"", Some("UnknownIssuer")),
    ] {
        let outcome = answered(bytes, failure);
        assert!(matches!(outcome, Some(Outcome::Failed(_))), "{outcome:?}");
    }
}
