//! `beluga __complete`: what may stand in the place of the last word, for the
//! scripts of shells. It only reads, and says nothing where it cannot.

use crate::cli::resource::{Kind, TYPES};
use crate::cli::{Cli, CliError, exit};
use crate::objects;
use crate::settings::Settings;
use crate::spec::{ObjectKind, WorkloadKind};
use crate::store::{self, Record};
use crate::workload;
use beluga_image::Reference;
use clap::CommandFactory as _;

/// Arguments of `__complete`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The command line behind `beluga`; the last word is to be completed
    #[arg(last = true)]
    words: Vec<String>,
}

/// What is wanted in the place of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    /// Types of resources.
    Types,
    /// Names of a type, each behind a prefix like `pod/`.
    Names(Kind, String),
    /// Containers of the pod of this name, or of any.
    Containers(Option<String>),
    /// Names of images.
    Images,
}

/// Runs the verb.
pub fn run(settings: &Settings, args: &Args) -> Result<u8, CliError> {
    let (wanted, namespace) = look(&args.words);
    let mut found = match wanted {
        None => Vec::new(),
        Some(Wanted::Types) => TYPES.map(str::to_owned).to_vec(),
        Some(Wanted::Images) => images(settings),
        Some(Wanted::Containers(pod)) => containers(settings, &namespace, pod.as_deref()),
        Some(Wanted::Names(kind, prefix)) => {
            let names = names(settings, &namespace, kind).into_iter();
            names.map(|name| format!("{prefix}{name}")).collect()
        }
    };
    found.sort();
    found.dedup();
    for one in found {
        say!("{one}");
    }
    Ok(exit::OK)
}

/// What the last word may be, and the namespace that the words before it name.
fn look(words: &[String]) -> (Option<Wanted>, String) {
    let mut namespace = "default".to_owned();
    let Some((last, before)) = words.split_last() else {
        return (None, namespace);
    };
    let mut command = &Cli::command();
    let mut positionals: Vec<&str> = Vec::new();
    let mut verb = None;
    // The flag whose value the next word is.
    let mut flag: Option<&str> = None;
    for word in before {
        if let Some(flag) = flag.take() {
            if matches!(flag, "-n" | "--namespace") {
                namespace.clone_from(word);
            }
        } else if word == "--" {
            // What follows is the container's.
            return (None, namespace);
        } else if word.starts_with('-') {
            flag = takes_value(command, word).then_some(word);
        } else if let (None, Some(found)) = (&verb, command.find_subcommand(word)) {
            verb = Some(found.get_name().to_owned());
            command = found;
        } else {
            positionals.push(word);
        }
    }
    let Some(verb) = verb else {
        return (None, namespace);
    };
    let wanted = match flag {
        Some("-c" | "--container") => {
            let pod = positionals
                .first()
                .map(|word| word.trim_start_matches("pod/"));
            Some(Wanted::Containers(pod.map(str::to_owned)))
        }
        Some("--image") => Some(Wanted::Images),
        Some(_) => None,
        None => of_verb(&verb, &positionals, last),
    };
    (wanted, namespace)
}

fn takes_value(command: &clap::Command, word: &str) -> bool {
    let is_it = |arg: &&clap::Arg| match word.strip_prefix("--") {
        Some(long) => arg.get_long() == Some(long),
        None => word.len() == 2 && arg.get_short() == word.chars().nth(1),
    };
    let found = command.get_arguments().find(is_it);
    found.is_some_and(|arg| arg.get_action().takes_values())
}

/// What a verb takes behind these words.
fn of_verb(verb: &str, before: &[&str], last: &str) -> Option<Wanted> {
    let pods = || Some(Wanted::Names(Kind::Pod, String::new()));
    match (verb, before) {
        ("get" | "describe" | "delete" | "wait", _) => typed(before, last),
        ("patch" | "label" | "annotate" | "top", []) => Some(Wanted::Types),
        ("patch" | "label" | "annotate" | "top", ["pod" | "pods" | "po", ..]) => pods(),
        ("logs" | "exec" | "attach" | "audit" | "debug" | "port-forward", []) => pods(),
        ("stop" | "start" | "restart" | "rm" | "inspect", _) => pods(),
        ("logs", [pod]) => Some(Wanted::Containers(Some((*pod).to_owned()))),
        ("cp", _) => Some(Wanted::Names(Kind::Pod, String::new())),
        ("run", []) => Some(Wanted::Images),
        ("rmi" | "save" | "images", _) | ("tag", []) => Some(Wanted::Images),
        _ => None,
    }
}

