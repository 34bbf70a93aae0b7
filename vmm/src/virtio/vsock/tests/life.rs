//! How streams begin, go on and end.

use super::*;

#[test]
fn bytes_travel_both_ways_and_each_way_ends_on_its_own() {
    let mut guest = Guest::new();
    let (ports, far) = guest.open(1024, 5000);
    let mut far = far.expect("accepted");
    assert!(guest.socket(ports).open);
    assert_eq!(guest.write(ports, b"from the guest"), 14);
    guest.send(ports, Op::Shutdown, SHUTDOWN_SEND, &[]);
    let mut heard = String::new();
    far.read_to_string(&mut heard)
        .expect("an end after the data");
    assert_eq!(heard, "from the guest");
    far.write_all(b"from the host")
        .expect("the other way is open");
    far.shutdown(Shutdown::Write).expect("shuts");
    guest.settle();
    assert_eq!(guest.socket(ports).received, b"from the host");
    assert!(
        guest.socket(ports).reset,
        "both ways ended: nothing is left"
    );
    assert_eq!(guest.bench.device.streams.count(), 0);
}

#[test]
fn a_far_end_that_closes_at_once_is_heard_to_the_last_byte() {
    let mut guest = Guest::new();
    guest.reads_at_once = false;
    let (ports, far) = guest.open(1025, 77);
    let mut far = far.expect("accepted");
    let data: Vec<u8> = (0..100_000u32).map(|at| at as u8).collect();
    far.write_all(&data).expect("the socket's buffer is larger");
    drop(far);
    guest.settle();
    assert_eq!(guest.socket(ports).received.len(), WINDOW as usize);
    assert_eq!(guest.socket(ports).shut_by_host, 0);
    guest.read(ports);
    guest.settle();
    assert!(guest.socket(ports).received == data && guest.socket(ports).reset);
}

#[test]
fn without_a_supervisor_there_are_no_streams() {
    let mut guest = Guest::new();
    let (ports, far) = guest.open(1024, 1);
    let mut far = far.expect("accepted");
    guest.supervisor(false);
    guest.settle();
    assert!(guest.socket(ports).reset);
    assert_eq!(far.read(&mut [0]).expect("an end"), 0);
    let (ports, far) = guest.open(1024, 2);
    assert!(far.is_none() && guest.socket(ports).reset);
    guest.supervisor(true);
    // The ports of a stream that is gone can be used again.
    let (ports, far) = guest.open(1024, 1);
    assert!(far.is_some() && guest.socket(ports).open);
}

fn connect(guest: &mut Guest, port: u32) -> UnixStream {
    let call = DeviceCall::ConnectVsock { port };
    let answer = guest
        .bench
        .with(|device, running| device.control(running, call));
    guest.settle();
    match answer.expect("connects") {
        DeviceAnswer::Stream(fd) => UnixStream::from(fd),
        DeviceAnswer::Done => unreachable!("a stream was asked for"),
    }
}

#[test]
fn the_host_calls_and_is_answered_or_refused_or_ignored() {
    let mut guest = Guest::new();
    let mut far = connect(&mut guest, 80);
    far.write_all(b"early").expect("may be used at once");
    let ports = guest.called.pop_front().expect("called");
    assert_eq!(ports.1, 80);
    guest.settle();
    assert!(
        guest.socket(ports).received.is_empty(),
        "nothing before the answer"
    );
    guest.send(ports, Op::Response, 0, &[]);
    assert_eq!(guest.socket(ports).received, b"early");

    let mut refused = connect(&mut guest, 81);
    let ports = guest.called.pop_front().expect("called");
    guest.send(ports, Op::Reset, 0, &[]);
    assert_eq!(refused.read(&mut [0]).expect("an end"), 0);

    let mut ignored = connect(&mut guest, 82);
    let later = Instant::now() + Duration::from_secs(9);
    guest.bench.with(|device, running| {
        device.streams.expire(later, running.events);
        device.run(running);
    });
    guest.settle();
    assert_eq!(ignored.read(&mut [0]).expect("an end"), 0);
    assert_eq!(guest.bench.device.streams.count(), 1);
}

#[test]
fn a_guest_that_hears_no_more_makes_the_far_end_fail_and_the_other_way_too() {
    let mut guest = Guest::new();
    let (ports, far) = guest.open(1024, 1);
    let mut far = far.expect("accepted");
    guest.send(ports, Op::Shutdown, packet::SHUTDOWN_RECEIVE, &[]);
    assert_eq!(
        far.write(b"x").expect_err("nobody reads").kind(),
        std::io::ErrorKind::BrokenPipe
    );
    assert_eq!(guest.write(ports, b"y"), 1);
    far.read_exact(&mut [0]).expect("the other way works");
    drop(far);
    guest.settle();
    assert!(guest.socket(ports).reset);
    assert_eq!(guest.bench.device.streams.count(), 0);
}

#[test]
fn a_restored_guest_is_told_that_its_streams_are_gone() {
    let guest = Guest::new();
    let state = guest.bench.device.save();
    let mut bench = Bench::new(Vsock::new(CID).expect("a device"), 4, 0);
    bench.device.reset(&bench.events);
    bench
        .with(|device, running| device.restore(running, state))
        .expect("fits");
    let at = RX_SPACE;
    bench
        .memory
        .write_slice(&[0xff; 8], GuestAddress(at))
        .expect("inside");
    bench.drivers[EVENT].offer(&[(at, 4, true)]).expect("room");
    bench.kick(EVENT);
    assert_eq!(
        bench.drivers[EVENT].take_used().map(|(_, len)| len),
        Some(4)
    );
    let mut event = [0u8; 8];
    bench
        .memory
        .read_slice(&mut event, GuestAddress(at))
        .expect("inside");
    assert_eq!(event, [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    let other = serde_json::json!({"guest_cid": 4, "reset_pending": false});
    assert!(
        bench
            .with(|device, running| device.restore(running, other))
            .is_err()
    );
}
