//! `docs/podman.md`, which compares podman's table of Kubernetes fields with ours: its
//! column about Beluga is what `docs/fields.md` says, and its commands are there.
//! `BLESS=1 cargo test` writes that column anew, and the sum below the table; notes
//! are for people to write.

use beluga_runtime::spec::{fields, fields_of};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// How the table begins.
const HEAD: &str = "| field | podman | Beluga |\n|---|---|---|\n";

/// How the line below the table begins.
const SUM: &str = "Of these ";

/// Fewest fields that there must be: a test that finds none proves nothing.
const FEWEST: usize = 150;

fn docs(name: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.join("../docs").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(docs(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The cells of a row.
fn cells(line: &str) -> Vec<&str> {
    let inner = line
        .strip_prefix('|')
        .and_then(|rest| rest.strip_suffix('|'));
    inner.unwrap_or(line).split('|').map(str::trim).collect()
}

/// A cell that is all code, without its marks.
fn code(cell: &str) -> Option<&str> {
    let inner = cell.strip_prefix('`')?.strip_suffix('`')?;
    (!inner.contains('`')).then_some(inner)
}

/// What `docs/fields.md` says.
struct Told {
    /// `works`, `refused` or `ignored`, and whether for what is below as well.
    rows: BTreeMap<String, (String, bool)>,
    /// Every field that there is.
    known: BTreeSet<String>,
}

impl Told {
    fn read() -> Self {
        let text = read("fields.md");
        let rows = text.lines().filter_map(|line| {
            let (name, rest) = line.strip_prefix("| `")?.split_once('`')?;
            let mut cells = rest.split('|').map(str::trim);
            let (more, word) = (cells.next()?, cells.next()?);
            Some((name.to_owned(), (word.to_owned(), more.ends_with("below"))))
        });
        let mut known: BTreeSet<String> = fields().into_iter().map(|(path, _)| path).collect();
        let rows: BTreeMap<_, _> = rows.collect();
        let kinds: BTreeSet<&str> = rows
            .keys()
            .filter_map(|name| Some(name.split_once('.')?.0))
            .collect();
        for kind in kinds {
            let of_kind = fields_of(kind).into_iter();
            known.extend(of_kind.map(|(path, _)| format!("{kind}.{path}")));
        }
        Self { rows, known }
    }

    /// What it says of a field; nothing of one that is no field.
    fn of(&self, field: &str) -> Option<&str> {
        let path = field.split('=').next().unwrap_or_default();
        if !self.known.contains(path) {
            return None;
        }
        // What is written for the one holds for the other.
        let field = field.replace("spec.initContainers[]", "spec.containers[]");
        if let Some((word, _)) = self.rows.get(&field) {
            return Some(word);
        }
        // A value of its own has a row of its own.
        if field.contains('=') {
            return None;
        }
        let mut above = field.as_str();
        while let Some((parent, _)) = above.rsplit_once('.') {
            above = parent;
            if let Some((word, for_all)) = self.rows.get(above) {
                return for_all.then_some(word);
            }
        }
        None
    }
}

/// A row of the table.
struct Row<'t> {
    field: &'t str,
    podman: bool,
    beluga: &'t str,
    /// The name of a note.
    note: Option<&'t str>,
}

/// Reads a row; nothing where it is the head of a group.
fn row(line: &str) -> Result<Option<Row<'_>>, String> {
    let cells = cells(line);
    let [field, podman, beluga] = cells.as_slice() else {
        return Err(format!("{line}: not three cells"));
    };
    if field.starts_with("**") && podman.is_empty() && beluga.is_empty() {
        return Ok(None);
    }
    let field = code(field).ok_or_else(|| format!("{line}: no field"))?;
    let podman = match *podman {
        "yes" => true,
        "no" => false,
        _ => return Err(format!("{field}: podman is neither yes nor no")),
    };
    let note = beluga.split_once("[^");
    let (beluga, note) = note.map_or((*beluga, None), |(word, note)| {
        (word, Some(note.trim_end_matches(']')))
    });
    Ok(Some(Row {
        field,
        podman,
        beluga,
        note,
    }))
}

/// The page before the table, the table's rows, and what is behind it.
fn parts(page: &str) -> (&str, &str, &str) {
    let at = page.find(HEAD).expect("docs/podman.md has the table") + HEAD.len();
    let (before, rest) = page.split_at(at);
    let end = rest.find("\n\n").expect("a table ends") + 1;
    let (table, after) = rest.split_at(end);
    (before, table, after)
}

/// The notes that are written below: their names.
fn notes(text: &str) -> BTreeSet<&str> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("[^"));
    lines
        .filter_map(|line| Some(line.split_once("]: ")?.0))
        .collect()
}

