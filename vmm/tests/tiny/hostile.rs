//! Guests that attack every device by its registers, its rings and its requests.
//!
//! Each one is a list of stores, made from a seed: registers out of order and
//! with any value, rings that overlap or lie nowhere, indices that jump, chains
//! that loop, lengths that are zero or giant, requests of rubbish, resets and
//! notifications in between. The VMM may end such a guest with a cause. It must
//! not end by itself in another way, take more memory than a machine has, touch
//! the disk's file beside its extent, or keep another machine from its work.

use super::outside::{MEMORY, Outside, survive};
use super::payload::{CODE, Code};
use super::vm::{Vm, kvm_or_skip, skip};
use beluga_proto::{ExitCause, STAMP_PORT, Stamp};
use std::time::{Duration, Instant};

/// Guests of one run.
const ATTACKS: u64 = 200;
/// Stores of one guest.
const STORES: usize = 2200;
/// Where the list of stores begins.
const TABLE: u32 = 0x100;
/// Disk, network, share, vsock, random numbers, balloon.
pub const DEVICES: u64 = 6;

/// A generator of numbers (xorshift64*): the same for each run of a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, end: u64) -> u32 {
        u32::try_from(self.next() % end).unwrap()
    }

    fn of(&mut self, values: &[u32]) -> u32 {
        values[self.below(values.len() as u64) as usize]
    }

    /// A number at which something ends or turns over, or any.
    fn value(&mut self) -> u32 {
        const END: u32 = MEMORY << 20;
        match self.below(4) {
            0 => self.below(18),
            1 => self.of(&[
                0x7fff,
                0x8000,
                0xffff,
                0x1_0000,
                0x7fff_ffff,
                0x8000_0000,
                0xffff_fff0,
                u32::MAX,
            ]),
            2 => self.of(&[
                END - 4096,
                END - 8,
                END - 1,
                END,
                END + 1,
                0xd000_0000,
                0xd000_1050,
                0xfee0_0000,
            ]),
            _ => self.next() as u32,
        }
    }
}

const fn registers(device: u32) -> u32 {
    0xd000_0000 + device * 0x1000
}

/// Where a driver that means well has a queue's rings.
const fn rings(device: u32, queue: u32) -> u32 {
    0x20_0000 + device * 0x1_0000 + queue * 0x1000
}

const fn buffer(device: u32) -> u32 {
    0x40_0000 + device * 0x2_0000
}

/// A list of stores under construction.
pub struct Attack {
    random: Random,
    device: u32,
    stores: Vec<(u32, u32)>,
}

impl Attack {
    /// The first stores of the list that is made from this number.
    pub fn of_seed(seed: u64, count: usize) -> Vec<(u32, u32)> {
        let mut attack = Self {
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            device: 0,
            stores: Vec::new(),
        };
        while attack.stores.len() < count {
            attack.step();
        }
        attack.stores.truncate(count);
        attack.stores
    }

    fn register(&mut self, offset: u32, value: u32) {
        self.stores.push((registers(self.device) + offset, value));
    }

    fn step(&mut self) {
        match self.random.below(12) {
            0 => self.device = self.random.below(DEVICES),
            1 | 2 => self.bring_up(),
            3 => self.any_register(),
            4 => self.scribble(),
            5 => {
                let queue = self.random.value();
                self.register(0x50, queue);
            }
            _ => self.request(),
        }
    }

    /// As a driver does it, with a step now and then left out or spoilt.
    fn bring_up(&mut self) {
        let spoils = self.random.below(3) == 0;
        let mut steps = vec![(0x70, 0), (0x70, 1), (0x70, 3), (0x24, 1), (0x20, 1)];
        if self.random.below(2) == 0 {
            let features = self.random.value();
            steps.extend([(0x24, 0), (0x20, features)]);
        }
        steps.push((0x70, 11));
        for queue in 0..3 {
            let ring = rings(self.device, queue);
            let size = self.random.of(&[1, 2, 16, 16, 16, 128, 256]);
            let places = match self.random.below(4) {
                0 => [
                    self.random.value(),
                    self.random.value(),
                    self.random.value(),
                ],
                1 => [ring, ring, ring],
                _ => [ring, ring + 0x400, ring + 0x800],
            };
            let [table, available, used] = places;
            steps.extend([
                (0x30, queue),
                (0x38, size),
                (0x80, table),
                (0x90, available),
            ]);
            steps.extend([(0xa0, used), (0x44, 1)]);
        }
        steps.push((0x70, 15));
        for (offset, value) in steps {
            match spoils.then(|| self.random.below(12)) {
                Some(0) => {}
                Some(1) => {
                    let value = self.random.value();
                    self.register(offset, value);
                }
                _ => self.register(offset, value),
            }
        }
    }

