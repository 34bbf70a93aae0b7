//! What a process of a pod can still touch, by the kernel's own account. Landlock is
//! what no kernel tells of another process; that it was refused, the process does.

use super::cgroup;
use crate::path_error::PathError;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Namespaces, by their names in `/proc`.
const NAMESPACES: [&str; 7] = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];

/// Files of a cgroup that limit something.
const LIMITS: [&str; 6] = [
    "memory.max",
    "memory.swap.max",
    "cpu.max",
    "cpu.weight",
    "pids.max",
    "io.max",
];

/// Longest that is read of a log.
const LOG_BYTES: u64 = 1 << 20;

/// What a program that shuts itself in logs of what it could not have.
const LACKS: &str = "jail: no ";

/// A process.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Audit {
    /// What it is for.
    pub role: String,
    /// Its number on the host.
    pub pid: i32,
    /// Its effective user on the host.
    pub user: u32,
    /// Its effective group.
    pub group: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// Capabilities that it has or could get, as a mask of bits.
    pub capabilities: String,
    /// Whether what it executed could get rights that it has not.
    pub new_privileges: bool,
    /// Namespaces: whether it is one of its own.
    pub own_namespaces: BTreeMap<&'static str, bool>,
    /// Mounts that it sees.
    pub mounts: Vec<String>,
    /// Names in its root directory.
    pub root: Vec<String>,
    /// Its open descriptors.
    pub descriptors: Vec<Descriptor>,
    /// Its threads.
    pub threads: Vec<Thread>,
    /// Which calls a thread may make, by the kind of thread.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub calls: BTreeMap<String, Vec<Call>>,
    /// Its cgroup, and what that limits.
    pub cgroup: Cgroup,
    /// What its own limits are, where there are any.
    pub limits: BTreeMap<String, String>,
    /// What it could not have when it shut itself in, by its own account.
    pub refused: Vec<String>,
}

/// An open descriptor.
#[derive(Debug, Serialize)]
pub struct Descriptor {
    /// Its number.
    pub fd: i32,
    /// `r`, `w` or `rw`.
    pub mode: &'static str,
    /// What it is.
    pub file: String,
}

/// A thread.
#[derive(Debug, Serialize)]
pub struct Thread {
    /// Its name.
    pub name: String,
    /// `filter`, `strict` or `none`.
    pub seccomp: &'static str,
}

/// A call that is allowed, as the program lists it.
#[derive(Debug, Serialize, serde::Deserialize)]
pub struct Call {
    /// Its name.
    pub name: String,
    /// What its arguments must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<serde_json::Value>,
    /// Whether only an accident needs it.
    pub rare: bool,
}

/// A cgroup.
#[derive(Debug, Serialize)]
pub struct Cgroup {
    /// Where, below the mount.
    pub path: PathBuf,
    /// What is limited, by file.
    pub limits: BTreeMap<&'static str, String>,
}

/// Looks at a process of a pod, whose log is given. Errors when it is gone, or
/// not the caller's to look at.
pub fn look(role: &str, pid: i32, log: &Path) -> Result<Audit, PathError> {
    let own = PathBuf::from(format!("/proc/{pid}"));
    all(role, pid, &own, log).map_err(PathError::on("look into", &own))
}

fn all(role: &str, pid: i32, own: &Path, log: &Path) -> io::Result<Audit> {
    let status = status(&own.join("status"))?;
    let word = |name: &str| status.get(name).map_or("", String::as_str);
    // Of the four numbers the second is the effective one.
    let id = |name: &str| word(name).split_whitespace().nth(1)?.parse().ok();
    let sets = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
    let masks = sets.map(|set| u64::from_str_radix(word(set), 16).unwrap_or(u64::MAX));
    Ok(Audit {
        role: role.to_owned(),
        pid,
        user: id("Uid").unwrap_or(0),
        group: id("Gid").unwrap_or(0),
        groups: word("Groups")
            .split_whitespace()
            .flat_map(str::parse)
            .collect(),
        capabilities: format!("{:#x}", masks.iter().fold(0, |all, mask| all | mask)),
        new_privileges: word("NoNewPrivs") != "1",
        own_namespaces: namespaces(own)?,
        mounts: mounts(own)?,
        root: names(&own.join("root"))?,
        descriptors: descriptors(own)?,
        threads: threads(own)?,
        calls: calls(own),
        cgroup: cgroup_of(own)?,
        limits: limits(own)?,
        refused: refused(log),
    })
}

impl Audit {
    /// What a process in its jail has not, one short sentence each; nothing, where
    /// all is as it should be. What its work needs may be allowed by name.
    #[must_use]
    pub fn gaps(&self, needs_capabilities: bool) -> Vec<String> {
        let mut gaps = Vec::new();
        let mut gap = |is_one: bool, what: String| {
            if is_one {
                gaps.push(what);
            }
        };
        let shared = self.own_namespaces.iter().filter(|(_, own)| !**own);
        gap(!needs_capabilities && self.user == 0, "it is root".into());
        gap(
            !needs_capabilities && self.capabilities != "0x0",
            format!("it has capabilities: {}", self.capabilities),
        );
        gap(self.new_privileges, "it may get privileges".into());
        for (name, _) in shared {
            gap(true, format!("its {name} namespace is the host's"));
        }
        gap(!self.root.is_empty(), "it sees files of the host".into());
        for thread in self.threads.iter().filter(|one| one.seccomp != "filter") {
            gap(
                true,
                format!("thread {} may make any system call", thread.name),
            );
        }
        gaps.extend(
            self.refused
                .iter()
                .map(|what| format!("it could not have: {what}")),
        );
        gaps
    }
}

