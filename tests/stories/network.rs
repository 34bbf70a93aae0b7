//! The pod network: published ports, NAT, what a guest may send.

use beluga_tests::{Pod, Ran, SOON, eventually, kill, run, shared};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

const POD: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: published
  annotations:
    kubernetes.io/egress-bandwidth: 1600k
    beluga/egress-burst: 50k
    beluga/disk-bandwidth: 1Mi
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    securityContext: {privileged: true}
    ports:
    - {containerPort: 8000, hostPort: 18080}
    - {containerPort: 5000, hostPort: 15001, protocol: UDP}
    readinessProbe: {tcpSocket: {port: 8000}, periodSeconds: 1}
    command: [sh, -c, 'mkdir /www; echo page > /www/index.html; head -c 650000 /dev/zero > /www/big; exec httpd -f -p 8000 -h /www']
";

/// A shell line on this host.
#[track_caller]
fn host(line: &str) -> String {
    run(Command::new("sh").args(["-c", line]), SOON).ok().out
}

/// The page that a server at this address gives.
pub fn page(address: &str) -> String {
    let answer = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = answer().unwrap_or_else(|error| format!("{address}: {error}"));
    answer
        .rsplit("\r\n\r\n")
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn publish(port: &str) -> Ran {
    shared().run(["run", "--rm", "-p", port, "busybox", "--", "true"])
}

/// A host beyond this one, which has no route to pods and a web server.
struct Outside(tempfile::TempDir);

impl Outside {
    fn new() -> Self {
        let files = tempfile::tempdir().expect("a place");
        std::fs::write(files.path().join("index.html"), "outside\n").expect("written");
        host(
            "ip netns add beyond && ip link add blgv0 type veth peer name blgv1 netns beyond &&
             ip addr add 192.0.2.1/24 dev blgv0 && ip link set blgv0 up &&
             ip addr add 2001:db8:2::1/64 dev blgv0 nodad &&
             ip -n beyond addr add 192.0.2.2/24 dev blgv1 && ip -n beyond link set blgv1 up &&
             ip -n beyond addr add 2001:db8:2::2/64 dev blgv1 nodad",
        );
        let files = Self(files);
        let directory = files.0.path().display();
        // Goes on in the background by itself.
        host(&format!(
            "ip netns exec beyond busybox httpd -p 9000 -h {directory}"
        ));
        files
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let line = "ip netns pids beyond | xargs -r kill; ip netns del beyond";
        let _ = Command::new("sh").args(["-c", line]).status();
    }
}

/// UDP packets that the pod had nobody for.
fn unwanted(pod: &Pod<'_>) -> u64 {
    let line = "awk '/^Udp:/ {print $3}' /proc/net/snmp | tail -n 1";
    pod.sh("main", line).trim().parse().expect("a count")
}

/// Packets that the host has refused to take from the pod.
fn dropped(pod: &Pod<'_>) -> u64 {
    let page = shared().run(["describe", "pod", pod.name()]).ok().out;
    let line = page.lines().find_map(|line| line.strip_prefix("Packets:"));
    let count = line.and_then(|line| line.split_whitespace().next());
    count.map_or(0, |count| count.parse().expect("a count"))
}

#[test]
fn b27_published_ports_answer_here_in_pods_and_outside() {
    let pod = shared().pod(POD);
    they_answer_here_and_in_pods(&pod);
    they_answer_for_udp(&pod);
    they_answer_outside_and_outside_answers(&pod);
    nobody_else_gets_them(&pod);
    they_and_the_guard_come_back(&pod);
    they_are_shown_and_answer_without_a_supervisor(&pod);
    not_faster_than_it_may(&pod);
    only_its_own_addresses(&pod);
    they_are_gone_with_the_pod(pod);
}

/// The network's gateways, which are this host.
fn gateways(pod: &Pod<'_>) -> [String; 2] {
    let (ip, ip6) = (pod.ip(), pod.field("/status/podIPs/1/ip"));
    let gateway = format!("{}.1", ip.rsplit_once('.').expect("an address").0);
    let gateway6 = format!("{}:1", ip6.rsplit_once(':').expect("an address").0);
    [gateway, gateway6]
}

fn they_answer_here_and_in_pods(pod: &Pod<'_>) {
    let (ip, ip6) = (pod.ip(), pod.field("/status/podIPs/1/ip"));
    let [gateway, gateway6] = gateways(pod);
    let own = [format!("{ip}:8000"), format!("[{ip6}]:8000")];
    let published = ["127.0.0.1", "localhost", &gateway, &format!("[{gateway6}]")];
    let published = published.map(|host| format!("{host}:18080"));
    for address in own.iter().chain(&published) {
        assert_eq!(page(address), "page\n", "{address}");
    }
    let by_host = format!("wget -q -O - http://{gateway}:18080/");
    assert_eq!(pod.sh("main", &by_host), "page", "from a pod, by the host");
}

fn they_answer_for_udp(pod: &Pod<'_>) {
    let before = unwanted(pod);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    socket.send_to(b"x", "127.0.0.1:15001").expect("sent");
    eventually("a UDP packet", || (unwanted(pod) > before).then_some(()));
}

fn they_answer_outside_and_outside_answers(pod: &Pod<'_>) {
    let _outside = Outside::new();
    for (here, there) in [
        ("192.0.2.1", "192.0.2.2"),
        ("[2001:db8:2::1]", "[2001:db8:2::2]"),
    ] {
        let ask = format!("wget -q -O - http://{here}:18080/");
        let outside = host(&format!("ip netns exec beyond busybox {ask}"));
        assert_eq!(outside, "page\n", "from outside, {here}");
        assert_eq!(pod.sh("main", &ask), "page", "from a pod, {here}");
        let out = pod.sh("main", &format!("wget -q -O - http://{there}:9000/"));
        assert_eq!(out, "outside", "to outside, which knows no pods");
    }
}

fn nobody_else_gets_them(pod: &Pod<'_>) {
    let who = format!("the pod default/{}", pod.name());
    let refused = |port: &str, who: &str| drop(publish(port).fails(1, who));
    refused("18080:80", &format!("18080/TCP is in use by {who}"));
    refused("127.0.0.1:18080:80", &who);
    let held = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = held.local_addr().expect("bound").port();
    refused(&format!("{port}:80"), &format!("({})", std::process::id()));
}

/// Tables that somebody takes out of the packet filter, as `nft flush ruleset` takes
/// those of everybody: nobody types a command, and they are there again.
fn they_and_the_guard_come_back(pod: &Pod<'_>) {
    let (ip, list) = (pod.ip(), host("nft list tables"));
    let tap = format!("t{}", ip.rsplit('.').next().expect("an address"));
    let own: Vec<&str> = list.lines().filter(|it| it.ends_with(&tap)).collect();
    assert_eq!(own.len(), 2, "{list}");
    let changes = own.iter().map(|table| format!("delete {table}; "));
    host(&format!("nft '{}'", changes.collect::<String>()));
    eventually("its tables", || {
        let list = host("nft list tables");
        own.iter().all(|one| list.contains(one)).then_some(())
    });
    assert_eq!(page("127.0.0.1:18080"), "page\n");
    let page = shared().run(["describe", "pod", pod.name()]).ok();
    page.says("RulesRestored");
}

fn they_are_shown_and_answer_without_a_supervisor(pod: &Pod<'_>) {
    let wide = shared().types("get pods -o wide").ok();
    wide.says("18080->8000/tcp,15001->5000/udp");
    let [_, supervisor] = pod.processes();
    kill(&[supervisor]);
    assert_eq!(page("127.0.0.1:18080"), "page\n", "without a supervisor");
}

/// The annotations: 200 kB a second after 50 kB at once; a MiB a second after one.
fn not_faster_than_it_may(pod: &Pod<'_>) {
    let started = Instant::now();
    let mut stream = TcpStream::connect(format!("{}:8000", pod.ip())).expect("it listens");
    stream
        .write_all(b"GET /big HTTP/1.0\r\n\r\n")
        .expect("asked");
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("answered");
    assert!(all.len() > 650_000);
    assert!(started.elapsed() >= Duration::from_secs(3), "the card");
    let started = Instant::now();
    // The writable layer takes no fsync; its file system takes a sync.
    pod.sh(
        "main",
        "dd if=/dev/zero of=/eight bs=1M count=8 2>/dev/null; sync",
    );
    assert!(started.elapsed() >= Duration::from_secs(5), "the disk");
}

/// What a guest sends from another address or card is thrown away and counted.
fn only_its_own_addresses(pod: &Pod<'_>) {
    let [gateway, _] = gateways(pod);
    let ping =
        |from: &str| format!("ping -c 1 -W 2 {from} {gateway} >/dev/null && echo yes || echo no");
    assert_eq!(
        (pod.sh("main", &ping("")).as_str(), dropped(pod)),
        ("yes", 0)
    );
    let foreign = gateway.rsplit_once('.').expect("an address").0.to_owned() + ".200";
    pod.sh("main", &format!("ip addr add {foreign}/24 dev eth0"));
    assert_eq!(pod.sh("main", &ping(&format!("-I {foreign}"))), "no");
    let of_address = dropped(pod);
    assert!(of_address > 0);
    let other =
        "ip link set eth0 down; ip link set eth0 address 02:00:00:00:00:01; ip link set eth0 up";
    pod.sh("main", other);
    assert_eq!(pod.sh("main", &ping("")), "no");
    assert!(dropped(pod) > of_address);
}

fn they_are_gone_with_the_pod(pod: Pod<'_>) {
    let ip = pod.ip();
    let tap = format!("t{}\n", ip.rsplit('.').next().expect("an address"));
    pod.delete();
    assert!(TcpStream::connect("127.0.0.1:18080").is_err());
    let left = host("nft list tables");
    assert!(!left.contains(&tap), "{left}");
}
