//! Where everything is, and what can be tuned: paths, parts, time limits.

mod defaults;

use crate::logs::Limits;
use crate::plan::{CniPlaces, Tenant};
use crate::spec::sysctl_patterns;
use beluga_proto::PodUid;
use defaults::Defaults;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Root's default of `--root`.
pub const DEFAULT_ROOT: &str = "/var/lib/beluga";

/// Root's default of `--state`.
pub const DEFAULT_STATE: &str = "/run/beluga";

/// Why a part is not to be found.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It lies nowhere where it should.
    #[error(
        "cannot find the {part}: looked at {looked}; set {variable} to its path",
        looked = .looked.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    Missing {
        /// `virtual machine monitor`, `guest kernel`, `initramfs`.
        part: &'static str,
        /// The variable that names it.
        variable: &'static str,
        /// Where it was looked for.
        looked: Vec<PathBuf>,
    },
    /// A variable of the environment says nothing that can be meant.
    #[error("{variable}={value:?} is not {wanted}")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// What it says.
        value: String,
        /// What it may say.
        wanted: &'static str,
    },
    /// The running program's own path cannot be read.
    #[error("cannot tell where the beluga program lies")]
    SelfPath {
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

/// Where registries are configured where nothing else is said; the first that knows one counts.
const CERTS_DIRS: [&str; 2] = ["/etc/beluga/certs.d", "/etc/containerd/certs.d"];

/// Where seccomp profiles of the host lie where nothing else is said.
const SECCOMP_DIR: &str = "/etc/beluga/seccomp";

/// Paths of one installation, and its limits.
#[derive(Debug, Clone)]
pub struct Settings {
    /// They are not root's: what takes its rights cannot be had.
    pub is_ordinary: bool,
    /// What stays over a reboot: images, records, logs.
    pub root: PathBuf,
    /// What does not: sockets.
    pub state: PathBuf,
    /// Waits between the restarts of a container.
    pub backoff: Backoff,
    /// Below which pods may use the host's files (hostPath). None by default.
    pub host_paths: Vec<PathBuf>,
    /// Kernel parameters beside the safe ones that pods may set: names, or
    /// beginnings with `*`. None by default.
    pub unsafe_sysctls: Vec<String>,
    /// How far above its request a container's memory may grow before it is
    /// slowed down: millionths of what is above. `None`: not at all.
    pub memory_throttling: Option<u32>,
    /// Most processes and threads of a pod, as the kubelet's podPidsLimit. `None`:
    /// as many as its machine can have.
    pub pod_pids_limit: Option<u64>,
    /// The profile that pods are held to. None by default.
    pub tenant: Option<Tenant>,
    /// How much more than there is pods may be promised on their scratch disks:
    /// millionths of what there is.
    pub storage_overcommit: u64,
    /// How much of what a container prints is kept.
    pub logs: Limits,
    /// Where networks of CNI and their plugins are.
    pub cni: CniPlaces,
    /// Where registries are configured, as containerd has it.
    pub certs_dirs: Vec<PathBuf>,
    /// Where the host's seccomp profiles lie.
    pub seccomp_dir: PathBuf,
    /// How long a boot may take before it counts as hung. A boot that fails
    /// says so itself; this is the last resort.
    pub boot_timeout: Duration,
}

/// Waits between the restarts of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first one; each further one is double.
    pub first: Duration,
    /// The longest one.
    pub longest: Duration,
    /// A run of this length starts again with the first.
    pub reset: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(10),
            longest: Duration::from_secs(300),
            reset: Duration::from_secs(600),
        }
    }
}

impl Backoff {
    /// The wait before restart number `count` (the first is 0).
    #[must_use]
    pub fn wait(&self, count: u32) -> Duration {
        self.first
            .saturating_mul(2u32.saturating_pow(count.min(20)))
            .min(self.longest)
    }

