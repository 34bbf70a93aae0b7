use super::*;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::cell::RefCell;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

thread_local! {
    /// Host ends of the connections dialled; none when nobody listens.
    static DIALLED: RefCell<Vec<UnixStream>> = const { RefCell::new(Vec::new()) };
    static LISTENS: RefCell<bool> = const { RefCell::new(true) };
}

fn dial(_: u32) -> io::Result<OwnedFd> {
    if !LISTENS.with_borrow(|listens| *listens) {
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (ours, host) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    DIALLED.with_borrow_mut(|dialled| dialled.push(UnixStream::from(host)));
    Ok(ours)
}

struct Host {
    link: Link,
    poller: Poller,
    host: UnixStream,
    decoder: FrameDecoder,
}

impl Host {
    fn connect(mut link: Link, poller: Poller) -> Self {
        link.retry_at = Instant::now();
        turn(&mut link, &poller);
        let host = DIALLED.with_borrow_mut(Vec::pop).unwrap();
        let mut this = Self {
            link,
            poller,
            host,
            decoder: FrameDecoder::new(),
        };
        this.turn();
        this
    }

    fn new() -> Self {
        let link = Link::new(dial, 1, "boot".to_owned());
        Self::connect(link, Poller::new().unwrap())
    }

    /// The supervisor is lost; another one listens.
    fn replace(mut self) -> Self {
        drop(self.host);
        turn(&mut self.link, &self.poller);
        Self::connect(self.link, self.poller)
    }

    fn turn(&mut self) -> Turn {
        turn(&mut self.link, &self.poller)
    }

    fn send(&mut self, frame: &HostFrame) -> Turn {
        self.host
            .write_all(&beluga_proto::encode(frame).unwrap())
            .unwrap();
        self.turn()
    }

    fn frames(&mut self) -> Vec<AgentFrame> {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = self.host.read(&mut bytes) {
            self.decoder.feed(&bytes[..count]);
        }
        std::iter::from_fn(|| self.decoder.next_frame().unwrap()).collect()
    }

    fn welcome(&mut self, acked: u64) -> Turn {
        self.send(&HostFrame::Welcome(Welcome {
            protocol: 1,
            token: Nonce::from_random([7; 16]),
            acked,
        }))
    }
}

fn turn(link: &mut Link, poller: &Poller) -> Turn {
    let mut all = link.turn(poller);
    for (_, readiness) in poller.wait(Some(Duration::ZERO)).unwrap() {
        link.mark(readiness);
    }
    let turn = link.turn(poller);
    all.requests.extend(turn.requests);
    all.refused = all.refused.or(turn.refused);
    all.ready |= turn.ready;
    all.connected |= turn.connected;
    all
}

fn warning(text: &str) -> Event {
    Event::Warning {
        message: text.to_owned(),
    }
}

fn event(seq: u64, text: &str) -> AgentFrame {
    AgentFrame::Event {
        seq,
        event: warning(text),
    }
}

#[test]
fn a_request_is_answered_under_its_number() {
    let mut host = Host::new();
    assert!(matches!(
        host.frames()[..],
        [AgentFrame::Hello(Hello { token: None, .. })]
    ));
    assert!(host.welcome(0).ready);
    let turn = host.send(&HostFrame::Request {
        id: 9,
        request: Request::List,
    });
    let [(caller, Request::List)] = turn.requests[..] else {
        panic!("{turn:?}");
    };
    assert!(host.link.reply(caller, Ok(Reply::Done)));
    host.turn();
    let result = Ok(Reply::Done);
    assert_eq!(host.frames(), [AgentFrame::Reply { id: 9, result }]);
}

#[test]
fn events_are_sent_again_to_the_next_supervisor_until_they_are_safe() {
    let mut host = Host::new();
    host.link.report(warning("one"));
    host.welcome(0);
    host.link.report(warning("two"));
    host.turn();
    let frames = host.frames();
    assert_eq!(frames[1..], [event(1, "one"), event(2, "two")]);

    let mut host = host.replace();
    let hello = host.frames();
    assert!(matches!(
        &hello[..],
        [AgentFrame::Hello(Hello { token: Some(_), .. })]
    ));
    host.welcome(1);
    host.turn();
    assert_eq!(host.frames(), [event(2, "two")]);
    host.send(&HostFrame::AckEvents { seq: 2 });
    assert!(host.link.events.is_empty());
}

#[test]
fn an_answer_never_reaches_another_supervisor_than_the_one_that_asked() {
    let mut host = Host::new();
    host.welcome(0);
    let turn = host.send(&HostFrame::Request {
        id: 1,
        request: Request::List,
    });
    let caller = turn.requests[0].0;
    let mut host = host.replace();
    host.welcome(0);
    host.frames();
    assert!(!host.link.reply(caller, Ok(Reply::Done)));
    host.turn();
    assert_eq!(host.frames(), []);
}

#[test]
fn what_is_no_frame_costs_the_connection_and_nothing_else() {
    for garbage in [
        &b"\xff\xff\xff\xff"[..],
        b"\x02\0\0\0{}",
        b"\x05\0\0\0[[[[[",
    ] {
        let mut host = Host::new();
        host.welcome(0);
        host.host.write_all(garbage).unwrap();
        host.turn();
        assert!(host.link.connection.is_none());
        assert!(host.link.deadline().is_some(), "dials again");
    }
}

#[test]
fn requests_before_the_welcome_are_refused() {
    let mut host = Host::new();
    let turn = host.send(&HostFrame::Request {
        id: 1,
        request: Request::Shutdown,
    });
    assert!(turn.requests.is_empty());
    assert!(host.link.connection.is_none());
}

#[test]
fn repeated_warnings_do_not_pile_up() {
    LISTENS.set(false);
    let mut link = Link::new(dial, 1, String::new());
    link.turn(&Poller::new().unwrap());
    for _ in 0..3 {
        link.report(warning("same"));
    }
    assert_eq!(link.events.len(), 1);
    for number in 0..2 * MAX_EVENTS {
        link.report(warning(&number.to_string()));
    }
    assert_eq!(link.events.len(), MAX_EVENTS);
}

#[test]
fn attempts_that_are_over_are_not_reported_to_who_comes_late() {
    let mut host = Host::new();
    host.welcome(0);
    for attempt in [1, 2] {
        host.link.report(Event::TlsWanted {
            attempt,
            request: beluga_proto::bytes::Bytes(Vec::new()),
            timeout_millis: None,
        });
    }
    host.link.report(warning("kept"));
    host.link.forget_tls(1);
    let mut host = host.replace();
    host.frames();
    host.welcome(0);
    let told: Vec<AgentFrame> = host.frames();
    assert!(
        matches!(&told[..], [AgentFrame::Event { seq: 2, event: Event::TlsWanted { attempt: 2, .. } }, last] if *last == event(3, "kept")),
        "{told:?}"
    );
}
