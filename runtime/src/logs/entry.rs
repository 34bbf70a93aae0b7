//! One line of a log: `TIME STREAM TAG CONTENT`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// One of a process's two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Output {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    /// Place among the two.
    #[must_use]
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Stdout => 0,
            Self::Stderr => 1,
        }
    }
}

/// A line of a log, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// When it was written, RFC 3339 in UTC.
    pub time: &'a str,
    /// Which stream.
    pub output: Output,
    /// More of the same line follows, or the stream ended without a newline.
    pub is_partial: bool,
    /// Without the newline.
    pub content: &'a [u8],
}

impl<'a> Entry<'a> {
    /// From a line without its newline; `None` when it is not of the format.
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(parts.next()?).ok()?;
        let output = match parts.next()? {
            b"stdout" => Output::Stdout,
            b"stderr" => Output::Stderr,
            _ => return None,
        };
        let is_partial = match parts.next()? {
            b"F" => false,
            b"P" => true,
            _ => return None,
        };
        Some(Self {
            time,
            output,
            is_partial,
            content: parts.next()?,
        })
    }
}

/// RFC 3339 in UTC with nanoseconds. Written by hand because it runs for every
/// piece of output; days to a date by Hinnant's `civil_from_days`.
pub(super) fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, second) = (since.as_secs() / 86400, since.as_secs() % 86400);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 {
        month_index + 3
    } else {
        month_index - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:09}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_nanos()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_log_format_are_read() {
        let entry = Entry::parse(b"2026-01-01T00:00:00.000000001Z stderr P a  b").unwrap();
        assert!(entry.output == Output::Stderr && entry.is_partial);
        assert_eq!(entry.content, b"a  b");
        assert!(Entry::parse(b"2026 stdout F ").unwrap().content.is_empty());
        assert!(Entry::parse(b"garbage").is_none());
    }

    #[test]
    fn times_are_written_as_rfc_3339() {
        let at = |seconds, nanos| timestamp(UNIX_EPOCH + Duration::new(seconds, nanos));
        assert_eq!(at(0, 1), "1970-01-01T00:00:00.000000001Z");
        assert_eq!(at(951_827_696, 0), "2000-02-29T12:34:56.000000000Z");
        assert_eq!(at(1_798_761_599, 0), "2026-12-31T23:59:59.000000000Z");
    }
}
