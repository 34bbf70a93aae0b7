//! The packet filter's tables of one root.
//!
//! ```text
//! inet   blgHASH    of the network: NAT out, loopback's guard
//! netdev blgHASHtN  of the pod with the tap of that name: what it may send
//! inet   blgHASHtN  of the same pod: its published ports
//! ```
//! A pod's tables hold nothing of another's: they are made and removed whole,
//! by name. Ports are published by the kernel and by no process that could end.

pub use super::nft::Family;
pub use super::nft::news::News;
use super::nft::{self, Chain, Hook, Rule, Table};
use crate::plan::Beyond;
use crate::spec::{Network, Published};
use beluga_proto::pod::Address;
use beluga_proto::vm::MacAddress;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// All pod networks of IPv4: between them nothing is translated.
const PODS: (IpAddr, u8) = (IpAddr::V4(Ipv4Addr::new(10, 88, 0, 0)), 16);

/// Loopback of IPv4.
const LOOPBACK: (IpAddr, u8) = (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8);

// Ethernet's types.
const IPV4: u16 = 0x0800;
pub(super) const ARP: u16 = 0x0806;
pub(super) const IPV6: u16 = 0x86dd;

/// Why the packet filter is not as it should be.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}: the packet filter refuses (nf_tables)")]
pub struct RulesError {
    action: String,
    #[source]
    source: io::Error,
}

impl RulesError {
    pub(super) fn on(action: &str, name: &str) -> impl FnOnce(io::Error) -> Self {
        let action = format!("{action} {name}");
        move |source| Self { action, source }
    }
}

/// How the names of all our interfaces begin.
pub(super) const OURS: &str = "blg";

/// Makes the network's table unless it is there.
pub fn ensure_network(
    bridge: &str,
    gateways: &[Address],
    beyond: &Beyond,
) -> Result<(), RulesError> {
    let error = RulesError::on("make the table", bridge);
    let made = nft::tables(Family::Internet).and_then(|all| {
        if all.iter().any(|name| name == bridge) {
            return Ok(());
        }
        nft::replace(&network(bridge, gateways, beyond))
    });
    made.map_err(error)
}

fn network<'n>(bridge: &'n str, gateways: &[Address], beyond: &Beyond) -> Table<'n> {
    // The host's loopback can be routed to the bridge, so that it reaches
    // published ports; the other way it must not be (CVE-2020-8558).
    let foreign = [true, false].map(|is_source| {
        let rule = Rule::new().in_by(bridge);
        let rule = if is_source {
            rule.sent_by(LOOPBACK)
        } else {
            rule.sent_to(LOOPBACK)
        };
        rule.drop()
    });
    let chain = |name, hook, rules| Chain { name, hook, rules };
    let out = masquerade(bridge, gateways, beyond);
    let mut chains = vec![
        chain("guard", Hook::Guard, foreign.into()),
        chain("out", Hook::NatOut, out),
    ];
    let apart = apart(bridge, beyond);
    if !apart.is_empty() {
        chains.push(chain("apart", Hook::Forward, apart));
    }
    Table {
        family: Family::Internet,
        name: bridge,
        chains,
    }
}

/// Who is seen with this host's address.
fn masquerade(bridge: &str, gateways: &[Address], beyond: &Beyond) -> Vec<Rule> {
    let mut out = Vec::new();
    for gateway in gateways {
        let own = (gateway.ip, gateway.prefix);
        let loopback = match gateway.ip {
            IpAddr::V4(_) => LOOPBACK,
            IpAddr::V6(_) => (Ipv6Addr::LOCALHOST.into(), 128),
        };
        // A published port, asked for from loopback or by another pod: the
        // answer must come back through this host.
        for asking in [loopback, own] {
            let rule = Rule::new().out_by(bridge).translated().sent_by(asking);
            out.push(rule.masquerade());
        }
        if beyond.no_masquerade {
            continue;
        }
        let like = |one: &Network| one.0.is_ipv4() == gateway.ip.is_ipv4();
        let plain = beyond.plain().chain([PODS]).filter(like);
        let leaving = Rule::new().not_out_by(bridge).sent_by(own);
        out.push(plain.fold(leaving, Rule::not_sent_to).masquerade());
    }
    out
}

