//! Networks with names: made, isolated from one another, routed between hosts,
//! and gone.

use beluga_tests::{Beluga, Ran, SOON, eventually, run, run_with_input};
use serde_json::Value;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Two hosts on one wire, as network namespaces: east has 192.0.2.1, west 192.0.2.2.
struct Hosts(tempfile::TempDir);

/// Answers every question of DNS with one address.
const NAMES: &str = r"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('192.0.2.2', 53))
while True:
    q, peer = s.recvfrom(512)
    end = q.index(0, 12) + 5
    is_a = q[end - 4:end - 2] == b'\0\1'
    answer = b'\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\x4d' if is_a else b''
    s.sendto(q[:2] + b'\x81\x80\0\1' + (b'\0\1' if is_a else b'\0\0') + b'\0\0\0\0' + q[12:end] + answer, peer)
";

impl Hosts {
    fn new() -> Self {
        let place = tempfile::tempdir().expect("a place");
        sh(
            "ip netns add east && ip netns add west &&
             ip -n east link add wire0 type veth peer name wire0 netns west &&
             ip -n east addr add 192.0.2.1/24 dev wire0 && ip -n west addr add 192.0.2.2/24 dev wire0 &&
             for h in east west; do ip -n $h link set lo up; ip -n $h link set wire0 up; done
             mkdir -p /etc/netns/east && echo nameserver 192.0.2.2 >/etc/netns/east/resolv.conf",
        );
        std::fs::write(place.path().join("names.py"), NAMES).expect("written");
        let path = place.path().display();
        sh(&format!(
            "ip netns exec west python3 {path}/names.py >/dev/null 2>&1 </dev/null &"
        ));
        Self(place)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        let line = "for h in east west; do ip netns pids $h | xargs -r kill; ip netns del $h; done; rm -r /etc/netns/east";
        let _ = Command::new("sh").args(["-c", line]).status();
        let _ = self.0.path();
    }
}

/// A shell line on the machine.
#[track_caller]
fn sh(line: &str) -> String {
    run(Command::new("sh").args(["-c", line]), SOON).ok().out
}

/// A Beluga on one of the hosts.
struct At {
    host: &'static str,
    beluga: Beluga,
}

impl At {
    fn new(host: &'static str) -> Self {
        let beluga = Beluga::with_busybox();
        Self { host, beluga }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", self.host, "beluga"])
            .args(words)
            .env("BELUGA_ROOT", self.beluga.root())
            .env("BELUGA_STATE", self.beluga.state());
        command
    }

    fn run(&self, words: &[&str]) -> Ran {
        run(&mut self.command(words), SOON * 2)
    }

    /// A pod that tells who asks, at port 8000.
    fn pod(&self, name: &str, network: &str, more: &[&str]) -> String {
        let serve = "mkdir -p /www/cgi-bin; printf '#!/bin/sh\\necho; echo $REMOTE_ADDR\\n' > /www/cgi-bin/who; chmod +x /www/cgi-bin/who; exec httpd -f -p 8000 -h /www";
        let mut words = vec!["run", "-d", "--name", name, "--network", network];
        words.extend(more);
        words.extend(["busybox", "sh", "-c", serve]);
        self.run(&words).ok();
        eventually("it listens", || {
            let line = "nc -w 5 127.0.0.1 8000 </dev/null";
            (self.run(&["exec", name, "--", "sh", "-c", line]).code == 0).then_some(())
        });
        let ran = self.run(&["get", "pod", name, "-o", "json"]).ok();
        let pod: Value = serde_json::from_str(&ran.out).expect("JSON");
        pod["status"]["podIP"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Who a server sees when a pod asks it; `none` when it is not reached.
    fn seen(&self, from: &str, address: &str) -> String {
        self.asked(from, address, 40)
    }

    #[track_caller]
    fn not_seen(&self, from: &str, address: &str) {
        assert_eq!(self.asked(from, address, 4), "none", "{from} at {address}");
    }

    fn asked(&self, from: &str, address: &str, seconds: u32) -> String {
        let at = address.replace(':', " ");
        let line = format!(
            "printf 'GET /cgi-bin/who HTTP/1.0\\r\\n\\r\\n' | nc -w {seconds} {at} 2>/dev/null | tail -n 1"
        );
        let ran = self.run(&["exec", from, "--", "sh", "-c", &line]);
        who(ran.ok().text())
    }

    fn policy(&self, spec: &str) {
        let text = format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p}}\nspec: {{{spec}}}\n"
        );
        let mut apply = self.command(&["apply", "-f", "-"]);
        run_with_input(&mut apply, text.into_bytes(), SOON).ok();
    }
}

