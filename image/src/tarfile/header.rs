//! The 512-byte header. Field positions: POSIX.1-2017 `pax`, "ustar Interchange Format", and the
//! GNU tar manual, "Basic Tar Format".

use super::{BLOCK, TarError, text};

pub(super) type Block = [u8; BLOCK];

/// The fields of one header, before extended headers are applied.
pub(super) struct RawHeader {
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub flag: u8,
    pub mode: u16,
    pub uid: i64,
    pub gid: i64,
    pub mtime: i64,
    pub device: (u32, u32),
    size: u64,
}

impl RawHeader {
    pub(super) fn parse(block: &Block, at: u64) -> Result<Self, TarError> {
        check_sum(block, at)?;
        let flag = block[156];
        let field = |range: std::ops::Range<usize>, field| {
            number(&block[range]).ok_or(TarError::Number { field, offset: at })
        };
        let negative = |field| TarError::Number { field, offset: at };
        let posix = &block[257..263] == b"ustar\0";
        let gnu = &block[257..265] == b"ustar  \0";
        let is_device = matches!(flag, b'3' | b'4') && (posix || gnu);
        let device = if is_device {
            let half = |range, name| u32::try_from(field(range, name)?).map_err(|_| negative(name));
            (
                half(329..337, "device number")?,
                half(337..345, "device number")?,
            )
        } else {
            (0, 0)
        };
        let mut path = text(block[..100].to_vec());
        if posix {
            // Joerg Schilling's star puts times where the prefix would go on.
            let end = if &block[508..512] == b"tar\0" {
                476
            } else {
                500
            };
            let prefix = text(block[345..end].to_vec());
            if !prefix.is_empty() {
                path = [prefix, path].join(&b'/');
            }
        }
        Ok(RawHeader {
            path,
            link: text(block[157..257].to_vec()),
            flag,
            // Bits above belong to the file type, which the flag says.
            mode: (field(100..108, "mode")? & 0o7777) as u16,
            uid: field(108..116, "uid")?,
            gid: field(116..124, "gid")?,
            mtime: field(136..148, "mtime")?,
            device,
            size: u64::try_from(field(124..136, "size")?).map_err(|_| negative("size"))?,
        })
    }

    /// Links, devices, directories and fifos have no contents, whatever their size field says.
    pub(super) fn has_contents(&self) -> bool {
        !matches!(self.flag, b'1'..=b'6')
    }

    pub(super) fn is_regular(&self) -> bool {
        matches!(self.flag, 0 | b'0' | b'7')
    }

    pub(super) fn stored_size(&self) -> u64 {
        if self.has_contents() { self.size } else { 0 }
    }
}

/// A user or group id that fits the kernel's type.
pub(super) fn id(value: i64, field: &'static str, at: u64) -> Result<u32, TarError> {
    u32::try_from(value).map_err(|_| TarError::Number { field, offset: at })
}

/// The sum of all bytes, with the checksum's own field as spaces. Some old writers summed signed
/// bytes.
fn check_sum(block: &Block, at: u64) -> Result<(), TarError> {
    let expected = number(&block[148..156]);
    let bytes = || {
        block
            .iter()
            .enumerate()
            .map(|(i, b)| if (148..156).contains(&i) { b' ' } else { *b })
    };
    let unsigned: i64 = bytes().map(i64::from).sum();
    let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
    match expected {
        Some(sum) if sum == unsigned || sum == signed => Ok(()),
        _ => Err(TarError::Checksum { offset: at }),
    }
}

/// Octal digits between spaces and zero bytes (nothing is 0), or, with the highest bit set, a
/// big-endian two's complement number.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // Bit 6 is the sign.
        let mut value = i128::from(first & 0x3f) - i128::from(first & 0x40);
        for &byte in rest {
            value = value.checked_mul(256)?.checked_add(i128::from(byte))?;
        }
        return i64::try_from(value).ok();
    }
    let digits = field.trim_ascii_start();
    let end = digits
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(digits.len());
    let digits = std::str::from_utf8(&digits[..end])
        .ok()?
        .trim_matches([' ', '\0']);
    match digits.bytes().all(|digit| matches!(digit, b'0'..=b'7')) {
        true if digits.is_empty() => Some(0),
        true => i64::from_str_radix(digits, 8).ok(),
        false => None,
    }
}
