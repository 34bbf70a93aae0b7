//! What a guest may not do, and how much it may do of the rest.

use super::*;

#[test]
fn what_nobody_listens_to_is_reset() {
    let mut guest = Guest::new();
    for (host_port, guest_port) in [(22, 1), (0, 2), (u32::MAX, 3)] {
        let (ports, far) = guest.open(host_port, guest_port);
        assert!(far.is_none() && guest.socket(ports).reset);
    }
    // Without a stream, with a wrong type, a wrong operation, a wrong address.
    guest.sockets.insert((1024, 9), Socket::default());
    guest.send((1024, 9), Op::Data, 0, b"x");
    assert!(guest.socket((1024, 9)).reset);
    let good = guest.header((1024, 10), Op::Request, 0, 0);
    let bad = [
        Header { kind: 2, ..good },
        Header { op: 0, ..good },
        Header { op: 99, ..good },
        Header { dst_cid: 7, ..good },
        Header { src_cid: 7, ..good },
        Header {
            len: 4096,
            op: 5,
            ..good
        },
    ];
    for header in bad {
        guest.sockets.insert((1024, 10), Socket::default());
        assert!(guest.queue(header, &[]));
        guest.bench.kick(TX);
        guest.settle();
        assert!(guest.socket((1024, 10)).reset, "{header:?}");
    }
    assert_eq!(guest.bench.device.streams.count(), 0);
}

#[test]
fn a_reader_that_sleeps_costs_one_window_and_stops_one_stream() {
    let mut guest = Guest::new();
    let (slow, slow_far) = guest.open(1024, 1);
    let (fast, fast_far) = guest.open(1024, 2);
    let mut slow_far = slow_far.expect("accepted");
    let mut fast_far = fast_far.expect("accepted");
    let chunk = vec![7u8; 65_536];
    let mut sent = 0;
    loop {
        let len = guest.write(slow, &chunk);
        sent += len;
        if len == 0 {
            break;
        }
    }
    assert!(guest.bench.device.streams.backlog_len() <= 256 << 10);
    assert_eq!(guest.write(fast, b"still moving"), 12);
    let mut heard = [0u8; 12];
    fast_far.read_exact(&mut heard).expect("not held up");
    // The guest ends and forgets the stream; what it sent still arrives.
    guest.send(slow, Op::Shutdown, SHUTDOWN_BOTH, &[]);
    assert!(guest.socket(slow).reset);
    slow_far.set_nonblocking(true).expect("settable");
    let mut got = 0;
    let mut buffer = vec![0u8; 65_536];
    loop {
        match slow_far.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => got += len,
            Err(_) => assert!(guest.bench.pump(1000) > 0, "an event for the room made"),
        }
    }
    assert_eq!(got, sent);
    assert_eq!(guest.bench.device.streams.count(), 1);
}

#[test]
fn a_stream_whose_guest_does_not_answer_is_quiet_until_its_time_is_up() {
    let mut guest = Guest::new();
    let (ports, far) = guest.open(1024, 1);
    guest.send(ports, Op::Shutdown, SHUTDOWN_SEND, &[]);
    // From here on the guest says nothing.
    guest.sockets.remove(&ports);
    drop(far);
    guest.settle();
    assert_eq!(guest.bench.device.streams.count(), 1);
    assert_eq!(guest.bench.pump(50), 0, "nothing wakes the thread");
    let later = Instant::now() + Duration::from_secs(9);
    guest
        .bench
        .with(|device, running| device.streams.expire(later, running.events));
    assert_eq!(guest.bench.device.streams.count(), 0);
}

#[test]
fn a_guest_that_lies_about_credit_loses_the_stream() {
    let mut guest = Guest::new();
    guest.lies = true;
    let (ports, far) = guest.open(1024, 1);
    let chunk = vec![0u8; 65_536];
    for _ in 0..64 {
        guest.send(ports, Op::Data, 0, &chunk);
    }
    assert!(guest.socket(ports).reset);
    drop(far);
    let (ports, far) = guest.open(1024, 2);
    let header = Header {
        fwd_cnt: 1,
        ..guest.header(ports, Op::CreditUpdate, 0, 0)
    };
    assert!(guest.queue(header, &[]));
    guest.bench.kick(TX);
    guest.settle();
    assert!(guest.socket(ports).reset && far.is_some());
    assert_eq!(guest.bench.device.streams.backlog_len(), 0);
}

#[test]
fn streams_have_a_limit_and_a_hostile_one_frees_nothing_twice() {
    let mut guest = Guest::new();
    let mut ends = Vec::new();
    for port in 0..table::MAX_STREAMS as u32 {
        let (_, far) = guest.open(1025, port);
        ends.push(far.expect("below the limit"));
    }
    let (ports, far) = guest.open(1025, 1 << 20);
    assert!(far.is_none() && guest.socket(ports).reset);
    ends.clear();
    guest.settle();
    assert_eq!(guest.bench.device.streams.count(), 0);
    assert!(guest.open(1025, 1).1.is_some());
}

/// Many streams at once, random sizes, random ends: every byte arrives, once,
/// in order.
#[test]
fn a_flood_of_calls_is_refused_at_the_number_that_waits_for_the_supervisor() {
    let mut guest = Guest::new();
    let mut waiting = Vec::new();
    for port in 0..700 {
        let ports = (1025, 10_000 + port);
        guest.sockets.insert(ports, Socket::default());
        guest.send(ports, Op::Request, 0, &[]);
        // Taken out of the device, and not sent yet.
        waiting.extend(guest.bench.device.take_messages());
    }
    assert_eq!(waiting.len(), 256);
    let refused = |guest: &Guest| guest.bench.device.streams.counts().refused;
    assert_eq!(refused(&guest), 444);
    let (_, far) = guest.open(1025, 20_000);
    assert!(far.is_none());
    // The supervisor takes one: there is room for one.
    let heard = waiting.pop();
    drop(heard.map(|outgoing| outgoing.place));
    let (ports, far) = guest.open(1025, 20_001);
    assert!(far.is_some() && guest.socket(ports).open);
    assert_eq!(refused(&guest), 445);
}
