use super::*;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use std::cell::RefCell;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

thread_local! {
    static DIALLED: RefCell<Vec<UnixStream>> = const { RefCell::new(Vec::new()) };
}

fn dial(_: u32) -> std::io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (ours, host) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    DIALLED.with_borrow_mut(|dialled| dialled.push(UnixStream::from(host)));
    Ok(ours)
}

fn nonce(digit: u8) -> Nonce {
    Nonce::from_random([digit; 16])
}

fn pipe() -> (File, File) {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
    (File::from(read), File::from(write))
}

struct Bench {
    streams: Streams,
    poller: Poller,
}

impl Bench {
    fn new() -> Self {
        Self {
            streams: Streams::new(dial),
            poller: Poller::new().unwrap(),
        }
    }

    fn turn(&mut self) {
        for _ in 0..4 {
            for (token, readiness) in self.poller.wait(Some(Duration::ZERO)).unwrap() {
                if let Token::Stream(id, side) = token {
                    self.streams.mark(id, side, readiness);
                }
            }
            while self.streams.pump(&self.poller) {}
        }
    }

    /// An output stream: its process's end, the host's end, its number.
    fn output(&mut self, lasting: bool) -> (File, UnixStream, StreamId) {
        let (read, write) = pipe();
        let id = self
            .streams
            .open_output(&self.poller, read.into(), Some(&nonce(1)), lasting)
            .unwrap();
        self.turn();
        let mut host = DIALLED.with_borrow_mut(Vec::pop).unwrap();
        assert_eq!(take(&mut host), [1; 16]);
        (write, host, id)
    }

    fn input(&mut self, lasting: bool) -> (File, UnixStream, StreamId) {
        let (read, write) = pipe();
        let id = self
            .streams
            .open_input(&self.poller, write.into(), &nonce(2), lasting)
            .unwrap();
        self.turn();
        let mut host = DIALLED.with_borrow_mut(Vec::pop).unwrap();
        assert_eq!(take(&mut host), [2; 16]);
        (read, host, id)
    }

    fn resume(&mut self, id: Option<StreamId>, offset: u64) -> UnixStream {
        let resume = ResumeStream {
            nonce: nonce(3),
            offset,
        };
        self.streams
            .resume_output(&self.poller, id, &resume)
            .unwrap();
        self.turn();
        DIALLED.with_borrow_mut(Vec::pop).unwrap()
    }

    /// Turns until `what` holds. A process that another test starts in this
    /// moment holds a copy of our descriptors until it executes: only then is
    /// a closed one gone.
    fn until(&mut self, mut what: impl FnMut(&mut Streams) -> bool) -> bool {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            self.turn();
            if what(&mut self.streams) {
                return true;
            }
            if Instant::now() > until {
                return false;
            }
            std::thread::yield_now();
        }
    }

    /// Whether every stream is over.
    fn is_over(&mut self) -> bool {
        self.until(|streams| streams.streams.is_empty())
    }

    /// Whether the other side has said that no more comes.
    fn ended(&mut self, from: &mut impl Read) -> bool {
        let mut read = None;
        self.until(|_| match from.read(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            other => {
                read = Some(other);
                true
            }
        });
        matches!(read, Some(Ok(0)))
    }
}

/// What is there now.
fn take(from: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    match from.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
    }
    bytes
}

fn acknowledge(host: &mut UnixStream, count: u64) {
    host.write_all(&count.to_le_bytes()).unwrap();
}

#[test]
fn output_is_held_until_acknowledged_and_sent_again_after_a_loss() {
    let mut bench = Bench::new();
    let (mut process, mut host, id) = bench.output(true);
    process.write_all(b"hello world").unwrap();
    bench.turn();
    assert_eq!(take(&mut host), b"hello world");
    acknowledge(&mut host, 6);
    bench.turn();
    drop(host);
    bench.turn();
    process.write_all(b", again").unwrap();
    bench.turn();
    drop(process);
    bench.turn();
    let mut host = bench.resume(Some(id), 6);
    assert_eq!(take(&mut host)[16..], *b"world, again");
    assert!(bench.ended(&mut host));
    assert!(bench.streams.streams.contains_key(&id), "not safe yet");
    acknowledge(&mut host, 18);
    assert!(bench.is_over());
}

#[test]
fn a_stream_that_is_over_is_resumed_as_its_end() {
    let mut bench = Bench::new();
    let mut host = bench.resume(None, 1234);
    assert_eq!(take(&mut host), [3; 16]);
    assert!(bench.ended(&mut host));
    assert!(bench.is_over());
}

#[test]
fn without_a_supervisor_output_waits_in_its_pipe() {
    let mut bench = Bench::new();
    let (mut process, host, _id) = bench.output(true);
    drop(host);
    bench.turn();
    let mut written = 0;
    while let Ok(count) = process.write(&[b'x'; 4096]) {
        written += count;
        bench.turn();
        assert!(written < 1 << 20, "unbounded");
    }
    assert!(written >= beluga_proto::agent::OUTPUT_WINDOW);
}

