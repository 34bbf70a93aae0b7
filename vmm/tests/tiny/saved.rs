//! A machine in mid-I/O becomes plain values, and goes on from them.

use super::payload::Code;
use super::vm::{PATIENCE, config, empty_disk, file, kvm_or_skip, listener};
use beluga_proto::VmConfig;
use beluga_proto::vm::{Extent, FdNumber, VsockConfig};
use beluga_vmm::exit::Journal;
use beluga_vmm::machine::{self, Machine, MachineState, Saved};
use beluga_vmm::memory::{self, GuestMemory};
use rustix::io::fcntl_dupfd_cloexec;
use std::fs::File;
use std::os::fd::{AsFd, IntoRawFd};
use std::sync::Arc;
use std::time::Instant;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

/// Where the rings of device `index` lie in guest memory.
fn rings(index: u32) -> u32 {
    0x20_0000 + index * 0x1_0000
}

const SECTOR: &[u8; 512] = &[b'q'; 512];

/// Descriptors of a test machine get numbers that are never used again.
fn give(fd: impl AsFd) -> FdNumber {
    FdNumber(fcntl_dupfd_cloexec(fd, 200).unwrap().into_raw_fd())
}

/// A disk, vsock, rng and balloon, on fresh descriptors.
fn machine_config(payload: &[u8], disk: &File) -> VmConfig {
    let (control, path) = listener();
    std::fs::remove_file(path).unwrap();
    let record = File::options().write(true).open("/dev/null").unwrap();
    let mut config = config(
        give(file(payload)),
        give(file(b"070701")),
        give(control),
        give(record),
    );
    config.disks = vec![empty_disk("a")];
    config.disks[0].extents = vec![Extent {
        fd: give(disk),
        offset: 0,
        length: 4096,
    }];
    config.vsock = Some(VsockConfig { guest_cid: 3 });
    config.rng = true;
    config.balloon = true;
    config
}

/// Brings a device up as a driver does, with `queues` empty queues of 8.
fn bring_up(code: Code, index: u32, queues: u32) -> Code {
    let device = 0xd000_0000 + index * 0x1000;
    // Reset, ACKNOWLEDGE, DRIVER; VERSION_1 and nothing else; FEATURES_OK.
    let mut code = [
        (0x70, 0),
        (0x70, 1),
        (0x70, 3),
        (0x24, 1),
        (0x20, 1),
        (0x70, 11),
    ]
    .into_iter()
    .fold(code, |code, (register, value)| {
        code.store(device + register, value)
    });
    for queue in 0..queues {
        let base = rings(index) + queue * 0x1000;
        let registers = [
            (0x30, queue),
            (0x38, 8),
            (0x80, base),
            (0x90, base + 0x400),
            (0xa0, base + 0x800),
            (0x44, 1),
        ];
        code = registers.into_iter().fold(code, |code, (register, value)| {
            code.store(device + register, value)
        });
    }
    code.store(device + 0x70, 15)
}

/// Puts a request into queue 0 of a device and notifies. `pieces`: address,
/// length, whether the device writes.
fn offer(code: Code, index: u32, pieces: &[(u32, u32, bool)]) -> Code {
    let base = rings(index);
    let mut code = code;
    for (at, &(address, length, writes)) in pieces.iter().enumerate() {
        let at = at as u32;
        let next = u32::from(at as usize + 1 < pieces.len());
        let flags = next | u32::from(writes) << 1;
        let descriptor = base + at * 16;
        code = code
            .store(descriptor, address)
            .store(descriptor + 8, length)
            .store(descriptor + 12, flags | (at + 1) << 16);
    }
    // Ring entry 0 is chain 0; the index becomes 1.
    code.store(base + 0x404, 0)
        .store(base + 0x400, 1 << 16)
        .store(0xd000_0050 + index * 0x1000, 0)
}

/// The guest: a read of the disk and random bytes are under way when it says
/// `N`; when both have come it shows the data.
fn payload() -> Code {
    const DISK: u32 = 0;
    const VSOCK: u32 = 1;
    const RNG: u32 = 2;
    const BALLOON: u32 = 3;
    let (header, data, status) = (0x30_0000, 0x30_1000, 0x30_2000);
    let random = 0x30_3000;
    let mut code = bring_up(Code::default(), DISK, 1);
    code = bring_up(code, VSOCK, 3);
    code = bring_up(code, RNG, 1);
    code = bring_up(code, BALLOON, 2);
    code = code.store(header, 0).store(header + 8, 0);
    code = offer(
        code,
        DISK,
        &[(header, 16, false), (data, 512, true), (status, 1, true)],
    );
    code = offer(code, RNG, &[(random, 16, true)]);
    code.print("N")
        .wait_for(rings(DISK) + 0x802, 1)
        .print_word(data + 508)
        .wait_for(rings(RNG) + 0x802, 1)
        .print("D")
        .halt()
}

fn wait_for_console(machine: &Machine, text: &str) {
    let start = Instant::now();
    while !machine.board().journal.console().tail(4096).contains(text) {
        assert!(start.elapsed() < PATIENCE, "the guest never wrote {text:?}");
        std::thread::yield_now();
    }
}

fn build(config: &VmConfig, saved: Option<Saved>) -> Machine {
    let record = File::options().write(true).open("/dev/null").unwrap();
    let journal = Arc::new(Journal::new(Instant::now(), record));
    machine::build(config, saved, journal).unwrap()
}

fn copy(memory: &GuestMemory) -> GuestMemory {
    let copy = memory::allocate(32).unwrap();
    for region in memory.iter() {
        let mut bytes = vec![0; region.len() as usize];
        let start: GuestAddress = region.start_addr();
        memory.read_slice(&mut bytes, start).unwrap();
        copy.write_slice(&bytes, start).unwrap();
    }
    copy
}

#[test]
fn a_machine_saved_in_mid_io_goes_on_from_its_values() {
    if !kvm_or_skip("a_machine_saved_in_mid_io_goes_on_from_its_values") {
        return;
    }
    let disk = file(&[&SECTOR[..], &[0; 3584]].concat());
    let elf = payload().elf();

    // Nobody serves devices here: the requests stay where they are.
    let first = build(&machine_config(&elf, &disk), None);
    first.start_vcpus().unwrap();
    wait_for_console(&first, "N");
    let state = serde_json::to_string(&first.save().unwrap()).unwrap();
    let memory = copy(&first.memory);

    let state: MachineState = serde_json::from_str(&state).unwrap();
    let second = build(&machine_config(&elf, &disk), Some(Saved { state, memory }));
    second.start_vcpus().unwrap();
    second.resume();
    wait_for_console(&second, "qqqqD");
    assert_eq!(second.board().journal.console().tail(4096), "qqqqD");
    let mut random = [0; 16];
    second
        .memory
        .read_slice(&mut random, GuestAddress(0x30_3000))
        .unwrap();
    assert_ne!(random, [0; 16]);
    // The first one stands where it was saved, and has seen nothing of this.
    assert_eq!(first.board().journal.console().tail(4096), "N");
    second.save().unwrap();
}