/// The same page with what Beluga does written anew.
fn blessed(page: &str, told: &Told) -> String {
    let (before, table, after) = parts(page);
    let mut out = before.to_owned();
    let mut counts: BTreeMap<(bool, &str), usize> = BTreeMap::new();
    for line in table.lines() {
        let Ok(Some(row)) = row(line) else {
            out += &format!("{line}\n");
            continue;
        };
        let podman = if row.podman { "yes" } else { "no" };
        let word = told.of(row.field).unwrap_or(row.beluga);
        let note = row
            .note
            .map_or_else(String::new, |note| format!("[^{note}]"));
        out += &format!("| `{}` | {podman} | {word}{note} |\n", row.field);
        *counts.entry((row.podman, word)).or_default() += 1;
    }
    let count = |podman: bool, word: &str| counts.get(&(podman, word)).copied().unwrap_or_default();
    let all: usize = counts.values().sum();
    let [works, refused, ignored] = ["works", "refused", "ignored"].map(|word| count(true, word));
    let sum = format!(
        "{SUM}{all}, podman has {} and Beluga {}. Of podman's, {works} work here, {refused} are refused and {ignored} are ignored with a warning.",
        works + refused + ignored,
        works + count(false, "works"),
    );
    for line in after.split_inclusive('\n') {
        if line.starts_with(SUM) {
            out += &format!("{sum}\n");
        } else {
            out += line;
        }
    }
    out
}

#[test]
fn the_table_says_what_the_table_of_fields_says() {
    let told = Told::read();
    let mut page = read("podman.md");
    let anew = blessed(&page, &told);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(docs("podman.md"), &anew).expect("docs/podman.md can be written");
        page.clone_from(&anew);
    }
    let (_, table, after) = parts(&page);
    let written = notes(after);
    let (mut wrong, mut seen, mut used) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for line in table.lines() {
        let row = match row(line) {
            Ok(Some(row)) => row,
            Ok(None) => continue,
            Err(why) => {
                wrong.push(why);
                continue;
            }
        };
        let field = row.field;
        if !seen.insert(field) {
            wrong.push(format!("{field} stands twice"));
        }
        let Some(word) = told.of(field) else {
            wrong.push(format!("{field} is not in docs/fields.md"));
            continue;
        };
        if row.beluga != word {
            wrong.push(format!(
                "{field}: {:?}, docs/fields.md has {word}",
                row.beluga
            ));
        }
        match row.note {
            Some(note) if !written.contains(note) => wrong.push(format!("{field}: no note {note}")),
            Some(note) => drop(used.insert(note)),
            None if row.podman && word != "works" => {
                wrong.push(format!(
                    "{field}: podman has it, and no note says why it is {word}"
                ));
            }
            None => {}
        }
    }
    wrong.extend(
        written
            .difference(&used)
            .map(|note| format!("nothing has the note {note}")),
    );
    if wrong.is_empty() && anew != page {
        wrong.push("the sum is of another table".to_owned());
    }
    assert!(seen.len() >= FEWEST, "{} fields", seen.len());
    assert!(
        wrong.is_empty(),
        "docs/podman.md (BLESS=1 writes what Beluga does):\n{}",
        wrong.join("\n")
    );
}

/// The help of a verb, or of a verb below one.
fn help(verbs: &[&str]) -> Option<String> {
    let ran = Command::new(env!("CARGO_BIN_EXE_beluga"))
        .args(verbs)
        .arg("--help")
        .output()
        .unwrap_or_else(|error| panic!("beluga {verbs:?}: {error}"));
    let text = String::from_utf8_lossy(&ran.stdout).into_owned();
    ran.status.success().then_some(text)
}

/// What is wrong with a command of the page: a verb or a flag that there is not.
fn wrong_in(command: &str) -> Option<String> {
    let words: Vec<&str> = command.split_whitespace().skip(1).collect();
    let depth = match words.first() {
        Some(&("network" | "image")) => 2,
        _ => 1,
    };
    let Some(help) = words.get(..depth).and_then(help) else {
        return Some(format!("{command}: no such verb"));
    };
    let has = |flag: &str| {
        help.split([' ', ',', '\n', '[', '='])
            .any(|word| word == flag)
    };
    let own = words.iter().take_while(|word| **word != "--");
    let mut flags = own.filter(|word| word.len() > 1 && word.starts_with('-'));
    let unknown = flags.find_map(|word| {
        let flag = word.split('=').next().unwrap_or(word);
        let letters = flag.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
        let is_known = match letters {
            Some(letters) => letters.chars().all(|one| has(&format!("-{one}"))),
            None => has(flag),
        };
        (!is_known).then_some(flag)
    });
    unknown.map(|flag| format!("{command}: no flag {flag}"))
}

#[test]
fn its_commands_are_those_of_beluga() {
    let page = read("podman.md");
    let spans = page.split('`').skip(1).step_by(2);
    let commands: BTreeSet<String> = spans
        .filter(|span| span.starts_with("beluga "))
        .map(|span| span.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert!(commands.len() > 10, "{commands:?}");
    let wrong: Vec<String> = commands.iter().filter_map(|one| wrong_in(one)).collect();
    assert!(wrong.is_empty(), "docs/podman.md:\n{}", wrong.join("\n"));
}
