//! What a rule looks at and does, in the kernel's words.

use super::{Attributes, attribute, attributes};
use crate::spec::Transport;
use std::net::IpAddr;

// `NFT_REG_VERDICT`, `NFT_REG_1`, `NFT_REG_2`.
const VERDICT: u32 = 0;
const FIRST: u32 = 1;
const SECOND: u32 = 2;

// `enum nft_list_attributes`, `nft_expr_attributes`, `nft_data_attributes`.
const ELEMENT: u16 = 1;
const NAME: u16 = 1;
const DATA: u16 = 2;
const VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
/// `NFTA_COUNTER_PACKETS`.
const COUNTER_PACKETS: u16 = 2;

// `enum nft_meta_keys`.
const META_PROTOCOL: u32 = 1;
const META_IN_NAME: u32 = 6;
const META_OUT_NAME: u32 = 7;
const META_FAMILY: u32 = 15;
const META_TRANSPORT: u32 = 16;

// `enum nft_payload_bases`.
const LINK: u32 = 0;
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;

const EQUAL: u32 = 0;
const DIFFERENT: u32 = 1;
const AT_MOST: u32 = 3;
const AT_LEAST: u32 = 5;

// netfilter.h.
const DROP: u32 = 0;
const ACCEPT: u32 = 1;
const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// `RTN_LOCAL`: an address of this host.
const LOCAL: u32 = 2;

/// `IPS_DST_NAT`.
const TRANSLATED: u32 = 1 << 5;

/// Size of an interface's name in a register.
const NAME_BYTES: usize = 16;

/// Whose packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4 and IPv6 (`inet`).
    Internet,
    /// Frames of one interface (`netdev`).
    Device,
    /// Frames between the ports of bridges.
    Bridge,
    /// IPv4 alone, as `iptables` has it.
    Ipv4,
    /// IPv6 alone, as `ip6tables` has it.
    Ipv6,
}

impl Family {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Internet => 1,
            Self::Device => 5,
            Self::Bridge => 7,
            Self::Ipv4 => 2,
            Self::Ipv6 => 10,
        }
    }
}

