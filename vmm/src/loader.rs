//! The kernel and its initramfs go from their files straight into guest
//! memory, each byte once.

use crate::arch::x86_64::HIGH_MEMORY;
use crate::arch::x86_64::entry::Entry;
use crate::footprint::sparse_frames;
use crate::memory::{self, GAP_START, GuestMemory};
use crate::sys::mapping::Mapping;
use linux_loader::loader::bootparam::setup_header;
use linux_loader::loader::{BzImage, Elf, KernelLoader, KernelLoaderResult, PvhBootCapability};
use std::fs::File;
use std::io::{self, Cursor};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use vm_memory::bitmap::BitmapSlice;
use vm_memory::{
    Bytes, GuestAddress, GuestMemoryBackend, ReadVolatile, VolatileMemoryError, VolatileSlice,
};

const ELF_MAGIC: &[u8] = b"\x7fELF";
/// Where a bzImage says that it is one.
const BZIMAGE_MAGIC_AT: u64 = 0x202;
const BZIMAGE_MAGIC: &[u8] = b"HdrS";
/// What the setup header of a kernel without one would say.
const BZIMAGE_HEADER: u32 = u32::from_le_bytes(*b"HdrS");
const BOOT_FLAG: u16 = 0xaa55;
const KERNEL_ALIGNMENT: u32 = 0x100_0000;
/// The 64-bit entry of a bzImage is this far behind its 32-bit one.
const BZIMAGE_ENTRY_64: u64 = 0x200;
/// `xloadflags`: there is a 64-bit entry.
const XLF_KERNEL_64: u16 = 1;
const PAGE: u64 = 4096;
/// What a kernel needs on top of its image to come up at all.
const HEADROOM: u64 = 8 << 20;

/// Magic numbers of what a kernel can unpack as an initramfs.
const ARCHIVES: [(&str, &[u8]); 6] = [
    ("cpio", b"070701"),
    ("cpio", b"070702"),
    ("gzip", b"\x1f\x8b"),
    ("xz", b"\xfd7zXZ\0"),
    ("zstd", b"\x28\xb5\x2f\xfd"),
    ("lz4", b"\x02\x21\x4c\x18"),
];

/// Why an image cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Some other kind of file.
    #[error("the kernel is not an ELF vmlinux or bzImage")]
    NotAKernel,
    /// An ELF file without a way in.
    #[error("the kernel is an ELF file with neither a 64-bit nor a PVH entry point")]
    NoPvhEntry,
    /// A bzImage without a 64-bit entry.
    #[error("the kernel is a bzImage without a 64-bit entry")]
    No64BitEntry,
    /// Damaged, or shorter than its headers say.
    #[error("the kernel is truncated or damaged ({bytes} bytes)")]
    DamagedKernel {
        /// The file's length.
        bytes: u64,
        /// What the loader met.
        #[source]
        source: LoaderError,
    },
    /// Not an archive that a kernel unpacks.
    #[error("the initramfs is no cpio archive (newc), nor one packed with gzip, xz, zstd or lz4")]
    NotAnInitramfs,
    /// An archive that stops before its trailer.
    #[error("the initramfs is empty")]
    EmptyInitramfs,
    /// Kernel and initramfs and what they need do not fit.
    #[error(
        "the guest has {memory_mib} MiB of memory and needs at least {needed_mib}: \
         {kernel_mib} for the kernel, {initramfs_mib} for the initramfs and its content, \
         {headroom_mib} to start"
    )]
    TooLittleMemory {
        /// What it has.
        memory_mib: u64,
        /// The sum.
        needed_mib: u64,
        /// Up to the end of the kernel.
        kernel_mib: u64,
        /// Packed and unpacked.
        initramfs_mib: u64,
        /// Fixed.
        headroom_mib: u64,
    },
    /// The file cannot be read.
    #[error("cannot read the {what}")]
    Read {
        /// Which file.
        what: &'static str,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The initramfs file is shorter than it was a moment ago.
    #[error("cannot copy the initramfs to guest memory")]
    Copy(#[source] vm_memory::GuestMemoryError),
}

/// An error of the loader, whose own text repeats its causes.
#[derive(Debug)]
pub struct LoaderError(linux_loader::loader::Error);

impl std::fmt::Display for LoaderError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use linux_loader::loader::Error;
        let text = match &self.0 {
            Error::Elf(error) => error.to_string(),
            Error::Bzimage(error) => error.to_string(),
            error => error.to_string(),
        };
        // Before what it met stand the names of its own layers.
        f.write_str(text.rsplit(": ").next().unwrap_or(&text))
    }
}

