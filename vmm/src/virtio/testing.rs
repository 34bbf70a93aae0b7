//! What the tests of devices share.

use super::{EventRegistry, Interrupt, Running, VirtQueue, VirtioDevice};
use crate::memory::GuestMemory;
use std::collections::BTreeMap;
use std::sync::Arc;
use virtio_queue::QueueT;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::epoll::{Epoll, EpollEvent};
use vmm_sys_util::eventfd::EventFd;

/// A small deterministic source of numbers (xorshift64*): a failing test
/// fails again.
pub struct Random(u64);

impl Random {
    /// A source; equal seeds give equal numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`; 0 when the bound is 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        if bound == 0 {
            0
        } else {
            ((self.number() >> 32) % u64::from(bound)) as u32
        }
    }
}

/// A driver's side of one split ring.
pub struct Driver {
    memory: GuestMemory,
    base: u64,
    size: u16,
    free: Vec<u16>,
    available: u16,
    used: u16,
    chains: BTreeMap<u16, Vec<u16>>,
}

/// One descriptor: address, length, and whether the device may write.
pub type Piece = (u64, u32, bool);

/// Bytes of guest memory that the rings of one [`Driver`] take.
pub const RING_SPACE: u64 = 0x4000;

impl Driver {
    /// A ring of `size` entries at `base`, and the device's side of it.
    pub fn new(memory: &GuestMemory, base: u64, size: u16) -> (Self, VirtQueue) {
        let mut queue = VirtQueue::new(size);
        let ring = queue.ring();
        ring.set_desc_table_address(Some(base as u32), Some(0));
        ring.set_avail_ring_address(Some(base as u32 + 0x2000), Some(0));
        ring.set_used_ring_address(Some(base as u32 + 0x3000), Some(0));
        ring.set_event_idx(true);
        ring.set_ready(true);
        let driver = Self {
            memory: memory.clone(),
            base,
            size,
            free: (0..size).rev().collect(),
            available: 0,
            used: 0,
            chains: BTreeMap::new(),
        };
        (driver, queue)
    }

    /// Makes a chain available. `None`: the ring is full.
    pub fn offer(&mut self, pieces: &[Piece]) -> Option<u16> {
        if self.free.len() < pieces.len() {
            return None;
        }
        let ids: Vec<u16> = pieces.iter().filter_map(|_| self.free.pop()).collect();
        for (at, (address, len, writable)) in pieces.iter().enumerate() {
            let next = ids.get(at + 1).copied();
            let flags = u16::from(next.is_some()) | u16::from(*writable) << 1;
            let slot = self.base + 16 * u64::from(ids[at]);
            self.put(slot, &address.to_le_bytes());
            self.put(slot + 8, &len.to_le_bytes());
            self.put(slot + 12, &flags.to_le_bytes());
            self.put(slot + 14, &next.unwrap_or(0).to_le_bytes());
        }
        let head = ids[0];
        let entry = self.base + 0x2004 + 2 * u64::from(self.available % self.size);
        self.put(entry, &head.to_le_bytes());
        self.available = self.available.wrapping_add(1);
        self.put(self.base + 0x2002, &self.available.to_le_bytes());
        self.chains.insert(head, ids);
        Some(head)
    }

    /// A chain that the device has given back: its head, and the bytes written.
    pub fn take_used(&mut self) -> Option<(u16, u32)> {
        let mut index = [0u8; 2];
        self.get(self.base + 0x3002, &mut index);
        if u16::from_le_bytes(index) == self.used {
            return None;
        }
        let mut entry = [0u8; 8];
        self.get(
            self.base + 0x3004 + 8 * u64::from(self.used % self.size),
            &mut entry,
        );
        self.used = self.used.wrapping_add(1);
        let [a, b, c, d, e, f, g, h] = entry;
        let head = u32::from_le_bytes([a, b, c, d]) as u16;
        let ids = self
            .chains
            .remove(&head)
            .expect("the device gives back what it got");
        self.free.extend(ids);
        Some((head, u32::from_le_bytes([e, f, g, h])))
    }

    fn put(&self, at: u64, bytes: &[u8]) {
        self.memory
            .write_slice(bytes, GuestAddress(at))
            .expect("inside memory");
    }

    fn get(&self, at: u64, bytes: &mut [u8]) {
        self.memory
            .read_slice(bytes, GuestAddress(at))
            .expect("inside memory");
    }
}

