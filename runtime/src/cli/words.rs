//! The words of a command line: put in order before clap reads them, as kubectl takes them, and
//! what clap says about them made true for the verbs that we have.

use super::{Cli, foreign};
use clap::Parser as _;
use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::ffi::OsString;

/// Reads the command line of this process, or ends it with what is wrong.
pub fn read() -> Cli {
    let words = arranged(std::env::args_os());
    Cli::try_parse_from(&words).unwrap_or_else(|error| told(error, &words).exit())
}

/// The same words with a namespace that stands before the verb behind it, where the verb reads
/// it. `beluga -n NAME get pods` is what an alias of kubectl is made of.
pub fn arranged(words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words = words.peekable();
    let mut out: Vec<OsString> = words.next().into_iter().collect();
    let mut namespace = Vec::new();
    while let Some(word) = words.peek().and_then(|word| word.to_str()) {
        let is_namespace = word == "-n"
            || word.starts_with("--namespace")
            || (word.starts_with("-n") && !word.starts_with("--"));
        let takes_next = matches!(word, "-n" | "--namespace" | "--root" | "--state");
        if !word.starts_with('-') {
            break;
        }
        let place = if is_namespace {
            &mut namespace
        } else {
            &mut out
        };
        place.extend(words.next());
        if takes_next {
            place.extend(words.next());
        }
    }
    // Without a verb it stays where it is, for clap to ask for one.
    out.extend(words.next());
    out.extend(namespace);
    out.extend(words);
    out
}

/// What podman's users forget: flags behind the image are ours as well, as in kubectl.
const BEHIND: &str = "what is the container's stands behind --, as in: beluga run IMAGE -- COMMAND";

/// The verb of words in order.
fn verb(words: &[OsString]) -> Option<&str> {
    let mut words = words.iter().skip(1).filter_map(|word| word.to_str());
    while let Some(word) = words.next() {
        match word {
            "--root" | "--state" => drop(words.next()),
            word if word.starts_with('-') => {}
            verb => return Some(verb),
        }
    }
    None
}

/// Takes out the tip to put a flag behind `--`: to our verbs it would be a name, and to a command
/// of a container the flag of another program. Says what we have for words of kubectl, podman and
/// docker.
fn told(mut error: clap::Error, words: &[OsString]) -> clap::Error {
    if let Some(ContextValue::StyledStrs(tips)) = error.remove(ContextKind::Suggested) {
        let is_true = |tip: &StyledStr| !tip.to_string().contains("as a value, use");
        let tips: Vec<StyledStr> = tips.into_iter().filter(is_true).collect();
        if !tips.is_empty() {
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
        }
    }
    let ours = match (
        error.get(ContextKind::InvalidSubcommand),
        error.get(ContextKind::InvalidArg),
    ) {
        // Below `image` and `network` words have a meaning of their own.
        (Some(ContextValue::String(word)), _) if verb(words) == Some(word) => foreign::verb(word),
        (_, Some(ContextValue::String(word))) if verb(words) == Some("run") => {
            let is_near = error.get(ContextKind::SuggestedArg).is_some();
            foreign::flag_of_run(word).or((!is_near).then_some(BEHIND))
        }
        _ => None,
    };
    if let Some(ours) = ours.filter(|_| error.kind() != ErrorKind::ArgumentConflict) {
        // Nearer than a word that looks like it.
        error.remove(ContextKind::SuggestedSubcommand);
        error.remove(ContextKind::SuggestedArg);
        let tips = vec![StyledStr::from(ours)];
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrange(line: &str) -> String {
        let words = line.split_whitespace().map(OsString::from);
        let words = arranged(words);
        let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
        words.join(" ")
    }

    #[test]
    fn a_namespace_may_stand_before_the_verb() {
        for (line, meant) in [
            ("beluga -n x get pods", "beluga get -n x pods"),
            ("beluga --root /r -nx get po", "beluga --root /r get -nx po"),
            (
                "beluga -n x --state=/s get po",
                "beluga --state=/s get -n x po",
            ),
            ("beluga --namespace=x logs p", "beluga logs --namespace=x p"),
            ("beluga --namespace x logs p", "beluga logs --namespace x p"),
            ("beluga exec p -- sh -n", "beluga exec p -- sh -n"),
            ("beluga -n x", "beluga -n x"),
            ("beluga -V", "beluga -V"),
            ("beluga", "beluga"),
        ] {
            assert_eq!(arrange(line), meant, "{line}");
        }
    }

    #[test]
    fn the_last_namespace_counts_as_in_kubectl() {
        let words = "beluga -n a get -n b pods".split_whitespace();
        let words = arranged(words.map(OsString::from));
        let cli = Cli::try_parse_from(words).unwrap();
        let super::super::Verb::Get(args) = cli.verb else {
            panic!("another verb");
        };
        assert_eq!(args.namespace(), "b");
    }

    #[test]
    fn a_verb_without_namespaces_refuses_one() {
        let words = "beluga -n a images".split_whitespace();
        let words = arranged(words.map(OsString::from));
        let error = Cli::try_parse_from(words).unwrap_err().to_string();
        assert!(error.contains("unexpected argument '-n'"), "{error}");
    }

    #[test]
    fn no_tip_hides_a_wrong_flag_behind_two_dashes() {
        for line in [
            "beluga get pods --wath",
            "beluga exec p --bad sh",
            "beluga get pods --labels",
        ] {
            let error = Cli::try_parse_from(line.split_whitespace()).unwrap_err();
            let error = told(error, &[]).to_string();
            assert!(!error.contains("-- --"), "{error}");
            assert!(error.contains("unexpected argument"), "{error}");
        }
        let error = Cli::try_parse_from(["beluga", "get", "pods", "--wath"]).unwrap_err();
        let error = told(error, &[]).to_string();
        assert!(
            error.contains("a similar argument exists: '--watch'"),
            "{error}"
        );
    }

    #[test]
    fn the_verb_stands_behind_what_every_verb_has() {
        for (line, found) in [
            ("beluga run --init x", Some("run")),
            ("beluga --root /r --state=/s run x", Some("run")),
            ("beluga --root", None),
        ] {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert_eq!(verb(&words), found, "{line}");
        }
    }

    #[test]
    fn words_of_others_are_told_in_ours() {
        for (line, ours) in [
            ("beluga create -f x.yaml", "beluga apply -f FILE"),
            ("beluga scale deploy/web --replicas=3", "spec.replicas"),
            ("beluga -n x edit pod p", "beluga get pod NAME -o yaml"),
            ("beluga run --pids-limit 5 x", "BELUGA_POD_PIDS_LIMIT"),
            ("beluga run --health-cmd=true x", "livenessProbe"),
            ("beluga run -P x", "every port"),
            ("beluga run --entrypoint sh x -c id", "run IMAGE -- COMMAND"),
        ] {
            let words = arranged(line.split_whitespace().map(OsString::from));
            let error = Cli::try_parse_from(&words).unwrap_err();
            let error = told(error, &words).to_string();
            assert!(error.contains("tip: ") && error.contains(ours), "{error}");
            assert!(!error.contains("similar"), "{error}");
        }
        let words = arranged("beluga network edit".split(' ').map(OsString::from));
        let error = told(Cli::try_parse_from(&words).unwrap_err(), &words);
        assert!(!error.to_string().contains("tip: beluga get"), "{error}");
        // A flag that there is, in the wrong company, is no word of others.
        let words = arranged("beluga run -f x --read-only".split(' ').map(OsString::from));
        let error = told(Cli::try_parse_from(&words).unwrap_err(), &words);
        assert!(error.to_string().contains("cannot be used with"));
    }
}
