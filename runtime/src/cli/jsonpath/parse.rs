//! Templates and paths, read.

use super::{Comparison, Operand, Part, Path, Pick, Step, Template};
use serde_json::Value;

/// Deepest nesting: of ranges in ranges, and of paths in filters.
const DEEPEST: usize = 16;

impl Template {
    /// Reads a template. Errors in kubectl's words.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut rest = text;
        let parts = parts(&mut rest, 0)?;
        Ok(Self(parts))
    }
}

impl Path {
    /// Reads a path with or without braces, and without its first dot, as
    /// `custom-columns` and `wait` take it.
    pub fn relaxed(text: &str) -> Result<Self, String> {
        let inner = text
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'));
        let inner = inner.unwrap_or(text).trim();
        let begins = inner.starts_with(['.', '$', '@', '[']);
        let inner = if begins {
            inner.to_owned()
        } else {
            format!(".{inner}")
        };
        whole(&inner, 0)
    }
}

/// Parts up to the end of the text or, in a range, to its `{end}`.
fn parts(rest: &mut &str, depth: usize) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let (plain, action) = match rest.split_once('{') {
            Some((plain, after)) => (plain, Some(after)),
            None => (*rest, None),
        };
        if !plain.is_empty() {
            parts.push(Part::Text(plain.to_owned()));
        }
        let Some(after) = action else {
            *rest = "";
            break;
        };
        let end = closing(after, '}').ok_or("unclosed action")?;
        let inner = after[..end].trim();
        *rest = &after[end + 1..];
        if inner == "end" {
            return if depth > 0 {
                Ok(parts)
            } else {
                Err("not in range, nothing to end".into())
            };
        }
        parts.extend(self::action(inner, rest, depth)?);
    }
    if depth > 0 {
        return Err("unclosed range: an {end} is missing".into());
    }
    Ok(parts)
}

fn action(inner: &str, rest: &mut &str, depth: usize) -> Result<Vec<Part>, String> {
    if let Some(path) = inner.strip_prefix("range ") {
        if depth >= DEEPEST {
            return Err("too many ranges in each other".into());
        }
        let path = whole(path.trim(), 0)?;
        return Ok(vec![Part::Range(path, parts(rest, depth + 1)?)]);
    }
    if inner.starts_with(['"', '\'']) {
        let (text, after) = quoted(inner)?;
        return if after.trim().is_empty() {
            Ok(vec![Part::Text(text)])
        } else {
            Err(format!(
                "unrecognized text {after:?} behind a quoted string"
            ))
        };
    }
    Ok(vec![Part::Path(whole(inner, 0)?)])
}

/// Where a bracket closes, outside quotes and brackets within.
fn closing(text: &str, close: char) -> Option<usize> {
    let (mut quote, mut depth, mut is_escaped) = (None, 0usize, false);
    for (at, c) in text.char_indices() {
        if is_escaped {
            is_escaped = false;
        } else if c == '\\' {
            is_escaped = true;
        } else if let Some(open) = quote {
            quote = (c != open).then_some(open);
        } else if c == close && depth == 0 {
            return Some(at);
        } else {
            match c {
                '"' | '\'' => quote = Some(c),
                '[' | '(' => depth += 1,
                ']' | ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
    }
    None
}

/// A quoted text and what stands behind it.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut characters = text.char_indices();
    let quote = characters.next().map(|(_, c)| c);
    let mut out = String::new();
    while let Some((at, c)) = characters.next() {
        match c {
            _ if Some(c) == quote => return Ok((out, &text[at + c.len_utf8()..])),
            '\\' => match characters.next() {
                Some((_, 'n')) => out.push('\n'),
                Some((_, 't')) => out.push('\t'),
                Some((_, 'r')) => out.push('\r'),
                Some((_, other)) => out.push(other),
                None => break,
            },
            _ => out.push(c),
        }
    }
    Err("unterminated quoted string".into())
}

/// A path and nothing behind it.
fn whole(text: &str, depth: usize) -> Result<Path, String> {
    if depth > DEEPEST {
        return Err("too many filters in each other".into());
    }
    let (is_from_root, mut rest) = match text.strip_prefix('$') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('@').unwrap_or(text)),
    };
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("..") {
            steps.push(Step::Deep);
            rest = after;
            if !rest.starts_with('[') && !rest.is_empty() {
                rest = name(rest, &mut steps)?;
            }
        } else if let Some(after) = rest.strip_prefix('.') {
            // `.` alone is the value itself.
            rest = if after.is_empty() || after.starts_with('[') {
                after
            } else {
                name(after, &mut steps)?
            };
        } else if let Some(after) = rest.strip_prefix('[') {
            let end = closing(after, ']').ok_or("unterminated array")?;
            steps.push(brackets(after[..end].trim(), depth)?);
            rest = &after[end + 1..];
        } else {
            return Err(format!("unrecognized text {rest:?} in a path"));
        }
    }
    Ok(Path {
        is_from_root,
        steps,
    })
}