/// A device with all that it needs to run, but a VM.
pub struct Bench<D> {
    /// The device.
    pub device: D,
    /// The guest's memory.
    pub memory: GuestMemory,
    /// The device's sides of the rings.
    pub queues: Vec<VirtQueue>,
    /// The driver's sides.
    pub drivers: Vec<Driver>,
    /// What the driver has accepted.
    pub features: u64,
    /// The interrupt line.
    pub interrupt: Interrupt,
    /// Where the device watches its descriptors.
    pub events: EventRegistry,
    epoll: Arc<Epoll>,
}

impl<D: VirtioDevice> Bench<D> {
    /// `mib` of memory; the rings of the queues lie at its start.
    pub fn new(device: D, mib: usize, features: u64) -> Self {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), mib << 20)]).expect("memory");
        let epoll = Arc::new(Epoll::new().expect("epoll"));
        let line = EventFd::new(libc::EFD_NONBLOCK).expect("eventfd");
        let (drivers, queues) = device
            .queue_max_sizes()
            .iter()
            .zip(0u64..)
            .map(|(size, at)| Driver::new(&memory, at * RING_SPACE, *size))
            .unzip();
        let mut bench = Self {
            device,
            memory,
            queues,
            drivers,
            features,
            interrupt: Interrupt::new(line),
            events: EventRegistry::new(Arc::clone(&epoll), 0),
            epoll,
        };
        bench
            .with(|device, running| device.activate(running))
            .expect("activates");
        bench
    }

    /// Calls into the device.
    pub fn with<T>(&mut self, call: impl FnOnce(&mut D, &mut Running<'_>) -> T) -> T {
        let mut running = Running {
            memory: &self.memory,
            queues: &mut self.queues,
            features: self.features,
            interrupt: &self.interrupt,
            events: &self.events,
        };
        call(&mut self.device, &mut running)
    }

    /// Overwrites 1 to `most` places below `end` with what hurts.
    pub fn scribble(&self, random: &mut Random, most: u32, end: u64) {
        for _ in 0..=random.below(most) {
            let at = u64::from(random.below(end as u32 - 8));
            let value = match random.below(3) {
                0 => random.number(),
                1 => u64::from(random.below(0x100)),
                _ => u64::MAX << random.below(63),
            };
            let bytes = &value.to_le_bytes()[..1 << random.below(4)];
            self.memory
                .write_slice(bytes, GuestAddress(at))
                .expect("inside");
        }
    }

    /// Tells the device of a queue.
    pub fn kick(&mut self, index: usize) {
        self.with(|device, running| device.queue_notified(running, index));
    }

    /// Delivers the events there are, waiting at most `milliseconds` for the
    /// first. Returns how many there were.
    pub fn pump(&mut self, milliseconds: i32) -> usize {
        let mut ready = [EpollEvent::default(); 64];
        let count = self.epoll.wait(milliseconds, &mut ready).unwrap_or(0);
        for event in &ready[..count] {
            let (_, token) = EventRegistry::split(event.data());
            let set = event.event_set();
            self.with(|device, running| device.ready(running, token, set));
        }
        count
    }
}

/// Numbers for a fuzz target: the same in every gate, and others in every run of
/// `make fuzz`, which says with what `FUZZ_SEED` they come again.
pub fn numbers(usual: u64) -> Random {
    use std::io::Write as _;
    if std::env::var_os("FUZZ_SECONDS").is_none() {
        return Random::new(usual);
    }
    let given = std::env::var("FUZZ_SEED").ok();
    let given = given.and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed();
        now.map_or(usual, |now| now.subsec_nanos().into())
    });
    let thread = std::thread::current();
    let line = format!("{}: FUZZ_SEED={seed}\n", thread.name().unwrap_or_default());
    let _ = std::io::stderr().write_all(line.as_bytes());
    Random::new(seed)
}

/// Rounds of a fuzz target: so many, or as many as fit into `FUZZ_SECONDS`.
pub fn rounds(usual: u32) -> impl Iterator<Item = u32> {
    let seconds = std::env::var("FUZZ_SECONDS").ok();
    let seconds = seconds.and_then(|text| text.parse().ok());
    let begun = std::time::Instant::now();
    let mut told = Tried(0);
    (0..).take_while(move |round| {
        // All of it, or only a copy of its number would be here.
        let told = &mut told;
        told.0 = *round;
        match seconds {
            Some(seconds) => begun.elapsed() < std::time::Duration::from_secs(seconds),
            None => *round < usual,
        }
    })
}

/// Says at the end to the gate how often a target was run: libtest keeps what a
/// test prints.
struct Tried(u32);

impl Drop for Tried {
    fn drop(&mut self) {
        use std::io::Write as _;
        let thread = std::thread::current();
        let name = thread.name().unwrap_or_default();
        let line = format!("FUZZED {name}: {} executions\n", self.0);
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}