    /// From `FIRST,LONGEST,RESET` in seconds; `None` when it is not that.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(',').map(|part| {
            let seconds: f64 = part.trim().parse().ok()?;
            Duration::try_from_secs_f64(seconds).ok()
        });
        let backoff = Self {
            first: parts.next()??,
            longest: parts.next()??,
            reset: parts.next()??,
        };
        parts.next().is_none().then_some(backoff)
    }
}

/// The files that a pod needs beside its images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// `beluga-vmm`.
    pub vmm: PathBuf,
    /// `vmlinux`.
    pub kernel: PathBuf,
    /// `initramfs.cpio`.
    pub initramfs: PathBuf,
}

impl Settings {
    /// Settings with these directories; `None` asks the environment, then
    /// takes the default. Relative paths are made absolute, since a supervisor
    /// works in another directory. Errors on a variable that cannot be meant.
    pub fn new(root: Option<PathBuf>, state: Option<PathBuf>) -> Result<Self, SettingsError> {
        let absolute = |given: Option<PathBuf>, variable: &str, default: &str| {
            let path = given
                .or_else(|| path_variable(variable))
                .unwrap_or_else(|| PathBuf::from(default));
            std::path::absolute(&path).unwrap_or(path)
        };
        let defaults = Defaults::here();
        let root = absolute(root, "BELUGA_ROOT", &defaults.root);
        // Two roots never share the sockets of their pods by accident.
        let state_of_root = if root == Path::new(&defaults.root) {
            defaults.state
        } else {
            format!("{}-{}", defaults.state, short_hash(&root))
        };
        Ok(Self {
            is_ordinary: defaults.is_ordinary,
            state: absolute(state, "BELUGA_STATE", &state_of_root),
            root,
            backoff: variable(
                "BELUGA_BACKOFF",
                "FIRST,LONGEST,RESET in seconds, like 10,300,600",
                Backoff::parse,
            )?
            .unwrap_or_default(),
            logs: variable(
                "BELUGA_LOGS",
                "BYTES,FILES with two files at least, like 10485760,5",
                Limits::parse,
            )?
            .unwrap_or_default(),
            host_paths: variable(
                "BELUGA_ALLOW_HOST_PATH",
                "absolute paths without .., joined by colons",
                host_paths,
            )?
            .unwrap_or_default(),
            unsafe_sysctls: variable(
                "BELUGA_ALLOWED_UNSAFE_SYSCTLS",
                "names of namespaced kernel parameters, or their beginnings with *, joined by commas",
                sysctl_patterns,
            )?
            .unwrap_or_default(),
            memory_throttling: variable(
                "BELUGA_MEMORY_THROTTLING_FACTOR",
                "a number above 0 and at most 1, like 0.9",
                throttling,
            )?,
            pod_pids_limit: pod_pids_limit()?,
            tenant: variable("BELUGA_PROFILE", "tenant, or tenant,exec", Tenant::parse)?,
            storage_overcommit: storage_overcommit()?,
            certs_dirs: variable(
                "BELUGA_CERTS_DIR",
                "absolute paths without .., joined by colons",
                host_paths,
            )?
            .unwrap_or_else(|| CERTS_DIRS.map(PathBuf::from).to_vec()),
            cni: cni_places()?,
            seccomp_dir: path_variable("BELUGA_SECCOMP")
                .unwrap_or_else(|| PathBuf::from(SECCOMP_DIR)),
            boot_timeout: boot_timeout()?,
        })
    }

    /// The image store.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// The directory of all records.
    #[must_use]
    pub fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    /// A pod's directory that stays until it is deleted.
    #[must_use]
    pub fn pod_dir(&self, uid: &PodUid) -> PathBuf {
        self.pods().join(uid.as_str())
    }

    /// A pod's directory of sockets, there while its supervisor is.
    #[must_use]
    pub fn run_dir(&self, uid: &PodUid) -> PathBuf {
        self.state.join("pods").join(uid.as_str())
    }

    /// Cgroup of all pods of this root, relative to the mount.
    #[must_use]
    pub fn cgroup(&self) -> PathBuf {
        PathBuf::from(format!("beluga-{}", self.short_hash()))
    }

