//! The device filter of cgroup v2: a BPF program that says which devices the
//! processes of a cgroup may open or make.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// Programs of ancestors stay in force beside this one.
const ALLOW_MULTI: u32 = 2;

/// Head of `union bpf_attr` for loading a program.
#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// Head of `union bpf_attr` for attaching one.
#[repr(C)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

/// One instruction: opcode, registers, jump offset, immediate value.
#[repr(C)]
#[derive(Clone, Copy)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xbf;
const MOVE_VALUE: u8 = 0xb7;
const AND_VALUE: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_EQUAL: u8 = 0x15;
const JUMP_NOT_EQUAL: u8 = 0x55;
const JUMP_LESS: u8 = 0xa5;
const JUMP_LESS_OR_EQUAL: u8 = 0xb5;
const EXIT: u8 = 0x95;

const MKNOD: i32 = 1;
const READ: i32 = 2;
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;

/// Character devices that every container may use: what runc allows.
const DEVICES: [(i32, i32); 8] = [
    (1, 3), // null
    (1, 5), // zero
    (1, 7), // full
    (1, 8), // random
    (1, 9), // urandom
    (5, 0), // tty
    (5, 1), // console
    (5, 2), // ptmx
];
/// Majors of pseudo-terminals.
const TERMINALS: (i32, i32) = (136, 143);

fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: (from << 4) | to,
        offset,
        immediate,
    }
}

/// A disk of a container's own.
#[derive(Debug, Clone, Copy)]
pub struct Disk {
    /// Number of its driver.
    pub major: i32,
    /// Its own number.
    pub minor: i32,
    /// It may not be written to.
    pub read_only: bool,
}

/// Instructions that are about one disk.
const PER_DISK: usize = 4;

