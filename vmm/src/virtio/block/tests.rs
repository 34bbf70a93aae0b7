//! A disk against plain memory.

use super::request::{RANGES_MAX, SECTOR};
use super::*;
use crate::virtio::testing::{Bench, Random, numbers, rounds};
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD,
    VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
    VIRTIO_BLK_T_WRITE_ZEROES,
};
use vm_memory::{Bytes, GuestAddress};

const HEADER: u64 = 0x1_0000;
const STATUS: u64 = 0x1_1000;
const DATA: u64 = 0x2_0000;
const UNANSWERED: u8 = 0xaa;

fn scratch(name: &str, bytes: &[u8]) -> Arc<File> {
    let path = std::env::temp_dir().join(format!("beluga-block-{name}-{}", std::process::id()));
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(true);
    let mut file = options.open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    file.write_all(bytes).unwrap();
    Arc::new(file)
}

fn pattern(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 7) as u8 ^ seed).collect()
}

struct Disk(Bench<Block>);

impl Disk {
    fn new(read_only: bool, extents: &[(&Arc<File>, u64, u64)]) -> Self {
        let mut block = Block::new(BlockConfig {
            id: "scratch".to_owned(),
            read_only,
            discard: true,
            flush: true,
        })
        .unwrap();
        let extents = extents.iter().map(|(file, offset, length)| FileExtent {
            file: Arc::clone(file),
            offset: *offset,
            length: *length,
        });
        block.append(extents.collect()).unwrap();
        Self(Bench::new(block, 1, 0))
    }

    /// One request; gives the status and the bytes written.
    fn request(&mut self, kind: u32, sector: u64, data: &[(u64, u32)]) -> (u8, u32) {
        let bench = &mut self.0;
        let mut header = [0; 16];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[8..].copy_from_slice(&sector.to_le_bytes());
        bench
            .memory
            .write_slice(&header, GuestAddress(HEADER))
            .unwrap();
        bench
            .memory
            .write_obj(UNANSWERED, GuestAddress(STATUS))
            .unwrap();
        let to_guest = matches!(kind, VIRTIO_BLK_T_IN | VIRTIO_BLK_T_GET_ID);
        let mut pieces = vec![(HEADER, 16, false)];
        pieces.extend(data.iter().map(|&(at, length)| (at, length, to_guest)));
        pieces.push((STATUS, 1, true));
        bench.drivers[0].offer(&pieces).unwrap();
        bench.kick(0);
        let written = bench.drivers[0]
            .take_used()
            .map_or(0, |(_, written)| written);
        (
            bench.memory.read_obj(GuestAddress(STATUS)).unwrap(),
            written,
        )
    }

    fn guest(&self, at: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0
            .memory
            .read_slice(&mut bytes, GuestAddress(at))
            .unwrap();
        bytes
    }

    fn put(&self, at: u64, bytes: &[u8]) {
        self.0.memory.write_slice(bytes, GuestAddress(at)).unwrap();
    }

    fn range(&mut self, kind: u32, sector: u64, sectors: u32, flags: u32) -> u8 {
        let mut range = [0; 16];
        range[..8].copy_from_slice(&sector.to_le_bytes());
        range[8..12].copy_from_slice(&sectors.to_le_bytes());
        range[12..].copy_from_slice(&flags.to_le_bytes());
        self.put(DATA, &range);
        self.request(kind, 0, &[(DATA, 16)]).0
    }
}

const OK: u8 = VIRTIO_BLK_S_OK as u8;
const IO_ERROR: u8 = VIRTIO_BLK_S_IOERR as u8;
const UNSUPPORTED: u8 = VIRTIO_BLK_S_UNSUPP as u8;

#[test]
fn a_read_crosses_extents_into_scattered_memory() {
    let (one, other) = (
        scratch("a", &pattern(1, 8192)),
        scratch("b", &pattern(2, 8192)),
    );
    let mut disk = Disk::new(true, &[(&one, 4096, 4096), (&other, 0, 8192)]);
    let whole = [&pattern(1, 8192)[4096..], &pattern(2, 8192)].concat();
    // Sectors 6 to 19: the last two of the first extent, twelve of the other.
    let (status, written) = disk.request(
        VIRTIO_BLK_T_IN,
        6,
        &[
            (DATA, 700),
            (DATA + 0x1000, 4),
            (DATA + 0x2000, 14 * 512 - 704),
        ],
    );
    assert_eq!((status, written), (OK, 14 * 512 + 1));
    let read = [
        disk.guest(DATA, 700),
        disk.guest(DATA + 0x1000, 4),
        disk.guest(DATA + 0x2000, 14 * 512 - 704),
    ]
    .concat();
    assert_eq!(read, whole[6 * 512..20 * 512]);
}

