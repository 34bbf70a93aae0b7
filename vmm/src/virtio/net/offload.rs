//! Which work on packets is left to whom: feature bits of the card on one
//! side, offload flags of the tap on the other.

use crate::sys::net as sys;

/// Feature bits (VIRTIO 1.2, 5.1.3) by their numbers.
pub mod bit {
    /// The device completes checksums of the driver's packets.
    pub const CSUM: u32 = 0;
    /// The driver takes packets with checksums to be completed.
    pub const GUEST_CSUM: u32 = 1;
    /// The configuration space has the MTU.
    pub const MTU: u32 = 3;
    /// It has the address.
    pub const MAC: u32 = 5;
    /// The driver takes large TCP segments over IPv4.
    pub const GUEST_TSO4: u32 = 7;
    /// … over IPv6.
    pub const GUEST_TSO6: u32 = 8;
    /// … with ECN.
    pub const GUEST_ECN: u32 = 9;
    /// The device takes large TCP segments over IPv4.
    pub const HOST_TSO4: u32 = 11;
    /// … over IPv6.
    pub const HOST_TSO6: u32 = 12;
    /// … with ECN.
    pub const HOST_ECN: u32 = 13;
    /// A packet may fill several receive buffers.
    pub const MRG_RXBUF: u32 = 15;
    /// The configuration space has the state of the link.
    pub const STATUS: u32 = 16;
    /// The driver takes large UDP datagrams over IPv4.
    pub const GUEST_USO4: u32 = 54;
    /// … over IPv6.
    pub const GUEST_USO6: u32 = 55;
    /// The device takes large UDP datagrams.
    pub const HOST_USO: u32 = 56;
}

/// What every card offers.
const ALWAYS: [u32; 11] = [
    bit::CSUM,
    bit::GUEST_CSUM,
    bit::MAC,
    bit::GUEST_TSO4,
    bit::GUEST_TSO6,
    bit::GUEST_ECN,
    bit::HOST_TSO4,
    bit::HOST_TSO6,
    bit::HOST_ECN,
    bit::MRG_RXBUF,
    bit::STATUS,
];

/// What a card offers when its tap knows UDP segmentation (Linux 6.2).
const WITH_USO: [u32; 3] = [bit::GUEST_USO4, bit::GUEST_USO6, bit::HOST_USO];

/// The MTU of every card that says nothing else.
const ETHERNET_MTU: u16 = 1500;

/// Feature bits to offer. The MTU is told only where it is not Ethernet's own:
/// Linux reads it twice at start, and each read is an exit.
#[must_use]
pub fn offered(uso: bool, mtu: u16) -> u64 {
    let extra = if uso { &WITH_USO[..] } else { &[] };
    let mtu_bit: &[u32] = if mtu == ETHERNET_MTU {
        &[]
    } else {
        &[bit::MTU]
    };
    ALWAYS
        .iter()
        .chain(extra)
        .chain(mtu_bit)
        .fold(0, |all, bit| all | 1 << bit)
}

/// The tap's flags for the features that the driver accepted.
#[must_use]
pub fn tap_flags(features: u64) -> u32 {
    let has = |bit: u32| features & (1 << bit) != 0;
    // Every segmentation needs the checksum (5.1.3.1), whatever a driver says.
    if !has(bit::GUEST_CSUM) {
        return 0;
    }
    let mut flags = sys::TUN_F_CSUM;
    let tso = [
        (bit::GUEST_TSO4, sys::TUN_F_TSO4),
        (bit::GUEST_TSO6, sys::TUN_F_TSO6),
    ];
    for (_, flag) in tso.into_iter().filter(|(bit, _)| has(*bit)) {
        flags |= flag;
    }
    if flags != sys::TUN_F_CSUM && has(bit::GUEST_ECN) {
        flags |= sys::TUN_F_TSO_ECN;
    }
    if has(bit::GUEST_USO4) && has(bit::GUEST_USO6) {
        flags |= sys::TUN_F_USO4 | sys::TUN_F_USO6;
    }
    flags
}

/// Longest packet, header included, that comes out of a tap with these flags.
#[must_use]
pub fn longest_packet(flags: u32, mtu: u16) -> usize {
    /// Ethernet header with two VLAN tags.
    const LINK: usize = 14 + 8;
    let segmented = flags & !sys::TUN_F_CSUM != 0;
    let payload = if segmented { 1 << 16 } else { usize::from(mtu) };
    super::HEADER_LEN + LINK + payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_comes_offloaded_to_a_driver_that_did_not_ask() {
        assert_eq!(tap_flags(0), 0);
        assert_eq!(tap_flags(1 << bit::GUEST_TSO4), 0);
        assert_eq!(longest_packet(0, 1500), 12 + 22 + 1500);
    }

    #[test]
    fn half_of_udp_segmentation_is_none() {
        let csum = 1 << bit::GUEST_CSUM;
        assert_eq!(tap_flags(csum | 1 << bit::GUEST_USO4), sys::TUN_F_CSUM);
        assert_eq!(
            tap_flags(csum | 1 << bit::GUEST_USO4 | 1 << bit::GUEST_USO6),
            sys::TUN_F_CSUM | sys::TUN_F_USO4 | sys::TUN_F_USO6
        );
    }

    #[test]
    fn all_that_is_offered_is_taken_up() {
        let all = offered(true, 1500);
        assert_eq!(tap_flags(all), 0x6f);
        assert_eq!(longest_packet(tap_flags(all), 1500), 12 + 22 + 65_536);
        assert_eq!(offered(false, 1500) & (1 << bit::HOST_USO), 0);
        assert_eq!(offered(false, 1500) & (1 << bit::MTU), 0);
        assert_ne!(offered(false, 9000) & (1 << bit::MTU), 0);
    }
}
