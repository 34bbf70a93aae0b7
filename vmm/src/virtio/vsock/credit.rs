//! Credit: who may send how much (VIRTIO 1.2, 5.10.6.3). All counters run
//! freely modulo 2^32.
//!
//! The host answers a CREDIT_REQUEST and never sends one: a driver tells of
//! room when it makes some, and asking would cost a packet and an interrupt per
//! window.

/// Most bytes in flight to the guest, whatever buffer it claims to have. Far
/// below 2^31, so that "ahead" and "behind" can be told apart modulo 2^32.
const MAX_IN_FLIGHT: u32 = 1 << 30;

/// The guest's account of itself cannot be true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CreditError {
    /// It sent more than it was allowed to.
    #[error("the guest sent {len} bytes with {free} bytes of credit")]
    Overrun {
        /// Bytes sent.
        len: u32,
        /// Bytes allowed.
        free: u32,
    },
    /// It says that it took more bytes than it was sent.
    #[error("the guest acknowledges {ahead} bytes that were not sent")]
    Unsent {
        /// Bytes beyond the last one sent.
        ahead: u32,
    },
}

/// Guest → host: the buffer that we promise, and what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inbound {
    alloc: u32,
    received: u32,
    forwarded: u32,
    /// `forwarded` as the guest was last told.
    announced: u32,
}

impl Inbound {
    /// An empty buffer of `alloc` bytes.
    #[must_use]
    pub fn new(alloc: u32) -> Self {
        Self {
            alloc,
            received: 0,
            forwarded: 0,
            announced: 0,
        }
    }

    /// Bytes held now.
    #[must_use]
    pub fn held(&self) -> u32 {
        self.received.wrapping_sub(self.forwarded)
    }

    /// Takes note of a payload of the guest. Errors when it does not fit.
    pub fn receive(&mut self, len: u32) -> Result<(), CreditError> {
        let free = self.alloc - self.held();
        if len > free {
            return Err(CreditError::Overrun { len, free });
        }
        self.received = self.received.wrapping_add(len);
        Ok(())
    }

    /// Takes note that `len` of the bytes held have left the buffer.
    pub fn forward(&mut self, len: u32) {
        debug_assert!(len <= self.held(), "only bytes that are held can leave");
        self.forwarded = self.forwarded.wrapping_add(len.min(self.held()));
    }

    /// Whether the guest believes in so little room that it should be told
    /// better: half of the buffer has been freed since it was last told. One
    /// packet for half a buffer keeps a sender of full speed from ever
    /// stopping, and costs little.
    #[must_use]
    pub fn is_update_due(&self) -> bool {
        self.forwarded.wrapping_sub(self.announced) >= self.alloc.div_ceil(2).max(1)
    }

    /// The pair (`buf_alloc`, `fwd_cnt`) for a header that goes out now.
    pub fn announce(&mut self) -> (u32, u32) {
        self.announced = self.forwarded;
        (self.alloc, self.forwarded)
    }
}

/// Host → guest: the guest's buffer as it last described it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outbound {
    peer_alloc: u32,
    peer_forwarded: u32,
    sent: u32,
}

impl Outbound {
    /// Believes a header's `buf_alloc` and `fwd_cnt`. Errors when the guest
    /// acknowledges what it never got.
    ///
    /// A count behind an earlier one is stale, not wrong: two CPUs of the
    /// guest may fill in headers in one order and queue them in the other.
    pub fn update(&mut self, buf_alloc: u32, fwd_cnt: u32) -> Result<(), CreditError> {
        let ahead = fwd_cnt.wrapping_sub(self.sent);
        if ahead != 0 && ahead < 1 << 31 {
            return Err(CreditError::Unsent { ahead });
        }
        if fwd_cnt.wrapping_sub(self.peer_forwarded) < 1 << 31 {
            self.peer_forwarded = fwd_cnt;
            self.peer_alloc = buf_alloc.min(MAX_IN_FLIGHT);
        }
        Ok(())
    }

    /// Bytes that may be sent now.
    #[must_use]
    pub fn free(&self) -> u32 {
        self.peer_alloc
            .saturating_sub(self.sent.wrapping_sub(self.peer_forwarded))
    }

    /// Takes note of `len` bytes sent, at most [`Outbound::free`].
    pub fn send(&mut self, len: u32) {
        debug_assert!(
            len <= self.free(),
            "only what the guest has room for is sent"
        );
        self.sent = self.sent.wrapping_add(len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::testing::Random;

    #[test]
    fn a_guest_that_sends_more_than_it_may_is_found_out() {
        let mut inbound = Inbound::new(100);
        assert_eq!(inbound.receive(100), Ok(()));
        assert_eq!(
            inbound.receive(1),
            Err(CreditError::Overrun { len: 1, free: 0 })
        );
        inbound.forward(40);
        assert!(!inbound.is_update_due());
        inbound.forward(10);
        assert!(inbound.is_update_due());
        assert_eq!(inbound.announce(), (100, 50));
        assert!(!inbound.is_update_due());
        assert_eq!(
            inbound.receive(51),
            Err(CreditError::Overrun { len: 51, free: 50 })
        );
        assert_eq!(
            inbound.receive(u32::MAX),
            Err(CreditError::Overrun {
                len: u32::MAX,
                free: 50
            })
        );
    }

    #[test]
    fn a_guest_that_acknowledges_the_future_is_found_out() {
        let mut outbound = Outbound::default();
        outbound.update(1000, 0).expect("plain");
        outbound.send(600);
        assert_eq!(
            outbound.update(1000, 601),
            Err(CreditError::Unsent { ahead: 1 })
        );
        outbound.update(1000, 600).expect("all of it");
        assert_eq!(outbound.free(), 1000);
        outbound.update(1000, 500).expect("stale, not wrong");
        assert_eq!(outbound.free(), 1000);
        outbound.update(10, 600).expect("a smaller buffer");
        outbound.send(10);
        outbound
            .update(5, 600)
            .expect("smaller than what is in flight");
        assert_eq!(outbound.free(), 0);
    }

    #[test]
    fn both_ends_agree_across_the_wrap_of_the_counters() {
        let mut random = Random::new(7);
        for alloc in [1u32, 3, 4096, 65_536, 262_144] {
            // Start close to the wrap: 2^32 bytes would take too long.
            let start = u32::MAX - 2 * alloc;
            let mut ours = Inbound {
                alloc,
                received: start,
                forwarded: start,
                announced: start,
            };
            let mut theirs = Outbound {
                peer_alloc: alloc,
                peer_forwarded: start,
                sent: start,
            };
            let mut moved = 0u64;
            while moved < 6 * u64::from(alloc) {
                let len = random.below(theirs.free() + 1);
                theirs.send(len);
                assert_eq!(ours.receive(len), Ok(()));
                assert!(ours.held() <= alloc);
                let taken = random.below(ours.held() + 1);
                ours.forward(taken);
                moved += u64::from(taken);
                // An update that is not due may be withheld: nobody starves.
                if ours.is_update_due() || random.below(4) == 0 {
                    let (buf_alloc, fwd_cnt) = ours.announce();
                    assert_eq!(theirs.update(buf_alloc, fwd_cnt), Ok(()));
                }
                if theirs.free() == 0 && ours.held() == 0 {
                    assert!(ours.is_update_due(), "a full stop with an empty buffer");
                }
            }
        }
    }
}
