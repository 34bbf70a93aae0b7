//! Manifests that must be refused, one to a file in `tests/refused`, each with
//! all that the command says about it. `BLESS=1 cargo test` writes the texts
//! anew; what changed in them is then for the reviewer to judge.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Fewest manifests that there must be: a test that finds none proves nothing.
const FEWEST: usize = 60;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/refused")
}

/// Runs `beluga` in the directory of the manifests with a root of its own.
fn beluga(root: &Path, words: &[&str]) -> Output {
    let ran = Command::new(env!("CARGO_BIN_EXE_beluga"))
        .args(words)
        .current_dir(directory())
        .env("BELUGA_ROOT", root.join("root"))
        .env("BELUGA_STATE", root.join("state"))
        .output();
    ran.unwrap_or_else(|error| panic!("beluga {words:?}: {error}"))
}

/// Everything below a directory that is no directory itself, but for locks,
/// which say nothing.
fn files(below: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(below) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            found.extend(files(&path));
        } else if !path.to_string_lossy().ends_with("lock") {
            found.push(path);
        }
    }
    found
}

/// What differs from one machine to the next, by its name.
fn without_this_machine(text: &str) -> String {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = info
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|word| word.parse::<u64>().ok());
    let mib = kib.map(|kib| format!("{} MiB", kib / 1024));
    mib.map_or_else(|| text.to_owned(), |mib| text.replace(&mib, "HOST MiB"))
}

/// What is wrong with how one manifest is refused; `None` when all is well.
fn wrong(manifest: &str, root: &Path) -> Option<String> {
    let golden = directory().join(manifest).with_extension("txt");
    for verb in ["run", "apply"] {
        let ran = beluga(root, &[verb, "-f", manifest]);
        let told = without_this_machine(&String::from_utf8_lossy(&ran.stderr));
        if ran.status.code() != Some(1) || !ran.stdout.is_empty() {
            let out = String::from_utf8_lossy(&ran.stdout);
            let status = ran.status;
            return Some(format!("{verb} {manifest}: {status}\n{out}{told}"));
        }
        let left = files(root);
        if !left.is_empty() {
            return Some(format!("{verb} {manifest} has left {left:?}"));
        }
        if !told.contains(&format!("{manifest}:")) {
            return Some(format!("{verb} {manifest} names no line\n{told}"));
        }
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&golden, &told).unwrap_or_else(|error| panic!("{golden:?}: {error}"));
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        if told != expected {
            return Some(format!("{verb} {manifest} says\n{told}and not\n{expected}"));
        }
    }
    None
}

#[test]
fn each_bad_manifest_is_refused_in_its_own_words() {
    let entries = std::fs::read_dir(directory()).expect("tests/refused is there");
    let names = entries.flatten().map(|entry| entry.file_name());
    let mut names: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
    names.sort();
    let (manifests, texts): (Vec<String>, Vec<String>) =
        names.into_iter().partition(|name| name.ends_with(".yaml"));
    assert!(manifests.len() >= FEWEST, "{} manifests", manifests.len());
    let root = std::env::temp_dir().join(format!("beluga-refused-{}", std::process::id()));
    let wrong: Vec<String> = manifests
        .iter()
        .filter_map(|one| wrong(one, &root))
        .collect();
    let _ = std::fs::remove_dir_all(&root);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for text in texts {
        let manifest = Path::new(&text).with_extension("yaml");
        let is_there = manifests.iter().any(|one| Path::new(one) == manifest);
        assert!(is_there, "{text} is the text of no manifest");
    }
}
