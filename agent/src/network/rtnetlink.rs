//! The three rtnetlink requests that a pod's network takes, as bytes
//! (linux/netlink.h, linux/rtnetlink.h; everything in host order and aligned
//! to four). The crates that know all of rtnetlink would be 6 % of the guest's
//! initramfs.

use beluga_proto::pod::{Address, Route};
use std::io;
use std::net::IpAddr;

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;

const IFF_UP: u32 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
/// No duplicate address detection.
const IFA_F_NODAD: u8 = 2;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RTN_UNICAST: u8 = 1;

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;

/// A request under construction.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = vec![0u8; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
        bytes.extend(body);
        Self(bytes)
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn ip(self, kind: u16, ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => self.attribute(kind, &ip.octets()),
            IpAddr::V6(ip) => self.attribute(kind, &ip.octets()),
        }
    }

    fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

fn family(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

/// Brings a card up, and changes its MTU and name.
pub fn bring_up(index: u32, mtu: Option<u32>, name: Option<&str>) -> Vec<u8> {
    // struct ifinfomsg: family, padding, type; index; flags; change mask.
    let mut body = vec![0u8; 4];
    body.extend(index.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    let mut message = Message::new(RTM_NEWLINK, 0, &body);
    if let Some(mtu) = mtu {
        message = message.attribute(IFLA_MTU, &mtu.to_ne_bytes());
    }
    if let Some(name) = name {
        let mut text = name.as_bytes().to_vec();
        text.push(0);
        message = message.attribute(IFLA_IFNAME, &text);
    }
    message.finish()
}

/// Gives a card an address.
pub fn add_address(index: u32, address: &Address) -> Vec<u8> {
    let Address { ip, prefix } = *address;
    let flags = if ip.is_ipv6() { IFA_F_NODAD } else { 0 };
    // struct ifaddrmsg: family, prefix length, flags, scope; index.
    let mut body = vec![family(ip), prefix, flags, RT_SCOPE_UNIVERSE];
    body.extend(index.to_ne_bytes());
    let message = Message::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &body)
        .ip(IFA_ADDRESS, ip)
        .ip(IFA_LOCAL, ip);
    match ip {
        // The broadcast address that every other tool would set.
        IpAddr::V4(v4) if prefix < 31 => {
            let hosts = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            let broadcast = IpAddr::V4((u32::from(v4) | hosts).into());
            message.ip(IFA_BROADCAST, broadcast).finish()
        }
        _ => message.finish(),
    }
}

/// Adds a route through a card.
pub fn add_route(index: u32, route: &Route) -> Vec<u8> {
    let any = route.to.map(|to| to.ip).or(route.via);
    let scope = match route.via {
        Some(_) => RT_SCOPE_UNIVERSE,
        None => RT_SCOPE_LINK,
    };
    // struct rtmsg: family, destination and source prefix lengths, type of
    // service, table, protocol, scope, type; flags.
    let body = [
        any.map_or(libc::AF_INET as u8, family),
        route.to.map_or(0, |to| to.prefix),
        0,
        0,
        RT_TABLE_MAIN,
        RTPROT_BOOT,
        scope,
        RTN_UNICAST,
        0,
        0,
        0,
        0,
    ];
    let mut message = Message::new(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &body)
        .attribute(RTA_OIF, &index.to_ne_bytes());
    if let Some(to) = route.to {
        message = message.ip(RTA_DST, to.ip);
    }
    if let Some(via) = route.via {
        message = message.ip(RTA_GATEWAY, via);
    }
    message.finish()
}

/// Reads the kernel's answer, a `struct nlmsgerr`: a header, then a negative
/// errno or zero.
pub fn acknowledged(answer: &[u8]) -> io::Result<()> {
    let code = answer
        .get(HEADER..HEADER + 4)
        .and_then(|bytes| bytes.try_into().ok())
        .map(i32::from_ne_bytes);
    match code {
        Some(0) => Ok(()),
        Some(code) if code < 0 => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_answer_is_read_and_never_trusted_to_be_whole() {
        let mut answer = [0u8; 36];
        assert!(acknowledged(&answer).is_ok());
        answer[16..20].copy_from_slice(&(-17i32).to_ne_bytes());
        let error = acknowledged(&answer).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(17));
        assert!(acknowledged(&answer[..18]).is_err());
        assert!(acknowledged(&[]).is_err());
    }

    #[test]
    fn an_address_is_encoded_as_the_kernel_reads_it() {
        let address = Address {
            ip: "10.1.2.3".parse().unwrap(),
            prefix: 24,
        };
        let bytes = add_address(2, &address);
        assert_eq!(bytes.len(), 16 + 8 + 3 * 8);
        assert_eq!(bytes[..4], 48u32.to_ne_bytes());
        assert_eq!(bytes[16..24], [2, 24, 0, 0, 2, 0, 0, 0]);
        assert_eq!(bytes[24..32], [8, 0, 1, 0, 10, 1, 2, 3]);
        assert_eq!(bytes[40..48], [8, 0, 4, 0, 10, 1, 2, 255]);
    }

    #[test]
    fn a_name_is_padded() {
        let bytes = bring_up(3, Some(1400), Some("eth0"));
        assert_eq!(bytes.len(), 16 + 16 + 8 + 12);
        assert_eq!(bytes[40..49], *b"\x09\0\x03\0eth0\0");
    }
}
