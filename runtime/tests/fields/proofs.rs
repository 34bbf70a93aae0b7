//! The tests that prove what works: which they are, and whether they have the field.

use super::{is_about, root};
use std::collections::{BTreeMap, BTreeSet};
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

/// Functions, constants and macros of a source by their names, each with its text.
fn items(text: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let begun = at;
        at += line.len();
        let indent = line.len() - line.trim_start().len();
        let words = line.trim_start().split(' ');
        let mut words = words.skip_while(|word| word.starts_with("pub") || *word == "async");
        let end = match (words.next(), words.clone().next()) {
            (Some("fn" | "macro_rules!"), Some(_)) => format!("\n{}}}\n", &line[..indent]),
            (Some("const" | "static"), Some(name)) if name != "fn" => ";\n\n".to_owned(),
            _ => continue,
        };
        let name = words.next().unwrap_or_default();
        let length = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let whole = &text[begun..];
        let own = &whole[..whole.find(&end).unwrap_or(whole.len())];
        found
            .entry(&name[..length.unwrap_or(name.len())])
            .or_default()
            .push(own);
    }
    found
}

/// A test's own text: its body, and whatever of its file that names, in turn.
fn own_text(text: &str, test: &str) -> String {
    let items = items(text);
    let (mut own, mut seen, mut waiting) = (String::new(), BTreeSet::new(), vec![test]);
    while let Some(name) = waiting.pop() {
        for part in items.get(name).into_iter().flatten() {
            own.push_str(part);
            let words = part.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let known = words.filter(|word| items.contains_key(word));
            waiting.extend(known.filter(|word| seen.insert(*word)));
        }
    }
    own
}

/// What a source takes from another one of its folder: that one's name, and the item's.
fn imports(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("use crate::"));
    let paths = lines.filter_map(|line| line.trim_end_matches(';').split_once("::"));
    paths.flat_map(|(module, names)| {
        let names = names.trim_matches(['{', '}']).split(", ");
        names.map(move |name| (module, name))
    })
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

    /// The same with what the source takes from others, where the test names that.
    fn own_text(&self, file: &Source, test: &str) -> String {
        let mut own = own_text(&file.text, test);
        for (module, name) in imports(&file.text) {
            let path = file.path.with_file_name(format!("{module}.rs"));
            let other = self.sources.iter().find(|one| one.path == path);
            if let Some(other) = other.filter(|_| has_word(&own, name)) {
                own += &own_text(&other.text, name);
            }
        }
        own
    }

    /// Whether there is a test of that name, in whose own text, or in a manifest that
    /// is named there, the field is to be found.
    pub fn has(&self, test: &str, path: &str) -> bool {
        let head = format!("fn {test}(");
        let leaf = path.rsplit('.').next().unwrap_or(path);
        let leaf = leaf.trim_end_matches("[]");
        let mut files = self.sources.iter().filter(|one| one.text.contains(&head));
        files.any(|file| {
            let own = self.own_text(file, test);
            let is_named = |one: &&Source| {
                let is_check = one.path.starts_with(root().join(CHECKS));
                if is_check && test.ends_with("_conformance") {
                    return true;
                }
                let stem = one.path.file_stem().unwrap_or_default().to_string_lossy();
                own.contains(&format!("{stem}.yaml")) || own.contains(&format!("\"{stem}\""))
            };
            let mut manifests = self.manifests.iter().filter(is_named);
            has_word(&own, leaf) || manifests.any(|one| has_word(&one.text, leaf))
        })
    }
}

#[test]
fn a_tests_own_text_is_what_it_names() {
    let file = "const A: &str = \"alpha\";\n\nconst B: &str = \"beta\";\n\n\
        fn used() {\n    A;\n}\n\n#[test]\nfn first() {\n    used();\n}\n\n\
        #[test]\nfn second() {\n    B;\n}\n";
    let [first, second] = ["first", "second"].map(|test| own_text(file, test));
    assert!(has_word(&first, "alpha") && !has_word(&first, "beta"));
    assert!(has_word(&second, "beta") && !has_word(&second, "alpha"));
    let uses = "use crate::a::B;\nuse std::fs;\nuse crate::c::{D, e};\n";
    let found: Vec<_> = imports(uses).collect();
    assert_eq!(found, [("a", "B"), ("c", "D"), ("c", "e")]);
}