#[test]
fn a_write_lands_in_every_file_it_crosses() {
    let (one, other) = (scratch("c", &[0; 4096]), scratch("d", &[0; 8192]));
    let mut disk = Disk::new(false, &[(&one, 0, 4096), (&other, 4096, 4096)]);
    disk.put(DATA, &pattern(3, 1024));
    assert_eq!(disk.request(VIRTIO_BLK_T_OUT, 7, &[(DATA, 1024)]).0, OK);
    let mut bytes = [0; 512];
    one.read_exact_at(&mut bytes, 7 * 512).unwrap();
    assert_eq!(bytes[..], pattern(3, 1024)[..512]);
    other.read_exact_at(&mut bytes, 4096).unwrap();
    assert_eq!(bytes[..], pattern(3, 1024)[512..]);
    assert_eq!(disk.request(VIRTIO_BLK_T_FLUSH, 0, &[]).0, OK);
}

#[test]
fn what_a_disk_must_not_do_is_refused() {
    let file = scratch("e", &[0; 8192]);
    let mut disk = Disk::new(true, &[(&file, 0, 8192)]);
    assert_eq!(
        disk.request(VIRTIO_BLK_T_OUT, 0, &[(DATA, 512)]).0,
        IO_ERROR
    );
    assert_eq!(disk.request(VIRTIO_BLK_T_FLUSH, 0, &[]).0, UNSUPPORTED);
    assert_eq!(disk.range(VIRTIO_BLK_T_DISCARD, 0, 8, 0), UNSUPPORTED);
    let mut disk = Disk::new(false, &[(&file, 0, 8192)]);
    for (sector, length) in [
        (16, 512),
        (15, 1024),
        (u64::MAX, 512),
        (1 << 55, 512),
        (0, 100),
    ] {
        assert_eq!(
            disk.request(VIRTIO_BLK_T_IN, sector, &[(DATA, length)]).0,
            IO_ERROR
        );
    }
    assert_eq!(disk.request(99, 0, &[(DATA, 512)]).0, UNSUPPORTED);
}

#[test]
fn a_file_shorter_than_its_extent_is_an_error_of_the_read() {
    let file = scratch("f", &[0; 4096]);
    let mut disk = Disk::new(true, &[(&file, 0, 8192)]);
    assert_eq!(
        disk.request(VIRTIO_BLK_T_IN, 7, &[(DATA, 1024)]).0,
        IO_ERROR
    );
    assert_eq!(disk.request(VIRTIO_BLK_T_IN, 7, &[(DATA, 512)]).0, OK);
}

#[test]
fn a_discard_gives_space_back_and_an_unaligned_one_is_refused() {
    let file = scratch("g", &pattern(9, 65536));
    let mut disk = Disk::new(false, &[(&file, 0, 65536)]);
    let before = file.metadata().unwrap().blocks();
    assert_eq!(disk.range(VIRTIO_BLK_T_DISCARD, 16, 32, 0), OK);
    assert!(file.metadata().unwrap().blocks() < before);
    let mut bytes = [1; 16384];
    file.read_exact_at(&mut bytes, 8192).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0));
    assert_eq!(disk.range(VIRTIO_BLK_T_DISCARD, 1, 8, 0), IO_ERROR);
    assert_eq!(disk.range(VIRTIO_BLK_T_DISCARD, 0, 8, 1), UNSUPPORTED);
    assert_eq!(disk.range(VIRTIO_BLK_T_DISCARD, 120, 16, 0), IO_ERROR);
    assert_eq!(disk.range(VIRTIO_BLK_T_WRITE_ZEROES, 1, 1, 1), OK);
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes[512..1024].iter().all(|byte| *byte == 0));
    assert_eq!(bytes[..512], pattern(9, 65536)[..512]);
    assert_eq!(bytes[1024..8192], pattern(9, 65536)[1024..8192]);
    let too_many = (RANGES_MAX + 1) * 16;
    assert_eq!(
        disk.request(VIRTIO_BLK_T_DISCARD, 0, &[(DATA, too_many)]).0,
        IO_ERROR
    );
}

#[test]
fn a_disk_says_its_name_and_its_size_and_grows() {
    let file = scratch("h", &[0; 8192]);
    let mut disk = Disk::new(false, &[(&file, 0, 4096)]);
    assert_eq!(disk.request(VIRTIO_BLK_T_GET_ID, 0, &[(DATA, 20)]).0, OK);
    assert_eq!(disk.guest(DATA, 20), b"scratch\0\0\0\0\0\0\0\0\0\0\0\0\0");
    let extent = FileExtent {
        file,
        offset: 4096,
        length: 4096,
    };
    disk.0
        .with(|device, running| device.control(running, DeviceCall::Grow(vec![extent])))
        .unwrap();
    let mut capacity = [0; 8];
    disk.0.device.read_config(0, &mut capacity);
    assert_eq!(u64::from_le_bytes(capacity), 8192 / SECTOR);
    assert_ne!(
        disk.0.interrupt.status() & crate::virtio::interrupt::CONFIG_CHANGE,
        0
    );
    assert_eq!(disk.request(VIRTIO_BLK_T_IN, 15, &[(DATA, 512)]).0, OK);
}

