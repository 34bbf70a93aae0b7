//! Guests that need more than a list of stores: a second processor that races
//! with the first one and the devices, and storms over the ports, over the
//! devices' registers in every width, and over the model-specific registers.

use super::hostile::{Attack, DEVICES};
use super::outside::{MEMORY, Outside, survive};
use super::payload::{CODE, Code};
use super::vm::{kvm_or_skip, skip};
use beluga_proto::{ExitCause, STAMP_PORT, Stamp};
use std::time::Duration;

/// Races of one run.
const RACES: u64 = 40;
/// Stores of the first processor in a race, and of the second one, which does its
/// own again and again.
const STORES: [usize; 2] = [1200, 600];

/// How long a storm may go on, under an emulated KVM too.
const LONG: Duration = Duration::from_secs(60);

/// Where the tables lie, behind the code.
const GDT: u32 = CODE + 0x600;
const GDTR: u32 = CODE + 0x620;
const IDTR: u32 = CODE + 0x628;
const IDT: u32 = CODE + 0x640;
const HANDLER: u32 = CODE + 0x6c0;
const SECOND: u32 = CODE + 0x6e0;
const LISTS: u32 = CODE + 0x740;
/// Where a second processor begins, in real mode, and where it says that it runs.
const TRAMPOLINE: u32 = 0x8000;
const RUNS: u32 = 0x9000;
/// The local interrupt controller's command register.
const COMMAND: u32 = 0xfee0_0300;
/// What is fetched and stored by string instructions.
const SCRATCH: u32 = 0x40_0000;

/// Places pieces behind the code.
fn with_tables(code: Code, pieces: &[(u32, Vec<u8>)]) -> Code {
    pieces.iter().fold(code, |code, (address, bytes)| {
        let here = CODE + code.bytes().len() as u32;
        let gap = address.checked_sub(here).expect("the piece before ends");
        code.raw(&vec![0; gap as usize]).raw(bytes)
    })
}

/// Flat segments: code is selector 8, data 16.
fn segments() -> Vec<(u32, Vec<u8>)> {
    let descriptors = [0, 0x00cf_9b00_0000_ffff_u64, 0x00cf_9300_0000_ffff];
    let bytes = descriptors.into_iter().flat_map(u64::to_le_bytes);
    vec![(GDT, bytes.collect()), (GDTR, table_register(23, GDT))]
}

fn table_register(limit: u16, base: u32) -> Vec<u8> {
    [&limit.to_le_bytes()[..], &base.to_le_bytes()].concat()
}

/// Takes these segments and a stack, and passes over each instruction of two
/// bytes that faults.
fn prepared() -> Code {
    // lgdt; lidt; far jump to the next instruction
    let code = Code::default().raw(&[0x0f, 0x01, 0x15]);
    let code = code.raw(&GDTR.to_le_bytes()).raw(&[0x0f, 0x01, 0x1d]);
    let code = code.raw(&IDTR.to_le_bytes()).raw(&[0xea]);
    let next = CODE + code.bytes().len() as u32 + 6;
    let code = code.raw(&next.to_le_bytes()).raw(&[8, 0]);
    // mov ax, 16; mov ds, ax; mov es, ax; mov ss, ax; mov esp, the end of free memory
    let code = code.raw(&[0x66, 0xb8, 16, 0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0xbc]);
    code.raw(&((MEMORY << 20) - 0x10_0000).to_le_bytes())
}

/// The table of interrupts, whose only entry is that of a general protection fault.
fn faults() -> Vec<(u32, Vec<u8>)> {
    const GENERAL_PROTECTION: usize = 13;
    let mut gates = vec![0; GENERAL_PROTECTION * 8];
    gates.extend((HANDLER as u16).to_le_bytes());
    gates.extend([8, 0, 0, 0x8e]);
    gates.extend(((HANDLER >> 16) as u16).to_le_bytes());
    // add esp, 4 (the error code); add dword [esp], 2; iret
    let handler = vec![0x83, 0xc4, 4, 0x83, 0x04, 0x24, 2, 0xcf];
    vec![
        (IDTR, table_register(gates.len() as u16 - 1, IDT)),
        (IDT, gates),
        (HANDLER, handler),
    ]
}

/// The end that a guest makes by itself.
fn ended(code: Code) -> Code {
    code.out(STAMP_PORT, Stamp::EndShutdown as u8).reset()
}

/// `body` for each number from `first` to before `end`, in the register that the
/// opcodes `set` (mov reg, imm32), `add` and `compare` (with imm32) have.
fn each(code: Code, [set, add, compare]: [&[u8]; 3], range: [u32; 3], body: &[u8]) -> Code {
    let [first, end, stride] = range;
    let code = code.raw(set).raw(&first.to_le_bytes());
    let start = code.bytes().len();
    let code = code.raw(body).raw(add).raw(&stride.to_le_bytes());
    let code = code.raw(compare).raw(&end.to_le_bytes());
    // jb
    let back = start as i32 - (code.bytes().len() as i32 + 6);
    code.raw(&[0x0f, 0x82]).raw(&back.to_le_bytes())
}