/// A type, a name of the type before, or `TYPE/NAME`.
fn typed(before: &[&str], last: &str) -> Option<Wanted> {
    if let Some((kind, _)) = last.split_once('/') {
        let found = Kind::of_word(kind)?;
        return Some(Wanted::Names(found, format!("{kind}/")));
    }
    match before {
        [] => Some(Wanted::Types),
        [first, ..] if first.contains('/') => None,
        [first, ..] => Some(Wanted::Names(Kind::of_word(first)?, String::new())),
    }
}

fn records(settings: &Settings, namespace: &str) -> Vec<Record> {
    let uids = store::uids(settings).unwrap_or_default();
    let records = uids
        .iter()
        .filter_map(|uid| store::read_record(settings, uid).ok()?);
    records
        .filter(|record| record.namespace == namespace)
        .collect()
}

fn names(settings: &Settings, namespace: &str, kind: Kind) -> Vec<String> {
    match kind {
        Kind::Pod => {
            let records = records(settings, namespace).into_iter();
            records.map(|record| record.name).collect()
        }
        Kind::Object(kind) => of_objects(settings, namespace, kind),
        Kind::Workload(kind) => of_workloads(settings, namespace, kind),
    }
}

fn of_objects(settings: &Settings, namespace: &str, kind: ObjectKind) -> Vec<String> {
    let all = objects::list(settings, kind).unwrap_or_default();
    let all = all.into_iter().map(|kept| kept.object);
    let mine = all.filter(|object| object.namespace == namespace);
    mine.map(|object| object.name).collect()
}

fn of_workloads(settings: &Settings, namespace: &str, kind: WorkloadKind) -> Vec<String> {
    let all = workload::list(settings, kind).unwrap_or_default();
    let mine = all.into_iter().filter(|(of, ..)| of == namespace);
    mine.map(|(_, name, _)| name).collect()
}

fn containers(settings: &Settings, namespace: &str, pod: Option<&str>) -> Vec<String> {
    let mut records = records(settings, namespace);
    records.retain(|record| pod.is_none_or(|pod| record.name == pod));
    let names = records
        .iter()
        .flat_map(|record| &record.status().containers);
    names.map(|container| container.name.clone()).collect()
}

fn images(settings: &Settings) -> Vec<String> {
    let store = crate::cli::images::to_read(settings).ok().flatten();
    let images = store
        .and_then(|store| store.list().ok())
        .unwrap_or_default();
    let names = images.iter().flat_map(|image| &image.names);
    names.map(Reference::familiar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(line: &str) -> (Option<Wanted>, String) {
        // A blank at the end begins an empty word.
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        look(&words)
    }

    #[test]
    fn what_a_word_may_be_follows_from_those_before() {
        let pods = || Some(Wanted::Names(Kind::Pod, String::new()));
        let config_maps = Kind::Object(ObjectKind::ConfigMap);
        for (line, expected) in [
            ("get ", Some(Wanted::Types)),
            ("get pods ", pods()),
            (
                "describe cm a ",
                Some(Wanted::Names(config_maps, String::new())),
            ),
            (
                "delete cm/s",
                Some(Wanted::Names(config_maps, "cm/".into())),
            ),
            ("logs ", pods()),
            ("logs web ", Some(Wanted::Containers(Some("web".into())))),
            (
                "exec -it web -c ",
                Some(Wanted::Containers(Some("web".into()))),
            ),
            ("logs --tail 5 ", pods()),
            ("--root /x logs -f ", pods()),
            ("logs -c ", Some(Wanted::Containers(None))),
            ("exec web -- ", None),
            ("run ", Some(Wanted::Images)),
            ("run --name ", None),
            ("debug web --image ", Some(Wanted::Images)),
            ("rmi a ", Some(Wanted::Images)),
            ("version ", None),
            ("lo", None),
        ] {
            assert_eq!(wanted(line).0, expected, "{line:?}");
        }
        assert_eq!(wanted("logs -n other ").1, "other");
    }
}
