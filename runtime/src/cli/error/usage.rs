//! [`UsageError`]: what is wrong with a command line.

use crate::spec::ObjectKind;

/// A command line that makes no sense.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UsageError {
    /// The value of a flag.
    #[error("{flag} {value:?}: {why}")]
    Flag {
        /// With its dashes.
        flag: &'static str,
        /// As given.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nothing says which resources are meant.
    #[error("which {what}? {how}")]
    Which {
        /// `pods`, …
        what: String,
        /// How to say so.
        how: &'static str,
    },
    /// Commands are granted where they need no grant.
    #[error("--allow-exec is for pods of a profile: add --profile tenant")]
    ExecOfNobody,
    /// Whoever is held to a profile would say what passes.
    #[error(
        "a NetworkPolicy says what reaches pods of tenants, and is no tenant's: apply it without --profile and BELUGA_PROFILE"
    )]
    PolicyOfTenant,
    /// Somebody wants to type where nobody may come in.
    #[error("-i is a way into the pod, which the profile tenant has not: add --allow-exec, or -d")]
    StdinOfTenant,
    /// A manifest where an image or a name belongs.
    #[error("{file} is a file: did you mean -f {file}?")]
    FileWithoutFlag {
        /// As given.
        file: String,
    },
    /// `run` of nothing.
    #[error(
        "which pod? Say an image, as in `beluga run IMAGE`, or a manifest, as in `beluga run -f FILE`"
    )]
    NothingToRun,
    /// Pods that come and go, and nobody who sees the last of them.
    #[error("-d with --rm is for pods; deployments and jobs go with `beluga delete -f FILE`")]
    NobodyToRemove,
    /// A manifest of objects alone.
    #[error("there is no pod to run in the manifest; `beluga apply` keeps objects alone")]
    NoPodToRun,
    /// Pods that could not run side by side.
    #[error("{} the host's port {port}/{transport}", those_who_want(pods))]
    PortTwice {
        /// Which; twice the same where it is a workload with several pods.
        pods: [String; 2],
        /// The port.
        port: u16,
        /// Its transport.
        transport: crate::spec::Transport,
    },
    /// Two documents with one name.
    #[error("{name} stands in {} and in {}", files[0], files[1])]
    NameTwice {
        /// What it is, and its name.
        name: String,
        /// Where.
        files: [String; 2],
    },
    /// A way to print what is not printed.
    #[error("-o is for --dry-run")]
    OutputWithoutDryRun,
    /// What changes is told as lines.
    #[error("-w prints lines of a table: with -o wide, or without -o")]
    WatchedAsTable,
    /// Something else than the pods of a namespace was asked for by its fields.
    #[error(
        "--field-selector chooses among pods: beluga get pods --field-selector …, without names"
    )]
    FieldsOfPods,
    /// One of the few that can be watched was not asked for.
    #[error("only pods can be watched")]
    NotWatched,
    /// A resource of each word, or of none.
    #[error("{word:?}: all must be TYPE/NAME where one is")]
    SlashesEverywhere {
        /// The one that has none.
        word: String,
    },
    /// A type, and a word that has one itself.
    #[error("{word:?} names its type itself: say {word}, without {kind}")]
    TwoTypes {
        /// The word.
        word: String,
        /// The type before it.
        kind: String,
    },
    /// What flags of `run` are wrong with, each on a line of its own.
    #[error("{}", .lines.join("\n"))]
    Flags {
        /// `--memory: …`
        lines: Vec<String>,
    },
    /// Exactly one pod is changed.
    #[error("one pod is needed, as in: {example}")]
    OnePod {
        /// A command line that has one.
        example: &'static str,
    },
    /// Nothing to change.
    #[error("one pod and at least one KEY=VALUE or KEY- are needed")]
    NoLabel,
    /// A patch that patches nothing.
    #[error("the patch is no object")]
    PatchShape,
    /// The rest of a status is Beluga's own.
    #[error(
        "of a pod's status only conditions can be patched, as in: \
         -p '{{\"status\": {{\"conditions\": [{{\"type\": \"example.org/ok\", \"status\": \"True\"}}]}}}}'"
    )]
    OnlyConditions,
    /// A condition of a patch.
    #[error("a condition has a type")]
    ConditionWithoutType,
    /// A condition that nobody else may give.
    #[error("the condition {kind} is Beluga's own to say")]
    OwnCondition {
        /// Its type.
        kind: String,
    },
    /// A condition of a patch.
    #[error("the condition {kind} has the status {status:?}: it is True, False or Unknown")]
    ConditionStatus {
        /// Its type.
        kind: String,
        /// As given.
        status: String,
    },
    /// The number of a check.
    #[error("there is no check {absent}: they are 1 to {last}")]
    NoCheck {
        /// As given.
        absent: u32,
        /// The last that there is.
        last: u32,
    },
    /// Nobody knows the name that it has got.
    #[error("a pod with generateName cannot be deleted by its manifest")]
    GeneratedName,
    /// Nothing ever becomes true of it.
    #[error("a {kind} has nothing that could be waited for")]
    NothingToWaitFor {
        /// What.
        kind: ObjectKind,
    },
    /// A question without a terminal.
    #[error("nobody is there to be asked: say --force, or --dry-run")]
    NobodyToAsk,
    /// An image that has no name of a registry's.
    #[error("push {image} where to? beluga push {image} NAME")]
    NoDestination {
        /// As given.
        image: String,
    },
    /// Bytes that no terminal can show.
    #[error("an archive is nothing for a terminal: say -o FILE, or redirect it")]
    ArchiveToTerminal,
    /// Too many colons.
    #[error("invalid port format '{text}'")]
    PortFormat {
        /// As given.
        text: String,
    },
    /// No port of a pod.
    #[error("remote port must be > 0")]
    RemotePortZero,
    /// No port of a pod.
    #[error(
        "error parsing remote port '{remote}': neither a number from 1 to 65535 nor the name of a port of the pod"
    )]
    RemotePort {
        /// As given.
        remote: String,
    },
    /// No port of this host.
    #[error("error parsing local port '{local}': not a number from 0 to 65535")]
    LocalPort {
        /// As given.
        local: String,
    },
    /// What is copied needs a name there.
    #[error("the source has no name that a container could take")]
    NamelessSource,
    /// Which way?
    #[error("one of the two must be in a pod and the other one here: POD:PATH and PATH")]
    OneEndInPod,
    /// A place in a pod, as kubectl writes it.
    #[error("Filespec must match the canonical format: [[namespace/]pod:]file/path")]
    FileSpec,
}

impl UsageError {
    /// Nothing says which are meant.
    pub fn which(what: &str, how: &'static str) -> Self {
        Self::Which {
            what: what.to_owned(),
            how,
        }
    }

    /// The value of a flag is wrong.
    pub fn flag(flag: &'static str, value: &str, why: impl Into<String>) -> Self {
        Self::Flag {
            flag,
            value: value.to_owned(),
            why: why.into(),
        }
    }
}

fn those_who_want([one, other]: &[String; 2]) -> String {
    if one == other {
        format!("the pods of {one} all want")
    } else {
        format!("{one} and {other} both want")
    }
}