#[test]
fn a_false_acknowledgement_costs_the_connection_not_the_output() {
    let mut bench = Bench::new();
    let (mut process, mut host, id) = bench.output(true);
    process.write_all(b"abc").unwrap();
    bench.turn();
    acknowledge(&mut host, 4000);
    bench.turn();
    take(&mut host);
    assert!(bench.ended(&mut host));
    assert_eq!(take(&mut bench.resume(Some(id), 0))[16..], *b"abc");
}

#[test]
fn a_commands_output_dies_with_its_caller() {
    let mut bench = Bench::new();
    let (mut process, mut host, _) = bench.output(false);
    process.write_all(b"one").unwrap();
    bench.turn();
    assert_eq!(take(&mut host), b"one");
    host.shutdown(Shutdown::Write).unwrap();
    bench.turn();
    process.write_all(b"two").unwrap();
    bench.turn();
    assert_eq!(take(&mut host), b"two", "half a close is no end");
    drop(host);
    assert!(bench.is_over());
    let broken = |error: std::io::Error| error.kind() == ErrorKind::BrokenPipe;
    assert!(bench.until(|_| process.write(b"x").is_err_and(broken)));
}

#[test]
fn the_end_of_a_commands_output_is_told() {
    let mut bench = Bench::new();
    let (mut process, mut host, _) = bench.output(false);
    process.write_all(b"bye").unwrap();
    drop(process);
    bench.turn();
    assert_eq!(take(&mut host), b"bye");
    assert!(bench.ended(&mut host));
    assert!(bench.is_over());
}

#[test]
fn input_reaches_the_process_to_its_end() {
    let mut bench = Bench::new();
    let (mut process, mut host, _) = bench.input(true);
    host.write_all(b"abc").unwrap();
    bench.turn();
    assert_eq!(take(&mut process), b"abc");
    host.write_all(b"def").unwrap();
    host.shutdown(Shutdown::Write).unwrap();
    bench.turn();
    assert_eq!(take(&mut process), b"def");
    assert!(bench.ended(&mut process));
}

#[test]
fn a_containers_input_survives_a_lost_supervisor_and_a_commands_does_not() {
    let mut bench = Bench::new();
    let (mut process, host, id) = bench.input(true);
    drop(host);
    bench.turn();
    let nothing = process.read(&mut [0]).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    bench.streams.resume_input(&bench.poller, id, &nonce(3));
    bench.turn();
    let mut host = DIALLED.with_borrow_mut(Vec::pop).unwrap();
    host.write_all(b"x").unwrap();
    bench.turn();
    assert_eq!(take(&mut process), b"x");

    let (mut process, host, _) = bench.input(false);
    drop(host);
    bench.turn();
    assert!(bench.ended(&mut process));
}

#[test]
fn a_process_that_does_not_read_holds_back_its_sender() {
    let mut bench = Bench::new();
    let (mut process, mut host, _) = bench.input(false);
    let mut sent = 0;
    while let Ok(count) = host.write(&[b'x'; 4096]) {
        sent += count;
        bench.turn();
        assert!(sent < 4 << 20, "unbounded");
    }
    let mut got = 0;
    while got < sent {
        got += take(&mut process).len();
        bench.turn();
    }
    assert_eq!(got, sent);
    drop(process);
    assert!(bench.is_over());
}

#[test]
fn a_large_transfer_arrives_unchanged() {
    let mut bench = Bench::new();
    let (mut process, mut host, _) = bench.output(false);
    let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let (mut at, mut got) = (0, Vec::new());
    while got.len() < sent.len() {
        if let Ok(count) = process.write(&sent[at..]) {
            at += count;
        }
        bench.turn();
        got.extend(take(&mut host));
    }
    assert!(got == sent);
}

/// Calls that are refused before one is answered.
static REFUSALS: AtomicU32 = AtomicU32::new(0);

/// Like [`dial`]; a refused call looks as it does with vsock: a socket that
/// says that it can be written to, and then that the connection was reset.
fn dial_refused(port: u32) -> std::io::Result<OwnedFd> {
    let ours = dial(port)?;
    let refused = REFUSALS.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
    if refused.is_ok() {
        drop(DIALLED.with_borrow_mut(Vec::pop));
    }
    Ok(ours)
}

#[test]
fn a_call_that_is_refused_is_repeated_and_nothing_is_lost() {
    REFUSALS.store(3, SeqCst);
    let mut bench = Bench::new();
    bench.streams = Streams::new(dial_refused);
    let (read, mut process) = pipe();
    let id = bench
        .streams
        .open_output(&bench.poller, read.into(), Some(&nonce(1)), false)
        .unwrap();
    process.write_all(b"first words").unwrap();
    while DIALLED.with_borrow(Vec::is_empty) {
        bench.turn();
        if let Some(at) = bench.streams.deadline() {
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
        }
    }
    bench.turn();
    let mut host = DIALLED.with_borrow_mut(Vec::pop).unwrap();
    let got = take(&mut host);
    assert_eq!(got[..16], [1; 16]);
    assert_eq!(got[16..], *b"first words");
    assert!(bench.streams.streams.contains_key(&id));
    assert_eq!(bench.streams.deadline(), None, "nothing is left to call");
}