/// What may not be passed on between a network and others. Who asks for a
/// published port gets it from anywhere but out of an internal network.
fn apart(bridge: &str, beyond: &Beyond) -> Vec<Rule> {
    let (from, to) = (
        || Rule::new().in_by(bridge).not_out_by(bridge),
        || Rule::new().out_by(bridge).not_in_by(bridge),
    );
    if beyond.internal {
        return vec![from().drop(), to().drop()];
    }
    if !beyond.isolated {
        return Vec::new();
    }
    vec![
        Rule::new().translated().accept(),
        from().out_by_any(OURS).drop(),
        to().in_by_any(OURS).drop(),
    ]
}

/// Lets a tap send only what its card and addresses are the senders of.
pub fn guard(tap: &str, mac: MacAddress, addresses: &[IpAddr]) -> Result<(), RulesError> {
    let rules = own_only(mac, addresses, Rule::accept);
    guard_at(tap, rules).map_err(RulesError::on("guard the tap", tap))
}

/// The same of a tap in another namespace, which is no port of a bridge: what it
/// may send goes out by the interface of number `to`, and nowhere else.
pub fn guard_and_send(
    tap: &str,
    to: u32,
    mac: MacAddress,
    addresses: &[IpAddr],
) -> Result<(), RulesError> {
    let send = |rule: Rule| rule.send_by(to);
    let rules = if addresses.is_empty() {
        vec![
            Rule::new().of_other_card(mac.0).count().drop(),
            send(Rule::new()),
        ]
    } else {
        own_only(mac, addresses, send)
    };
    guard_at(tap, rules).map_err(RulesError::on("guard the tap", tap))
}

fn guard_at(tap: &str, rules: Vec<Rule>) -> io::Result<()> {
    let device = tap.to_owned();
    let chain = Chain {
        name: "guard",
        hook: Hook::Ingress { device },
        rules,
    };
    nft::replace(&Table {
        family: Family::Device,
        name: tap,
        chains: vec![chain],
    })
}

/// Packets of a card and its addresses pass, others are counted and dropped.
fn own_only(mac: MacAddress, addresses: &[IpAddr], pass: impl Fn(Rule) -> Rule) -> Vec<Rule> {
    let mut rules = vec![Rule::new().of_other_card(mac.0).count().drop()];
    let link_local = link_local(mac);
    for ip in addresses {
        match ip {
            IpAddr::V4(ip) => {
                // ARP: the sender's card and address, as the frame has them.
                for sender in [*ip, Ipv4Addr::UNSPECIFIED] {
                    let arp = Rule::new().of_type(ARP).with_bytes(8, &mac.0);
                    rules.push(pass(arp.with_bytes(14, &sender.octets())));
                }
                let rule = Rule::new().of_type(IPV4);
                rules.push(pass(rule.of_source((*ip).into(), 32)));
            }
            IpAddr::V6(_) => {}
        }
    }
    // Without an address of its own a card still has that of the link.
    let own = addresses.iter().filter_map(|ip| match ip {
        IpAddr::V6(ip) => Some(*ip),
        IpAddr::V4(_) => None,
    });
    rules.extend(ipv6(&own.chain([link_local]).collect::<Vec<_>>(), pass));
    rules.push(Rule::new().count().drop());
    rules
}

