//! `docs/behaviours.md` names for each behaviour of a pod the stories that prove
//! it, and they exist; `BLESS=1 cargo test -p beluga-tests --test behaviours`
//! writes their names anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const BEHAVIOURS: u32 = 43;

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The sources of the stories, with their paths below `stories`.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("the stories");
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Number and name of a story that a line of source begins, if one does.
fn story(line: &str) -> Option<(u32, &str)> {
    let name = line.strip_prefix("fn ")?.split('(').next()?;
    let (number, _) = name.strip_prefix('b')?.split_once('_')?;
    Some((number.parse().ok()?, name))
}

/// The stories of each behaviour that are run, as the gate names them.
fn stories() -> BTreeMap<u32, Vec<String>> {
    let root = here().join("stories");
    let unproven = fs::read_to_string(here().join("unproven.txt")).expect("a list");
    let mut all: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for path in sources(&root) {
        let source = fs::read_to_string(&path).expect("a source");
        let module = path.strip_prefix(&root).expect("below").with_extension("");
        let module = module
            .to_string_lossy()
            .replace('/', "::")
            .replace("::mod", "");
        let lines: Vec<&str> = source.lines().collect();
        for pair in lines.windows(2).filter(|pair| pair[0] == "#[test]") {
            let Some((number, name)) = story(pair[1]) else {
                continue;
            };
            let name = format!("{module}::{name}");
            if !unproven
                .lines()
                .any(|line| line.starts_with(&format!("{name}:")))
            {
                all.entry(number).or_default().push(name);
            }
        }
    }
    all
}

/// A row of the table with the names of its stories written anew.
fn row(line: &str, stories: &BTreeMap<u32, Vec<String>>) -> Option<(u32, String)> {
    let cells: Vec<&str> = line.strip_prefix("| ")?.splitn(3, " | ").collect();
    let [number, what, _] = cells[..] else {
        return None;
    };
    let number: u32 = number.parse().ok()?;
    let names = stories.get(&number).map(Vec::as_slice).unwrap_or_default();
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    Some((
        number,
        format!("| {number} | {what} | {} |", names.join(", ")),
    ))
}

#[test]
fn every_behaviour_has_its_stories() {
    let path = here().join("../docs/behaviours.md");
    let found = fs::read_to_string(&path).expect("docs/behaviours.md");
    let stories = stories();
    let mut numbers = Vec::new();
    let mut written = String::new();
    for line in found.lines() {
        let row = row(line, &stories);
        numbers.extend(row.as_ref().map(|(number, _)| *number));
        written += row.as_ref().map_or(line, |(_, row)| row);
        written.push('\n');
    }
    assert!(numbers.iter().copied().eq(1..=BEHAVIOURS), "{numbers:?}");
    let without: Vec<_> = numbers
        .iter()
        .filter(|number| !stories.contains_key(number))
        .collect();
    assert!(without.is_empty(), "no story proves {without:?}");
    let unknown: Vec<_> = stories
        .keys()
        .filter(|number| !numbers.contains(number))
        .collect();
    assert!(
        unknown.is_empty(),
        "stories of {unknown:?}, which the table lacks"
    );
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &written).expect("docs/behaviours.md can be written");
    }
    assert!(
        found == written || std::env::var_os("BLESS").is_some(),
        "docs/behaviours.md names other stories than there are: BLESS=1 writes it anew"
    );
}