/// An address as the server writes it: `[::ffff:192.0.2.2]`.
fn who(text: &str) -> String {
    let ip = text.trim_start_matches("[::ffff:").trim_end_matches(']');
    if ip.is_empty() { "none" } else { ip }.to_owned()
}

impl At {
    /// A network of this host that knows the way to that of the other one.
    fn routed(&self, own: &str, other: &str, via: &str) {
        let route = format!("{other}={via}");
        let head = ["network", "create", "pods", "--subnet", own];
        let words = [&head[..], &["--route", &route]].concat();
        self.run(&words).ok().prints("pods\n");
    }
}

#[test]
fn b26_pods_of_two_hosts_reach_each_other_with_their_own_addresses() {
    let _hosts = Hosts::new();
    let (east, west) = (At::new("east"), At::new("west"));
    east.routed("10.90.1.0/24", "10.90.2.0/24", "192.0.2.2");
    west.routed("10.90.2.0/24", "10.90.1.0/24", "192.0.2.1");
    let a = east.pod("a", "pods", &["-p", "18070:8000"]);
    let b = west.pod("b", "pods", &[]);
    assert_eq!((a.as_str(), b.as_str()), ("10.90.1.2", "10.90.2.2"));
    assert_eq!(east.seen("a", "10.90.2.2:8000"), a);
    assert_eq!(west.seen("b", "10.90.1.2:8000"), b);
    let asked = east.run(&["exec", "a", "--", "nslookup", "outside.example"]);
    asked.ok().says("192.0.2.77");
    who_may_come_from_outside(&east, &west);
    a_network_of_its_own(&east);
    nothing_is_left(&[&east, &west]);
}

/// A policy sees who asks for a published port, from another host or its pods.
fn who_may_come_from_outside(east: &At, west: &At) {
    let from_host = |seconds: u32| {
        let ask = format!(
            "ip netns exec west curl -sS -m {seconds} http://192.0.2.1:18070/cgi-bin/who || true"
        );
        who(sh(&ask).trim())
    };
    assert_eq!(from_host(40), "192.0.2.2");
    let block = |cidr: &str| format!("ingress: [{{from: [{{ipBlock: {{cidr: {cidr}}}}}]}}]");
    east.policy(&block("192.0.2.2/32"));
    assert_eq!(from_host(40), "192.0.2.2");
    west.not_seen("b", "10.90.1.2:8000");
    // To what is no pod of the other host's it speaks with its own host's address.
    assert_eq!(west.seen("b", "192.0.2.1:18070"), "192.0.2.2");
    east.policy(&block("10.90.2.0/24"));
    assert_eq!(from_host(4), "none");
    assert_eq!(west.seen("b", "10.90.1.2:8000"), "10.90.2.2");
    east.run(&["delete", "networkpolicy", "p"]).ok();
}

