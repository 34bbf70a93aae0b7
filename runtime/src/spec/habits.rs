//! What writers of manifests are used to, and the YAML scanner does not take.
//!
//! Kubernetes reads YAML with go-yaml, which is lenient in some ways that many
//! published manifests rely on, and takes a tab where the scanner wants a space. Where the scanner stops at one of them, the text is
//! put right there and read again; it is never changed where it can be read.

use super::issue::Position;

/// Longest text that is put right, in bytes: each time all of it is read again.
const MAX_TEXT: usize = 256 << 10;

/// How often a text is put right.
pub const MAX_MENDS: usize = 64;

/// The text without what the scanner stopped at, for one of the known reasons.
pub fn mend(text: &str, at: Position, info: &str) -> Option<String> {
    if text.len() > MAX_TEXT {
        return None;
    }
    let offset = offset(text, at)?;
    let (before, after) = text.split_at(offset);
    let first = after.chars().next()?;
    match first {
        // White space between a key and its value may be tabs alone (YAML 1.2, 6.2).
        _ if info.contains("':' must be followed by a valid YAML whitespace") => {
            let key = before.trim_end_matches('\t');
            let tabs = before.strip_prefix(key)?.strip_prefix('\t')?;
            Some(format!("{key} {tabs}{after}"))
        }
        // A bracket at the column of the key whose list it ends.
        ']' | '}' if info.contains("invalid indentation") => {
            let is_alone = before
                .rsplit('\n')
                .next()
                .is_some_and(|line| line.trim().is_empty());
            is_alone.then(|| format!("{before} {after}"))
        }
        // Text in quotes that goes on at the column of its key: leading blanks of
        // such a line are no part of it.
        '"' | '\'' if info.contains("invalid indentation") => {
            let end = quoted(after)?;
            let (text, rest) = after.split_at(end);
            let blanks = at.column + 1;
            // Both are the writer's choice.
            if text.matches('\n').count().saturating_mul(blanks) > MAX_TEXT {
                return None;
            }
            let indented = text.replace('\n', &format!("\n{}", " ".repeat(blanks)));
            (indented != text).then(|| format!("{before}{indented}{rest}"))
        }
        // Objects of JSON one behind the other, as many tools print them.
        '{' if info.contains("expected <document start>") => {
            let is_behind = before.trim_end().ends_with('}');
            let line = if at.column == 1 { "" } else { "\n" };
            is_behind.then(|| format!("{before}{line}--- {after}"))
        }
        // Of files that were put one behind the other.
        '\u{feff}' if info.contains("byte order mark") => {
            Some(format!("{before}{}", after.strip_prefix('\u{feff}')?))
        }
        // What is beyond 16 bits JSON writes as two escapes.
        '"' if info.contains("invalid Unicode character escape code") => {
            let end = quoted(after)?;
            let (text, rest) = after.split_at(end);
            let whole = whole_characters(text);
            (whole != text).then(|| format!("{before}{whole}{rest}"))
        }
        // `\'` in double quotes.
        '"' if info.contains("unknown escape") => {
            let end = quoted(after)?;
            let (text, rest) = after.split_at(end);
            let plain = unescape(text);
            (plain != text).then(|| format!("{before}{plain}{rest}"))
        }
        _ => None,
    }
}

/// Where a place begins, in bytes.
fn offset(text: &str, at: Position) -> Option<usize> {
    let line = text
        .split_inclusive('\n')
        .take(at.line.checked_sub(1)?)
        .map(str::len)
        .sum::<usize>();
    let column = at.column.checked_sub(1)?;
    let (column, _) = text.get(line..)?.char_indices().nth(column)?;
    Some(line + column)
}

/// Length in bytes of the text in quotes that begins here.
fn quoted(text: &str) -> Option<usize> {
    let mut chars = text.char_indices().peekable();
    let (_, quote) = chars.next()?;
    while let Some((at, one)) = chars.next() {
        match one {
            '\\' if quote == '"' => drop(chars.next()),
            '\'' if quote == one && chars.peek().is_some_and(|(_, next)| *next == one) => {
                chars.next();
            }
            _ if one == quote => return Some(at + one.len_utf8()),
            _ => {}
        }
    }
    None
}

/// The text with one escape for each pair of surrogates (RFC 8259, 7).
fn whole_characters(text: &str) -> String {
    let half = |text: &str| -> Option<u32> {
        let digits = text.strip_prefix("\\u")?.get(..4)?;
        u32::from_str_radix(digits, 16).ok()
    };
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        let pair = half(escape).zip(escape.get(6..).and_then(half));
        let taken = match pair {
            Some((high @ 0xd800..=0xdbff, low @ 0xdc00..=0xdfff)) => {
                let code = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                out.push_str(&format!("\\U{code:08X}"));
                12
            }
            _ => {
                // The escaped character may be a backslash.
                let next = escape.chars().nth(1).map_or(1, |c| 1 + c.len_utf8());
                out.push_str(&escape[..next]);
                next
            }
        };
        rest = &escape[taken..];
    }
    out.push_str(rest);
    out
}

/// The text with `'` for each `\'`.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(one) = chars.next() {
        match (one, chars.peek()) {
            ('\\', Some('\'')) => {}
            ('\\', Some(&next)) => {
                out.push(one);
                out.push(next);
                chars.next();
            }
            _ => out.push(one),
        }
    }
    out
}
