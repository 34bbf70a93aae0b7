use super::*;
use crate::virtio::DeviceKind;
use std::sync::atomic::{AtomicU32, Ordering};
use vmm_sys_util::epoll::Epoll;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// A device that counts what it is told.
#[derive(Default)]
struct Counting {
    activated: Arc<AtomicU32>,
    reset: Arc<AtomicU32>,
    notified: Arc<AtomicU32>,
    refuses: bool,
}

impl VirtioDevice for Counting {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Rng
    }
    fn features(&self) -> u64 {
        1
    }
    fn queue_max_sizes(&self) -> &[u16] {
        &[16]
    }
    fn read_config(&self, offset: usize, data: &mut [u8]) {
        data.fill(offset as u8);
    }
    fn activate(&mut self, running: &mut Running<'_>) -> Result<(), DeviceError> {
        self.activated
            .store(running.features as u32 & 1 | 2, Ordering::SeqCst);
        if self.refuses {
            return Err(DeviceError::NotActive(DeviceKind::Rng));
        }
        Ok(())
    }
    fn queue_notified(&mut self, _: &mut Running<'_>, _: usize) {
        self.notified.fetch_add(1, Ordering::SeqCst);
    }
    fn reset(&mut self, _: &EventRegistry) {
        self.reset.fetch_add(1, Ordering::SeqCst);
    }
}

struct Counts {
    activated: Arc<AtomicU32>,
    reset: Arc<AtomicU32>,
    notified: Arc<AtomicU32>,
}

fn transport(refuses: bool) -> (Transport, Counts) {
    let device = Counting {
        refuses,
        ..Counting::default()
    };
    let counts = Counts {
        activated: Arc::clone(&device.activated),
        reset: Arc::clone(&device.reset),
        notified: Arc::clone(&device.notified),
    };
    let memory = crate::memory::allocate(32).unwrap();
    let line = EventFd::new(EFD_NONBLOCK).unwrap();
    let events = EventRegistry::new(Arc::new(Epoll::new().unwrap()), 0);
    let interrupt = Arc::new(Interrupt::new(line));
    let name = "test".to_owned();
    let transport = Transport::new(name, Box::new(device), memory, interrupt, events);
    (transport, counts)
}

fn write(transport: &Transport, register: u64, value: u32) {
    transport.write(register, &value.to_le_bytes());
}

fn read(transport: &Transport, register: u64) -> u32 {
    let mut word = [0; 4];
    transport.read(register, &mut word);
    u32::from_le_bytes(word)
}

fn negotiate(transport: &Transport, low: u32, high: u32) {
    for (register, value) in [
        (0x70, 1),
        (0x70, 3),
        (0x24, 0),
        (0x20, low),
        (0x24, 1),
        (0x20, high),
    ] {
        write(transport, register, value);
    }
    write(transport, 0x70, 11);
}

fn enable_queue(transport: &Transport, at: u32) {
    for (register, value) in [
        (0x30, 0),
        (0x38, 8),
        (0x80, at),
        (0x90, at + 0x400),
        (0xa0, at + 0x800),
    ] {
        write(transport, register, value);
    }
    write(transport, 0x44, 1);
}

#[test]
fn a_driver_brings_a_device_up_and_resets_it() {
    let (transport, counts) = transport(false);
    assert_eq!(read(&transport, 0), MAGIC);
    assert_eq!(read(&transport, 4), 2);
    assert_eq!(read(&transport, 8), DeviceKind::Rng as u32);
    assert_eq!(read(&transport, 0x34), 16);
    negotiate(&transport, 1, 1);
    assert_eq!(read(&transport, 0x70), FEATURES_OK);
    enable_queue(&transport, 0x10_0000);
    transport.queue_notified(0);
    assert_eq!(
        counts.notified.load(Ordering::SeqCst),
        0,
        "not before DRIVER_OK"
    );
    write(&transport, 0x70, 15);
    assert_eq!(counts.activated.load(Ordering::SeqCst), 3);
    transport.queue_notified(0);
    transport.queue_notified(7);
    assert_eq!(counts.notified.load(Ordering::SeqCst), 1);
    let mut bytes = [0; 2];
    transport.read(0x104, &mut bytes);
    assert_eq!(bytes, [4, 4]);
    write(&transport, 0x70, 0);
    assert_eq!(counts.reset.load(Ordering::SeqCst), 1);
    assert_eq!((read(&transport, 0x70), read(&transport, 0x44)), (0, 0));
    transport.queue_notified(0);
    assert_eq!(counts.notified.load(Ordering::SeqCst), 1);
}