    /// Six hexadecimal digits that tell the host objects of this root from
    /// those of another.
    #[must_use]
    pub fn short_hash(&self) -> String {
        short_hash(&self.root)
    }

    /// Finds the server of shared directories, which only pods with hostPath
    /// volumes need.
    pub fn share_server(&self) -> Result<PathBuf, SettingsError> {
        find(
            "server of shared directories",
            "BELUGA_SHARE",
            "beluga-share",
        )
    }

    /// Finds the archive of images that `beluga conformance` runs.
    pub fn check_images(&self) -> Result<PathBuf, SettingsError> {
        find(
            "images of the checks",
            "BELUGA_CONFORMANCE",
            "conformance.tar",
        )
    }

    /// Finds the parts: by variable, beside the program, where an installation
    /// puts them, where a build puts them. Errors on the first one missing.
    pub fn parts(&self) -> Result<Parts, SettingsError> {
        Ok(Parts {
            vmm: find("virtual machine monitor", "BELUGA_VMM", "beluga-vmm")?,
            kernel: find("guest kernel", "BELUGA_KERNEL", "vmlinux")?,
            initramfs: find("initramfs", "BELUGA_INITRAMFS", "initramfs.cpio")?,
        })
    }
}

fn find(part: &'static str, variable: &'static str, name: &str) -> Result<PathBuf, SettingsError> {
    if let Some(path) = path_variable(variable) {
        return existing(part, variable, vec![path]);
    }
    let program = std::env::current_exe().map_err(|source| SettingsError::SelfPath { source })?;
    let beside = program.parent().unwrap_or(Path::new("/"));
    let above = beside.parent().unwrap_or(beside);
    let places = vec![
        beside.join(name),
        above.join("lib/beluga").join(name),
        above.join("guest").join(name),
    ];
    existing(part, variable, places)
}

/// Prefixes of paths from `A:B`; an empty one says nothing.
fn host_paths(text: &str) -> Option<Vec<PathBuf>> {
    let paths = text.split(':').filter(|path| !path.is_empty());
    paths
        .map(|path| {
            let path = Path::new(path);
            path.is_absolute()
                .then(|| crate::host::share::prefix(path))?
        })
        .collect()
}

/// Millionths, from a number above 0 and up to 1.
fn throttling(text: &str) -> Option<u32> {
    let factor: f64 = text.trim().parse().ok()?;
    let is_one = factor > 0.0 && factor <= 1.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 0 to a million"
    )]
    let millionths = (factor * 1e6).round() as u32;
    (is_one && millionths > 0).then_some(millionths)
}

/// What `-1` says.
const NO_LIMIT: u64 = u64::MAX;

fn boot_timeout() -> Result<Duration, SettingsError> {
    let given = variable("BELUGA_BOOT_TIMEOUT", "a number of seconds", |text| {
        text.trim().parse().ok().map(Duration::from_secs)
    })?;
    Ok(given.unwrap_or(Duration::from_secs(60)))
}

fn pod_pids_limit() -> Result<Option<u64>, SettingsError> {
    let wanted = "a number above 0, or -1 for no limit";
    let given = variable("BELUGA_POD_PIDS_LIMIT", wanted, pids_limit)?;
    Ok(given.filter(|limit| *limit != NO_LIMIT))
}

/// A number above 0, or `-1` for none.
fn pids_limit(text: &str) -> Option<u64> {
    match text.trim() {
        "-1" => Some(NO_LIMIT),
        limit => limit.parse().ok().filter(|limit| *limit > 0),
    }
}

/// Twice what there is: few pods write all that they asked for.
const STORAGE_OVERCOMMIT: u64 = 2_000_000;

fn storage_overcommit() -> Result<u64, SettingsError> {
    let wanted = "a number above 0, like 2";
    let given = variable("BELUGA_STORAGE_OVERCOMMIT", wanted, overcommit)?;
    Ok(given.unwrap_or(STORAGE_OVERCOMMIT))
}