/// The program. Context (register 1): access << 16 | type, major, minor.
fn program(disks: &[Disk]) -> Vec<Instruction> {
    let mut code = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(MOVE, 3, 2, 0, 0),
        instruction(AND_VALUE, 3, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, 2, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    // The tail: refuse, then allow. Jumps to it are counted from its distance.
    let body = 4 + disks.len() * PER_DISK + DEVICES.len() * 2;
    let refuse = code.len() + body;
    let allow = refuse + 2;
    let distance = |from: usize, to: usize| i16::try_from(to - from - 1).unwrap_or(0);
    let jump = |code: &mut Vec<Instruction>, op, register, target: usize, value| {
        let offset = distance(code.len(), target);
        code.push(instruction(op, register, 0, offset, value));
    };
    // Making a node is harmless: opening it is what counts.
    jump(&mut code, JUMP_EQUAL, 2, allow, MKNOD);
    for disk in disks {
        let next = code.len() + PER_DISK;
        jump(&mut code, JUMP_NOT_EQUAL, 3, next, BLOCK);
        jump(&mut code, JUMP_NOT_EQUAL, 4, next, disk.major);
        jump(&mut code, JUMP_NOT_EQUAL, 5, next, disk.minor);
        let (register, value) = if disk.read_only {
            (2, READ)
        } else {
            (3, BLOCK)
        };
        jump(&mut code, JUMP_EQUAL, register, allow, value);
    }
    jump(&mut code, JUMP_NOT_EQUAL, 3, refuse, CHARACTER);
    for (major, minor) in DEVICES {
        let next = code.len() + 2;
        jump(&mut code, JUMP_NOT_EQUAL, 4, next, major);
        jump(&mut code, JUMP_EQUAL, 5, allow, minor);
    }
    jump(&mut code, JUMP_LESS, 4, refuse, TERMINALS.0);
    jump(&mut code, JUMP_LESS_OR_EQUAL, 4, allow, TERMINALS.1);
    code.extend([
        instruction(MOVE_VALUE, 0, 0, 0, 0),
        instruction(EXIT, 0, 0, 0, 0),
        instruction(MOVE_VALUE, 0, 0, 0, 1),
        instruction(EXIT, 0, 0, 0, 0),
    ]);
    code
}

/// Loads the filter that allows what an unprivileged container may use.
fn load_device_filter(disks: &[Disk]) -> io::Result<OwnedFd> {
    let code = program(disks);
    let load = Load {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(code.len()).unwrap_or(0),
        insns: code.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..Load::default()
    };
    // SAFETY: the kernel reads `load` and what it points to; all outlive the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const load, size_of::<Load>()) };
    let fd = super::check(libc::c_int::try_from(fd).unwrap_or(-1))?;
    // SAFETY: the kernel just made this descriptor (close-on-exec) for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets the processes of a cgroup and of all below it use no devices but those
/// of every container and its own disks. Called by the helper, in that cgroup itself, once it has
/// mounted what it needs.
pub fn limit_devices(cgroup: impl AsFd, disks: &[Disk]) -> io::Result<()> {
    let filter = load_device_filter(disks)?;
    let attach = Attach {
        target_fd: cgroup.as_fd().as_raw_fd().unsigned_abs(),
        attach_bpf_fd: filter.as_fd().as_raw_fd().unsigned_abs(),
        attach_type: ATTACH_CGROUP_DEVICE,
        attach_flags: ALLOW_MULTI,
    };
    // SAFETY: the kernel reads `attach`, which outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            PROG_ATTACH,
            &raw const attach,
            size_of::<Attach>(),
        )
    };
    super::check(libc::c_int::try_from(result).unwrap_or(-1)).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would.
    fn decide(access: i32, kind: i32, major: i32, minor: i32) -> bool {
        decide_with(&[], access, kind, major, minor)
    }

    fn decide_with(disks: &[Disk], access: i32, kind: i32, major: i32, minor: i32) -> bool {
        let context = [(access << 16) | kind, major, minor];
        let mut registers = [0i64; 11];
        let code = program(disks);
        let mut at = 0usize;
        loop {
            let Instruction {
                code: op,
                registers: pair,
                offset,
                immediate,
            } = code[at];
            let (to, from) = (usize::from(pair & 15), usize::from(pair >> 4));
            let value = i64::from(immediate);
            at += 1;
            let jump = match op {
                LOAD_WORD => {
                    registers[to] = context[usize::try_from(offset).unwrap() / 4].into();
                    continue;
                }
                MOVE => {
                    registers[to] = registers[from];
                    continue;
                }
                MOVE_VALUE => {
                    registers[to] = value;
                    continue;
                }
                AND_VALUE => {
                    registers[to] &= value;
                    continue;
                }
                SHIFT_RIGHT => {
                    registers[to] >>= value;
                    continue;
                }
                EXIT => return registers[0] == 1,
                JUMP_EQUAL => registers[to] == value,
                JUMP_NOT_EQUAL => registers[to] != value,
                JUMP_LESS => registers[to] < value,
                JUMP_LESS_OR_EQUAL => registers[to] <= value,
                other => panic!("opcode {other:#x}"),
            };
            if jump {
                at += usize::try_from(offset).unwrap();
            }
        }
    }

    #[test]
    fn a_disk_of_its_own_may_be_used_and_its_neighbours_may_not() {
        let disk = |minor, read_only| Disk {
            major: 254,
            minor,
            read_only,
        };
        let disks = [disk(32, false), disk(48, true)];
        let may = |access, minor| decide_with(&disks, access, BLOCK, 254, minor);
        assert!(may(6, 32) && may(2, 32) && may(4, 32));
        assert!(may(READ, 48) && !may(6, 48) && !may(4, 48));
        assert!(!may(6, 16) && !may(READ, 0) && !may(READ, 33));
        assert!(!decide_with(&disks, READ, CHARACTER, 254, 32));
        assert!(!decide_with(&disks, READ, BLOCK, 253, 32));
        assert!(decide_with(&disks, 6, CHARACTER, 1, 3));
    }

    #[test]
    fn the_filter_allows_what_a_container_needs_and_nothing_else() {
        let read_write = 6;
        for (major, minor) in DEVICES {
            assert!(decide(read_write, CHARACTER, major, minor));
        }
        assert!(decide(read_write, CHARACTER, 136, 7));
        assert!(decide(read_write, CHARACTER, 143, 0));
        assert!(decide(MKNOD, 1, 254, 0), "making a node");
        assert!(!decide(read_write, 1, 254, 0), "the layer disk");
        assert!(!decide(MKNOD | read_write, 1, 254, 0));
        assert!(!decide(read_write, 1, 1, 3), "a block device 1:3");
        assert!(!decide(read_write, CHARACTER, 1, 1), "memory");
        assert!(
            !decide(read_write, CHARACTER, 1, 11),
            "the kernel's messages"
        );
        assert!(!decide(read_write, CHARACTER, 10, 200));
        assert!(!decide(read_write, CHARACTER, 144, 0));
    }
}