impl std::error::Error for LoaderError {}

/// A kernel in guest memory.
#[derive(Debug)]
pub struct Kernel {
    /// Where it is entered.
    pub entry: Entry,
    /// First byte after it.
    pub end: u64,
    /// What a bzImage says of itself.
    pub setup_header: Option<setup_header>,
}

/// Loads kernel and initramfs. Gives the kernel and where the initramfs lies.
pub fn load(
    memory: &GuestMemory,
    kernel: &File,
    initramfs: &File,
) -> Result<(Kernel, Range<u64>), ImageError> {
    let archive = check_initramfs(initramfs)?;
    let low_end = memory.last_addr().0.saturating_add(1).min(GAP_START);
    let kernel_bytes = length(kernel, "kernel")?;
    check_memory(low_end, HIGH_MEMORY + kernel_bytes, archive)?;
    let kernel = load_kernel(memory, kernel, kernel_bytes)?;
    check_memory(low_end, kernel.end, archive)?;
    let range = load_initramfs(memory, initramfs, archive, low_end)?;
    Ok((kernel, range))
}

fn check_memory(low_end: u64, kernel_end: u64, initramfs: u64) -> Result<(), ImageError> {
    // The archive is there twice while the kernel unpacks it.
    let archive = initramfs.saturating_mul(2);
    let needed = kernel_end.saturating_add(archive).saturating_add(HEADROOM);
    if needed <= low_end {
        return Ok(());
    }
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    Err(ImageError::TooLittleMemory {
        memory_mib: low_end >> 20,
        needed_mib: mib(kernel_end) + mib(archive) + mib(HEADROOM),
        kernel_mib: mib(kernel_end),
        initramfs_mib: mib(archive),
        headroom_mib: mib(HEADROOM),
    })
}

fn length(file: &File, what: &'static str) -> Result<u64, ImageError> {
    file.metadata()
        .map(|metadata| metadata.len())
        .map_err(|source| ImageError::Read { what, source })
}

/// Whether `magic` stands at `at`; a shorter file has another.
fn has_magic(file: &File, what: &'static str, at: u64, magic: &[u8]) -> Result<bool, ImageError> {
    let mut bytes = [0; 8];
    let bytes = &mut bytes[..magic.len()];
    match file.read_exact_at(bytes, at) {
        Ok(()) => Ok(bytes == magic),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(source) => Err(ImageError::Read { what, source }),
    }
}

/// A mapped file as the loader reads it.
///
/// In pieces that the processor copies by vector registers: a system call that
/// copies page by page, or one large string instruction, takes about twice as
/// long for the 10 MiB of a kernel.
struct Image<'a>(Cursor<&'a [u8]>);

/// Bytes of a piece.
const PIECE: usize = 1024;

impl io::Read for Image<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl io::Seek for Image<'_> {
    fn seek(&mut self, position: io::SeekFrom) -> io::Result<u64> {
        self.0.seek(position)
    }
}

impl ReadVolatile for Image<'_> {
    fn read_volatile<B: BitmapSlice>(
        &mut self,
        to: &mut VolatileSlice<'_, B>,
    ) -> Result<usize, VolatileMemoryError> {
        let mut done = 0;
        while done < to.len() {
            let length = (to.len() - done).min(PIECE);
            match self.0.read_volatile(&mut to.subslice(done, length)?)? {
                0 => break,
                count => done += count,
            }
        }
        Ok(done)
    }
}

fn load_kernel(memory: &GuestMemory, file: &File, bytes: u64) -> Result<Kernel, ImageError> {
    let damaged = |error| ImageError::DamagedKernel {
        bytes,
        source: LoaderError(error),
    };
    let is_elf = has_magic(file, "kernel", 0, ELF_MAGIC)?;
    let is_bzimage = has_magic(file, "kernel", BZIMAGE_MAGIC_AT, BZIMAGE_MAGIC)?;
    if !is_elf && !is_bzimage {
        return Err(ImageError::NotAKernel);
    }
    let mapping = Mapping::of(file, bytes as usize).map_err(|source| ImageError::Read {
        what: "kernel",
        source,
    })?;
    let image = &mut Image(Cursor::new(mapping.bytes()));
    if is_elf {
        for frame in sparse_frames(mapping.bytes()) {
            memory::small_pages(memory, frame);
        }
        let loaded = Elf::load(memory, None, image, None).map_err(damaged)?;
        return elf_kernel(&loaded);
    }
    let start = GuestAddress(HIGH_MEMORY);
    let loaded = BzImage::load(memory, None, image, Some(start)).map_err(damaged)?;
    bzimage_kernel(&loaded)
}