    fn any_register(&mut self) {
        const KNOWN: [u32; 20] = [
            0x14, 0x20, 0x24, 0x30, 0x38, 0x44, 0x50, 0x64, 0x70, 0x80, 0x84, 0x90, 0x94, 0xa0,
            0xa4, 0xac, 0xc0, 0x100, 0x104, 0x108,
        ];
        let offset = match self.random.below(3) {
            0 => self.random.below(0xffd),
            _ => self.random.of(&KNOWN),
        };
        let value = self.random.value();
        self.register(offset, value);
    }

    /// Any word of the rings.
    fn scribble(&mut self) {
        let ring = rings(self.device, self.random.below(3));
        let (at, value) = (self.random.below(0x300) * 4, self.random.value());
        self.stores.push((ring + at, value));
    }

    /// A chain with something wrong about it, made available and told.
    fn request(&mut self) {
        let queue = self.random.below(3);
        let ring = rings(self.device, queue);
        let head = self.random.below(16);
        for at in 0..=self.random.below(4) {
            let entry = ring + ((head + at) % 16) * 16;
            let place = buffer(self.device) + at * 0x1000;
            let address = self.random.of(&[place, place, place, 0]) | self.odd_bits();
            let length = match self.random.below(3) {
                0 => self.random.value(),
                _ => self.random.of(&[0, 1, 12, 16, 40, 44, 512, 4096]),
            };
            let next = self
                .random
                .of(&[head + at + 1, head + at + 1, head, 0xffff])
                & 0xffff;
            let flags = self.random.of(&[0, 1, 1, 2, 3, 4, 5, 7]);
            self.stores.extend([
                (entry, address),
                (entry + 4, self.random.of(&[0, 0, 0, u32::MAX])),
                (entry + 8, length),
                (entry + 12, flags | next << 16),
            ]);
            for word in 0..self.random.below(6) {
                let value = self.random.value();
                self.stores.push((place + word * 4, value));
            }
        }
        let index = match self.random.below(4) {
            0 => self.random.value(),
            _ => self.random.below(16),
        };
        self.stores.push((ring + 0x404, head | head << 16));
        self.stores.push((ring + 0x400, index << 16));
        self.register(0x50, queue);
    }

    fn odd_bits(&mut self) -> u32 {
        match self.random.below(8) {
            0 => self.random.value(),
            _ => 0,
        }
    }
}

/// Does the stores one after the other and ends the machine.
fn guest(stores: &[(u32, u32)]) -> Code {
    let count = u32::try_from(stores.len()).unwrap();
    // mov esi, table; mov ecx, count
    let code = Code::default()
        .raw(&[0xbe])
        .raw(&(CODE + TABLE).to_le_bytes());
    let code = code.raw(&[0xb9]).raw(&count.to_le_bytes());
    // again: lodsd; mov edi, eax; lodsd; mov [edi], eax; loop again
    let code = code.raw(&[0xad, 0x89, 0xc7, 0xad, 0x89, 0x07, 0xe2, 0xf8]);
    let code = code.out(STAMP_PORT, Stamp::EndShutdown as u8).reset();
    let gap = TABLE as usize - code.bytes().len();
    let words = stores
        .iter()
        .flat_map(|(address, value)| [*address, *value]);
    let bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
    code.raw(&vec![0; gap]).raw(&bytes)
}

#[test]
fn no_guest_harms_its_vmm_the_host_or_a_neighbour() {
    const NAME: &str = "no_guest_harms_its_vmm_the_host_or_a_neighbour";
    if !kvm_or_skip(NAME) {
        return;
    }
    let mut outside = Outside::make();
    if outside.tap.is_none() {
        skip(NAME, "no tap: the network device was not attacked");
    }
    // hlt, for ever.
    let idle = Code::default().print("up").raw(&[0xf4, 0xeb, 0xfd]);
    let neighbour = Vm::boot(idle, |_| {});
    let mut supervisor = neighbour.connect();
    supervisor.wait_for_console("up");
    let mut whole = 0;
    for seed in 0..ATTACKS {
        let stores = Attack::of_seed(seed, STORES);
        let record = survive(&format!("seed {seed}"), guest(&stores), 1, &mut outside);
        whole += u64::from(record.cause == ExitCause::GuestEnded);
        let asked = Instant::now();
        assert_eq!(supervisor.status().console, "up");
        assert!(asked.elapsed() < Duration::from_secs(2), "seed {seed}");
    }
    // Most come to their end, or the list was no attack on the devices.
    assert!(whole * 2 > ATTACKS, "{whole} of {ATTACKS}");
}
