//! The guest that is saved: a driver of every device on one vCPU, and a clock
//! on the other.

use crate::payload::Code;
use beluga_proto::CONTROL_PORT;
use beluga_vmm::virtio::vsock::packet::{HOST_CID, Header, Op, TYPE_STREAM};

/// Devices in the order in which they lie on the bus.
pub const DISK: u32 = 0;
pub const NET: u32 = 1;
pub const SHARE: u32 = 2;
pub const VSOCK: u32 = 3;
pub const RNG: u32 = 4;
pub const BALLOON: u32 = 5;

/// Queues per device.
const QUEUES: [u32; 6] = [1, 2, 2, 3, 1, 2];

/// Requests of the share's driver go here; 0 is for what must not wait.
const SHARE_REQUESTS: u32 = 1;

/// Bytes of `virtio_net_hdr_v1`.
pub const NET_HEADER: u32 = 12;

/// Bytes of Ethernet's, IPv4's and UDP's headers.
pub const UDP_HEADERS: u32 = 14 + 20 + 8;

pub const GUEST_CID: u32 = 3;

/// What the host writes to say that the guest may go on.
pub const GO: u32 = 0x2f_0000;
/// Periods of its timer that the second vCPU has seen; never stored as less.
pub const TICKS: u32 = 0x2f_1000;
/// The pending interrupts 0x60 to 0x7f that the second vCPU has, over and over.
pub const PENDING: u32 = 0x2f_1004;
/// The one that the first sends.
pub const PENDING_BIT: u32 = 1 << 1;
/// `actual` of the balloon's configuration after the machine was restored.
pub const ACTUAL: u32 = 0x2f_1008;

/// Writes to a port where nothing is, and as many reads of a device's register,
/// counted by the guest.
pub const ACCESSES: u32 = 0x2f_100c;
/// Reads of registers that it does not count.
pub const OTHER_READS: u64 = 1;

const LAPIC: u32 = 0xfee0_0000;
const IOAPIC: u32 = 0xfec0_0000;

/// Where the second vCPU begins: a page below 1 MiB.
const TRAMPOLINE: u32 = 0x3_0000;
/// … and where it goes on, in 32-bit mode.
const CLOCK: u32 = 0x3_1000;

/// Where a device's registers lie.
pub const fn registers(device: u32) -> u32 {
    0xd000_0000 + device * 0x1000
}

/// Where the rings of a queue lie in guest memory.
const fn rings(device: u32, queue: u32) -> u32 {
    0x20_0000 + device * 0x1_0000 + queue * 0x1000
}

/// Buffer number `slot` of a device.
pub const fn buffer(device: u32, slot: u32) -> u32 {
    0x40_0000 + device * 0x2_0000 + slot * 0x1000
}

/// Room for what comes from outside, where a device has two directions.
pub const fn room(device: u32, slot: u32) -> u32 {
    buffer(device, 8 + slot)
}

/// The page that the balloon's request `slot` gives away.
pub const fn given_page(slot: u32) -> u32 {
    0x60_0000 + slot * 0x1000
}

/// What a page has in it until it is given away.
pub const IN_USE: u32 = 0x5a5a_5a5a;

/// Brings a device up as a driver does, with empty queues of 16.
fn bring_up(code: Code, device: u32) -> Code {
    let at = registers(device);
    // Reset, ACKNOWLEDGE, DRIVER; VERSION_1 and nothing else; FEATURES_OK.
    let steps = [
        (0x70, 0),
        (0x70, 1),
        (0x70, 3),
        (0x24, 1),
        (0x20, 1),
        (0x70, 11),
    ];
    let code = steps.into_iter().fold(code, |code, (register, value)| {
        code.store(at + register, value)
    });
    let code = (0..QUEUES[device as usize]).fold(code, |code, queue| {
        let ring = rings(device, queue);
        let steps = [
            (0x30, queue),
            (0x38, 16),
            (0x80, ring),
            (0x90, ring + 0x400),
            (0xa0, ring + 0x800),
            (0x44, 1),
        ];
        steps.into_iter().fold(code, |code, (register, value)| {
            code.store(at + register, value)
        })
    });
    code.store(at + 0x70, 15)
}

/// Makes request `slot` (0 to 3, in order) available in a queue and notifies.
/// `pieces`, at most four: address, length, whether the device writes.
fn offer(code: Code, (device, queue): (u32, u32), slot: u32, pieces: &[(u32, u32, bool)]) -> Code {
    let ring = rings(device, queue);
    let mut code = code;
    for (at, &(address, length, writes)) in (slot * 4..).zip(pieces) {
        let next = u32::from(at - slot * 4 + 1 < pieces.len() as u32);
        let flags = next | u32::from(writes) << 1;
        code = code
            .store(ring + at * 16, address)
            .store(ring + at * 16 + 8, length)
            .store(ring + at * 16 + 12, flags | (at + 1) << 16);
    }
    code.store(ring + 0x404 + slot * 2, slot * 4)
        .store(ring + 0x400, (slot + 1) << 16)
        .store(registers(device) + 0x50, queue)
}