/// A Linux `vmlinux` is entered at its ELF entry point, which is that of the
/// 64-bit boot protocol: PVH's looks for Xen first, and the 256 CPUID
/// instructions of that are 256 exits. An entry point that is no physical
/// address of the image (other kernels') leaves PVH's.
fn elf_kernel(loaded: &KernelLoaderResult) -> Result<Kernel, ImageError> {
    let end = loaded.kernel_end;
    let address = loaded.kernel_load.0;
    if (HIGH_MEMORY..end).contains(&address) {
        let header = setup_header {
            header: BZIMAGE_HEADER,
            boot_flag: BOOT_FLAG,
            kernel_alignment: KERNEL_ALIGNMENT,
            ..Default::default()
        };
        return Ok(Kernel {
            entry: Entry::Linux64 { address },
            end,
            setup_header: Some(header),
        });
    }
    match loaded.pvh_boot_cap {
        PvhBootCapability::PvhEntryPresent(address) => Ok(Kernel {
            entry: Entry::Pvh { address: address.0 },
            end,
            setup_header: None,
        }),
        _ => Err(ImageError::NoPvhEntry),
    }
}

fn bzimage_kernel(loaded: &KernelLoaderResult) -> Result<Kernel, ImageError> {
    let header = loaded.setup_header.unwrap_or_default();
    if header.xloadflags & XLF_KERNEL_64 == 0 {
        return Err(ImageError::No64BitEntry);
    }
    // It unpacks itself to where it prefers to run.
    let unpacked = header
        .pref_address
        .saturating_add(u64::from(header.init_size));
    Ok(Kernel {
        entry: Entry::Linux64 {
            address: loaded.kernel_load.0 + BZIMAGE_ENTRY_64,
        },
        end: loaded.kernel_end.max(unpacked),
        setup_header: Some(header),
    })
}

/// Checks what the file is; gives its length.
fn check_initramfs(file: &File) -> Result<u64, ImageError> {
    let bytes = length(file, "initramfs")?;
    if bytes == 0 {
        return Err(ImageError::EmptyInitramfs);
    }
    for (_, magic) in ARCHIVES {
        if has_magic(file, "initramfs", 0, magic)? {
            return Ok(bytes);
        }
    }
    Err(ImageError::NotAnInitramfs)
}

fn load_initramfs(
    memory: &GuestMemory,
    file: &File,
    bytes: u64,
    low_end: u64,
) -> Result<Range<u64>, ImageError> {
    let start = (low_end - bytes) / PAGE * PAGE;
    let mapping = Mapping::of(file, bytes as usize).map_err(|source| ImageError::Read {
        what: "initramfs",
        source,
    })?;
    let image = &mut Image(Cursor::new(mapping.bytes()));
    memory
        .read_exact_volatile_from(GuestAddress(start), image, bytes as usize)
        .map_err(ImageError::Copy)?;
    Ok(start..start + bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::allocate;
    use std::io::Write as _;

    fn file(bytes: &[u8]) -> File {
        let path = std::env::temp_dir().join(format!(
            "beluga-loader-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .unwrap();
        std::fs::remove_file(path).unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn what_is_no_kernel_is_named_so() {
        let memory = allocate(32).unwrap();
        let archive = file(b"070701 and so on");
        for bytes in [&b""[..], b"\x7fEL", b"#!/bin/sh\n"] {
            let result = load(&memory, &file(bytes), &archive);
            assert!(matches!(result, Err(ImageError::NotAKernel)), "{result:?}");
        }
    }

    #[test]
    fn a_truncated_elf_is_damaged() {
        let memory = allocate(32).unwrap();
        let archive = file(b"070701 and so on");
        let result = load(&memory, &file(b"\x7fELF\x02\x01\x01"), &archive);
        assert!(matches!(
            result,
            Err(ImageError::DamagedKernel { bytes: 7, .. })
        ));
    }

    #[test]
    fn what_is_no_initramfs_is_named_so() {
        let memory = allocate(32).unwrap();
        let result = load(&memory, &file(b""), &file(b"hello"));
        assert!(matches!(result, Err(ImageError::NotAnInitramfs)));
        let result = load(&memory, &file(b""), &file(b""));
        assert!(matches!(result, Err(ImageError::EmptyInitramfs)));
    }

    #[test]
    fn too_little_memory_shows_the_sum() {
        let error = check_memory(32 << 20, 40 << 20, 2 << 20).unwrap_err();
        let ImageError::TooLittleMemory { needed_mib, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(needed_mib, 40 + 4 + 8);
    }
}
