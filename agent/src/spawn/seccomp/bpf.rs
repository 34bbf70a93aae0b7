//! Classic BPF for seccomp: the few instructions that a filter needs, and a
//! binary search over numbers.

use crate::sys::spawn::Instruction;

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is made.
    Allow,
    /// It gives this error instead.
    Errno(u16),
    /// The process is killed.
    Kill,
    /// EPERM if the low half of an argument is one of these, else it is made.
    /// What the kernel takes as an int has nothing but noise in the high half.
    NoneOf(u8, &'static [u32]),
    /// Made if the low half of argument 0 is one of these, else EPERM.
    OneOf(&'static [u32]),
    /// EPERM if argument 0 has any of these bits, else it is made.
    NoBitOf(u32),
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

const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;

fn one(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code, jt, jf, k }
}

fn end(k: u32) -> Instruction {
    one(RETURN, 0, 0, k)
}

fn load_argument(argument: u8) -> Instruction {
    one(LOAD, 0, 0, ARGUMENTS + 8 * u32::from(argument))
}

/// The start of a filter: the architecture is loaded.
pub fn begin() -> Vec<Instruction> {
    let mut program = Vec::with_capacity(512);
    program.push(one(LOAD, 0, 0, ARCHITECTURE));
    program
}

/// Its end: any other architecture is killed.
pub fn finish(program: &mut Vec<Instruction>) {
    program.push(end(libc::SECCOMP_RET_KILL_PROCESS));
}

/// Adds the code for one architecture. `ranges` are the first number of each
/// range, ascending, the first one 0, and what becomes of calls in it.
pub fn add(program: &mut Vec<Instruction>, architecture: u32, ranges: &[(u32, Verdict)]) {
    program.push(one(IF_EQUAL, 1, 0, architecture));
    // Longer than a conditional jump reaches.
    program.push(one(ALWAYS, 0, 0, 0));
    let start = program.len();
    program.push(one(LOAD, 0, 0, NUMBER));
    let mut search = Search {
        program,
        open: Vec::with_capacity(ranges.len()),
    };
    search.node(ranges);
    search.close();
    let length = program.len() - start;
    program[start - 1].k = u32::try_from(length).unwrap_or(0);
}

/// A binary search: one comparison per range, whose ends are shared by all.
/// The kernel translates a filter whenever it is installed, so its length is
/// what each container pays.
struct Search<'a> {
    program: &'a mut Vec<Instruction>,
    /// Jumps whose place is not known yet: where, on which outcome, to what.
    open: Vec<(usize, bool, Verdict)>,
}

impl Search<'_> {
    /// Adds the search in two ranges or more.
    fn node(&mut self, ranges: &[(u32, Verdict)]) {
        let (below, above) = ranges.split_at(ranges.len() / 2);
        let at = self.program.len();
        self.program.push(one(IF_AT_LEAST, 0, 0, above[0].0));
        match below {
            [(_, verdict)] => self.open.push((at, false, *verdict)),
            below => self.node(below),
        }
        match above {
            [(_, verdict)] => self.open.push((at, true, *verdict)),
            above => {
                self.aim(at, true);
                self.node(above);
            }
        }
    }

    /// Lets a jump lead to here.
    fn aim(&mut self, at: usize, outcome: bool) {
        let distance = u8::try_from(self.program.len() - at - 1)
            .expect("a search of one architecture is shorter than a jump");
        let jump = &mut self.program[at];
        *(if outcome { &mut jump.jt } else { &mut jump.jf }) = distance;
    }

    /// Adds the ends, each once.
    fn close(&mut self) {
        while let Some(&(_, _, verdict)) = self.open.first() {
            let open = std::mem::take(&mut self.open);
            for (at, outcome, other) in open {
                if other == verdict {
                    self.aim(at, outcome);
                } else {
                    self.open.push((at, outcome, other));
                }
            }
            self.leaf(verdict);
        }
    }

    fn leaf(&mut self, verdict: Verdict) {
        let allow = end(libc::SECCOMP_RET_ALLOW);
        let program = &mut *self.program;
        match verdict {
            Verdict::Allow => program.push(allow),
            Verdict::Errno(number) => {
                program.push(end(libc::SECCOMP_RET_ERRNO | u32::from(number)));
            }
            Verdict::Kill => program.push(end(libc::SECCOMP_RET_KILL_PROCESS)),
            Verdict::NoneOf(argument, values) => {
                program.push(load_argument(argument));
                for value in values {
                    program.extend([one(IF_EQUAL, 0, 1, *value), end(EPERM)]);
                }
                program.push(allow);
            }
            Verdict::OneOf(values) => {
                program.push(load_argument(0));
                for value in values {
                    program.extend([one(IF_EQUAL, 0, 1, *value), allow]);
                }
                program.push(end(EPERM));
            }
            Verdict::NoBitOf(mask) => program.extend([
                load_argument(0),
                one(IF_ANY_BIT, 0, 1, mask),
                end(EPERM),
                allow,
            ]),
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
