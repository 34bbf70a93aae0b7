//! Pax extended headers: `LENGTH KEY=VALUE\n` records, values of any bytes.

use super::{Run, TarError, Time, Xattr, header};

const XATTR: &[u8] = b"SCHILY.xattr.";
/// More than any file system lists; keeps the search for duplicates short.
const MAX_XATTRS: usize = 1000;

/// What a pax header says about the entry that follows.
#[derive(Default)]
pub(super) struct Pax {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub mtime: Option<Time>,
    pub xattrs: Vec<Xattr>,
    pub sparse: Option<SparseMap>,
}

/// What GNU tar's three pax formats for sparse files say.
#[derive(Default)]
pub(super) struct SparseMap {
    /// Format 1.0 keeps the map at the beginning of the contents.
    pub in_contents: bool,
    pub size: u64,
    pub runs: Vec<Run>,
    name: Option<Vec<u8>>,
    /// Format 0.0 gives each run's offset in a record of its own.
    pending_offset: Option<u64>,
}

impl Pax {
    /// With GNU's long names where it has none of its own.
    pub(super) fn or(mut self, path: Option<Vec<u8>>, link: Option<Vec<u8>>) -> Self {
        self.path = self.path.or(path);
        self.link = self.link.or(link);
        self
    }

    pub(super) fn parse(mut rest: &[u8], at: u64) -> Result<Self, TarError> {
        let mut pax = Pax::default();
        let mut version = (0, 0);
        // Some writers pad with zero bytes.
        while rest.first().is_some_and(|byte| *byte != 0) {
            let (key, value, after) = record(rest, at)?;
            rest = after;
            match key.strip_prefix(b"GNU.sparse.") {
                Some(key) => pax.sparse_record(key, value, &mut version, at)?,
                None => pax.record(key, value, at)?,
            }
        }
        if let Some(map) = &mut pax.sparse {
            map.in_contents = version == (1, 0);
            if let Some(name) = map.name.take() {
                pax.path = Some(name);
            }
        }
        Ok(pax)
    }

    fn record(&mut self, key: &[u8], value: &[u8], at: u64) -> Result<(), TarError> {
        let number = || decimal(value).ok_or(malformed("a number is expected", at));
        let signed = || {
            number()
                .and_then(|n| i64::try_from(n).map_err(|_| malformed("a number is too large", at)))
        };
        // An empty value takes an earlier one back.
        let given = !value.is_empty();
        match key {
            b"path" | b"linkpath" if value.contains(&0) => {
                return Err(malformed("a name contains a zero byte", at));
            }
            b"path" => self.path = given.then(|| value.to_vec()),
            b"linkpath" => self.link = given.then(|| value.to_vec()),
            b"size" => self.size = if given { Some(number()?) } else { None },
            b"uid" => {
                self.uid = if given {
                    Some(header::id(signed()?, "uid", at)?)
                } else {
                    None
                }
            }
            b"gid" => {
                self.gid = if given {
                    Some(header::id(signed()?, "gid", at)?)
                } else {
                    None
                }
            }
            b"mtime" if given => {
                let time = time(value).ok_or(malformed("a time is expected", at))?;
                self.mtime = Some(time);
            }
            b"mtime" => self.mtime = None,
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    if self.xattrs.len() >= MAX_XATTRS {
                        return Err(malformed("an entry has too many attributes", at));
                    }
                    self.xattrs.retain(|(earlier, _)| earlier != name);
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }

    fn sparse_record(
        &mut self,
        key: &[u8],
        value: &[u8],
        version: &mut (u64, u64),
        at: u64,
    ) -> Result<(), TarError> {
        let map = self.sparse.get_or_insert_default();
        let number = || decimal(value).ok_or(malformed("a number is expected", at));
        match key {
            b"major" => version.0 = number()?,
            b"minor" => version.1 = number()?,
            b"name" if value.contains(&0) => {
                return Err(malformed("a name contains a zero byte", at));
            }
            b"name" => map.name = Some(value.to_vec()),
            b"size" | b"realsize" => map.size = number()?,
            b"offset" => map.pending_offset = Some(number()?),
            b"numbytes" => {
                let offset = map.pending_offset.take();
                let offset = offset.ok_or(malformed("a sparse run has no offset", at))?;
                map.runs.push(Run {
                    offset,
                    length: number()?,
                });
            }
            b"map" => {
                map.runs.clear();
                let mut numbers = value.split(|byte| *byte == b',').map(decimal);
                while let Some(offset) = numbers.next() {
                    let (Some(offset), Some(Some(length))) = (offset, numbers.next()) else {
                        return Err(malformed("a sparse map has an odd part", at));
                    };
                    map.runs.push(Run { offset, length });
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// A record's key and value, and what follows it.
type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// The first record.
fn record(bytes: &[u8], at: u64) -> Result<Record<'_>, TarError> {
    let space = bytes.iter().take(21).position(|byte| *byte == b' ');
    let space = space.ok_or(malformed("a record has no length", at))?;
    let length = decimal(&bytes[..space]).and_then(|length| usize::try_from(length).ok());
    let length = length.filter(|length| (space + 2..=bytes.len()).contains(length));
    let length = length.ok_or(malformed("a record's length is wrong", at))?;
    let (record, after) = bytes.split_at(length);
    let body = record[space + 1..].strip_suffix(b"\n");
    let body = body.ok_or(malformed("a record does not end its line", at))?;
    let equals = body.iter().position(|byte| *byte == b'=');
    let equals = equals.ok_or(malformed("a record has no value", at))?;
    let (key, value) = (&body[..equals], &body[equals + 1..]);
    if key.is_empty() || key.contains(&0) {
        return Err(malformed("a record has no proper key", at));
    }
    Ok((key, value, after))
}

fn malformed(problem: &'static str, offset: u64) -> TarError {
    TarError::Pax { offset, problem }
}

pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text)
        .ok()
        .filter(|_| digits)?
        .parse()
        .ok()
}

/// Seconds with an optional fraction, possibly negative; digits beyond nanoseconds are cut off.
fn time(text: &[u8]) -> Option<Time> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let mut nanos = 0;
    if let Some(fraction) = parts.next() {
        if !fraction.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let digits = fraction.iter().map(|digit| u32::from(digit - b'0'));
        nanos = digits
            .chain(std::iter::repeat(0))
            .take(9)
            .fold(0, |sum, digit| sum * 10 + digit);
    }
    Some(match (negative, nanos) {
        (false, _) => Time { seconds, nanos },
        (true, 0) => Time {
            seconds: -seconds,
            nanos,
        },
        (true, _) => Time {
            seconds: -seconds - 1,
            nanos: 1_000_000_000 - nanos,
        },
    })
}