/// Another network of the same root: no way between the two, nor out of it.
fn a_network_of_its_own(east: &At) {
    east.run(&["network", "create", "inner", "--internal"]).ok();
    let inner = east.pod("c", "inner", &[]);
    east.not_seen("c", "10.90.1.2:8000");
    east.not_seen("a", &format!("{inner}:8000"));
    east.not_seen("c", "192.0.2.1:18070");
    let ask = format!("ip netns exec east curl -sS -m 20 http://{inner}:8000/cgi-bin/who");
    let gateway = format!("{}.1", inner.rsplit_once('.').expect("an address").0);
    assert_eq!(who(sh(&ask).trim()), gateway, "the host");
    let full = "c.default.svc.cluster.local";
    let found = east.run(&["exec", "c", "--", "nslookup", full]);
    found.says(&inner);
    let all = east.run(&["network", "ls"]).ok();
    all.tells(&["internal", "routed"]);
    let used = east.run(&["network", "rm", "inner"]);
    used.fails(1, "the network \"inner\" is in use by default/c");
}

fn nothing_is_left(all: &[&At]) {
    for at in all {
        at.run(&["delete", "pod", "--all", "--now"]).ok();
        at.run(&["gc", "--check"]).ok();
        let left = sh(&format!(
            "ip -n {h} -o link; ip -n {h} route; ip netns exec {h} nft list tables",
            h = at.host
        ));
        assert!(!left.contains("blg") && !left.contains("10.90"), "{left}");
        at.run(&["network", "rm", "pods"]).ok();
        let ls = at.run(&["network", "ls"]).ok();
        assert!(!ls.out.contains("pods "), "{ls}");
    }
}

/// Held by stories whose networks have the same addresses.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An instance with two networks, of which the first is as large as it was told.
fn with_networks() -> Beluga {
    let beluga = Beluga::fresh();
    let front = "network create front --subnet 10.91.1.0/28 --subnet fd91::/64 --mtu 1400";
    beluga.types(front).ok();
    beluga.types("network create back").ok();
    beluga
}

/// Asserts that no range of addresses is held for an instance.
fn nothing_is_claimed(beluga: &Beluga) {
    let claims = sh("cat /run/beluga-subnets/* 2>/dev/null; true");
    let root = beluga.root().display().to_string();
    assert!(!claims.contains(&root), "{claims}");
}

#[test]
fn networks_are_made_and_shown_and_removed() {
    let _alone = one_at_a_time();
    let beluga = with_networks();
    let shown = beluga.types("network inspect front").ok();
    shown.tells(&["\"10.91.1.0/28\"", "\"fd91::1\"", "1400"]);
    beluga.types("network rm front back").ok();
    let gone = beluga.types("network rm front");
    gone.fails(1, "there is no network \"front\"");
    beluga.types("network rm default").exits(1);
    nothing_is_claimed(&beluga);
}

#[test]
fn a_network_that_cannot_be_is_refused() {
    let _alone = one_at_a_time();
    let beluga = with_networks();
    let create = |more: &str| beluga.types(&format!("network create {more}"));
    create("front").fails(1, "the network \"front\" exists already");
    let near = create("near --subnet 10.91.0.0/16");
    near.fails(1, "10.91.0.0/16 overlaps with 10.91.1.0/28");
    create("host").fails(1, "cannot be the name of a network");
    let nowhere = beluga.types("run --network nowhere busybox -- true");
    nowhere.exits(1);
    beluga.types("network rm front back").ok();
    nothing_is_claimed(&beluga);
}

#[test]
fn stray_tables_are_found_by_their_network_and_removed() {
    let _alone = one_at_a_time();
    let beluga = with_networks();
    let shown = beluga.types("network inspect front").ok().out;
    let bridge = shown.split("\"bridge\": \"").nth(1).expect("a bridge");
    let table = format!("{}t9", bridge.split('"').next().unwrap_or_default());
    let add = format!("nft add table inet {table} && nft add table bridge {table}p");
    sh(&add);
    let told = beluga.types("gc --check").exits(1);
    told.says(&format!("table {table} of"));
    let removed = beluga.types("gc").ok();
    removed.says(&format!("removed: table {table}p of"));
    beluga.is_clean();
    beluga.types("network rm front back").ok();
}