/// Millionths, from a number above 0.
fn overcommit(text: &str) -> Option<u64> {
    let ratio: f64 = text.trim().parse().ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bounded on both sides; what is left is rounded"
    )]
    let millionths = (ratio.clamp(0.0, 1e6) * 1e6).round() as u64;
    (millionths > 0).then_some(millionths)
}

/// Where CNI's configurations are where nothing else is said.
const CNI_CONFIGS: &str = "/etc/cni/net.d";

/// Where its plugins are: where most people put them, and where Debian does.
const CNI_PLUGINS: [&str; 2] = ["/opt/cni/bin", "/usr/lib/cni"];

fn cni_places() -> Result<CniPlaces, SettingsError> {
    let wanted = "absolute paths without .., joined by colons";
    let plugins = variable("BELUGA_CNI_BIN_DIR", wanted, host_paths)?;
    Ok(CniPlaces {
        configs: path_variable("BELUGA_CNI_CONF_DIR").unwrap_or_else(|| CNI_CONFIGS.into()),
        plugins: plugins.unwrap_or_else(|| CNI_PLUGINS.map(PathBuf::from).to_vec()),
    })
}

/// What a variable says; `None` when it is not set.
fn variable<T>(
    variable: &'static str,
    wanted: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, SettingsError> {
    let Some(value) = std::env::var_os(variable) else {
        return Ok(None);
    };
    let value = value.to_string_lossy().into_owned();
    match parse(&value) {
        Some(parsed) => Ok(Some(parsed)),
        None => Err(SettingsError::Variable {
            variable,
            value,
            wanted,
        }),
    }
}

fn path_variable(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

fn existing(
    part: &'static str,
    variable: &'static str,
    looked: Vec<PathBuf>,
) -> Result<PathBuf, SettingsError> {
    match looked.iter().find(|path| path.is_file()) {
        Some(path) => Ok(std::path::absolute(path).unwrap_or_else(|_| path.clone())),
        None => Err(SettingsError::Missing {
            part,
            variable,
            looked,
        }),
    }
}

/// FNV-1a folded to 24 bits: names of host objects, no security.
fn short_hash(root: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    let hash = root
        .as_os_str()
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("{:06x}", (hash ^ (hash >> 24) ^ (hash >> 48)) & 0xff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let backoff = Backoff::default();
        let seconds: Vec<u64> = (0..8).map(|count| backoff.wait(count).as_secs()).collect();
        assert_eq!(seconds, [10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(backoff.wait(u32::MAX).as_secs(), 300);
    }

    #[test]
    fn waits_are_read_from_text_or_not_at_all() {
        let backoff = Backoff::parse("0.1, 0.4,60").unwrap();
        assert_eq!(backoff.wait(1), Duration::from_millis(200));
        assert_eq!(backoff.wait(9), Duration::from_millis(400));
        assert!(Backoff::parse("1,2").is_none());
        assert!(Backoff::parse("1,2,3,4").is_none());
        assert!(Backoff::parse("-1,2,3").is_none());
    }

    #[test]
    fn a_factor_is_above_nothing_and_at_most_one() {
        assert_eq!(throttling("0.9"), Some(900_000));
        assert_eq!(throttling(" 1 "), Some(1_000_000));
        for text in ["0", "1.1", "-0.5", "NaN", "nine", "", "1e-9"] {
            assert_eq!(throttling(text), None, "{text}");
        }
    }

    #[test]
    fn a_limit_of_processes_is_a_number_or_none() {
        assert_eq!(pids_limit("400"), Some(400));
        assert_eq!(pids_limit(" -1"), Some(NO_LIMIT));
        for text in ["0", "-2", "many", "", "1.5"] {
            assert_eq!(pids_limit(text), None, "{text}");
        }
    }

    #[test]
    fn roots_are_told_apart_by_six_digits() {
        let (one, two) = (short_hash(Path::new("/a")), short_hash(Path::new("/b")));
        assert_ne!(one, two);
        assert_eq!(
            (one.len(), one.as_str()),
            (6, short_hash(Path::new("/a")).as_str())
        );
    }
}