/// `NAME: value` of each line, blanks folded.
fn status(path: &Path) -> io::Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(path)?;
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let folded = |value: &str| value.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(lines
        .map(|(name, value)| (name.to_owned(), folded(value)))
        .collect())
}

fn namespaces(own: &Path) -> io::Result<BTreeMap<&'static str, bool>> {
    let of = |process: &Path, kind: &str| fs::read_link(process.join("ns").join(kind));
    NAMESPACES
        .iter()
        .map(|kind| {
            let is_own = of(own, kind)? != of(Path::new("/proc/self"), kind)?;
            Ok((*kind, is_own))
        })
        .collect()
}

/// Mounts as `PLACE TYPE OPTIONS`.
fn mounts(own: &Path) -> io::Result<Vec<String>> {
    let text = fs::read_to_string(own.join("mountinfo"))?;
    let line = |line: &str| {
        let (before, behind) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(4);
        let kind = behind.split(' ').next()?;
        Some(format!("{} {kind} {}", before.next()?, before.next()?))
    };
    Ok(text.lines().filter_map(line).collect())
}

fn names(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = fs::read_dir(directory)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn descriptors(own: &Path) -> io::Result<Vec<Descriptor>> {
    let mut found = Vec::new();
    for name in names(&own.join("fd"))? {
        // One that has been closed meanwhile is none.
        let (Ok(fd), Ok(file), Ok(info)) = (
            name.parse(),
            fs::read_link(own.join("fd").join(&name)),
            status(&own.join("fdinfo").join(&name)),
        ) else {
            continue;
        };
        let flags = info.get("flags").map_or("", String::as_str);
        let flags = u32::from_str_radix(flags, 8).unwrap_or(0);
        let mode = match flags & 3 {
            0 => "r",
            1 => "w",
            _ => "rw",
        };
        let file = file.to_string_lossy().into_owned();
        found.push(Descriptor { fd, mode, file });
    }
    found.sort_by_key(|one| one.fd);
    Ok(found)
}

fn threads(own: &Path) -> io::Result<Vec<Thread>> {
    let mut threads = Vec::new();
    for task in names(&own.join("task"))? {
        // One that has ended meanwhile is none: its directory is gone, or the
        // file that was opened in time has no thread behind it.
        let status = match status(&own.join("task").join(task).join("status")) {
            Err(source) if has_ended(&source) => continue,
            status => status?,
        };
        let name = status.get("Name").cloned().unwrap_or_default();
        // KVM's own, which runs no program.
        if name.starts_with("kvm-") {
            continue;
        }
        let seccomp = match status.get("Seccomp").map(String::as_str) {
            Some("2") => "filter",
            Some("1") => "strict",
            _ => "none",
        };
        threads.push(Thread { name, seccomp });
    }
    Ok(threads)
}

fn has_ended(source: &io::Error) -> bool {
    source.kind() == io::ErrorKind::NotFound || source.raw_os_error() == Some(libc::ESRCH)
}

/// What the program that runs says, which need not be the one installed now.
fn calls(own: &Path) -> BTreeMap<String, Vec<Call>> {
    let output = Command::new(own.join("exe"))
        .arg("--calls")
        .env_clear()
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn cgroup_of(own: &Path) -> io::Result<Cgroup> {
    let text = fs::read_to_string(own.join("cgroup"))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    let path = PathBuf::from(path.unwrap_or("/"));
    let limit = |file: &&'static str| {
        let value = fs::read_to_string(cgroup::absolute(&path).join(file)).ok()?;
        let value = value.trim().replace('\n', "; ");
        (!value.is_empty()).then_some((*file, value))
    };
    let limits = LIMITS.iter().filter_map(limit).collect();
    Ok(Cgroup { path, limits })
}

/// Soft limits of the process that are none of `unlimited`.
fn limits(own: &Path) -> io::Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(own.join("limits"))?;
    let line = |line: &str| {
        // The name has blanks, and 26 columns.
        let (name, values) = line.split_at_checked(26)?;
        let soft = values.split_whitespace().next()?;
        let name = name.trim().strip_prefix("Max ")?;
        (soft != "unlimited").then(|| (name.to_owned(), soft.to_owned()))
    };
    Ok(text.lines().filter_map(line).collect())
}

/// What the process has logged.
fn refused(log: &Path) -> Vec<String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    if let Ok(file) = fs::File::open(log) {
        let _ = file.take(LOG_BYTES).read_to_end(&mut bytes);
    }
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<String> = text
        .lines()
        .filter_map(|line| Some(line.split_once(LACKS)?.1.to_owned()))
        .collect();
    lines.sort();
    lines.dedup();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_in_no_jail_has_every_gap() {
        let pid = std::process::id().cast_signed();
        let audit = look("self", pid, Path::new("/nonexistent")).unwrap();
        assert_eq!(audit.pid, pid);
        assert!(audit.own_namespaces.values().all(|own| !own));
        let gaps = audit.gaps(false);
        for gap in [
            "its net namespace is the host's",
            "it sees files of the host",
        ] {
            assert!(gaps.iter().any(|found| found == gap), "{gaps:?}");
        }
        assert!(audit.descriptors.iter().any(|one| one.fd == 0));
        assert!(!audit.mounts.is_empty());
        assert!(
            audit.limits.contains_key("open files"),
            "{:?}",
            audit.limits
        );
    }

    #[test]
    fn threads_that_end_while_they_are_looked_at_are_none() {
        let own = PathBuf::from("/proc/self");
        let is_done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
                    std::thread::spawn(|| ()).join().unwrap();
                }
            });
            let looks: Vec<_> = (0..500).map(|_| threads(&own)).collect();
            is_done.store(true, std::sync::atomic::Ordering::Relaxed);
            for look in looks {
                assert!(!look.unwrap().is_empty());
            }
        });
    }
}