/// `/dev/full` refuses every write with ENOSPC, as a full host would.
#[test]
fn a_write_without_space_waits_and_says_so() {
    let full = Arc::new(
        File::options()
            .read(true)
            .write(true)
            .open("/dev/full")
            .unwrap(),
    );
    let mut disk = Disk::new(false, &[(&full, 0, 4096)]);
    assert_eq!(
        disk.request(VIRTIO_BLK_T_OUT, 0, &[(DATA, 512)]).0,
        UNANSWERED
    );
    let stalled = |stalled| ControlMessage::DiskStalled {
        disk: "scratch".to_owned(),
        stalled,
    };
    let messages = |disk: &mut Disk| -> Vec<_> {
        disk.0
            .device
            .take_messages()
            .into_iter()
            .map(|outgoing| outgoing.message)
            .collect()
    };
    assert_eq!(messages(&mut disk), [stalled(true)]);
    // Still full: it waits on, and is silent.
    assert_eq!(disk.0.pump(2000), 1);
    assert_eq!(messages(&mut disk), []);
    // Space returns.
    let file = scratch("i", &[7; 4096]);
    disk.0.device.extents = Extents::default();
    let extent = FileExtent {
        file: Arc::clone(&file),
        offset: 0,
        length: 4096,
    };
    disk.0.device.append(vec![extent]).unwrap();
    assert_eq!(disk.0.pump(2000), 1);
    assert_eq!(messages(&mut disk), [stalled(false)]);
    assert_eq!(disk.guest(STATUS, 1), [OK]);
    let mut bytes = [9; 512];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, [0; 512]);
}

/// Random chains never panic, never touch the file's other end, and always
/// come back.
#[test]
fn hostile_chains_come_back() {
    let file = scratch("j", &[0; 65536]);
    let mut disk = Disk::new(false, &[(&file, 0, 65536)]);
    let mut random = Random::new(11);
    for _ in 0..20_000 {
        let bench = &mut disk.0;
        let mut header = [0; 16];
        header[0] = random.below(16) as u8;
        header[8] = random.below(200) as u8;
        bench
            .memory
            .write_slice(&header, GuestAddress(HEADER))
            .unwrap();
        let pieces: Vec<_> = (0..1 + random.below(5))
            .map(|at| {
                let address = match random.below(4) {
                    _ if at == 0 => HEADER,
                    0 => (1 << 20) - u64::from(random.below(2000)),
                    1 => random.number(),
                    _ => DATA + u64::from(random.below(4096)),
                };
                let length = match random.below(8) {
                    0 => 0,
                    1 => random.number() as u32,
                    2 => 16,
                    _ => 512 * random.below(4),
                };
                (address, length, random.below(2) == 0)
            })
            .collect();
        bench.drivers[0].offer(&pieces).unwrap();
        bench.kick(0);
        assert!(bench.drivers[0].take_used().is_some());
        assert_eq!(file.metadata().unwrap().len(), 65536);
    }
}

/// Rings, headers and chains of random rubbish: nothing panics, and the file stays
/// as long as it is.
#[test]
fn fuzz_rubbish_in_memory_does_no_harm() {
    let file = scratch("l", &[0; 65536]);
    let mut random = numbers(23);
    for _ in rounds(300) {
        let mut disk = Disk::new(false, &[(&file, 0, 65536)]);
        let bench = &mut disk.0;
        for at in 0..8 {
            let data = DATA + at * 4096;
            let chain = [
                (HEADER, 16, false),
                (data, 512, at % 2 == 0),
                (STATUS, 1, true),
            ];
            let _ = bench.drivers[0].offer(&chain);
        }
        for _ in 0..10 {
            bench.scribble(&mut random, 20, STATUS);
            bench.kick(random.below(2) as usize);
            bench.pump(0);
        }
        assert_eq!(file.metadata().unwrap().len(), 65536);
    }
}

/// A turn is bounded, and what is left is served without another notification.
#[test]
fn a_busy_guest_waits_for_its_next_turn() {
    let file = scratch("k", &[0; 4096]);
    let mut disk = Disk::new(true, &[(&file, 0, 4096)]);
    let offered = std::iter::from_fn(|| disk.0.drivers[0].offer(&[(STATUS, 1, true)])).count();
    let answered = |disk: &mut Disk| std::iter::from_fn(|| disk.0.drivers[0].take_used()).count();
    disk.0.kick(0);
    assert_eq!(answered(&mut disk), TURN);
    disk.0.pump(0);
    assert_eq!(answered(&mut disk), offered - TURN);
}
