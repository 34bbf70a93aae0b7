//! The tests that prove what works: which they are, and whether they have the field.

use super::{is_about, root};
use std::path::PathBuf;

/// What works is proved by a test: the longest prefix counts.
const PROOFS: &str = include_str!("../fields.txt");

/// The test that proves a field.
pub fn proof(path: &str) -> Option<&'static str> {
    let rules = PROOFS
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let rules = rules.filter_map(|line| line.split_once(' '));
    // `spec` alone is no proof of what is in it.
    let found = rules
        .filter(|(prefix, _)| *prefix == path || (prefix.contains('.') && is_about(prefix, path)));
    found
        .max_by_key(|(prefix, _)| prefix.len())
        .map(|(_, test)| test.trim())
}

/// A file in which a proof or its manifest may be.
struct Source {
    path: PathBuf,
    text: String,
}

/// All of them below some folders, with this ending.
fn sources(folders: &[&str], ending: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut waiting: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a folder of sources");
            waiting.extend(entries.flatten().map(|entry| entry.path()));
        } else if path.to_string_lossy().ends_with(ending) {
            let text = std::fs::read_to_string(&path).expect("a source");
            found.push(Source { path, text });
        }
    }
    found
}

/// Whether a text has a word.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric();
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + word.len()..]);
        !before.ends_with(is_part) && !after.starts_with(is_part)
    })
}

/// What `beluga conformance` runs, and so the stories of that name.
const CHECKS: &str = "runtime/conformance";

/// Where proofs are looked for: their sources, and the manifests that those name.
pub struct Proofs {
    sources: Vec<Source>,
    manifests: Vec<Source>,
}

impl Proofs {
    pub fn read() -> Self {
        let code = [
            "runtime/tests",
            "runtime/src",
            "tests/stories",
            "tests/registry",
        ];
        let manifests = ["runtime/tests/golden", "tests/pods", CHECKS];
        let mut manifests = sources(&manifests, ".yaml");
        manifests.retain(|one| !one.path.to_string_lossy().ends_with(".plan.yaml"));
        Self {
            sources: sources(&code, ".rs"),
            manifests,
        }
    }

    /// Whether there is a test of that name, in whose file, or in a manifest that
    /// is named there, the field is to be found.
    pub fn has(&self, test: &str, path: &str) -> bool {
        let head = format!("fn {test}(");
        let leaf = path.rsplit('.').next().unwrap_or(path);
        let leaf = leaf.trim_end_matches("[]");
        let mut files = self.sources.iter().filter(|one| one.text.contains(&head));
        files.any(|file| {
            let is_named = |one: &&Source| {
                let is_check = one.path.starts_with(root().join(CHECKS));
                if is_check && test.ends_with("_conformance") {
                    return true;
                }
                let stem = one.path.file_stem().unwrap_or_default().to_string_lossy();
                file.text.contains(&format!("{stem}.yaml"))
                    || file.text.contains(&format!("\"{stem}\""))
            };
            let mut manifests = self.manifests.iter().filter(is_named);
            has_word(&file.text, leaf) || manifests.any(|one| has_word(&one.text, leaf))
        })
    }
}