/// Reads and writes of one, two and four bytes at every port of old devices, at
/// some of the others, and strings of them; all but what ends the machine.
fn ports() -> Code {
    const EDX: [&[u8]; 3] = [&[0xba], &[0x81, 0xc2], &[0x81, 0xfa]];
    const RESET: u32 = 0x64;
    // in al, dx; in ax, dx; in eax, dx; out dx, al; out dx, ax; out dx, eax
    const BODY: [u8; 8] = [0xec, 0x66, 0xed, 0xed, 0xee, 0x66, 0xef, 0xef];
    let stamp = u32::from(STAMP_PORT);
    let ranges = [
        [0, RESET, 1],
        [RESET + 1, stamp, 1],
        [stamp + 1, 0x480, 1],
        [0x480, 0x1_0000, 97],
    ];
    let code = ranges
        .into_iter()
        .fold(prepared(), |code, range| each(code, EDX, range, &BODY));
    let mut code = code;
    for port in [0x3f8_u32, 0x71, 0xcf8, 0xffff] {
        for string in [[0xf3, 0x6e], [0xf3, 0x6c]] {
            // mov esi, scratch; mov edi, scratch; mov ecx, count; mov edx, port
            for (opcode, value) in [
                (0xbe, SCRATCH),
                (0xbf, SCRATCH),
                (0xb9, 0x3000),
                (0xba, port),
            ] {
                code = code.raw(&[opcode]).raw(&u32::to_le_bytes(value));
            }
            code = code.raw(&string);
        }
    }
    with_tables(ended(code), &[segments(), faults()].concat())
}

/// Reads and writes of every register of every device and behind the last one: by
/// strings of words and of bytes, and of eight bytes at once.
fn registers() -> Code {
    let first = 0xd000_0000_u32;
    let mut code = prepared();
    for device in 0..=DEVICES as u32 {
        let base = first + device * 0x1000;
        let strings: [(u32, u32, u32, &[u8]); 5] = [
            // movsd, movsb, from the device
            (base, SCRATCH, 0x400, &[0xf3, 0xa5]),
            (base, SCRATCH, 0x140, &[0xf3, 0xa4]),
            // movsw across the words
            (base + 1, SCRATCH, 0x80, &[0xf3, 0x66, 0xa5]),
            // movsd, movsb, to the device
            (SCRATCH + 0x1000, base, 0x400, &[0xf3, 0xa5]),
            (SCRATCH + 0x1000, base, 0x140, &[0xf3, 0xa4]),
        ];
        for (from, to, count, string) in strings {
            for (opcode, value) in [(0xbe, from), (0xbf, to), (0xb9, count)] {
                code = code.raw(&[opcode]).raw(&u32::to_le_bytes(value));
            }
            code = code.raw(string);
        }
        for register in [0, 0x50, 0x70, 0xfc, 0x100, 0xffc] {
            // movq mm0, [register]; movq [register], mm0
            for opcode in [[0x0f, 0x6f, 0x05], [0x0f, 0x7f, 0x05]] {
                code = code.raw(&opcode).raw(&(base + register).to_le_bytes());
            }
        }
    }
    with_tables(ended(code), &[segments(), faults()].concat())
}

/// Reads every model-specific register of these ranges, writes back what it has
/// and then what it should not have.
fn model_specific() -> Code {
    const ECX: [&[u8]; 3] = [&[0xb9], &[0x81, 0xc1], &[0x81, 0xf9]];
    let mut body = Vec::new();
    // rdmsr; wrmsr
    body.extend([0x0f, 0x32, 0x0f, 0x30]);
    for value in [u32::MAX, 0x8000_0001] {
        // mov eax, value; mov edx, value; wrmsr; mov eax, value; xor edx, edx; wrmsr
        let value = value.to_le_bytes();
        body.push(0xb8);
        body.extend(value);
        body.push(0xba);
        body.extend(value);
        body.extend([0x0f, 0x30, 0xb8]);
        body.extend(value);
        body.extend([0x31, 0xd2, 0x0f, 0x30]);
    }
    let ranges = [
        [0, 0x0d00, 1],
        [0x4000_0000, 0x4000_0110, 1],
        [0x4b56_4d00, 0x4b56_4d10, 1],
        [0xc000_0080, 0xc000_0110, 1],
        [0xc001_0000, 0xc001_0120, 1],
    ];
    let code = ranges
        .into_iter()
        .fold(prepared(), |code, range| each(code, ECX, range, &body));
    with_tables(ended(code), &[segments(), faults()].concat())
}

/// A list of stores as the processor finds it.
fn list(stores: &[(u32, u32)]) -> Vec<u8> {
    let words = stores.iter().flat_map(|(at, value)| [*at, *value]);
    words.flat_map(u32::to_le_bytes).collect()
}

