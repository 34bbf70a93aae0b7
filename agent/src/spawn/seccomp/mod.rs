//! The default system-call filter, with the meaning of containerd's: a list of
//! what is allowed, more of it for more capabilities, EPERM for the rest and
//! ENOSYS for what is newer than the list, so that programs fall back.
//!
//! The program is a binary search over the call's number: a few comparisons
//! per call instead of a few hundred.

mod bpf;
mod profile;
mod table;

use crate::sys::spawn::Instruction;
pub use profile::default_profile;

/// A filter that was compiled elsewhere: `struct sock_filter` after another.
pub fn given(program: &[u8]) -> Vec<Instruction> {
    let (instructions, _) = program.as_chunks::<8>();
    let instruction = |&[c0, c1, jt, jf, k0, k1, k2, k3]: &[u8; 8]| Instruction {
        code: u16::from_ne_bytes([c0, c1]),
        jt,
        jf,
        k: u32::from_ne_bytes([k0, k1, k2, k3]),
    };
    instructions.iter().map(instruction).collect()
}