/// Waits until a queue has given back so many requests.
fn wait(code: Code, (device, queue): (u32, u32), used: u16) -> Code {
    code.wait_for(rings(device, queue) + 0x802, used)
}

/// One request, number `slot`, to every device but the share.
fn round(code: Code, slot: u32) -> Code {
    // A disk's header: read sector `slot`; data; status.
    let disk = buffer(DISK, slot);
    let code = code.store(disk, 0).store(disk + 8, slot);
    let pieces = [
        (disk, 16, false),
        (disk + 0x200, 512, true),
        (disk + 0x20, 1, true),
    ];
    let code = offer(code, (DISK, 0), slot, &pieces);
    let code = offer(code, (RNG, 0), slot, &[(buffer(RNG, slot), 16, true)]);
    let code = offer(code, (NET, 0), slot, &[(room(NET, slot), 2048, true)]);
    let packet = packet(&said(slot));
    let code = code.write(buffer(NET, slot), &packet);
    let length = packet.len() as u32;
    let code = offer(code, (NET, 1), slot, &[(buffer(NET, slot), length, false)]);
    let header = header(slot);
    let code = code.write(buffer(VSOCK, slot), &header);
    let length = header.len() as u32;
    let code = offer(
        code,
        (VSOCK, 1),
        slot,
        &[(buffer(VSOCK, slot), length, false)],
    );
    let code = code
        .store(given_page(slot), IN_USE)
        .store(buffer(BALLOON, slot), given_page(slot) >> 12)
        .store(registers(BALLOON) + 0x104, slot + 1);
    offer(
        code,
        (BALLOON, 0),
        slot,
        &[(buffer(BALLOON, slot), 4, false)],
    )
}

/// Waits for the answers of a round.
fn wait_for_round(code: Code, slot: u32) -> Code {
    let queues = [
        (DISK, 0),
        (RNG, 0),
        (NET, 0),
        (NET, 1),
        (VSOCK, 1),
        (BALLOON, 0),
    ];
    let used = slot as u16 + 1;
    queues
        .into_iter()
        .fold(code, |code, queue| wait(code, queue, used))
}

/// Request `slot` to the share: 40 bytes with a number, room for an answer.
fn ask_share(code: Code, slot: u32) -> Code {
    let at = buffer(SHARE, slot);
    let code = code.store(at, 40).store(at + 8, slot + 1);
    let pieces = [(at, 40, false), (room(SHARE, slot), 64, true)];
    offer(code, (SHARE, SHARE_REQUESTS), slot, &pieces)
}

fn wait_for_share(code: Code, used: u16) -> Code {
    wait(code, (SHARE, SHARE_REQUESTS), used)
}

/// What the guest says to the host in round `slot`.
pub fn said(slot: u32) -> [u8; 8] {
    let mut text = *b"guest #0";
    text[7] += slot as u8;
    text
}

/// A datagram from 192.168.9.2:9 to 192.168.9.1:7 with the device's header.
fn packet(data: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; NET_HEADER as usize];
    packet.extend([0xff; 6]);
    packet.extend([2, 0, 0, 0, 0, 1, 8, 0]);
    let length = 28 + data.len() as u16;
    let mut ip = [
        0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 192, 168, 9, 2, 192, 168, 9, 1,
    ];
    ip[2..4].copy_from_slice(&length.to_be_bytes());
    let words = ip
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum: u32 = words.sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(ip);
    // No checksum of UDP's own: zero says so.
    for word in [9, 7, length - 20, 0] {
        packet.extend(word.to_be_bytes());
    }
    packet.extend(data);
    packet
}

/// The vsock packet of a round: a call, data on that stream, another call.
fn header(slot: u32) -> Vec<u8> {
    let header = Header {
        src_cid: u64::from(GUEST_CID),
        dst_cid: HOST_CID,
        src_port: [5000, 5000, 5001][slot as usize],
        dst_port: CONTROL_PORT,
        len: [0, 4, 0][slot as usize],
        kind: TYPE_STREAM,
        op: [Op::Request, Op::Data, Op::Request][slot as usize] as u16,
        buf_alloc: 4096,
        ..Header::default()
    };
    let mut packet = header.encode().to_vec();
    packet.resize(packet.len() + header.len as usize, b'v');
    packet
}

/// Starts the second vCPU by INIT and SIPI.
fn start_second(code: Code) -> Code {
    // cli; lgdt cs:[0x80]; mov eax, cr0; or eax, 1; mov cr0, eax; jmp 8:CLOCK
    let mut real = vec![0xfa, 0x2e, 0x66, 0x0f, 0x01, 0x16, 0x80, 0x00];
    real.extend([0x0f, 0x20, 0xc0, 0x66, 0x83, 0xc8, 0x01, 0x0f, 0x22, 0xc0]);
    real.extend([0x66, 0xea]);
    real.extend(CLOCK.to_le_bytes());
    real.extend([8, 0]);
    let mut table = vec![24 - 1, 0];
    table.extend((TRAMPOLINE + 0x90).to_le_bytes());
    table.resize(0x10, 0);
    for entry in [0, 0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff_u64] {
        table.extend(entry.to_le_bytes());
    }
    code.write(TRAMPOLINE, &real)
        .write(TRAMPOLINE + 0x80, &table)
        .write(CLOCK, clock().bytes())
        .store(LAPIC + 0x310, 1 << 24)
        .store(LAPIC + 0x300, 0x4500)
        .store(LAPIC + 0x310, 1 << 24)
        .store(LAPIC + 0x300, 0x4600 | TRAMPOLINE >> 12)
}

