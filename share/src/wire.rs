//! FUSE requests and answers as bytes (linux/fuse.h, protocol 7).

pub use fuse_abi::linux as abi;

use abi::{fuse_in_header, fuse_out_header};
use rustix::io::Errno;
use std::ffi::CStr;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Most bytes that are read or written in one request: 32 pages, which every
/// driver can carry, and which fit into one packet of a socket.
pub const MAX_DATA: usize = 128 << 10;

/// Longest request in bytes: a write with its headers, or two long names.
pub const MAX_REQUEST: usize = MAX_DATA + 4096;

/// Longest name of one component in bytes, as Linux has it.
const MAX_NAME: usize = 255;

/// Bytes of the header of an answer.
const HEADER: usize = size_of::<fuse_out_header>();

/// What is not an errno of this protocol is this one.
const FALLBACK: Errno = Errno::IO;

/// One request: its header, checked, and what follows.
#[derive(Debug, Clone, Copy)]
pub struct Request<'p> {
    /// What, by whom, on which node.
    pub header: fuse_in_header,
    /// The rest of the packet.
    pub arguments: Arguments<'p>,
}

impl<'p> Request<'p> {
    /// Takes a packet apart. `None`: it is not even a header, so there is
    /// nobody to answer.
    #[must_use]
    pub fn parse(packet: &'p [u8]) -> Option<(Self, bool)> {
        let (header, rest) = fuse_in_header::read_from_prefix(packet).ok()?;
        let fits = header.len as usize == packet.len() && header.total_extlen == 0;
        let arguments = Arguments(rest);
        Some((Self { header, arguments }, fits))
    }
}

/// The arguments of a request, taken one after another.
#[derive(Debug, Clone, Copy)]
pub struct Arguments<'p>(&'p [u8]);

impl<'p> Arguments<'p> {
    /// The next structure.
    pub fn take<T: FromBytes>(&mut self) -> Result<T, Errno> {
        let (value, rest) = T::read_from_prefix(self.0).map_err(|_| Errno::INVAL)?;
        self.0 = rest;
        Ok(value)
    }

    /// The next text, which ends with a zero.
    pub fn text(&mut self) -> Result<&'p CStr, Errno> {
        let text = CStr::from_bytes_until_nul(self.0).map_err(|_| Errno::INVAL)?;
        self.0 = &self.0[text.to_bytes_with_nul().len()..];
        Ok(text)
    }

    /// The next text, which must be a name within a directory.
    pub fn name(&mut self) -> Result<&'p CStr, Errno> {
        let name = self.text()?;
        match name.to_bytes() {
            b"" | b"." | b".." => Err(Errno::INVAL),
            bytes if bytes.len() > MAX_NAME => Err(Errno::NAMETOOLONG),
            bytes if bytes.contains(&b'/') => Err(Errno::INVAL),
            _ => Ok(name),
        }
    }

    /// All that is left, which must have this length.
    pub fn data(&self, length: u32) -> Result<&'p [u8], Errno> {
        if self.0.len() == length as usize {
            Ok(self.0)
        } else {
            Err(Errno::INVAL)
        }
    }
}

/// An answer while it is made. One allocation serves all of them.
#[derive(Debug, Default)]
pub struct Output(Vec<u8>);

impl Output {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self(Vec::with_capacity(HEADER + MAX_DATA))
    }

    /// The finished packet.
    #[must_use]
    pub fn packet(&self) -> &[u8] {
        &self.0
    }

    /// Begins anew: room for the header, nothing else.
    pub fn begin(&mut self) {
        self.0.clear();
        self.0.resize(HEADER, 0);
    }

    /// Bytes after the header so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len().saturating_sub(HEADER)
    }

    /// Whether there is nothing after the header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a structure.
    pub fn put<T: IntoBytes + Immutable>(&mut self, value: &T) {
        self.0.extend_from_slice(value.as_bytes());
    }

    /// Adds bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Lets `fill` write up to `most` bytes at the end; it says how many it did.
    pub fn fill(
        &mut self,
        most: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, Errno>,
    ) -> Result<(), Errno> {
        let start = self.0.len();
        self.0.resize(start + most.min(MAX_DATA), 0);
        let filled = fill(&mut self.0[start..])?;
        self.0.truncate(start + filled);
        Ok(())
    }

    /// Puts the header before what was added, or before nothing after an error.
    pub fn finish(&mut self, unique: u64, result: Result<(), Errno>) {
        let error = match result {
            Ok(()) => 0,
            Err(errno) => {
                self.0.truncate(HEADER);
                // The driver takes -511 … 0 and nothing else.
                let number = errno.raw_os_error();
                -(if (1..512).contains(&number) {
                    number
                } else {
                    FALLBACK.raw_os_error()
                })
            }
        };
        let header = fuse_out_header {
            len: u32::try_from(self.0.len()).unwrap_or(u32::MAX),
            error,
            unique,
        };
        self.0[..HEADER].copy_from_slice(header.as_bytes());
    }
}
