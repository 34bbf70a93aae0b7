//! A profile as container engines write it: the JSON of the OCI runtime
//! specification, with the conditions that docker and podman add to it.

use super::SeccompError;
use serde::Deserialize;

/// A whole file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    pub default_action: Action,
    pub default_errno_ret: Option<u16>,
    #[serde(default)]
    architectures: Vec<String>,
    /// Docker's way to name architectures.
    #[serde(default)]
    arch_map: Vec<ArchMap>,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    pub syscalls: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    #[serde(default)]
    sub_architectures: Vec<String>,
}

/// What becomes of some calls.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    #[serde(default)]
    names: Vec<String>,
    /// Docker's old way to name one call.
    name: Option<String>,
    pub action: Action,
    pub errno_ret: Option<u16>,
    /// `null` as well.
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Conditions,
    #[serde(default)]
    excludes: Conditions,
}

/// For whom a rule stands.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conditions {
    caps: Vec<String>,
    arches: Vec<String>,
    min_kernel: Option<String>,
}

/// A condition on an argument of a call.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Argument {
    pub index: u8,
    pub value: u64,
    #[serde(default)]
    pub value_two: u64,
    pub op: Operator,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Operator {
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    #[serde(rename = "SCMP_CMP_LT")]
    Less,
    #[serde(rename = "SCMP_CMP_LE")]
    LessOrEqual,
    #[serde(rename = "SCMP_CMP_EQ")]
    Equal,
    #[serde(rename = "SCMP_CMP_GE")]
    GreaterOrEqual,
    #[serde(rename = "SCMP_CMP_GT")]
    Greater,
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Action {
    #[serde(rename = "SCMP_ACT_KILL", alias = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
}

impl Action {
    /// What a filter returns (linux/seccomp.h).
    pub fn verdict(self, errno: Option<u16>) -> u32 {
        let errno = u32::from(errno.unwrap_or(libc::EPERM as u16));
        match self {
            Self::KillThread => libc::SECCOMP_RET_KILL_THREAD,
            Self::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
            Self::Trap => libc::SECCOMP_RET_TRAP,
            Self::Errno => libc::SECCOMP_RET_ERRNO | errno,
            Self::Trace => libc::SECCOMP_RET_TRACE | errno,
            Self::Log => libc::SECCOMP_RET_LOG,
            Self::Allow => libc::SECCOMP_RET_ALLOW,
        }
    }
}

/// Version of the guest's kernel.
const KERNEL: (u32, u32) = (6, 12);

/// What changes neither what is allowed nor what is denied.
const FLAGS: [&str; 3] = [
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
];

impl Profile {
    /// Reads a file.
    pub fn parse(text: &str) -> Result<Self, SeccompError> {
        let profile: Self = serde_json::from_str(text).map_err(|error| SeccompError::Parse {
            why: error.to_string(),
        })?;
        let unknown = profile.flags.iter();
        if let Some(flag) = unknown
            .into_iter()
            .find(|flag| !FLAGS.contains(&flag.as_str()))
        {
            return Err(SeccompError::Flag { flag: flag.clone() });
        }
        Ok(profile)
    }

    /// Whether 32-bit programs may run. Their own architecture counts always,
    /// as runc has it.
    pub fn has_i386(&self) -> bool {
        let of_map = self.arch_map.iter();
        let of_map = of_map.filter(|map| map.architecture == "SCMP_ARCH_X86_64");
        let of_map = of_map.flat_map(|map| &map.sub_architectures);
        let mut all = self.architectures.iter().chain(of_map);
        all.any(|name| name == "SCMP_ARCH_X86")
    }
}

impl Rule {
    /// The calls that it is about.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().chain(&self.name).map(String::as_str)
    }

    /// Whether it stands for a process with these capabilities (`CAP_CHOWN`).
    pub fn stands(&self, capabilities: &[String]) -> bool {
        let has = |name: &String| capabilities.contains(name);
        let native = |name: &String| matches!(name.as_str(), "amd64" | "x86" | "x32");
        let (only, but) = (&self.includes, &self.excludes);
        let reached = |version: &String| is_reached(version);
        only.caps.iter().all(has)
            && !but.caps.iter().any(has)
            && (only.arches.is_empty() || only.arches.iter().any(native))
            && !but.arches.iter().any(native)
            && only.min_kernel.as_ref().is_none_or(reached)
            && !but.min_kernel.as_ref().is_some_and(reached)
    }

    /// Its conditions: it stands where all of one set are met. Two about one
    /// argument are two sets, as runc has it.
    pub fn conditions(&self) -> Vec<Vec<Argument>> {
        let all = self.args.clone().unwrap_or_default();
        let twice =
            |one: &Argument| all.iter().filter(|other| other.index == one.index).count() > 1;
        if all.iter().any(twice) {
            return all.into_iter().map(|one| vec![one]).collect();
        }
        vec![all]
    }
}

/// Whether the guest's kernel is of that version at least.
fn is_reached(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let wanted: (u32, u32) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    KERNEL >= wanted
}
