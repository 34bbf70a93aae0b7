//! The files of a source by name, whether they lie in a directory or in a tar.

use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::LoadError;
use crate::tarfile::{Kind, Reader, TarError};

/// No source has more files than this; a tar of empty ones must not fill memory.
const MAX_FILES: usize = 100_000;
/// Links to links in a docker-archive.
const MAX_LINKS: usize = 8;
const MAX_TAR_HEADER: u64 = 1 << 20;

/// Named files.
pub(super) enum Archive {
    Directory(PathBuf),
    Tar {
        path: PathBuf,
        file: File,
        members: HashMap<String, Member>,
    },
}

/// What a tar has under a name.
pub(super) enum Member {
    File { offset: u64, size: u64 },
    Link { target: String },
}

/// An open file of the source.
pub(super) struct Opened<'a> {
    pub size: u64,
    pub contents: Box<dyn Read + 'a>,
}

impl Archive {
    /// Lists an uncompressed tar, contents not read.
    pub(super) fn tar(path: &Path, mut file: File) -> Result<Self, LoadError> {
        let broken = |source| LoadError::Archive {
            path: path.to_owned(),
            source,
        };
        // Contents are passed over unread: that they are there is asked of the file's length.
        let length = file.metadata().map_err(|source| LoadError::Read {
            path: path.to_owned(),
            source,
        })?;
        let length = length.len();
        let mut members = HashMap::new();
        let mut reader = Reader::new(&mut file, MAX_TAR_HEADER);
        while let Some(entry) = reader.next().map_err(broken)? {
            let name = clean(&entry.path);
            // Sparse files have no business in here, and their contents are in pieces.
            let whole = entry.runs.len() == 1 && entry.runs[0].length == entry.size;
            if whole && reader.offset().saturating_add(entry.size) > length {
                return Err(broken(TarError::Truncated { offset: length }));
            }
            let member = match entry.kind {
                Kind::Regular if whole => Some(Member::File {
                    offset: reader.offset(),
                    size: entry.size,
                }),
                Kind::Symlink => {
                    let dir = name.rsplit_once('/').map_or("", |(dir, _)| dir);
                    let target = [dir.as_bytes(), b"/", &entry.link].concat();
                    Some(Member::Link {
                        target: clean(&target),
                    })
                }
                Kind::HardLink => Some(Member::Link {
                    target: clean(&entry.link),
                }),
                _ => None,
            };
            members.extend(member.map(|member| (name, member)));
            if members.len() > MAX_FILES {
                return Err(LoadError::TooManyFiles {
                    path: path.to_owned(),
                    limit: MAX_FILES,
                });
            }
            reader.seek_past_contents().map_err(broken)?;
        }
        Ok(Archive::Tar {
            path: path.to_owned(),
            file,
            members,
        })
    }

    /// Opens a file. Names come from the source itself and are hostile: in a directory only those
    /// are looked up that the layout's format makes.
    pub(super) fn open(&self, name: &str) -> Result<Option<Opened<'_>>, LoadError> {
        match self {
            Archive::Directory(root) => {
                let path = root.join(name);
                let io = |source| LoadError::Read {
                    path: path.clone(),
                    source,
                };
                let file = match File::open(&path) {
                    Ok(file) => file,
                    Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(io(error)),
                };
                let size = file.metadata().map_err(io)?.len();
                Ok(Some(Opened {
                    size,
                    contents: Box::new(file),
                }))
            }
            Archive::Tar {
                path,
                file,
                members,
            } => {
                let Some((offset, size)) = find(members, name) else {
                    return Ok(None);
                };
                let mut file = file;
                let io = |source| LoadError::Read {
                    path: path.clone(),
                    source,
                };
                file.seek(SeekFrom::Start(offset)).map_err(io)?;
                Ok(Some(Opened {
                    size,
                    contents: Box::new(file.take(size)),
                }))
            }
        }
    }

    /// Reads a small file whole.
    pub(super) fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, LoadError> {
        let Some(opened) = self.open(name)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        let read = opened.contents.take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|source| LoadError::Read {
            path: self.path().join(name),
            source,
        })?;
        if bytes.len() as u64 > limit {
            return Err(LoadError::DocumentTooLong {
                name: name.to_owned(),
                limit,
            });
        }
        Ok(Some(bytes))
    }

    /// Where the source is.
    pub(super) fn path(&self) -> &Path {
        match self {
            Archive::Directory(path) | Archive::Tar { path, .. } => path,
        }
    }
}

fn find(members: &HashMap<String, Member>, name: &str) -> Option<(u64, u64)> {
    let mut name = clean(name.as_bytes());
    for _ in 0..MAX_LINKS {
        match members.get(&name)? {
            Member::File { offset, size } => return Some((*offset, *size)),
            Member::Link { target } => name.clone_from(target),
        }
    }
    None
}

/// A member's name without `.`, `..` and needless slashes. Nothing is opened by it.
fn clean(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        assert_eq!(clean(b"./a//b/../c"), "a/c");
        assert_eq!(clean(b"../../etc"), "etc");
    }

    #[test]
    fn links_end() {
        let link = |target: &str| Member::Link {
            target: target.into(),
        };
        let mut members = HashMap::from([("a".into(), link("b")), ("b".into(), link("a"))]);
        assert_eq!(find(&members, "a"), None);
        members.insert(
            "b".into(),
            Member::File {
                offset: 512,
                size: 3,
            },
        );
        assert_eq!(find(&members, "./a"), Some((512, 3)));
    }
}
