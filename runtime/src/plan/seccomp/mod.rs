//! Profiles of the host (`seccompProfile: {type: Localhost}`), compiled to the
//! filter that the agent installs.
//!
//! The meaning is runc's: names that the kernel does not have are passed over;
//! the first rule that fits counts; calls newer than all that the profile knows
//! give ENOSYS where others would be denied, so that programs fall back.

mod assemble;
mod profile;
#[cfg(test)]
mod tests;

use assemble::{Condition, Instruction, Verdict};
use beluga_proto::bytes::Bytes;
use profile::{Action, Profile};
use std::collections::BTreeMap;

/// Why a profile cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeccompError {
    /// It is not such a file.
    #[error("it is no seccomp profile: {why}")]
    Parse {
        /// What is wrong, and where.
        why: String,
    },
    /// It wants something of the kernel that is not known here.
    #[error("the flag {flag:?} is not supported")]
    Flag {
        /// Which.
        flag: String,
    },
    /// A condition is about an argument that no call has.
    #[error("a rule is about argument {index}: a call has six, from 0")]
    Argument {
        /// Which.
        index: u8,
    },
    /// It becomes longer than the kernel takes.
    #[error("it becomes a filter of {length} instructions: the kernel takes {MOST}")]
    Long {
        /// How long.
        length: usize,
    },
}

/// `BPF_MAXINSNS`.
const MOST: usize = 4096;

/// `AUDIT_ARCH_X86_64` and `AUDIT_ARCH_I386` of linux/audit.h.
const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;

/// Numbers of the x32 interface start here; the guest's kernel has none.
const X32: u32 = 0x4000_0000;

/// `NAME X86_64 I386`, a line each.
const CALLS: &str = include_str!("calls.txt");

/// The filter of a process with these capabilities (`CAP_CHOWN`), as the kernel
/// takes it: eight bytes for each instruction.
pub fn compile(text: &str, capabilities: &[String]) -> Result<Bytes, SeccompError> {
    let program = program(text, capabilities)?;
    if program.len() > MOST {
        return Err(SeccompError::Long {
            length: program.len(),
        });
    }
    let bytes = program.iter().flat_map(|one| {
        let [c0, c1] = one.code.to_ne_bytes();
        let [k0, k1, k2, k3] = one.k.to_ne_bytes();
        [c0, c1, one.jt, one.jf, k0, k1, k2, k3]
    });
    Ok(Bytes(bytes.collect()))
}

fn program(text: &str, capabilities: &[String]) -> Result<Vec<Instruction>, SeccompError> {
    let profile = Profile::parse(text)?;
    let mut architectures = vec![(X86_64, ranges(&profile, capabilities, 0)?)];
    if profile.has_i386() {
        architectures.push((I386, ranges(&profile, capabilities, 1)?));
    }
    let other = libc::SECCOMP_RET_KILL_PROCESS;
    Ok(assemble::program(&architectures, other))
}

/// Rules for one call, in order, and whether one of them stands always.
#[derive(Default)]
struct Rules {
    conditional: Vec<(Vec<Condition>, u32)>,
    always: Option<u32>,
}

/// The verdicts on all numbers of one architecture, ascending, equal neighbours
/// joined.
fn ranges(
    profile: &Profile,
    capabilities: &[String],
    column: usize,
) -> Result<Vec<(u32, Verdict)>, SeccompError> {
    let numbers = numbers(column);
    let default = profile.default_action.verdict(profile.default_errno_ret);
    let mut rules: BTreeMap<u32, Rules> = BTreeMap::new();
    let mut last = 0;
    for rule in &profile.syscalls {
        let known = rule.names().filter_map(|name| numbers.get(name)).copied();
        for number in known {
            last = last.max(number);
            if rule.stands(capabilities) {
                add(rules.entry(number).or_default(), rule)?;
            }
        }
    }
    let mut ranges = vec![(0, Verdict::Always(default))];
    for (number, rules) in rules {
        let rest = rules.always.unwrap_or(default);
        let verdict = match rules.conditional {
            none if none.is_empty() => Verdict::Always(rest),
            some => Verdict::First(some, rest),
        };
        push(&mut ranges, number, verdict);
        push(&mut ranges, number + 1, Verdict::Always(default));
    }
    if denies(profile) {
        let absent = Action::Errno.verdict(Some(libc::ENOSYS as u16));
        push(&mut ranges, last + 1, Verdict::Always(absent));
    }
    push(
        &mut ranges,
        X32,
        Verdict::Always(libc::SECCOMP_RET_KILL_PROCESS),
    );
    Ok(ranges)
}

fn add(rules: &mut Rules, rule: &profile::Rule) -> Result<(), SeccompError> {
    if rules.always.is_some() {
        return Ok(());
    }
    let verdict = rule.action.verdict(rule.errno_ret);
    for conditions in rule.conditions() {
        if let Some(argument) = conditions.iter().find(|argument| argument.index > 5) {
            return Err(SeccompError::Argument {
                index: argument.index,
            });
        }
        if conditions.is_empty() {
            rules.always = Some(verdict);
        } else {
            let conditions = conditions.into_iter().map(Condition::from).collect();
            rules.conditional.push((conditions, verdict));
        }
    }
    Ok(())
}

/// Whether calls that are not named are kept from happening.
fn denies(profile: &Profile) -> bool {
    !matches!(profile.default_action, Action::Allow | Action::Log)
}

/// From a number on something else is true.
fn push(ranges: &mut Vec<(u32, Verdict)>, from: u32, verdict: Verdict) {
    if ranges.last().is_some_and(|(at, _)| *at == from) {
        ranges.pop();
    }
    if ranges.last().is_none_or(|(_, before)| *before != verdict) {
        ranges.push((from, verdict));
    }
}

/// The numbers of all calls on one architecture, by name.
fn numbers(column: usize) -> BTreeMap<&'static str, u32> {
    let lines = CALLS.lines().filter(|line| !line.starts_with('#'));
    let numbers = lines.filter_map(|line| {
        let mut words = line.split(' ');
        let name = words.next()?;
        Some((name, words.nth(column)?.parse().ok()?))
    });
    numbers.collect()
}
