//! Every pod has a supervisor: gives a new pod its first, and an orphan its next.

use super::EngineError;
use crate::api::client::{self, Watch};
use crate::host::lock::FileLock;
use crate::host::{HostError, ordinary};
use crate::pod;
use crate::settings::Settings;
use crate::store::{self, Life, StoreError};
use beluga_proto::PodUid;
use rustix::io::FdFlags;
use std::ffi::OsStr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

/// Gives a pod that has lost its supervisor a new one. A pod that cannot go on
/// (its VM is gone, its host was restarted, its start was cut short) has its
/// end on record when this returns.
pub(super) async fn adopt(settings: &Settings, uid: &PodUid) -> Result<(), EngineError> {
    let Some(lock) = store::try_own(settings, uid)? else {
        return Ok(());
    };
    let Some(record) = store::read_record(settings, uid)? else {
        return Ok(());
    };
    if record.life == Life::Ended && !record.delete {
        return Ok(());
    }
    supervise(settings, uid, &lock, pod::TASK_ADOPT)?;
    drop(lock);
    // The first status says how it stands; an end shows as a closed socket.
    if let Ok(mut watch) = Watch::open(settings, uid).await {
        let _ = watch.next().await;
    }
    Ok(())
}

/// Starts a supervisor, which inherits the pod's lock and a listening socket.
pub(super) fn supervise(
    settings: &Settings,
    uid: &PodUid,
    lock: &FileLock,
    task: &str,
) -> Result<(), EngineError> {
    let error = |source| EngineError::Supervisor {
        uid: uid.clone(),
        source,
    };
    ordinary::own_state(settings).map_err(HostError::from)?;
    store::private::make(&settings.run_dir(uid)).map_err(StoreError::from)?;
    let socket = crate::api::listen(&client::socket_path(settings, uid)).map_err(error)?;
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(settings.pod_dir(uid).join("supervisor.log"))
        .map_err(error)?;
    let program = std::env::current_exe().map_err(error)?;
    share(&[lock.file(), &socket], true).map_err(error)?;
    let spawned = Command::new(program)
        .arg(pod::SUPERVISE)
        .arg(uid.as_str())
        .arg(&settings.root)
        .arg(&settings.state)
        .arg(lock.file().as_raw_fd().to_string())
        .arg(socket.as_raw_fd().to_string())
        .arg(task)
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| is_kept(name)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(error)?)
        .stderr(log)
        .process_group(0)
        .spawn();
    share(&[lock.file(), &socket], false).map_err(error)?;
    spawned.map(drop).map_err(error)
}

/// Whether a supervisor needs a variable of whoever starts the pod: what else a shell
/// has, tokens and passwords among it, is not kept in a process for a pod's life.
fn is_kept(name: &OsStr) -> bool {
    const OWN: [&str; 6] = [
        "PATH",
        "HOME",
        "USER",
        "TMPDIR",
        "TZ",
        "DBUS_SESSION_BUS_ADDRESS",
    ];
    const KINDS: [&[u8]; 3] = [b"BELUGA_", b"XDG_", b"CNI_"];
    let bytes = name.as_encoded_bytes();
    OWN.iter().any(|own| name == *own) || KINDS.iter().any(|kind| bytes.starts_with(kind))
}

/// Whether the next program that is run inherits these descriptors.
fn share(fds: &[&OwnedFd], inherit: bool) -> std::io::Result<()> {
    let flags = if inherit {
        FdFlags::empty()
    } else {
        FdFlags::CLOEXEC
    };
    for fd in fds {
        rustix::io::fcntl_setfd(fd, flags)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_keeps_no_secrets_of_the_shell_that_started_it() {
        let kept = ["PATH", "HOME", "BELUGA_VMM", "XDG_RUNTIME_DIR"];
        assert!(kept.iter().all(|name| is_kept(OsStr::new(name))));
        let others = [
            "AWS_SECRET_ACCESS_KEY",
            "GITHUB_TOKEN",
            "PATH2",
            "LD_PRELOAD",
        ];
        assert!(!others.iter().any(|name| is_kept(OsStr::new(name))));
    }
}