/// What of IPv6 a pod may send, whose words about neighbours count as well as
/// the address that they come from. Headers between IP's and such a word are seen
/// through, as its receiver does.
///
/// A packet in fragments is judged by the first one, which must say what it carries
/// (RFC 7112): whoever puts it together again hands on what nobody has looked at.
fn ipv6(own: &[Ipv6Addr], pass: impl Fn(Rule) -> Rule) -> Vec<Rule> {
    /// The types of what only a router says, and of a neighbour's advertisement (RFC 4861).
    const ROUTER: u8 = 134;
    const REDIRECT: u8 = 137;
    const NEIGHBOUR: u8 = 136;
    /// What a card says that has no address yet: it reports groups (RFC 2710, RFC
    /// 3810), asks for routers and whether an address is free (RFC 4861, RFC 4862).
    const NAMELESS: [u8; 4] = [131, 143, 133, 135];
    let word = |kind: u8| Rule::new().of_icmp6(kind);
    let mut rules = vec![word(ROUTER).count().drop(), word(REDIRECT).count().drop()];
    for target in own {
        for sender in own {
            let about = word(NEIGHBOUR).with_transport_bytes(8, &target.octets());
            rules.push(pass(about.of_source((*sender).into(), 128)));
        }
    }
    rules.push(word(NEIGHBOUR).count().drop());
    for sender in own {
        let told = [
            Rule::new().of_other_ip6_than_icmp(),
            Rule::new().of_any_icmp6(),
            Rule::new().of_later_icmp6(),
        ];
        rules.extend(told.map(|rule| pass(rule.of_source((*sender).into(), 128))));
    }
    let nameless = NAMELESS.map(|kind| {
        let rule = word(kind).of_source(Ipv6Addr::UNSPECIFIED.into(), 128);
        pass(rule)
    });
    rules.extend(nameless);
    rules
}

/// The address that a card gives itself (RFC 4291, appendix A).
fn link_local(mac: MacAddress) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let bytes = [
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 2,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ];
    Ipv6Addr::from(bytes)
}

/// Frames that a tap's guard has thrown away.
pub fn dropped(tap: &str) -> Result<u64, RulesError> {
    nft::counted(Family::Device, tap).map_err(RulesError::on("count what is dropped at", tap))
}

/// Leads ports of the host to a pod.
pub fn publish(table: &str, addresses: &[IpAddr], ports: &[Published]) -> Result<(), RulesError> {
    let rules = || -> Vec<Rule> {
        let pairs = ports
            .iter()
            .flat_map(|port| addresses.iter().map(move |ip| (port, *ip)));
        pairs.filter_map(|(port, ip)| redirect(port, ip)).collect()
    };
    let chain = |name, hook| Chain {
        name,
        hook,
        rules: rules(),
    };
    let table_of = Table {
        family: Family::Internet,
        name: table,
        chains: vec![chain("in", Hook::NatIn), chain("local", Hook::NatLocal)],
    };
    nft::replace(&table_of).map_err(RulesError::on("publish the ports of", table))
}

/// The rule for one address of the pod; none where families differ.
fn redirect(port: &Published, pod: IpAddr) -> Option<Rule> {
    let rule = match port.host.ip {
        Some(ip) if ip.is_ipv4() != pod.is_ipv4() => return None,
        Some(ip) if !ip.is_unspecified() => {
            Rule::new().sent_to((ip, if ip.is_ipv4() { 32 } else { 128 }))
        }
        _ if pod.is_ipv4() => Rule::new().sent_here(pod),
        // The kernel takes no answer from a bridge for ::1, whatever it is told
        // (`rt6_need_strict`): refused at once, clients go on to 127.0.0.1.
        _ => Rule::new()
            .not_sent_to((Ipv6Addr::LOCALHOST.into(), 128))
            .sent_here(pod),
    };
    let rule = rule.at_port(port.transport, port.host.port);
    Some(rule.redirect(pod, port.to))
}

/// Removes what is left of a name. What is not there is no error.
pub fn remove(family: Family, name: &str) -> Result<(), RulesError> {
    nft::remove(family, name).map_err(RulesError::on("remove the table", name))
}

/// Tables whose names begin like that; none where there is no packet filter.
pub fn tables(prefix: &str) -> Vec<(Family, String)> {
    let of = |family| {
        let names = nft::tables(family).unwrap_or_default().into_iter();
        names.map(move |name| (family, name))
    };
    of(Family::Internet)
        .chain(of(Family::Device))
        .chain(of(Family::Bridge))
        .filter(|(_, name)| name.starts_with(prefix))
        .collect()
}