/// A name up to the next step; a backslash takes the meaning of what follows.
fn name<'t>(text: &'t str, steps: &mut Vec<Step>) -> Result<&'t str, String> {
    let mut name = String::new();
    let mut characters = text.char_indices();
    let mut end = text.len();
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' => name.extend(characters.next().map(|(_, c)| c)),
            '.' | '[' => {
                end = at;
                break;
            }
            c if c.is_whitespace() => return Err(format!("unrecognized text {text:?} in a path")),
            c => name.push(c),
        }
    }
    if name.is_empty() {
        return Err(format!("unrecognized text {text:?} in a path"));
    }
    steps.push(if name == "*" {
        Step::Each
    } else {
        Step::Field(name)
    });
    Ok(&text[end..])
}

fn brackets(inner: &str, depth: usize) -> Result<Step, String> {
    if inner == "*" {
        return Ok(Step::Each);
    }
    if let Some(filter) = inner.strip_prefix('?') {
        let filter = filter.trim().strip_prefix('(');
        let filter = filter.and_then(|filter| filter.strip_suffix(')'));
        return self::filter(filter.ok_or("unterminated filter")?.trim(), depth);
    }
    let mut picks = Vec::new();
    let mut rest = inner;
    loop {
        let end = closing(rest, ',').unwrap_or(rest.len());
        picks.push(pick(rest[..end].trim())?);
        match rest.get(end + 1..) {
            Some(after) => rest = after,
            None => return Ok(Step::These(picks)),
        }
    }
}

fn pick(text: &str) -> Result<Pick, String> {
    if text.starts_with(['"', '\'']) {
        return match quoted(text)? {
            (name, "") => Ok(Pick::Name(name)),
            (_, more) => Err(format!("unrecognized text {more:?} behind a quoted string")),
        };
    }
    let invalid = || format!("invalid array index {text}");
    let number = |text: &str| -> Result<Option<i64>, String> {
        let text = text.trim();
        match text {
            "" => Ok(None),
            _ => text.parse().map(Some).map_err(|_| invalid()),
        }
    };
    let bounds: Vec<&str> = text.split(':').collect();
    match bounds.as_slice() {
        [at] => number(at)?.map(Pick::At).ok_or_else(invalid),
        [from, to] | [from, to, ""] => Ok(Pick::Slice {
            from: number(from)?,
            to: number(to)?,
            step: 1,
        }),
        [from, to, step] => {
            let step = number(step)?.and_then(|step| usize::try_from(step).ok());
            let step = step.filter(|step| *step > 0).ok_or("step must be > 0")?;
            Ok(Pick::Slice {
                from: number(from)?,
                to: number(to)?,
                step,
            })
        }
        _ => Err(invalid()),
    }
}

const COMPARISONS: [(&str, Comparison); 6] = [
    ("==", Comparison::Equal),
    ("!=", Comparison::Unequal),
    ("<=", Comparison::LessOrEqual),
    (">=", Comparison::MoreOrEqual),
    ("<", Comparison::Less),
    (">", Comparison::More),
];

fn filter(text: &str, depth: usize) -> Result<Step, String> {
    let at = text.find(['=', '!', '<', '>']);
    let Some(at) = at else {
        return Ok(Step::Where(whole(text, depth + 1)?, None));
    };
    let (left, right) = text.split_at(at);
    let mut all = COMPARISONS.iter();
    let found = all.find_map(|(sign, meaning)| Some((right.strip_prefix(sign)?, *meaning)));
    let (right, comparison) = found.ok_or("unterminated filter")?;
    let right = right.trim();
    let operand = if right.starts_with(['"', '\'']) {
        match quoted(right)? {
            (text, "") => Operand::Value(Value::String(text)),
            (_, more) => return Err(format!("unrecognized text {more:?} in a filter")),
        }
    } else if right.starts_with(['@', '$', '.']) {
        Operand::Path(whole(right, depth + 1)?)
    } else {
        let value = serde_json::from_str(right);
        Operand::Value(value.map_err(|_| format!("unrecognized text {right:?} in a filter"))?)
    };
    let path = whole(left.trim(), depth + 1)?;
    Ok(Step::Where(path, Some((comparison, operand))))
}
