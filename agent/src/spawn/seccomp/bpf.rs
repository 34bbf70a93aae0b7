//! Classic BPF for seccomp: the few instructions that a filter needs, and a
//! binary search over numbers.

use crate::sys::spawn::Instruction;

/// What becomes of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is made.
    Allow,
    /// It gives this error instead.
    Errno(u16),
    /// The process is killed.
    Kill,
    /// Made if none of the conditions holds; each names an error.
    Unless(Vec<Condition>),
    /// Made if the low half of argument 0 is one of these, otherwise EPERM.
    OneOf(&'static [u32]),
}

/// A condition on the low half of an argument. The high half of what the
/// kernel takes as an int is noise; of flags it has no meaning that is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Argument equals a value.
    Equals {
        /// Which argument.
        argument: u8,
        /// What.
        value: u32,
        /// The error when it does.
        errno: u16,
    },
    /// Argument has any bit of a mask.
    AnyBit {
        /// Which argument.
        argument: u8,
        /// Which bits.
        mask: u32,
        /// The error when it has.
        errno: u16,
    },
}

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const IF_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const ALWAYS: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

fn one(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code, jt, jf, k }
}

fn errno(number: u16) -> Instruction {
    one(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | u32::from(number))
}

fn load_argument(argument: u8) -> Instruction {
    one(LOAD, 0, 0, ARGUMENTS + 8 * u32::from(argument))
}

/// A filter by architecture: audit number and the code for it. Any other
/// architecture is killed.
pub fn by_architecture(parts: &[(u32, Vec<Instruction>)]) -> Vec<Instruction> {
    let mut program = vec![one(LOAD, 0, 0, ARCHITECTURE)];
    for (architecture, code) in parts {
        program.push(one(IF_EQUAL, 1, 0, *architecture));
        // Longer than a conditional jump reaches.
        program.push(one(
            ALWAYS,
            0,
            0,
            u32::try_from(code.len()).unwrap_or(0) + 1,
        ));
        program.push(one(LOAD, 0, 0, NUMBER));
        program.extend_from_slice(code);
    }
    program.push(one(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS));
    program
}

/// A search for the verdict on the number in the accumulator. `ranges` are the
/// first number of each range, ascending, the first one 0.
pub fn search(ranges: &[(u32, Verdict)]) -> Vec<Instruction> {
    let [_, rest @ ..] = ranges else {
        return vec![errno(libc::EPERM as u16)];
    };
    if rest.is_empty() {
        return leaf(&ranges[0].1);
    }
    let (below, above) = ranges.split_at(ranges.len() / 2);
    let split = above[0].0;
    let below = search(below);
    let above = search(above);
    let mut code = match u8::try_from(below.len()) {
        Ok(distance) => vec![one(IF_AT_LEAST, distance, 0, split)],
        Err(_) => vec![
            one(IF_AT_LEAST, 0, 1, split),
            one(ALWAYS, 0, 0, u32::try_from(below.len()).unwrap_or(0)),
        ],
    };
    code.extend(below);
    code.extend(above);
    code
}

fn leaf(verdict: &Verdict) -> Vec<Instruction> {
    let allow = one(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW);
    match verdict {
        Verdict::Allow => vec![allow],
        Verdict::Errno(number) => vec![errno(*number)],
        Verdict::Kill => vec![one(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS)],
        Verdict::Unless(conditions) => {
            let mut code = Vec::with_capacity(conditions.len() * 3 + 1);
            for condition in conditions {
                let (argument, test, number) = match *condition {
                    Condition::Equals {
                        argument,
                        value,
                        errno,
                    } => (argument, one(IF_EQUAL, 0, 1, value), errno),
                    Condition::AnyBit {
                        argument,
                        mask,
                        errno,
                    } => (argument, one(IF_ANY_BIT, 0, 1, mask), errno),
                };
                code.extend([load_argument(argument), test, errno(number)]);
            }
            code.push(allow);
            code
        }
        Verdict::OneOf(values) => {
            let mut code = vec![load_argument(0)];
            for value in *values {
                code.extend([one(IF_EQUAL, 0, 1, *value), allow]);
            }
            code.push(errno(libc::EPERM as u16));
            code
        }
    }
}

/// What a filter says of a call: the kernel's interpreter in small.
#[cfg(test)]
pub fn judge(program: &[Instruction], architecture: u32, number: u32, args: [u64; 6]) -> u32 {
    let word = |offset: u32| match offset {
        NUMBER => number,
        ARCHITECTURE => architecture,
        offset => {
            let value = args[((offset - ARGUMENTS) / 8) as usize];
            if offset % 8 == 0 {
                value as u32
            } else {
                (value >> 32) as u32
            }
        }
    };
    let mut accumulator = 0;
    let mut at = 0;
    loop {
        let now = &program[at];
        at += 1;
        let holds = match now.code {
            LOAD => {
                accumulator = word(now.k);
                continue;
            }
            RETURN => return now.k,
            ALWAYS => {
                at += now.k as usize;
                continue;
            }
            IF_EQUAL => accumulator == now.k,
            IF_AT_LEAST => accumulator >= now.k,
            IF_ANY_BIT => accumulator & now.k != 0,
            code => panic!("no such instruction: {code:#x}"),
        };
        at += usize::from(if holds { now.jt } else { now.jf });
    }
}
