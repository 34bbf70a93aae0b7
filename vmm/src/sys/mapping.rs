//! A file as memory, read-only.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// The content of a file while it is mapped.
///
/// For files that only the host's administrator writes (kernels): shortening
/// one while it is mapped would end this process.
#[derive(Debug)]
pub struct Mapping {
    start: *mut libc::c_void,
    length: usize,
}

impl Mapping {
    /// Maps the first `length` bytes, which the file has.
    pub fn of(file: &File, length: usize) -> io::Result<Self> {
        if length == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        // SAFETY: a new mapping at a place that the kernel chooses.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ,
                libc::MAP_PRIVATE,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { start, length })
    }

    /// The content.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is readable, as long as said, and lives as long
        // as `self`. Nobody writes kernel files in place (type's contract).
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own and nobody borrows it now.
        let result = unsafe { libc::munmap(self.start, self.length) };
        debug_assert_eq!(result, 0, "an own mapping can be taken away");
    }
}
