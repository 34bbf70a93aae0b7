//! Classic BPF: verdicts on ranges of calls to a program.
//!
//! The ranges are walked in order. The kernel works the constant ones out once,
//! when the filter is installed (its action cache), so that a search would not
//! be faster.

use super::profile::{Argument, Operator};

/// `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

pub const LOAD: u16 = 0x20;
pub const AND: u16 = 0x54;
pub const ALWAYS: u16 = 0x05;
pub const IF_EQUAL: u16 = 0x15;
pub const IF_GREATER: u16 = 0x25;
pub const IF_AT_LEAST: u16 = 0x35;
pub const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
pub const NUMBER: u32 = 0;
pub const ARCHITECTURE: u32 = 4;
pub const ARGUMENTS: u32 = 16;

/// What becomes of the calls from a number on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This.
    Always(u32),
    /// The first one whose conditions are all met, or else the last.
    First(Vec<(Vec<Condition>, u32)>, u32),
}

/// A condition, comparable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    pub index: u8,
    pub value: u64,
    pub value_two: u64,
    pub operator: Operator,
}

impl From<Argument> for Condition {
    fn from(argument: Argument) -> Self {
        Self {
            index: argument.index,
            value: argument.value,
            value_two: argument.value_two,
            operator: argument.op,
        }
    }
}

fn one(code: u16, k: u32) -> Instruction {
    jump(code, k, 0, 0)
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// A whole filter: for each architecture its ranges, ascending, the first one 0.
pub fn program(architectures: &[(u32, Vec<(u32, Verdict)>)], other: u32) -> Vec<Instruction> {
    let mut program = vec![one(LOAD, ARCHITECTURE)];
    for (architecture, ranges) in architectures {
        let body = ranges_of(ranges);
        program.push(jump(IF_EQUAL, *architecture, 1, 0));
        program.push(one(ALWAYS, length(&body)));
        program.extend(body);
    }
    program.push(one(RETURN, other));
    program
}

fn length(body: &[Instruction]) -> u32 {
    u32::try_from(body.len()).unwrap_or(u32::MAX)
}

fn ranges_of(ranges: &[(u32, Verdict)]) -> Vec<Instruction> {
    let mut out = vec![one(LOAD, NUMBER)];
    for (at, (_, verdict)) in ranges.iter().enumerate() {
        let body = body(verdict);
        if let Some((next, _)) = ranges.get(at + 1) {
            // Longer than a conditional jump may reach.
            out.push(jump(IF_AT_LEAST, *next, 0, 1));
            out.push(one(ALWAYS, length(&body)));
        }
        out.extend(body);
    }
    out
}

fn body(verdict: &Verdict) -> Vec<Instruction> {
    match verdict {
        Verdict::Always(value) => vec![one(RETURN, *value)],
        Verdict::First(rules, last) => {
            let mut out = Vec::new();
            for (conditions, value) in rules {
                out.extend(rule(conditions, *value));
            }
            out.push(one(RETURN, *last));
            out
        }
    }
}

/// Where a comparison leads.
#[derive(Clone, Copy)]
enum To {
    Next,
    /// The next condition: this one is met.
    Met,
    /// Behind the rule: it is not.
    Unmet,
}

/// The code of a rule; behind it stands what counts where it does not.
fn rule(conditions: &[Condition], value: u32) -> Vec<Instruction> {
    let parts: Vec<_> = conditions.iter().map(condition).collect();
    let end: usize = parts.iter().map(Vec::len).sum::<usize>() + 1;
    let mut out = Vec::with_capacity(end);
    for part in parts {
        let met = out.len() + part.len();
        for (instruction, to) in part {
            let here = out.len() + 1;
            let distance = |to| {
                let target = match to {
                    To::Next => here,
                    To::Met => met,
                    To::Unmet => end,
                };
                // Six conditions of six instructions: always near enough.
                u8::try_from(target - here).unwrap_or(u8::MAX)
            };
            let (jt, jf) = to.map_or((0, 0), |(jt, jf)| (distance(jt), distance(jf)));
            out.push(Instruction {
                jt,
                jf,
                ..instruction
            });
        }
    }
    out.push(one(RETURN, value));
    out
}

/// One condition on 64 bits, in two halves.
fn condition(condition: &Condition) -> Vec<(Instruction, Option<(To, To)>)> {
    use To::{Met, Next, Unmet};
    let low = ARGUMENTS + 8 * u32::from(condition.index);
    let half = |value: u64, shift: u32| (value >> shift) as u32;
    let (value, second) = (condition.value, condition.value_two);
    let mut out = Vec::new();
    let mut add = |code, k, to| out.push((one(code, k), to));
    let (at_top, at_bottom, last) = match condition.operator {
        Operator::Equal => (
            [(IF_EQUAL, Next, Unmet)].as_slice(),
            (Next, Unmet),
            IF_EQUAL,
        ),
        Operator::NotEqual => ([(IF_EQUAL, Next, Met)].as_slice(), (Unmet, Next), IF_EQUAL),
        Operator::MaskedEqual => {
            for (offset, shift) in [(low + 4, 32), (low, 0)] {
                add(LOAD, offset, None);
                add(AND, half(value, shift), None);
                add(IF_EQUAL, half(second, shift), Some((Next, Unmet)));
            }
            return out;
        }
        Operator::Greater => (&MORE[..], (Next, Unmet), IF_GREATER),
        Operator::GreaterOrEqual => (&MORE[..], (Next, Unmet), IF_AT_LEAST),
        Operator::LessOrEqual => (&LESS[..], (Unmet, Next), IF_GREATER),
        Operator::Less => (&LESS[..], (Unmet, Next), IF_AT_LEAST),
    };
    add(LOAD, low + 4, None);
    for (code, jt, jf) in at_top {
        add(*code, half(value, 32), Some((*jt, *jf)));
    }
    add(LOAD, low, None);
    add(last, half(value, 0), Some(at_bottom));
    out
}

/// The upper halves decide, unless they are equal.
const MORE: [(u16, To, To); 2] = [
    (IF_GREATER, To::Met, To::Next),
    (IF_EQUAL, To::Next, To::Unmet),
];
const LESS: [(u16, To, To); 2] = [
    (IF_GREATER, To::Unmet, To::Next),
    (IF_EQUAL, To::Next, To::Met),
];
