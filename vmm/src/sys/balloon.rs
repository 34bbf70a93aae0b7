//! Guest memory goes back to the host.

use std::io;
use vm_memory::VolatileSlice;

/// Size of a page of the balloon and of the host.
pub const PAGE: usize = 4096;

/// Gives the whole pages of `piece` back to the host; the guest reads zeroes
/// there from now on. Returns how many bytes that were.
pub fn discard(piece: &VolatileSlice<'_>) -> io::Result<usize> {
    let guard = piece.ptr_guard_mut();
    let start = guard.as_ptr() as usize;
    let first = start.next_multiple_of(PAGE);
    let end = (start + piece.len()) & !(PAGE - 1);
    if end <= first {
        return Ok(0);
    }
    // SAFETY: `VolatileSlice` guarantees that the range is mapped guest RAM, a
    // private anonymous mapping; that its content goes is what the guest asked
    // for, and no Rust reference points into guest memory.
    let result =
        unsafe { libc::madvise(first as *mut libc::c_void, end - first, libc::MADV_DONTNEED) };
    super::check(result).map(|_| end - first)
}
