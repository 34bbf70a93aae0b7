//! Flags about the process of a pod from an image: who it is, what it may do, how it ends. Each
//! is a field of the manifest.

use crate::cli::CliError;
use crate::cli::error::UsageError;
use serde_json::{Value, json};

/// The flags.
#[derive(Debug, clap::Args)]
#[group(id = "process", conflicts_with = "files", multiple = true)]
pub struct Process {
    /// The program, instead of the image's; COMMAND is its arguments
    #[arg(
        long,
        value_name = "PROGRAM",
        allow_hyphen_values = true,
        conflicts_with = "is_command"
    )]
    entrypoint: Option<String>,
    /// Number of the user, instead of the image's
    #[arg(short, long, value_name = "UID[:GID]")]
    user: Option<String>,
    /// Number of a further group
    #[arg(long, value_name = "GID")]
    group_add: Vec<String>,
    /// The container's root is not to be written to
    #[arg(long)]
    read_only: bool,
    /// All rights inside the pod's machine
    #[arg(long)]
    privileged: bool,
    /// A capability besides the usual ones, like NET_ADMIN, or ALL
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',')]
    cap_add: Vec<String>,
    /// A usual capability that it has not, or ALL
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',')]
    cap_drop: Vec<String>,
    /// The signal that asks it to end
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Seconds from that signal to SIGKILL
    #[arg(long, value_name = "SECONDS")]
    stop_timeout: Option<u32>,
}

impl Process {
    /// Writes them into a pod and its one container; `command` is what stands behind the image.
    pub fn write(
        &self,
        (spec, container): (&mut Value, &mut Value),
        (command, is_command): (&[String], bool),
    ) -> Result<(), CliError> {
        let entrypoint = self.entrypoint.as_deref().map(program).transpose()?;
        // As kubectl run has it: what follows -- are the arguments. Of no program it is one.
        let is_nothing = entrypoint.as_ref().is_some_and(Vec::is_empty);
        if !command.is_empty() {
            let is_command = is_command || is_nothing;
            let field = if is_command { "command" } else { "args" };
            container[field] = json!(command);
        } else if is_nothing {
            let why = "the program stands behind the image then, as in `beluga run IMAGE -- sh`";
            return Err(UsageError::flag("--entrypoint", "", why).into());
        }
        if let Some(entrypoint) = entrypoint.filter(|words| !words.is_empty()) {
            container["command"] = json!(entrypoint);
        }
        let security = self.security()?;
        if security
            .as_object()
            .is_some_and(|fields| !fields.is_empty())
        {
            container["securityContext"] = security;
        }
        let groups = self
            .group_add
            .iter()
            .map(|text| number("--group-add", text));
        let groups = groups.collect::<Result<Vec<u32>, _>>()?;
        if !groups.is_empty() {
            spec["securityContext"]["supplementalGroups"] = json!(groups);
        }
        if let Some(signal) = &self.stop_signal {
            let upper = signal.to_ascii_uppercase();
            let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
            container["lifecycle"]["stopSignal"] = json!(format!("SIG{bare}"));
            // Kubernetes takes no signal without it.
            spec["os"] = json!({"name": "linux"});
        }
        if let Some(seconds) = self.stop_timeout {
            spec["terminationGracePeriodSeconds"] = json!(seconds);
        }
        Ok(())
    }

    fn security(&self) -> Result<Value, CliError> {
        let mut security = json!({});
        if let Some(user) = &self.user {
            let (user, group) = match user.split_once(':') {
                Some((user, group)) => (user, Some(group)),
                None => (user.as_str(), None),
            };
            security["runAsUser"] = json!(number("--user", user)?);
            if let Some(group) = group {
                security["runAsGroup"] = json!(number("--user", group)?);
            }
        }
        for (field, set) in [
            ("readOnlyRootFilesystem", self.read_only),
            ("privileged", self.privileged),
        ] {
            if set {
                security[field] = json!(true);
            }
        }
        for (field, names) in [("add", &self.cap_add), ("drop", &self.cap_drop)] {
            // docker takes them in any case, and with the kernel's prefix.
            let names = names.iter().map(|name| {
                let upper = name.to_ascii_uppercase();
                upper
                    .strip_prefix("CAP_")
                    .map_or(upper.clone(), str::to_owned)
            });
            let names: Vec<String> = names.collect();
            if !names.is_empty() {
                security["capabilities"][field] = json!(names);
            }
        }
        Ok(security)
    }
}

/// A program, or a JSON list of it and its first arguments; none of an empty text.
fn program(text: &str) -> Result<Vec<String>, CliError> {
    if text.starts_with('[') {
        let why = "it is a program, or a JSON list like [\"sh\", \"-c\"]";
        return serde_json::from_str(text)
            .map_err(|_| UsageError::flag("--entrypoint", text, why).into());
    }
    let words = Some(text).filter(|text| !text.is_empty());
    Ok(words.map(str::to_owned).into_iter().collect())
}

/// A user or a group: a manifest has numbers only.
fn number(flag: &'static str, text: &str) -> Result<u32, UsageError> {
    text.parse().map_err(|_| {
        let why = "a pod's users and groups are numbers, as in 1000 or 1000:1000; `id -u NAME` in \
                   the image tells them";
        UsageError::flag(flag, text, why)
    })
}