#[test]
fn features_that_were_not_offered_are_refused() {
    for (low, high) in [(2, 1), (1, 0), (1, 3)] {
        let (transport, counts) = transport(false);
        negotiate(&transport, low, high);
        assert_eq!(read(&transport, 0x70), DRIVER);
        write(&transport, 0x70, 15);
        assert_eq!(counts.activated.load(Ordering::SeqCst), 0);
    }
}

#[test]
fn steps_out_of_order_are_ignored() {
    let (transport, counts) = transport(false);
    for value in [15, 11, 3, 2] {
        write(&transport, 0x70, value);
        assert_eq!(read(&transport, 0x70), 0);
    }
    negotiate(&transport, 1, 1);
    // Features are final now; queues are not before.
    write(&transport, 0x20, 0);
    enable_queue(&transport, 0x10_0000);
    // A ready queue keeps its place.
    write(&transport, 0x80, 0x20_0000);
    write(&transport, 0x70, 15);
    let state = transport.save();
    assert_eq!(state.queues[0].descriptors, 0x10_0000);
    assert_eq!(counts.activated.load(Ordering::SeqCst), 3);
    write(&transport, 0x44, 0);
    assert_eq!(read(&transport, 0x44), 1, "queues are fixed while it runs");
}

#[test]
fn a_queue_outside_of_memory_is_not_enabled() {
    let (transport, _) = transport(false);
    negotiate(&transport, 1, 1);
    enable_queue(&transport, 64 << 20);
    assert_eq!(read(&transport, 0x44), 0);
    enable_queue(&transport, u32::MAX - 0xfff);
    assert_eq!(read(&transport, 0x44), 0);
}

#[test]
fn a_device_that_cannot_start_asks_for_a_reset() {
    let (transport, counts) = transport(true);
    negotiate(&transport, 1, 1);
    enable_queue(&transport, 0x10_0000);
    write(&transport, 0x70, 15);
    assert_ne!(read(&transport, 0x70) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
    assert_eq!(read(&transport, 0x60), 2);
    assert_eq!(read(&transport, 0xfc), 1);
    transport.queue_notified(0);
    assert_eq!(counts.notified.load(Ordering::SeqCst), 0);
    write(&transport, 0x70, 0);
    assert_eq!(counts.reset.load(Ordering::SeqCst), 1);
}

/// Any accesses of any width at any place: nothing panics.
#[test]
fn fuzz_accesses_harm_nobody() {
    use crate::virtio::testing::{numbers, rounds};
    let (transport, _) = transport(false);
    let mut random = numbers(5);
    for _ in rounds(200_000) {
        let register = u64::from(random.below(0x44) * 4 + random.below(2));
        let width = 1 << random.below(4);
        let mut bytes = random.number().to_le_bytes();
        if random.below(3) == 0 {
            bytes = u64::from(random.below(16)).to_le_bytes();
        }
        if random.below(2) == 0 {
            transport.write(register, &bytes[..width]);
        } else {
            transport.read(register, &mut bytes[..width]);
        }
    }
}

#[test]
fn a_saved_transport_fits_only_its_like() {
    let (first, _) = transport(false);
    negotiate(&first, 1, 1);
    enable_queue(&first, 0x10_0000);
    write(&first, 0x70, 15);
    let saved = first.save();
    let (second, counts) = transport(false);
    second.restore(saved.clone()).unwrap();
    assert_eq!(read(&second, 0x70), DRIVER_OK);
    assert_eq!(
        counts.notified.load(Ordering::SeqCst),
        1,
        "queues are looked at"
    );
    let mut other = saved.clone();
    other.queues[0].descriptors = 1 << 40;
    let (third, _) = transport(false);
    assert!(third.restore(other).is_err());
    let mut other = saved;
    other.name = "another".to_owned();
    assert!(third.restore(other).is_err());
}
