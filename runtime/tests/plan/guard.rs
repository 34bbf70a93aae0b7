//! What a guest may send: frames written to a guarded tap, as its card writes them.

use super::restored::sh;
use beluga_proto::vm::MacAddress;
use beluga_runtime::host::rules;
use beluga_runtime::sys;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv6Addr};

const TAP: &str = "blgguard0";
const MAC: [u8; 6] = [0x02, 0xb1, 0, 0, 0, 2];
const GATEWAY_MAC: [u8; 6] = [0x02, 0xb1, 0, 0, 0, 1];
const IP: [u8; 4] = [10, 88, 0, 2];
const GATEWAY: [u8; 4] = [10, 88, 0, 1];
const IP6: Ipv6Addr = Ipv6Addr::new(0xfdb1, 0, 0, 0, 0, 0, 0, 2);
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfdb1, 0, 0, 0, 0, 0, 0, 1);
/// What a card with [`MAC`] calls itself.
const LINK6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x00b1, 0x00ff, 0xfe00, 2);
const NOBODY6: Ipv6Addr = Ipv6Addr::UNSPECIFIED;

// Numbers of IPv6's headers.
const HOPS: u8 = 0;
const UDP: u8 = 17;
const FRAGMENT: u8 = 44;
const ICMP: u8 = 58;
const OPTIONS: u8 = 60;

fn frame(from: [u8; 6], ether_type: u16, packet: &[u8]) -> Vec<u8> {
    let kind = ether_type.to_be_bytes();
    [&[0x33, 0x33, 0, 0, 0, 1][..], &from, &kind, packet].concat()
}

/// A packet of IPv6 to everybody.
fn ip6(from: Ipv6Addr, next: u8, content: &[u8]) -> Vec<u8> {
    let to: Ipv6Addr = "ff02::1".parse().expect("an address");
    let length = u16::try_from(content.len()).expect("small").to_be_bytes();
    let head = [0x60, 0, 0, 0, length[0], length[1], next, 255];
    let packet = [&head[..], &from.octets(), &to.octets(), content].concat();
    frame(MAC, 0x86dd, &packet)
}

/// Eight bytes of options that say nothing, before what has this number.
fn options(next: u8) -> [u8; 8] {
    [next, 0, 1, 4, 0, 0, 0, 0]
}

/// A fragment's header: where its content lies in the whole, and whether more comes.
fn fragment(next: u8, offset: u16, more: bool) -> [u8; 8] {
    let [high, low] = (offset | u16::from(more)).to_be_bytes();
    [next, 0, high, low, 0, 0, 0, 1]
}

/// A neighbour's advertisement about an address, with the card it is said to have.
fn advertised(target: Ipv6Addr) -> Vec<u8> {
    let head = [136, 0, 0, 0, 0xa0, 0, 0, 0];
    [&head[..], &target.octets(), &[2, 1], &MAC].concat()
}

/// A word of ICMPv6 with nothing in it.
fn word(kind: u8) -> Vec<u8> {
    let mut bytes = vec![0; 24];
    bytes[0] = kind;
    bytes
}

fn arp(card: [u8; 6], ip: [u8; 4]) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 2];
    let packet = [&head[..], &card, &ip, &GATEWAY_MAC, &GATEWAY].concat();
    frame(MAC, 0x0806, &packet)
}

fn ip4(from: [u8; 4]) -> Vec<u8> {
    let head = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, UDP, 0, 0];
    frame(MAC, 0x0800, &[&head[..], &from, &GATEWAY, &[0; 8]].concat())
}

fn behind(headers: &[&[u8]], content: &[u8]) -> Vec<u8> {
    [headers.concat().as_slice(), content].concat()
}

/// What it may say.
fn honest() -> Vec<(&'static str, Vec<u8>)> {
    let own = advertised(IP6);
    let (rest, begun) = (fragment(ICMP, 1232, false), fragment(ICMP, 0, true));
    vec![
        ("ARP", arp(MAC, IP)),
        ("a free address, by ARP", arp(MAC, [0; 4])),
        ("IPv4", ip4(IP)),
        ("UDP", ip6(IP6, UDP, &[0; 8])),
        ("UDP of the link", ip6(LINK6, UDP, &[0; 8])),
        ("an advertisement", ip6(IP6, ICMP, &own)),
        ("one of the link", ip6(LINK6, ICMP, &advertised(LINK6))),
        (
            "one behind options",
            ip6(IP6, OPTIONS, &behind(&[&options(ICMP)], &own)),
        ),
        ("a solicitation", ip6(IP6, ICMP, &word(135))),
        ("is it free?", ip6(NOBODY6, ICMP, &word(135))),
        (
            "groups",
            ip6(NOBODY6, HOPS, &behind(&[&options(ICMP)], &word(143))),
        ),
        (
            "a ping's begin",
            ip6(IP6, FRAGMENT, &behind(&[&begun], &word(128))),
        ),
        // What lies there is a type only to who takes it for a beginning.
        (
            "a ping's rest",
            ip6(IP6, FRAGMENT, &behind(&[&rest], &word(134))),
        ),
    ]
}