/// The second vCPU: counts the periods of its own timer in a register.
fn clock() -> Code {
    // mov ax, 16; mov ds, ax; mov es, ax; mov ss, ax
    Code::default()
        .raw(&[0x66, 0xb8, 16, 0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0])
        // On; divide by 1; periodic, masked; a period of a million.
        .store(LAPIC + 0xf0, 0x1ff)
        .store(LAPIC + 0x3e0, 0xb)
        .store(LAPIC + 0x320, 0x3_0051)
        .store(LAPIC + 0x380, 1_000_000)
        // xor ebx, ebx; xor edx, edx
        .raw(&[0x31, 0xdb, 0x31, 0xd2])
        // again: mov eax, [pending 0x60 to 0x7f]; mov [PENDING], eax
        .copy_word(LAPIC + 0x230, PENDING)
        // mov eax, [count]; cmp eax, edx; jbe on: it only falls in a period
        .raw(&[0xa1])
        .raw(&(LAPIC + 0x390).to_le_bytes())
        .raw(&[0x39, 0xd0, 0x76, 0x07])
        // inc ebx; mov [TICKS], ebx
        .raw(&[0x43, 0x89, 0x1d])
        .raw(&TICKS.to_le_bytes())
        // on: mov edx, eax; pause; jmp again
        .raw(&[0x89, 0xc2, 0xf3, 0x90, 0xeb, 0xe0])
}

/// Writes to a port and counts that, until bit 0 of a register is set.
fn access_until(code: Code, register: u32) -> Code {
    // again: out 0x80, 0; inc dword [ACCESSES]
    code.out(0x80, 0)
        .raw(&[0xff, 0x05])
        .raw(&ACCESSES.to_le_bytes())
        // mov eax, [register]; test al, 1; jz again
        .raw(&[0xa1])
        .raw(&register.to_le_bytes())
        .raw(&[0xa8, 0x01, 0x74, 0xea])
}

/// The guest. It says `1` when a first request is with every device, `2` when
/// they are answered, `S` when one is with the share, `N` when one is with
/// every device again; from there on it has to be in another machine.
pub fn guest() -> Code {
    let devices = 0..QUEUES.len() as u32;
    let code = devices.fold(Code::default(), bring_up);
    let code = start_second(code).wait_for_bits(TICKS, u32::MAX);
    let code = (0..4).fold(code, |code, slot| {
        offer(code, (VSOCK, 0), slot, &[(room(VSOCK, slot), 256, true)])
    });
    let code = offer(code, (VSOCK, 2), 0, &[(room(VSOCK, 4), 4, true)]);
    let code = ask_share(round(code, 0), 0).print("1");
    let code = wait_for_share(wait_for_round(code, 0), 1);
    let code = wait(code, (VSOCK, 0), 1).print("2");

    // The disk's line, number 5, becomes this vCPU's vector 0x45; nobody takes
    // it. To the other vCPU goes vector 0x61, for which there is nobody either.
    let code = code
        .store(LAPIC + 0xf0, 0x1ff)
        .store(registers(DISK) + 0x64, u32::MAX)
        .store(IOAPIC, 0x10 + 2 * 5 + 1)
        .store(IOAPIC + 0x10, 0)
        .store(IOAPIC, 0x10 + 2 * 5)
        .store(IOAPIC + 0x10, 0x45)
        .store(LAPIC + 0x310, 1 << 24)
        .store(LAPIC + 0x300, 0x4061)
        .wait_for_bits(PENDING, PENDING_BIT);
    let code = ask_share(code, 1).print("S").wait_for(GO, 1);
    let code = ask_share(round(code, 1), 2).print("N");

    // Port and register leave KVM each time: so it is saved in such an access.
    let code = access_until(code, registers(DISK) + 0x60)
        .wait_for_bits(LAPIC + 0x220, 1 << 5)
        .print("I");
    let code = wait_for_share(wait_for_round(code, 1), 3);
    let code = wait(wait(code, (VSOCK, 0), 2), (VSOCK, 2), 1)
        .copy_word(registers(BALLOON) + 0x104, ACTUAL)
        .print("3")
        .wait_for(GO, 2);
    let code = ask_share(round(code, 2), 3).print("4");
    let code = wait_for_share(wait_for_round(code, 2), 4);
    wait(code, (VSOCK, 0), 4).print("D").halt()
}
