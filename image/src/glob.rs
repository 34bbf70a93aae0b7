//! Patterns of paths and names, as docker has them: `*` and `?` are within a part, `**` is any
//! number of parts, `[a-z]` and `[^a-z]` one character of a set, `\` takes the next as it is.

/// A pattern of paths or names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(Vec<Token>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// `?`
    One,
    /// `*`
    Some,
    /// `**` at the end, or in the middle of a part: anything.
    Any,
    /// `**/`: any directories, or none.
    Directories,
    /// `[…]`: whether it is of all others, and spans from and to.
    Set(bool, Vec<(u8, u8)>),
}

impl Glob {
    /// Reads a pattern; `None` when a set has no end, or a `\` nothing behind it.
    #[must_use]
    pub fn read(text: &[u8]) -> Option<Self> {
        let (mut tokens, mut rest) = (Vec::new(), text);
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            tokens.push(match first {
                b'?' => Token::One,
                b'*' if after.starts_with(b"*/") => {
                    rest = &after[2..];
                    Token::Directories
                }
                b'*' if after.starts_with(b"*") => {
                    rest = &after[1..];
                    Token::Any
                }
                b'*' => Token::Some,
                b'\\' => {
                    let (byte, after) = after.split_first()?;
                    rest = after;
                    Token::Byte(*byte)
                }
                b'[' => {
                    let (set, after) = set(after)?;
                    rest = after;
                    set
                }
                byte => Token::Byte(*byte),
            });
        }
        Some(Self(tokens))
    }

    /// Whether all of a text is of the pattern.
    #[must_use]
    pub fn is_match(&self, text: &[u8]) -> bool {
        // Places in pattern and text from which it was tried in vain: each is tried once.
        let width = text.len() + 1;
        let mut tried = vec![false; (self.0.len() + 1) * width];
        let mut left = vec![(0, 0)];
        while let Some((token, at)) = left.pop() {
            if std::mem::replace(&mut tried[token * width + at], true) {
                continue;
            }
            let next = text.get(at).copied();
            match self.0.get(token) {
                None if next.is_none() => return true,
                None => {}
                Some(Token::Byte(byte)) if next == Some(*byte) => left.push((token + 1, at + 1)),
                Some(Token::One) if next.is_some_and(|byte| byte != b'/') => {
                    left.push((token + 1, at + 1));
                }
                Some(Token::Set(is_not, spans)) if next.is_some_and(|byte| byte != b'/') => {
                    let is_in =
                        |(from, to): &(u8, u8)| next.is_some_and(|b| (*from..=*to).contains(&b));
                    if spans.iter().any(is_in) != *is_not {
                        left.push((token + 1, at + 1));
                    }
                }
                Some(Token::Byte(_) | Token::One | Token::Set(..)) => {}
                Some(Token::Some) => {
                    left.push((token + 1, at));
                    left.extend(next.filter(|byte| *byte != b'/').map(|_| (token, at + 1)));
                }
                Some(Token::Any) => {
                    left.push((token + 1, at));
                    left.extend(next.map(|_| (token, at + 1)));
                }
                Some(Token::Directories) => {
                    left.push((token + 1, at));
                    let slashes = (at..text.len()).filter(|at| text[*at] == b'/');
                    left.extend(slashes.map(|at| (token + 1, at + 1)));
                }
            }
        }
        false
    }
}

/// A set behind its `[`, and what follows it.
fn set(text: &[u8]) -> Option<(Token, &[u8])> {
    let (is_not, mut rest) = match text.strip_prefix(b"^") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut spans = Vec::new();
    loop {
        let (from, after) = rest.split_first()?;
        match from {
            b']' if !spans.is_empty() => return Some((Token::Set(is_not, spans), after)),
            b']' => return None,
            _ => {}
        }
        let (from, after) = one(rest)?;
        match after
            .strip_prefix(b"-")
            .filter(|after| !after.starts_with(b"]"))
        {
            Some(after) => {
                let (to, after) = one(after)?;
                spans.push((from, to));
                rest = after;
            }
            None => {
                spans.push((from, from));
                rest = after;
            }
        }
    }
}

fn one(text: &[u8]) -> Option<(u8, &[u8])> {
    let (byte, rest) = text.split_first()?;
    match byte {
        b'\\' => rest.split_first().map(|(byte, rest)| (*byte, rest)),
        byte => Some((*byte, rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_match(pattern: &str, text: &str) -> bool {
        Glob::read(pattern.as_bytes()).is_some_and(|glob| glob.is_match(text.as_bytes()))
    }

    #[test]
    fn patterns_mean_what_dockers_do() {
        for (pattern, texts, others) in [
            ("*.md", &["a.md", ".md"][..], &["a.mdx", "d/a.md"][..]),
            ("*/temp*", &["a/temp", "b/temporary"], &["temp", "a/b/temp"]),
            ("temp?", &["tempa"], &["temp", "temp/", "tempab"]),
            ("**/*.go", &["a.go", "a/b/c.go"], &["a.gox"]),
            ("a/**", &["a/b", "a/b/c"], &["a", "ab"]),
            ("a/**/b", &["a/b", "a/x/y/b"], &["a/xb", "b"]),
            ("[a-c]x", &["ax", "cx"], &["dx", "/x", "x"]),
            ("[^a-c]x", &["dx"], &["ax", "/x"]),
            (r"\*", &["*"], &["a"]),
        ] {
            for text in texts {
                assert!(is_match(pattern, text), "{pattern} {text}");
            }
            for text in others {
                assert!(!is_match(pattern, text), "{pattern} {text}");
            }
        }
        for wrong in ["[a", "[]", r"a\"] {
            assert_eq!(Glob::read(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn many_stars_take_no_age() {
        let (pattern, text) = ("*a".repeat(200), "a".repeat(2000) + "b");
        assert!(!is_match(&pattern, &text));
    }
}
