//! The packet header of virtio-vsock (VIRTIO 1.2, 5.10.6) and what may stand in it.
//!
//! The header is parsed from a copy: the guest can change its memory after the
//! look, never what was seen. Our own codec instead of the `virtio-vsock`
//! crate's packet: that one knows a payload of one descriptor only, and a
//! Linux guest that sends with `MSG_ZEROCOPY` uses one per page.

/// Bytes of a header on the wire.
pub const HEADER_LEN: usize = 44;

/// Longest payload of a packet that a driver may send in bytes; what Linux
/// calls `VIRTIO_VSOCK_MAX_PKT_BUF_SIZE`.
pub const MAX_PAYLOAD: u32 = 64 << 10;

/// The host's context ID.
pub const HOST_CID: u64 = 2;

/// `VIRTIO_VSOCK_TYPE_STREAM`: the one socket type offered.
pub const TYPE_STREAM: u16 = 1;

/// `VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE`: the sender will receive no more.
pub const SHUTDOWN_RECEIVE: u32 = 1;

/// `VIRTIO_VSOCK_SHUTDOWN_F_SEND`: the sender will send no more.
pub const SHUTDOWN_SEND: u32 = 2;

/// Both directions.
pub const SHUTDOWN_BOTH: u32 = SHUTDOWN_RECEIVE | SHUTDOWN_SEND;

/// What a packet is for (`VIRTIO_VSOCK_OP_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Op {
    /// Open a connection.
    Request = 1,
    /// It is open.
    Response = 2,
    /// It is gone, or there never was one.
    Reset = 3,
    /// The sender ends one direction or both.
    Shutdown = 4,
    /// Payload.
    Data = 5,
    /// `buf_alloc` and `fwd_cnt` for their own sake.
    CreditUpdate = 6,
    /// Please send a credit update.
    CreditRequest = 7,
}

impl Op {
    /// The operation behind a number of the wire.
    #[must_use]
    pub fn from_wire(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Reset,
            4 => Self::Shutdown,
            5 => Self::Data,
            6 => Self::CreditUpdate,
            7 => Self::CreditRequest,
            _ => return None,
        })
    }
}

/// A header, in the host's byte order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Header {
    /// Context ID of the sender.
    pub src_cid: u64,
    /// Context ID of the receiver.
    pub dst_cid: u64,
    /// Port of the sender.
    pub src_port: u32,
    /// Port of the receiver.
    pub dst_port: u32,
    /// Bytes of payload.
    pub len: u32,
    /// Socket type.
    pub kind: u16,
    /// Operation; see [`Op`].
    pub op: u16,
    /// Of [`Op::Shutdown`]: which directions.
    pub flags: u32,
    /// Bytes of receive buffer that the sender has in all.
    pub buf_alloc: u32,
    /// Bytes that the sender has taken out of that buffer so far, modulo 2^32.
    pub fwd_cnt: u32,
}

impl Header {
    /// Reads a header.
    #[must_use]
    pub fn decode(wire: &[u8; HEADER_LEN]) -> Self {
        Self {
            src_cid: u64::from_le_bytes(field(wire, 0)),
            dst_cid: u64::from_le_bytes(field(wire, 8)),
            src_port: u32::from_le_bytes(field(wire, 16)),
            dst_port: u32::from_le_bytes(field(wire, 20)),
            len: u32::from_le_bytes(field(wire, 24)),
            kind: u16::from_le_bytes(field(wire, 28)),
            op: u16::from_le_bytes(field(wire, 30)),
            flags: u32::from_le_bytes(field(wire, 32)),
            buf_alloc: u32::from_le_bytes(field(wire, 36)),
            fwd_cnt: u32::from_le_bytes(field(wire, 40)),
        }
    }

    /// Writes a header.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut wire = [0u8; HEADER_LEN];
        wire[0..8].copy_from_slice(&self.src_cid.to_le_bytes());
        wire[8..16].copy_from_slice(&self.dst_cid.to_le_bytes());
        wire[16..20].copy_from_slice(&self.src_port.to_le_bytes());
        wire[20..24].copy_from_slice(&self.dst_port.to_le_bytes());
        wire[24..28].copy_from_slice(&self.len.to_le_bytes());
        wire[28..30].copy_from_slice(&self.kind.to_le_bytes());
        wire[30..32].copy_from_slice(&self.op.to_le_bytes());
        wire[32..36].copy_from_slice(&self.flags.to_le_bytes());
        wire[36..40].copy_from_slice(&self.buf_alloc.to_le_bytes());
        wire[40..44].copy_from_slice(&self.fwd_cnt.to_le_bytes());
        wire
    }
}

/// `N` bytes of the header from `offset` on.
fn field<const N: usize>(wire: &[u8; HEADER_LEN], offset: usize) -> [u8; N] {
    std::array::from_fn(|at| wire[offset + at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_the_wire_and_every_field_has_its_place() {
        let wire: [u8; HEADER_LEN] = std::array::from_fn(|at| at as u8 + 1);
        let header = Header::decode(&wire);
        assert_eq!(header.src_cid, 0x0807_0605_0403_0201);
        assert_eq!(header.dst_port, 0x1817_1615);
        assert_eq!((header.kind, header.op), (0x1e1d, 0x201f));
        assert_eq!(header.fwd_cnt, 0x2c2b_2a29);
        assert_eq!(header.encode(), wire);
    }

    #[test]
    fn only_the_operations_of_the_specification_have_a_meaning() {
        let known: Vec<u16> = (0..=u16::MAX)
            .filter(|&n| Op::from_wire(n).is_some())
            .collect();
        assert_eq!(known, [1, 2, 3, 4, 5, 6, 7]);
        assert!(
            known
                .iter()
                .all(|&n| Op::from_wire(n).map(|op| op as u16) == Some(n))
        );
    }
}