/// What makes others believe that it is somebody else.
fn lies() -> Vec<(&'static str, Vec<u8>)> {
    let stolen = advertised(GATEWAY6);
    let (begun, whole) = (fragment(OPTIONS, 0, true), fragment(ICMP, 0, false));
    let about = |from, next, headers: &[&[u8]]| ip6(from, next, &behind(headers, &stolen));
    vec![
        ("another card", frame(GATEWAY_MAC, 0x0800, &ip4(IP)[14..])),
        ("ARP's other card", arp(GATEWAY_MAC, IP)),
        ("ARP's other address", arp(MAC, GATEWAY)),
        ("another IPv4", ip4(GATEWAY)),
        ("another IPv6", ip6(GATEWAY6, UDP, &[0; 8])),
        ("no IPv6", ip6(NOBODY6, UDP, &[0; 8])),
        (
            "an advertisement of nobody",
            ip6(NOBODY6, ICMP, &advertised(IP6)),
        ),
        ("the gateway's", about(IP6, ICMP, &[])),
        ("the gateway's, of the link", about(LINK6, ICMP, &[])),
        ("behind options", about(IP6, OPTIONS, &[&options(ICMP)])),
        ("behind hops", about(LINK6, HOPS, &[&options(ICMP)])),
        (
            "behind both",
            about(IP6, HOPS, &[&options(OPTIONS), &options(ICMP)]),
        ),
        ("in one fragment", about(IP6, FRAGMENT, &[&whole])),
        // The kind comes with the second one, which says that it carries something else.
        (
            "a beginning without its kind",
            ip6(IP6, FRAGMENT, &behind(&[&begun], &options(ICMP))),
        ),
        (
            "half of one",
            ip6(
                IP6,
                FRAGMENT,
                &behind(&[&fragment(ICMP, 0, true)], &stolen[..8]),
            ),
        ),
        ("a router", ip6(LINK6, ICMP, &word(134))),
        (
            "a router behind options",
            ip6(LINK6, OPTIONS, &behind(&[&options(ICMP)], &word(134))),
        ),
        (
            "a router in one fragment",
            ip6(LINK6, FRAGMENT, &behind(&[&whole], &word(134))),
        ),
        (
            "a redirect behind hops",
            ip6(LINK6, HOPS, &behind(&[&options(ICMP)], &word(137))),
        ),
        ("no IP at all", frame(MAC, 0x88b5, &[0; 46])),
    ]
}

/// Said past libtest, which keeps what is printed: the gate runs the test in the lab host.
fn skip(why: &str) {
    let line = format!("SKIPPED a_tap_lets_nobody_speak_for_others: {why}\n");
    let _ = io::stderr().write_all(line.as_bytes());
}

fn send_and_count() -> io::Result<()> {
    let tap = sys::open_tap(TAP)?;
    sh(&format!("ip link set {TAP} up"));
    let addresses = [IpAddr::from(IP), IP6.into()];
    if let Err(error) = rules::guard(TAP, MacAddress(MAC), &addresses) {
        skip(&format!(
            "this kernel's packet filter is not whole: {error}"
        ));
        return Ok(());
    }
    let dropped = || rules::dropped(TAP).map_err(io::Error::other);
    for (is_lie, said) in [(false, honest()), (true, lies())] {
        for (name, frame) in said {
            let before = dropped()?;
            rustix::io::write(&tap, &[&[0; 12][..], &frame].concat())?;
            assert_eq!(dropped()? - before, u64::from(is_lie), "{name}");
        }
    }
    Ok(())
}

#[test]
fn a_tap_lets_nobody_speak_for_others_and_counts_who_tries() {
    if !rustix::process::geteuid().is_root() {
        return skip("network namespaces are root's");
    }
    let directory = std::env::temp_dir().join(format!("beluga-guard-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let namespace = directory.join("net");
    std::fs::write(&namespace, "").unwrap();
    sys::netns::make(&namespace).unwrap();
    let tried = sys::netns::within(&namespace, send_and_count);
    sys::netns::remove(&namespace).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    tried.unwrap();
}
