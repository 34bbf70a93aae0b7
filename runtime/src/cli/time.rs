//! Times for people and for manifests.

use jiff::Timestamp;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const NANOS: u64 = 1_000_000_000;

/// Nanoseconds since 1970, now.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}

/// `2026-01-31T12:00:00Z`.
pub fn rfc3339(nanos: u64) -> String {
    let seconds = i64::try_from(nanos / NANOS).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).map_or_else(|_| String::new(), |at| at.to_string())
}

/// How long ago, as kubectl has it: `5s`, `3m20s`, `4h10m`, `2d`.
pub fn age(nanos: u64) -> String {
    span(now().saturating_sub(nanos) / NANOS)
}

/// A span of seconds with at most two units, the second one only while it matters.
pub fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |large: u64, unit: char, small: u64, small_unit: char| {
        if small == 0 {
            format!("{large}{unit}")
        } else {
            format!("{large}{unit}{small}{small_unit}")
        }
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, 'm', seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, 'd', hours % 24, 'h'),
        691_200..63_072_000 => format!("{days}d"),
        _ => two(days / 365, 'y', days % 365, 'd'),
    }
}

/// Reads a span as Go writes it: `30s`, `1h30m`, `1.5m`, `100ms`; a bare `0`.
pub fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut sum) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let amount: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        sum = sum.checked_add(Duration::try_from_secs_f64(amount * unit).ok()?)?;
        rest = &rest[letters..];
    }
    (!text.is_empty()).then_some(sum)
}

/// Nanoseconds since 1970 of a time like `2026-01-31T12:00:00.5Z`.
pub fn parse_rfc3339(text: &str) -> Option<u64> {
    let at: Timestamp = text.parse().ok()?;
    u64::try_from(at.as_nanosecond()).ok()
}

/// A short time: `850 µs`, `12.3 ms`, `1.20 s`.
pub fn short(nanos: u64) -> String {
    match nanos {
        0..1_000_000 => format!("{} µs", nanos / 1000),
        1_000_000..100_000_000 => {
            format!("{}.{} ms", nanos / 1_000_000, nanos / 100_000 % 10)
        }
        100_000_000..NANOS => format!("{} ms", nanos / 1_000_000),
        _ => format!("{}.{:02} s", nanos / NANOS, nanos / 10_000_000 % 100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_those_of_kubectl() {
        for (seconds, expected) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (200, "3m20s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_860, "3h1m"),
            (30_000, "8h"),
            (180_000, "2d2h"),
            (900_000, "10d"),
            (70_000_000, "2y80d"),
        ] {
            assert_eq!(span(seconds), expected);
        }
    }

    #[test]
    fn durations_are_those_of_go() {
        let millis = |text| duration(text).map(|span| span.as_millis());
        assert_eq!(millis("0"), Some(0));
        assert_eq!(millis("1h2m3.5s"), Some(3_723_500));
        assert_eq!(millis("250ms"), Some(250));
        for bad in ["", "5", "s", "1d", "1s2", "-1s", "1e400s"] {
            assert_eq!(millis(bad), None, "{bad}");
        }
        assert_eq!(
            parse_rfc3339("2023-11-14T22:13:20.000000001Z"),
            Some(1_700_000_000_000_000_001)
        );
    }

    #[test]
    fn times_are_written_in_full() {
        assert_eq!(rfc3339(1_700_000_000_123_456_789), "2023-11-14T22:13:20Z");
        assert_eq!(short(12_345_678), "12.3 ms");
        assert_eq!(short(1_204_000_000), "1.20 s");
        assert_eq!(short(999_999), "999 µs");
    }
}
