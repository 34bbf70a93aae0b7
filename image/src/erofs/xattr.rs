//! Extended attributes, stored inline after their inode.

use crate::tarfile::Xattr;

/// The header before the entries: name filter (unused), count of shared attributes, reserved.
const HEADER: usize = 12;
const ENTRY_HEADER: usize = 4;
/// Lengths that the on-disk format and Linux admit: an index of prefixes stands for the
/// beginning of a name.
const MAX_NAME: usize = 255;
const MAX_VALUE: usize = u16::MAX as usize;
/// As much as the inode's 16-bit count of 4-byte units admits, in round numbers.
const MAX_TOTAL: usize = 200 << 10;

/// Name prefixes and their numbers on disk.
const PREFIXES: [(u8, &[u8]); 5] = [
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
];

/// The number of the prefix and the rest of the name; `None` for a name that EROFS cannot hold.
fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    let mut matches = PREFIXES.iter().filter_map(|(index, prefix)| {
        let rest = name.strip_prefix(*prefix)?;
        // The two ACL names are whole names, the others need something after the dot.
        (rest.is_empty() != prefix.ends_with(b".")).then_some((*index, rest))
    });
    matches.next().filter(|(_, rest)| rest.len() <= MAX_NAME)
}

/// Whether an attribute of this name has a place in the format. Linux has no others that a file
/// system for images could serve.
pub(crate) fn is_storable(name: &[u8]) -> bool {
    split(name).is_some()
}

/// Whether a name would have a place if it were shorter.
pub(crate) fn is_long(name: &[u8]) -> bool {
    let is_known = PREFIXES.iter().any(|(_, prefix)| name.starts_with(prefix));
    name.len() > MAX_NAME && is_known
}

/// Whether the attributes fit into an inode; if not, the first that does not.
pub(crate) fn check(xattrs: &[Xattr]) -> Result<(), &Xattr> {
    let mut total = HEADER;
    for xattr in xattrs {
        total += entry_size(xattr);
        if xattr.1.len() > MAX_VALUE || total > MAX_TOTAL {
            return Err(xattr);
        }
    }
    Ok(())
}

fn entry_size((name, value): &Xattr) -> usize {
    let rest = split(name).map_or(0, |(_, rest)| rest.len());
    (ENTRY_HEADER + rest + value.len()).next_multiple_of(4)
}

/// Bytes on disk.
pub(super) fn size(xattrs: &[Xattr]) -> usize {
    if xattrs.is_empty() {
        0
    } else {
        HEADER + xattrs.iter().map(entry_size).sum::<usize>()
    }
}

/// The inode's `i_xattr_icount`: 4-byte units of the entries, plus one for the header.
pub(super) fn icount(size: usize) -> u16 {
    if size == 0 {
        0
    } else {
        ((size - HEADER) / 4 + 1) as u16
    }
}

/// Appends header and entries.
pub(super) fn write(xattrs: &[Xattr], out: &mut Vec<u8>) {
    if xattrs.is_empty() {
        return;
    }
    out.extend([0; HEADER]);
    for (name, value) in xattrs {
        let Some((index, rest)) = split(name) else {
            continue;
        };
        out.extend([rest.len() as u8, index]);
        out.extend((value.len() as u16).to_le_bytes());
        out.extend(rest);
        out.extend(value);
        out.resize(out.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_is_what_is_written() {
        let xattrs = [
            (b"user.a".to_vec(), b"xyz".to_vec()),
            (b"security.capability".to_vec(), vec![1; 20]),
            (b"system.posix_acl_access".to_vec(), vec![2; 28]),
        ];
        // Entries are aligned relative to the inode, which is aligned.
        let mut out = Vec::new();
        write(&xattrs, &mut out);
        assert_eq!(out.len(), size(&xattrs));
        assert_eq!(usize::from(icount(out.len())) * 4 + 8, out.len());
        assert_eq!(&out[12..20], b"\x01\x01\x03\x00axyz");
    }

    #[test]
    fn knows_what_has_no_place() {
        for name in [
            &b"user."[..],
            b"system.x",
            b"btrfs.compression",
            b"",
            b"trusted",
        ] {
            assert!(!is_storable(name));
        }
        assert!(check(&[(b"user.a".to_vec(), vec![0; 70_000])]).is_err());
    }
}
