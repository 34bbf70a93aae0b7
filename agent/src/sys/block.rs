//! Block devices: size and partitions without a partition table.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

const BLKGETSIZE64: libc::Ioctl = 0x8008_1272;
const BLKPG: libc::Ioctl = 0x1269;
const BLKPG_ADD_PARTITION: libc::c_int = 1;

/// `struct blkpg_ioctl_arg` of linux/blkpg.h.
#[repr(C)]
struct Call {
    op: libc::c_int,
    flags: libc::c_int,
    datalen: libc::c_int,
    data: *const Partition,
}

/// `struct blkpg_partition` of linux/blkpg.h; names are unused by the kernel.
#[repr(C)]
struct Partition {
    start: libc::c_longlong,
    length: libc::c_longlong,
    pno: libc::c_int,
    devname: [u8; 64],
    volname: [u8; 64],
}

/// Bytes of a block device.
pub fn size(device: impl AsFd) -> io::Result<u64> {
    let mut bytes = 0u64;
    // SAFETY: BLKGETSIZE64 writes one u64 to the address given.
    super::check(unsafe { libc::ioctl(device.as_fd().as_raw_fd(), BLKGETSIZE64, &raw mut bytes) })?;
    Ok(bytes)
}

/// Adds partition `number` of a whole device. Errors with `EBUSY` when one of
/// that number exists or one overlaps.
pub fn add_partition(device: impl AsFd, number: u8, start: u64, length: u64) -> io::Result<()> {
    let signed = |value| {
        libc::c_longlong::try_from(value).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
    };
    let partition = Partition {
        start: signed(start)?,
        length: signed(length)?,
        pno: number.into(),
        devname: [0; 64],
        volname: [0; 64],
    };
    let call = Call {
        op: BLKPG_ADD_PARTITION,
        flags: 0,
        datalen: size_of::<Partition>() as libc::c_int,
        data: &raw const partition,
    };
    // SAFETY: BLKPG reads `call` and through it `partition`; both outlive it.
    super::check(unsafe { libc::ioctl(device.as_fd().as_raw_fd(), BLKPG, &raw const call) })
        .map(|_| ())
}
