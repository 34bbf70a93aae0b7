//! `beluga audit`: what the processes that serve a pod's guest can still touch.

use super::page::Page;
use super::{CliError, exit, pods};
use crate::engine;
use crate::host::audit::{Audit, Call};
use crate::settings::Settings;
use serde_json::json;

/// Arguments of `audit`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pod
    #[arg(value_name = "POD")]
    pod: String,
    /// Namespace of the pod
    #[arg(short, long, default_value = pods::DEFAULT)]
    namespace: String,
    /// For programs, with each thread's list of system calls
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Json,
}

/// Runs the verb.
pub async fn run(settings: &Settings, args: &Args) -> Result<u8, CliError> {
    let pod = pods::one(settings, &args.namespace, &args.pod).await?;
    let audits = engine::audit(settings, &pod.uid).await?;
    match args.output {
        Some(Format::Json) => {
            let processes: Vec<_> = audits.iter().map(|one| value(one, gaps(one))).collect();
            say!("{:#}", json!({"pod": pod.name, "processes": processes}));
        }
        None => {
            for (at, audit) in audits.iter().enumerate() {
                if at > 0 {
                    say!("");
                }
                for line in page(audit).0 {
                    say!("{}", line.trim_end());
                }
            }
        }
    }
    Ok(exit::OK)
}

/// A server of files acts in the name of the users who own them.
fn gaps(audit: &Audit) -> Vec<String> {
    audit.gaps(audit.role != "vmm")
}

fn value(audit: &Audit, gaps: Vec<String>) -> serde_json::Value {
    let mut value = json!(audit);
    value["missing"] = json!(gaps);
    value
}

fn page(audit: &Audit) -> Page {
    let mut page = Page(Vec::new());
    page.field(0, "Process", format!("{} ({})", audit.role, audit.pid));
    let groups = match audit.groups.len() {
        0 => String::new(),
        number => format!(", {number} more groups"),
    };
    let who = format!("{}, group {}{groups}", audit.user, audit.group);
    page.field(0, "User", who);
    page.field(0, "Capabilities", none_or(&audit.capabilities, "0x0"));
    let by_whom = |is_own: bool| {
        let all = audit.own_namespaces.iter();
        let names: Vec<_> = all
            .filter(|(_, own)| **own == is_own)
            .map(|(name, _)| *name)
            .collect();
        if names.is_empty() {
            "<none>".to_owned()
        } else {
            names.join(" ")
        }
    };
    page.field(0, "Own namespaces", by_whom(true));
    page.field(0, "The host's", by_whom(false));
    page.list(0, "Mounts", &audit.mounts);
    page.field(0, "Files in its root", none_or(&audit.root.join(" "), ""));
    let files = audit.descriptors.iter();
    let files: Vec<_> = files
        .map(|one| format!("{:>3} {:<2} {}", one.fd, one.mode, one.file))
        .collect();
    page.list(0, "Descriptors", &files);
    let threads: Vec<_> = audit
        .threads
        .iter()
        .map(|one| thread(audit, &one.name, one.seccomp))
        .collect();
    page.list(0, "System calls", &threads);
    let limits: Vec<_> = audit
        .limits
        .iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    page.field(0, "Limits", limits.join(", "));
    page.field(0, "Cgroup", audit.cgroup.path.display().to_string());
    for (file, value) in &audit.cgroup.limits {
        page.field(2, file, value);
    }
    page.list(0, "Missing", &gaps(audit));
    page
}

fn none_or<'t>(text: &'t str, none: &str) -> &'t str {
    if text == none { "<none>" } else { text }
}

/// How many calls a thread may make; those of its kind, which is its name without
/// a number. The process's own thread has the program's name.
fn thread(audit: &Audit, name: &str, seccomp: &str) -> String {
    let kind = match name.trim_end_matches(|digit: char| digit.is_ascii_digit()) {
        "beluga-vmm" => "main",
        kind => kind,
    };
    match (seccomp, audit.calls.get(kind)) {
        ("filter", Some(calls)) => {
            let usual: Vec<_> = calls.iter().filter(|call| !call.rare).map(word).collect();
            let rare = calls.len() - usual.len();
            format!("{name}: {}; {rare} for accidents", usual.join(" "))
        }
        ("filter", None) => format!("{name}: filtered"),
        _ => format!("{name}: all"),
    }
}

fn word(call: &Call) -> String {
    let mark = if call.only.is_some() { "*" } else { "" };
    format!("{}{mark}", call.name)
}
