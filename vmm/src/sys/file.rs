//! Vectored I/O between files and guest memory, without a copy in between.

use super::check;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use vm_memory::VolatileSlice;

/// Most pieces of one call (Linux takes 1024).
pub const MAX_PIECES: usize = 160;

/// A piece of guest memory.
pub type GuestSlice<'m> = VolatileSlice<'m, ()>;

/// What to do with a range of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// Give the space back; the range reads as zeroes.
    PunchHole,
    /// Keep the space; the range reads as zeroes.
    ZeroRange,
}

/// Fills guest memory from a file. Gives the number of bytes, 0 at its end.
pub fn read_at(file: &File, slices: &[GuestSlice<'_>], offset: u64) -> io::Result<usize> {
    with_pieces(slices, |pieces, count| {
        // SAFETY: every piece is a live part of guest memory (`slices` borrows
        // it for the call). Guest memory has no Rust references, only volatile
        // access, so the kernel may write it.
        check(unsafe { libc::preadv(file.as_raw_fd(), pieces, count, offset as libc::off_t) })
    })
}

/// Writes guest memory to a file. Gives the number of bytes.
pub fn write_at(file: &File, slices: &[GuestSlice<'_>], offset: u64) -> io::Result<usize> {
    with_pieces(slices, |pieces, count| {
        // SAFETY: as in `read_at`; the kernel only reads the pieces.
        check(unsafe { libc::pwritev(file.as_raw_fd(), pieces, count, offset as libc::off_t) })
    })
}

fn with_pieces(
    slices: &[GuestSlice<'_>],
    call: impl Fn(*const libc::iovec, libc::c_int) -> io::Result<isize>,
) -> io::Result<usize> {
    let empty = libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    };
    let mut pieces = [empty; MAX_PIECES];
    let mut count = 0;
    for (piece, slice) in pieces.iter_mut().zip(slices) {
        piece.iov_base = slice.ptr_guard_mut().as_ptr().cast();
        piece.iov_len = slice.len();
        count += 1;
    }
    loop {
        match call(pieces.as_ptr(), count) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result.map(|bytes| bytes as usize),
        }
    }
}

/// Makes a range of a file read as zeroes.
pub fn release(file: &File, how: Release, offset: u64, length: u64) -> io::Result<()> {
    let mode = libc::FALLOC_FL_KEEP_SIZE
        | match how {
            Release::PunchHole => libc::FALLOC_FL_PUNCH_HOLE,
            Release::ZeroRange => libc::FALLOC_FL_ZERO_RANGE,
        };
    // SAFETY: no memory is passed.
    check(unsafe {
        libc::fallocate(
            file.as_raw_fd(),
            mode,
            offset as libc::off_t,
            length as libc::off_t,
        )
    })
    .map(drop)
}