/// `mov esi, list; mov ecx, count`, and then `lodsd; mov edi, eax; lodsd;
/// mov [edi], eax` for each.
fn stores(code: Code, list: u32, count: usize) -> Code {
    let code = code.raw(&[0xbe]).raw(&list.to_le_bytes());
    let code = code.raw(&[0xb9]).raw(&(count as u32).to_le_bytes());
    code.raw(&[0xad, 0x89, 0xc7, 0xad, 0x89, 0x07, 0xe2, 0xf8])
}

/// What a second processor does: from real mode into the first one's segments.
fn trampoline() -> Vec<u8> {
    // The tables of the first processor lie above what real mode reaches.
    let gdtr = TRAMPOLINE as u16 + 0x20;
    // cli; xor ax, ax; mov ds, ax; lgdt [gdtr]; mov eax, cr0; or al, 1; mov cr0, eax
    let mut code = vec![0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x66, 0x0f, 0x01, 0x16];
    code.extend(gdtr.to_le_bytes());
    code.extend([0x0f, 0x20, 0xc0, 0x0c, 1, 0x0f, 0x22, 0xc0, 0x66, 0xea]);
    code.extend(SECOND.to_le_bytes());
    code.extend([8, 0]);
    code.resize(0x20, 0);
    code.extend(table_register(23, GDT));
    code
}

/// Two processors, each with stores of its own: the second one goes on with its
/// until the first one ends the machine.
fn race(first: &[(u32, u32)], second: &[(u32, u32)]) -> Code {
    let code = prepared().write(TRAMPOLINE, &trampoline());
    let code = code.store(RUNS, 0).store(COMMAND + 0x10, 1 << 24);
    let start = 0x4600 | TRAMPOLINE >> 12;
    let code = code.store(COMMAND, 0x4500).store(COMMAND, start);
    let code = code.wait_for(RUNS, 1);
    let code = ended(stores(code, LISTS, first.len()));
    // mov ax, 16; mov ds, ax; mov es, ax
    let again = Code::default().raw(&[0x66, 0xb8, 16, 0, 0x8e, 0xd8, 0x8e, 0xc0]);
    let again = again.store(RUNS, 1);
    let head = again.bytes().len();
    let again = stores(again, LISTS + first.len() as u32 * 8, second.len());
    let back = head as i8 - (again.bytes().len() as i8 + 2);
    let again = again.raw(&[0xeb]).raw(&back.to_le_bytes());
    let mut pieces = [segments(), faults()].concat();
    pieces.push((SECOND, again.bytes().to_vec()));
    pieces.push((LISTS, [list(first), list(second)].concat()));
    with_tables(code, &pieces)
}

fn outside(test: &str) -> Outside {
    let outside = Outside::make();
    if outside.tap.is_none() {
        skip(test, "no tap: the network device was not attacked");
    }
    outside
}

#[test]
fn a_second_processor_that_changes_what_a_device_reads_harms_nobody() {
    const NAME: &str = "a_second_processor_that_changes_what_a_device_reads_harms_nobody";
    if !kvm_or_skip(NAME) {
        return;
    }
    let mut outside = outside(NAME);
    let mut whole = 0;
    for seed in 0..RACES {
        let [first, second] = STORES;
        let first = Attack::of_seed(seed, first);
        let mut second = Attack::of_seed(seed, second);
        if seed % 2 == 0 {
            // Nothing but memory: many times as fast.
            second.retain(|(address, _)| *address < MEMORY << 20);
        }
        let record = survive(
            &format!("race {seed}"),
            race(&first, &second),
            2,
            &mut outside,
        );
        whole += u64::from(record.cause == ExitCause::GuestEnded);
    }
    assert!(whole * 2 > RACES, "{whole} of {RACES} came to their end");
}

#[test]
fn no_port_or_register_of_any_width_harms_anybody() {
    const NAME: &str = "no_port_or_register_of_any_width_harms_anybody";
    if !kvm_or_skip(NAME) {
        return;
    }
    let mut outside = outside(NAME);
    outside.patience = LONG;
    for (what, code) in [("ports", ports()), ("registers", registers())] {
        let record = survive(what, code, 1, &mut outside);
        assert_eq!(
            record.cause,
            ExitCause::GuestEnded,
            "{what}: {}",
            record.detail
        );
    }
}

#[test]
fn a_storm_of_model_specific_registers_harms_nobody() {
    const NAME: &str = "a_storm_of_model_specific_registers_harms_nobody";
    if !kvm_or_skip(NAME) {
        return;
    }
    let mut outside = outside(NAME);
    outside.patience = LONG;
    let record = survive("MSRs", model_specific(), 1, &mut outside);
    if record.detail.contains("cannot emulate") {
        return skip(NAME, "this KVM cannot give a guest's kernel its faults");
    }
    assert_eq!(record.cause, ExitCause::GuestEnded, "{}", record.detail);
}