/// Conditions, then what to do: each is an expression.
#[derive(Debug, Clone, Default)]
pub struct Rule(Vec<(&'static str, Attributes)>);

impl Rule {
    /// A rule that holds for everything.
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn write(&self, all: &mut Attributes) {
        for (name, data) in &self.0 {
            all.nested(ELEMENT, |one| {
                one.text(NAME, name);
                one.bytes(DATA | super::NESTED, &data.0);
            });
        }
    }

    fn with(mut self, name: &'static str, fill: impl FnOnce(&mut Attributes)) -> Self {
        let mut data = Attributes::default();
        fill(&mut data);
        self.0.push((name, data));
        self
    }

    fn meta(self, key: u32) -> Self {
        self.with("meta", |at| {
            at.number(1, FIRST).number(2, key);
        })
    }

    fn payload(self, base: u32, offset: usize, length: usize) -> Self {
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        self.with("payload", |at| {
            at.number(1, FIRST)
                .number(2, base)
                .number(3, number(offset))
                .number(4, number(length));
        })
    }

    fn compare(self, how: u32, value: &[u8]) -> Self {
        self.with("cmp", |at| {
            at.number(1, FIRST).number(2, how).nested(3, |data| {
                data.bytes(VALUE, value);
            });
        })
    }

    fn mask(self, mask: &[u8]) -> Self {
        self.with("bitwise", |at| {
            at.number(1, FIRST)
                .number(2, FIRST)
                .number(3, u32::try_from(mask.len()).unwrap_or(u32::MAX))
                .nested(4, |data| {
                    data.bytes(VALUE, mask);
                })
                .nested(5, |data| {
                    data.bytes(VALUE, &vec![0; mask.len()]);
                });
        })
    }

    fn immediate(self, register: u32, value: &[u8]) -> Self {
        self.with("immediate", |at| {
            at.number(1, register).nested(2, |data| {
                data.bytes(VALUE, value);
            });
        })
    }

    fn verdict(self, code: u32) -> Self {
        self.with("immediate", |at| {
            at.number(1, VERDICT).nested(2, |data| {
                data.nested(DATA_VERDICT, |verdict| {
                    verdict.number(VERDICT_CODE, code);
                });
            });
        })
    }

    fn interface(self, key: u32, how: u32, name: &str) -> Self {
        let mut bytes = name.as_bytes().to_vec();
        bytes.resize(NAME_BYTES, 0);
        self.meta(key).compare(how, &bytes)
    }

    /// Came in by this interface.
    pub fn in_by(self, name: &str) -> Self {
        self.interface(META_IN_NAME, EQUAL, name)
    }

    /// Goes out by this interface.
    pub fn out_by(self, name: &str) -> Self {
        self.interface(META_OUT_NAME, EQUAL, name)
    }

    /// Goes out by another interface.
    pub fn not_out_by(self, name: &str) -> Self {
        self.interface(META_OUT_NAME, DIFFERENT, name)
    }

    /// Came in by another interface.
    pub fn not_in_by(self, name: &str) -> Self {
        self.interface(META_IN_NAME, DIFFERENT, name)
    }

    /// Came in by an interface whose name begins like that.
    pub fn in_by_any(self, prefix: &str) -> Self {
        self.meta(META_IN_NAME).compare(EQUAL, prefix.as_bytes())
    }

    /// Goes out by an interface whose name begins like that.
    pub fn out_by_any(self, prefix: &str) -> Self {
        self.meta(META_OUT_NAME).compare(EQUAL, prefix.as_bytes())
    }

    /// The IP of an `inet` table's packet is of this address's family.
    fn family_of(self, ip: IpAddr) -> Self {
        let family = if ip.is_ipv4() { IPV4 } else { IPV6 };
        self.meta(META_FAMILY).compare(EQUAL, &[family])
    }

    /// An address at its place in the header of its family.
    fn address(self, how: u32, (ip, prefix): (IpAddr, u8), is_source: bool) -> Self {
        let (bytes, source, destination) = match ip {
            IpAddr::V4(ip) => (ip.octets().to_vec(), 12, 16),
            IpAddr::V6(ip) => (ip.octets().to_vec(), 8, 24),
        };
        let offset = if is_source { source } else { destination };
        let mask: Vec<u8> = (0..bytes.len())
            .map(|at| match usize::from(prefix).saturating_sub(8 * at) {
                0 => 0,
                bits @ 1..8 => 0xff << (8 - bits),
                _ => 0xff,
            })
            .collect();
        let network: Vec<u8> = bytes
            .iter()
            .zip(&mask)
            .map(|(at, mask)| at & mask)
            .collect();
        let loaded = self.payload(NETWORK, offset, bytes.len());
        let loaded = if mask.iter().all(|byte| *byte == 0xff) {
            loaded
        } else {
            loaded.mask(&mask)
        };
        loaded.compare(how, &network)
    }

    /// Sent from this network.
    pub fn sent_by(self, network: (IpAddr, u8)) -> Self {
        self.family_of(network.0).address(EQUAL, network, true)
    }

    /// Sent to this network.
    pub fn sent_to(self, network: (IpAddr, u8)) -> Self {
        self.family_of(network.0).address(EQUAL, network, false)
    }

    /// Sent elsewhere than to this network, of the same family.
    pub fn not_sent_to(self, network: (IpAddr, u8)) -> Self {
        self.family_of(network.0).address(DIFFERENT, network, false)
    }

    /// Sent to an address of this host, of this one's family.
    pub fn sent_here(self, like: IpAddr) -> Self {
        /// `NFTA_FIB_F_DADDR`.
        const OF_DESTINATION: u32 = 2;
        /// `NFT_FIB_RESULT_ADDRTYPE`.
        const ADDRESS_TYPE: u32 = 3;
        self.family_of(like)
            .with("fib", |at| {
                at.number(1, FIRST)
                    .number(2, ADDRESS_TYPE)
                    .number(3, OF_DESTINATION);
            })
            .compare(EQUAL, &LOCAL.to_ne_bytes())
    }

    /// Sent to this port.
    pub fn at_port(self, transport: Transport, port: u16) -> Self {
        let number = match transport {
            Transport::Tcp => 6,
            Transport::Udp => 17,
        };
        self.meta(META_TRANSPORT)
            .compare(EQUAL, &[number])
            .payload(TRANSPORT, 2, 2)
            .compare(EQUAL, &port.to_be_bytes())
    }

    /// Of a connection whose destination has been changed.
    pub fn translated(self) -> Self {
        /// `NFT_CT_STATUS`.
        const STATUS: u32 = 2;
        self.with("ct", |at| {
            at.number(1, FIRST).number(2, STATUS);
        })
        .mask(&TRANSLATED.to_ne_bytes())
        .compare(DIFFERENT, &0u32.to_ne_bytes())
    }

    /// From this network, whatever the table's family.
    pub fn coming_from(self, network: (IpAddr, u8)) -> Self {
        self.of_ip(network.0).address(EQUAL, network, true)
    }

    /// From elsewhere.
    pub fn not_coming_from(self, network: (IpAddr, u8)) -> Self {
        self.of_ip(network.0).address(DIFFERENT, network, true)
    }

    /// To this network, whatever the table's family.
    pub fn toward(self, network: (IpAddr, u8)) -> Self {
        self.of_ip(network.0).address(EQUAL, network, false)
    }

    /// To elsewhere.
    pub fn not_toward(self, network: (IpAddr, u8)) -> Self {
        self.of_ip(network.0).address(DIFFERENT, network, false)
    }

    /// A packet of this address's family, by the type of its frame.
    fn of_ip(self, ip: IpAddr) -> Self {
        self.of_type(if ip.is_ipv4() { 0x0800 } else { 0x86dd })
    }

    /// Of this transport, by IP's number, to ports from the first to the last.
    pub fn of_ports(self, protocol: u8, range: Option<(u16, u16)>) -> Self {
        let rule = self.meta(META_TRANSPORT).compare(EQUAL, &[protocol]);
        let Some((first, last)) = range else {
            return rule;
        };
        let rule = rule.payload(TRANSPORT, 2, 2);
        if first == last {
            return rule.compare(EQUAL, &first.to_be_bytes());
        }
        let rule = rule.compare(AT_LEAST, &first.to_be_bytes());
        rule.compare(AT_MOST, &last.to_be_bytes())
    }

    /// Of a connection that has been let through, or about one.
    pub fn known(self) -> Self {
        /// `NFT_CT_STATE`, and the bits of `established` and `related`.
        const STATE: u32 = 0;
        const KNOWN: u32 = 2 | 4;
        self.with("ct", |at| {
            at.number(1, FIRST).number(2, STATE);
        })
        .mask(&KNOWN.to_ne_bytes())
        .compare(DIFFERENT, &0u32.to_ne_bytes())
    }

    /// A frame from another card.
    pub fn of_other_card(self, mac: [u8; 6]) -> Self {
        self.payload(LINK, 6, 6).compare(DIFFERENT, &mac)
    }

    /// A frame of this type.
    pub fn of_type(self, ether_type: u16) -> Self {
        self.meta(META_PROTOCOL)
            .compare(EQUAL, &ether_type.to_be_bytes())
    }

    /// An IP packet of a frame with its type known: from this address.
    pub fn of_source(self, ip: IpAddr, prefix: u8) -> Self {
        self.address(EQUAL, (ip, prefix), true)
    }

    /// These bytes at this place behind the frame's header.
    pub fn with_bytes(self, offset: usize, bytes: &[u8]) -> Self {
        self.payload(NETWORK, offset, bytes.len())
            .compare(EQUAL, bytes)
    }

    /// A word of ICMPv6 of this kind, whatever stands between IP's header and it.
    pub fn of_icmp6(self, kind: u8) -> Self {
        self.icmp6(EQUAL).with_transport_bytes(0, &[kind])
    }

    /// A word of ICMPv6 whose kind can be seen.
    pub fn of_any_icmp6(self) -> Self {
        /// No kind: the comparison fails only where there is nothing to compare.
        const RESERVED: u8 = 255;
        self.icmp6(EQUAL)
            .payload(TRANSPORT, 0, 1)
            .compare(DIFFERENT, &[RESERVED])
    }

    /// The rest of a word of ICMPv6, whose beginning another fragment has.
    pub fn of_later_icmp6(self) -> Self {
        /// `IPPROTO_FRAGMENT`; place, size and mask of the offset (RFC 8200, section 4.5).
        const FRAGMENT: u8 = 44;
        const PLACE: u32 = 2;
        const SIZE: u32 = 2;
        const OFFSET: u16 = 0xfff8;
        self.icmp6(EQUAL)
            .with("exthdr", |at| {
                at.number(1, FIRST)
                    .bytes(2, &[FRAGMENT])
                    .number(3, PLACE)
                    .number(4, SIZE);
            })
            .mask(&OFFSET.to_be_bytes())
            .compare(DIFFERENT, &[0, 0])
    }

    /// IPv6 that carries something else than ICMPv6, and says what.
    pub fn of_other_ip6_than_icmp(self) -> Self {
        self.icmp6(DIFFERENT)
    }

    /// IPv6 whose transport is ICMP, or is not; one that cannot be found is neither.
    fn icmp6(self, how: u32) -> Self {
        const ICMP: u8 = 58;
        self.of_type(0x86dd)
            .meta(META_TRANSPORT)
            .compare(how, &[ICMP])
    }

    /// These bytes at this place of the transport's header.
    pub fn with_transport_bytes(self, offset: usize, bytes: &[u8]) -> Self {
        self.payload(TRANSPORT, offset, bytes.len())
            .compare(EQUAL, bytes)
    }

    /// Counts.
    pub fn count(self) -> Self {
        self.with("counter", |_| {})
    }

    /// Lets it pass.
    pub fn accept(self) -> Self {
        self.verdict(ACCEPT)
    }

    /// Sends the frame out by the interface of that number, instead of anything else.
    pub fn send_by(self, index: u32) -> Self {
        self.immediate(FIRST, &index.to_ne_bytes())
            .with("fwd", |at| {
                at.number(1, FIRST);
            })
    }

    /// Throws it away.
    pub fn drop(self) -> Self {
        self.verdict(DROP)
    }

    /// Gives it the address of the interface that it goes out by.
    pub fn masquerade(self) -> Self {
        self.with("masq", |_| {})
    }

    /// Sends it to another place.
    pub fn redirect(self, ip: IpAddr, port: u16) -> Self {
        /// `NFT_NAT_DNAT`.
        const DESTINATION: u32 = 1;
        let (family, bytes) = match ip {
            IpAddr::V4(ip) => (IPV4, ip.octets().to_vec()),
            IpAddr::V6(ip) => (IPV6, ip.octets().to_vec()),
        };
        self.immediate(FIRST, &bytes)
            .immediate(SECOND, &port.to_be_bytes())
            .with("nat", |at| {
                at.number(1, DESTINATION)
                    .number(2, u32::from(family))
                    .number(3, FIRST)
                    .number(5, SECOND);
            })
    }
}

/// What the counters among a rule's expressions say.
pub(super) fn counters(expressions: &[u8]) -> impl Iterator<Item = u64> {
    attributes(expressions).filter_map(|(_, one)| {
        let name = attribute(one, NAME)?;
        let packets = attribute(attribute(one, DATA)?, COUNTER_PACKETS)?;
        (name == b"counter\0").then_some(u64::from_be_bytes(packets.try_into().ok()?))
    })
}
