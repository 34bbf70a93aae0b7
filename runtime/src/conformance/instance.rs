//! The instance that the checks are run in: directories of its own beside the
//! user's, made for the checks and gone after them.

use crate::settings::Settings;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// Longest that one command may take.
pub(super) const LIMIT: Duration = Duration::from_secs(300);

/// Waits between restarts while checks run, as `BELUGA_BACKOFF` has them.
const BACKOFF: &str = "0.2,1,600";

/// Why the checks cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ConformanceError {
    /// Others are at it.
    #[error("checks are being run already: {path} is in use")]
    Busy {
        /// Their directory.
        path: PathBuf,
    },
    /// A file of the instance.
    #[error("cannot {doing} {path}")]
    Path {
        /// `make`, …
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A command that has to be run before any check.
    #[error("cannot run the checks: {command} failed: {said}")]
    Command {
        /// The command.
        command: String,
        /// What it said.
        said: String,
    },
    /// After the checks something is left on the host.
    #[error("the checks have left something over in {path}: {said}")]
    LeftOver {
        /// Where.
        path: PathBuf,
        /// What.
        said: String,
    },
}

impl ConformanceError {
    fn path(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Path {
            doing,
            path,
            source,
        }
    }
}

/// What came of a command.
#[derive(Debug, Default)]
pub(super) struct Ran {
    /// The code; 128 and the signal of one that was killed.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// A root and a state of their own, held by a lock.
pub(super) struct Instance {
    pub root: PathBuf,
    state: PathBuf,
    program: PathBuf,
    _lock: OwnedFd,
}

impl Instance {
    /// Takes the place beside the user's own; what a killed run has left there goes.
    pub async fn take(settings: &Settings) -> Result<Self, ConformanceError> {
        let beside = |path: &Path| {
            let mut name = path.as_os_str().to_owned();
            name.push("-conformance");
            PathBuf::from(name)
        };
        let root = beside(&settings.root);
        let program = PathBuf::from("/proc/self/exe");
        let program = fs::read_link(&program).map_err(ConformanceError::path("read", &program))?;
        fs::create_dir_all(&root).map_err(ConformanceError::path("make", &root))?;
        let instance = Self {
            _lock: lock(&root)?,
            state: beside(&settings.state),
            root,
            program,
        };
        if instance.root.join("pods").exists() {
            instance.clear().await?;
        }
        Ok(instance)
    }

    /// A command of this very program, in this instance.
    pub fn beluga(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words);
        self.around(&mut command);
        command
    }

    /// A shell line of the host, for which `beluga` is this program.
    pub fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", line]);
        self.around(&mut command);
        command
    }

    /// Where the pods of a group are written down.
    pub fn manifest(&self) -> PathBuf {
        self.root.join("checks.yaml")
    }

    fn around(&self, command: &mut Command) {
        let mut path = self
            .program
            .parent()
            .unwrap_or(Path::new("/"))
            .as_os_str()
            .to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let variables: BTreeMap<&str, &std::ffi::OsStr> = BTreeMap::from([
            ("BELUGA_ROOT", self.root.as_os_str()),
            ("BELUGA_STATE", self.state.as_os_str()),
            ("BELUGA_BACKOFF", BACKOFF.as_ref()),
            ("NO_COLOR", "1".as_ref()),
            ("PATH", &path),
        ]);
        command
            .envs(variables)
            .env("MANIFEST", self.manifest())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            // Ctrl-C is for the command that runs the checks.
            .process_group(0);
    }

    /// Runs a command to its end. With the future goes all that it has begun.
    pub async fn run(mut command: Command) -> Ran {
        let ended = async {
            let child = command.spawn()?;
            let group = Running(child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)));
            let output = child.wait_with_output().await;
            std::mem::forget(group);
            output
        };
        match tokio::time::timeout(LIMIT, ended).await {
            Ok(Ok(output)) => {
                use std::os::unix::process::ExitStatusExt as _;
                let status = output.status;
                let signal = || 128 + status.signal().unwrap_or(0);
                Ran {
                    code: status.code().unwrap_or_else(signal),
                    out: String::from_utf8_lossy(&output.stdout).into_owned(),
                    err: String::from_utf8_lossy(&output.stderr).into_owned(),
                }
            }
            Ok(Err(error)) => Ran {
                code: 127,
                err: error.to_string(),
                ..Ran::default()
            },
            Err(_) => Ran {
                code: 124,
                err: format!("not done within {} s", LIMIT.as_secs()),
                ..Ran::default()
            },
        }
    }

    /// Runs a command that must succeed.
    pub async fn must(&self, words: &[&str]) -> Result<String, ConformanceError> {
        let ran = Self::run(self.beluga(words)).await;
        if ran.code == 0 {
            return Ok(ran.out);
        }
        Err(ConformanceError::Command {
            command: format!("beluga {}", words.join(" ")),
            said: format!("{}{}", ran.out, ran.err).trim_end().to_owned(),
        })
    }

    /// Ends all pods and deletes all objects of a group.
    pub async fn clear(&self) -> Result<(), ConformanceError> {
        let manifest = self.manifest();
        if let Some(path) = manifest.to_str()
            && manifest.exists()
        {
            let words = ["delete", "-f", path, "--ignore-not-found", "--now"];
            drop(Self::run(self.beluga(&words)).await);
            fs::remove_file(&manifest).map_err(ConformanceError::path("remove", &manifest))?;
        }
        let words = ["delete", "pod", "--all", "--force", "--grace-period", "0"];
        self.must(&words).await.map(drop)
    }

    /// Ends everything, makes sure that nothing is left, and removes the place.
    pub async fn leave(self) -> Result<(), ConformanceError> {
        let cleared = self.clear().await;
        drop(Self::run(self.beluga(&["gc"])).await);
        let left = self.must(&["gc", "--check"]).await;
        cleared?;
        left.map_err(|error| ConformanceError::LeftOver {
            path: self.root.clone(),
            said: error.to_string(),
        })?;
        for path in [&self.state, &self.root] {
            match fs::remove_dir_all(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(ConformanceError::path("remove", path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The process group of a command that has not ended.
struct Running(Option<Pid>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // One that is just ending is no error.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// The lock of a directory: it goes with it.
fn lock(root: &Path) -> Result<OwnedFd, ConformanceError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let file = rustix::fs::open(root, flags, Mode::empty())
        .map_err(|error| ConformanceError::path("open", root)(error.into()))?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        ConformanceError::Busy {
            path: root.to_owned(),
        }
    })?;
    Ok(file)
}
