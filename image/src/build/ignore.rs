//! `.containerignore` and `.dockerignore`: what of a directory does not go into its image.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use super::BuildError;
use crate::glob::Glob;

/// In the order in which podman and buildah look for them; docker knows the second.
const NAMES: [&str; 2] = [".containerignore", ".dockerignore"];
const MAX_FILE: u64 = 1 << 20;

/// What does not go into an image.
#[derive(Debug, Default)]
pub(super) struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    /// `!`: what it means is kept, whatever was said before.
    keeps: bool,
    glob: Glob,
}

impl Ignore {
    /// Reads the first such file of a directory; without one everything is kept.
    pub(super) fn of(dir: &Path) -> Result<Self, BuildError> {
        for path in NAMES.map(|name| dir.join(name)) {
            let file = match File::open(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                file => file,
            };
            let mut text = Vec::new();
            let read = file.and_then(|file| file.take(MAX_FILE).read_to_end(&mut text));
            return match read {
                Ok(_) => Self::read(&path, &text),
                Err(source) => Err(BuildError::Read { path, source }),
            };
        }
        Ok(Self::default())
    }

    fn read(path: &Path, text: &[u8]) -> Result<Self, BuildError> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let mut rules = Vec::new();
        for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
            if line.starts_with(b"#") {
                continue;
            }
            let line = line.trim_ascii();
            let (keeps, pattern) = match line.strip_prefix(b"!") {
                Some(rest) => (true, rest.trim_ascii()),
                None => (false, line),
            };
            let pattern = clean(pattern);
            if pattern.is_empty() {
                continue;
            }
            let glob = Glob::read(&pattern).ok_or_else(|| BuildError::Pattern {
                path: PathBuf::from(path),
                line: at + 1,
                pattern: String::from_utf8_lossy(line).into_owned(),
            })?;
            rules.push(Rule { keeps, glob });
        }
        Ok(Self { rules })
    }

    /// Whether a path stays out: the last rule decides that means it, or a directory above it.
    pub(super) fn is_out(&self, path: &[u8]) -> bool {
        let is_meant = |rule: &Rule| {
            let slashes = (0..path.len()).filter(|at| path[*at] == b'/');
            let mut ends = slashes.chain([path.len()]);
            ends.any(|end| rule.glob.is_match(&path[..end]))
        };
        let last = self.rules.iter().rev().find(|rule| is_meant(rule));
        !path.is_empty() && last.is_some_and(|rule| !rule.keeps)
    }

    /// Whether something may be kept below a directory that stays out.
    pub(super) fn keeps_some(&self) -> bool {
        self.rules.iter().any(|rule| rule.keeps)
    }
}

/// A path without `.`, `..`, and needless slashes.
fn clean(pattern: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in pattern.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out<'p>(text: &str, paths: &[&'p str]) -> Vec<&'p str> {
        let ignore = Ignore::read(Path::new("f"), text.as_bytes()).unwrap();
        let is_out = |path: &&&str| ignore.is_out(path.as_bytes());
        paths.iter().filter(is_out).copied().collect()
    }

    #[test]
    fn the_last_rule_that_means_a_path_decides() {
        let paths = [
            ".git",
            ".git/x",
            "a/.git",
            "log/a",
            "log/keep",
            "README.md",
            "x.md",
        ];
        assert_eq!(out("# all\n.git\n", &paths), [".git", ".git/x"]);
        assert_eq!(out("**/.git", &paths), [".git", ".git/x", "a/.git"]);
        assert_eq!(out("/log/\n!log/keep\n", &paths), ["log/a"]);
        assert_eq!(out("*.md\r\n! README.md\r\n", &paths), ["x.md"]);
        assert_eq!(out("!README.md\n*.md", &paths), ["README.md", "x.md"]);
        assert_eq!(out("./a/../log\n\n.\n", &paths), ["log/a", "log/keep"]);
        assert_eq!(out("*\n!x.md", &paths).len(), 6);
    }

    #[test]
    fn what_is_no_pattern_is_named_with_its_line() {
        let error = Ignore::read(Path::new("f"), b"a\n[b\n").unwrap_err();
        assert_eq!(error.to_string(), "f:2: \"[b\" is no pattern");
    }
}
