//! Paths as archives spell them.

use super::{LayerError, Limits};

/// The longest file name that Linux and EROFS have.
pub(super) const MAX_NAME: usize = 255;

/// The components of `path` below the root, `.` and `..` worked out as text, which is how docker
/// cleans an entry's name. Absolute paths start at the same root. `entry` is for the message.
pub(super) fn components<'a>(
    path: &'a [u8],
    entry: &[u8],
    limits: &Limits,
) -> Result<Vec<&'a [u8]>, LayerError> {
    if path.is_empty() {
        return Err(bad(entry, "it is empty"));
    }
    if path.len() > limits.max_path_bytes {
        return Err(bad(entry, "its path is too long"));
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                let escape = || LayerError::Escape {
                    entry: LayerError::shown(entry),
                };
                parts.pop().ok_or_else(escape)?;
            }
            _ if part.len() > MAX_NAME => {
                return Err(bad(entry, "a part is longer than 255 bytes"));
            }
            _ if part.contains(&0) => return Err(bad(entry, "it contains a zero byte")),
            _ => parts.push(part),
        }
    }
    if parts.len() > limits.max_depth {
        return Err(bad(entry, "it lies too deep"));
    }
    Ok(parts)
}

pub(super) fn bad(entry: &[u8], problem: &'static str) -> LayerError {
    LayerError::BadName {
        entry: LayerError::shown(entry),
        problem,
    }
}
