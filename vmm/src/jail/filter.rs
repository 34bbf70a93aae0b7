//! The lists of system calls as filters that the kernel runs.
//!
//! Each filter is a tree over the numbers, not one comparison after the other:
//! when a thread takes its filter, the kernel runs it once for each number that
//! there is, to learn which are allowed whatever their arguments.

use super::calls::{Call, KINDS, Only, ThreadKind};
use seccompiler::{BpfProgram, sock_filter};
use std::mem::offset_of;

/// The calls of 64-bit programs; those of others have other numbers.
const X86_64: u32 = 0xc000_003e;

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const IF_AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const IF_ANY_BIT: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// A jump of a filter reaches 255 instructions far.
    #[error("the list of system calls of {kind:?} is too long for a filter")]
    TooLong {
        /// Whose.
        kind: ThreadKind,
    },
    /// The kernel refuses.
    #[error("the kernel does not take the filter of {kind:?}")]
    Install {
        /// Whose.
        kind: ThreadKind,
        /// Its reason.
        #[source]
        source: seccompiler::Error,
    },
}

/// A filter for each kind of thread.
#[derive(Debug)]
pub struct Filters(Vec<(ThreadKind, BpfProgram)>);

impl Filters {
    /// Compiles the lists, once for all threads.
    pub fn compile() -> Result<Self, FilterError> {
        let compiled = KINDS.map(|kind| {
            let program = program(kind).ok_or(FilterError::TooLong { kind })?;
            Ok((kind, program))
        });
        compiled.into_iter().collect::<Result<_, _>>().map(Self)
    }

    /// From now on the calling thread makes the calls of its kind only: another
    /// one ends the process by SIGSYS.
    pub fn install(&self, kind: ThreadKind) -> Result<(), FilterError> {
        // glibc asks for the number of processors when a thread first allocates.
        drop(std::hint::black_box(Box::new(0u8)));
        let found = self.0.iter().find(|(of, _)| *of == kind);
        let program = found.map_or(&[][..], |(_, program)| program);
        seccompiler::apply_filter(program).map_err(|source| FilterError::Install { kind, source })
    }
}

/// One instruction; jumps are counted from the next one.
fn instruction(code: u32, value: u32, then: usize, otherwise: usize) -> Option<sock_filter> {
    Some(sock_filter {
        code: u16::try_from(code).ok()?,
        jt: u8::try_from(then).ok()?,
        jf: u8::try_from(otherwise).ok()?,
        k: value,
    })
}

fn load(offset: usize) -> Option<sock_filter> {
    instruction(LOAD, u32::try_from(offset).ok()?, 0, 0)
}

fn allow() -> Option<sock_filter> {
    instruction(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0)
}

fn kill() -> Option<sock_filter> {
    instruction(RETURN, libc::SECCOMP_RET_KILL_PROCESS, 0, 0)
}

fn program(kind: ThreadKind) -> Option<BpfProgram> {
    let mut calls: Vec<&Call> = kind.calls().collect();
    calls.sort_unstable_by_key(|call| call.number);
    let mut program = vec![
        load(offset_of!(libc::seccomp_data, arch))?,
        instruction(IF_EQUAL, X86_64, 1, 0)?,
        kill()?,
        load(offset_of!(libc::seccomp_data, nr))?,
    ];
    program.extend(tree(&calls)?);
    Some(program)
}

/// Decides among calls in the order of their numbers.
fn tree(calls: &[&Call]) -> Option<BpfProgram> {
    if let [call] = calls {
        return decision(call);
    }
    let (lower, upper) = calls.split_at(calls.len() / 2);
    let middle = upper.first()?.number;
    let (lower, upper) = (tree(lower)?, tree(upper)?);
    let branch = instruction(IF_AT_LEAST, u32::try_from(middle).ok()?, lower.len(), 0)?;
    Some([vec![branch], lower, upper].concat())
}

/// Decides about one call, or another one of which nothing is allowed.
fn decision(call: &Call) -> Option<BpfProgram> {
    let number = u32::try_from(call.number).ok()?;
    // All end with `kill`, `allow`.
    let mut program = match call.only {
        Only::Any => vec![instruction(IF_EQUAL, number, 1, 0)?],
        Only::OneOf(argument, values) => {
            let others = values.len();
            let mut program = vec![
                instruction(IF_EQUAL, number, 0, others + 1)?,
                load(lower_half(argument))?,
            ];
            for (at, value) in values.iter().enumerate() {
                program.push(instruction(IF_EQUAL, *value, others - at, 0)?);
            }
            program
        }
        Only::Without(argument, bits) => vec![
            instruction(IF_EQUAL, number, 0, 2)?,
            load(lower_half(argument))?,
            instruction(IF_ANY_BIT, bits, 0, 1)?,
        ],
    };
    program.extend([kill()?, allow()?]);
    Some(program)
}

/// Where the lower 32 bits of an argument are: the machine is little-endian.
fn lower_half(argument: u8) -> usize {
    offset_of!(libc::seccomp_data, args) + usize::from(argument) * size_of::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel makes of a call.
    fn run(program: &[sock_filter], arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let (mut at, mut value) = (0, 0);
        loop {
            let one = &program[at];
            let jump = |holds| usize::from(if holds { one.jt } else { one.jf });
            at += 1 + match u32::from(one.code) {
                RETURN => return one.k,
                IF_EQUAL => jump(value == one.k),
                IF_AT_LEAST => jump(value >= one.k),
                IF_ANY_BIT => jump(value & one.k != 0),
                _ => {
                    value = match one.k as usize {
                        0 => number,
                        4 => arch,
                        offset => arguments[(offset - 16) / 8] as u32,
                    };
                    0
                }
            };
        }
    }

    /// By the list itself.
    fn is_allowed(kind: ThreadKind, number: u32, arguments: [u64; 6]) -> bool {
        let mut calls = kind.calls();
        let call = calls.find(|call| call.number == libc::c_long::from(number));
        call.is_some_and(|call| match call.only {
            Only::Any => true,
            Only::OneOf(at, values) => values.contains(&(arguments[usize::from(at)] as u32)),
            Only::Without(at, bits) => arguments[usize::from(at)] as u32 & bits == 0,
        })
    }

    #[test]
    fn each_filter_says_what_its_list_says() {
        for kind in KINDS {
            let program = program(kind).expect("it is short enough");
            let numbers = (0..600).chain([0x4000_0000, 0x4000_0010, u32::MAX]);
            let mut values: Vec<u64> = vec![0, 1, 4, 7, u64::MAX, 1 << 32];
            for call in kind.calls() {
                if let Only::OneOf(_, allowed) = call.only {
                    let upper = [0, 1 << 40].map(|upper| move |low: &u32| upper | u64::from(*low));
                    values.extend(upper.iter().flat_map(|join| allowed.iter().map(join)));
                }
            }
            for number in numbers {
                for value in &values {
                    let arguments = [*value; 6];
                    let answer = run(&program, X86_64, number, arguments);
                    let expected = is_allowed(kind, number, arguments);
                    assert_eq!(
                        answer == libc::SECCOMP_RET_ALLOW,
                        expected,
                        "{number} {value}"
                    );
                    let foreign = run(&program, 0x4000_0003, number, arguments);
                    assert_eq!(foreign, libc::SECCOMP_RET_KILL_PROCESS);
                }
            }
        }
    }
}
