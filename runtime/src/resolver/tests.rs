//! The process that answers, in its jail, as its keeper starts it.

use super::answer::tests::query;
use super::*;
use crate::host::network::Leases;
use domain::base::iana::{Rcode, Rtype};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const VARIABLE: &str = "BELUGA_TEST_ANSWERS";
const PATIENCE: Duration = Duration::from_secs(10);

/// What the test below does in a process of its own, with the descriptors that the
/// variable names.
#[test]
fn one_that_answers() {
    let Ok(numbers) = std::env::var(VARIABLE) else {
        return;
    };
    let mut given = numbers.split(' ').map(|number| inherited(number).unwrap());
    let [udp, tcp, feed] = std::array::from_fn(|_| given.next().unwrap());
    let settings = Settings::new(Some("/r".into()), Some("/s".into())).unwrap();
    let net = Net::open(&settings, "").unwrap();
    let feed = Feed::new(feed.into()).unwrap();
    let gateway = "127.0.0.1".parse().unwrap();
    let ended = answer_all(net, gateway, (udp.into(), tcp.into()), feed);
    panic!("{ended:?}");
}

struct Answering {
    child: Child,
    address: [SocketAddr; 2],
}

impl Answering {
    /// The test's own thread is not the one that answers.
    fn has_a_shut_thread(&self) -> bool {
        let tasks = format!("/proc/{}/task", self.child.id());
        let mut tasks = std::fs::read_dir(tasks).unwrap().flatten();
        tasks.any(|task| {
            let status = std::fs::read_to_string(task.path().join("status")).unwrap();
            let has = |line: &str| status.lines().any(|found| found == line);
            has("Seccomp:\t2") && has("NoNewPrivs:\t1") && has("CapEff:\t0000000000000000")
        })
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn begin(leases: Source, servers: Source) -> Answering {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    listener.set_nonblocking(true).unwrap();
    let (own, feed) = UnixStream::pair().unwrap();
    let given = [socket.as_fd(), listener.as_fd(), feed.as_fd()];
    for fd in given {
        rustix::io::fcntl_setfd(fd, FdFlags::empty()).unwrap();
    }
    let numbers = given.map(|fd| fd.as_raw_fd().to_string()).join(" ");
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "resolver::tests::one_that_answers"]);
    let child = child.args(["--test-threads=1", "--nocapture"]);
    let child = child.env(VARIABLE, numbers).spawn().unwrap();
    std::thread::spawn(move || feed::keep(own, leases, servers));
    let address = [socket.local_addr().unwrap(), listener.local_addr().unwrap()];
    Answering { child, address }
}

fn over_udp(to: SocketAddr, query: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(query, to).unwrap();
    let mut buffer = vec![0; 512];
    let length = socket.recv(&mut buffer).unwrap();
    buffer.truncate(length);
    buffer
}

fn over_tcp(to: SocketAddr, query: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = u16::try_from(query.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length[..], query].concat()).unwrap();
    read(&mut stream)
}

fn read(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer).unwrap();
    answer
}

/// A name server that has no name, over UDP and TCP of one port, once each.
fn stranger() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let listener = TcpListener::bind(address).unwrap();
    let refused = |query: &[u8]| super::answer::refusal(query, Rcode::NXDOMAIN);
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        socket.send_to(&refused(&buffer[..length]), from).unwrap();
    });
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let answer = refused(&read(&mut stream));
        let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
        stream.write_all(&[&length[..], &answer].concat()).unwrap();
    });
    address
}

#[test]
fn pods_and_the_world_are_found_from_within_the_jail() {
    let random: [u8; 8] = crate::pod::random_bytes();
    let name = format!("beluga-resolver-{:x}", u64::from_ne_bytes(random));
    let top = std::env::temp_dir().join(name);
    std::fs::create_dir(&top).unwrap();
    let mut leases = Leases::default();
    let pod = crate::host::network::PodNames {
        namespace: "default".into(),
        name: "web".into(),
        hostname: "web".into(),
        subdomain: None,
    };
    leases.names.insert(2, pod);
    let servers = serde_json::to_vec(&[stranger()]).unwrap();
    std::fs::write(top.join("leases"), "").unwrap();
    std::fs::write(top.join("servers"), servers).unwrap();
    let source = |name| Source::new(top.join(name), |bytes| bytes);
    let one = begin(source("leases"), source("servers"));
    let [udp, tcp] = one.address;
    let (own, world) = (query("web.default", Rtype::A), query("a.test", Rtype::A));
    let code = |answer: Vec<u8>| answer[3] & 15;
    let early = query("web.default.svc.cluster.local", Rtype::A);
    assert_eq!(code(over_udp(udp, &early)), 3, "no pod of that name yet");
    std::fs::write(top.join("leases"), serde_json::to_vec(&leases).unwrap()).unwrap();
    for answer in [over_udp(udp, &own), over_tcp(tcp, &own)] {
        assert!(answer.ends_with(&[10, 88, 0, 2]), "{answer:?}");
    }
    assert_eq!(code(over_udp(udp, &world)), 3);
    assert_eq!(code(over_tcp(tcp, &world)), 3);
    std::fs::remove_dir_all(&top).unwrap();
    assert!(one.has_a_shut_thread());
}
