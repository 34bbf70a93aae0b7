//! The pod's scratch disk: a sparse file with ext4 and project quotas.
//!
//! Formatting costs tens of milliseconds of CPU, so an empty file system of
//! each size is made once per root and copied: by reflink where the file
//! system can, otherwise only the blocks that hold data.

use super::lock::FileLock;
use crate::path_error::PathError;
use crate::settings::Settings;
use crate::store::private;
use rustix::fs::{SeekFrom, seek};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Counts up when [`MKE2FS_ARGUMENTS`] change.
const TEMPLATE_VERSION: u32 = 1;

/// No journal: scratch dies with its VM. No blocks for root alone: the guest's
/// containers are root. Everything not written is zero, so nothing is left
/// for the guest to initialise.
const MKE2FS_ARGUMENTS: [&str; 13] = [
    "-q",
    "-F",
    "-t",
    "ext4",
    "-b",
    "4096",
    "-m",
    "0",
    "-O",
    "quota,project,^has_journal,^resize_inode,^metadata_csum,uninit_bg",
    "-E",
    "quotatype=prjquota,assume_storage_prezeroed=1,lazy_itable_init=1,nodiscard,root_owner=0:0",
    "-L",
];

/// A disk that outlives its pod has a journal and checksums; a pod that is
/// killed leaves it as a host leaves its own disk when the power fails.
const LASTING_ARGUMENTS: [&str; 11] = [
    "-q",
    "-F",
    "-t",
    "ext4",
    "-b",
    "4096",
    "-m",
    "0",
    "-E",
    "assume_storage_prezeroed=1,lazy_itable_init=1,nodiscard,root_owner=0:0",
    "-L",
];

/// Why there is no scratch disk.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// A file of it.
    #[error(transparent)]
    Path(#[from] PathError),
    /// `mke2fs` cannot be run.
    #[error("cannot run mke2fs: install e2fsprogs")]
    NoMke2fs {
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// `mke2fs` failed.
    #[error("mke2fs cannot format {path}: {output}", path = .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it printed.
        output: String,
    },
}

/// Makes the disk at `path`, `bytes` long.
pub fn create(settings: &Settings, path: &Path, bytes: u64) -> Result<(), ScratchError> {
    let template = template(settings, bytes)?;
    Ok(copy_sparse(&template, path, bytes)
        .map_err(PathError::on("copy the empty file system to", path))?)
}

/// Makes a disk that outlives pods, with a journal, sparse. What an earlier
/// attempt has left at `path` is written over.
fn create_lasting(path: &Path, bytes: u64) -> Result<(), ScratchError> {
    new_disk(path, bytes, |temporary| {
        format(temporary, &LASTING_ARGUMENTS, "volume")
    })
}

/// The disk of a volume: lasting, or with nothing on it.
pub fn create_volume(path: &Path, bytes: u64, is_block: bool) -> Result<(), ScratchError> {
    if is_block {
        create_raw(path, bytes)
    } else {
        create_lasting(path, bytes)
    }
}

/// The same with nothing on it.
fn create_raw(path: &Path, bytes: u64) -> Result<(), ScratchError> {
    new_disk(path, bytes, |_| Ok(()))
}

fn new_disk(
    path: &Path,
    bytes: u64,
    fill: impl FnOnce(&Path) -> Result<(), ScratchError>,
) -> Result<(), ScratchError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let temporary = path.with_extension("img-new");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(PathError::on("make", &temporary))?;
    file.set_len(bytes)
        .map_err(PathError::on("size", &temporary))?;
    fill(&temporary)?;
    file.sync_all()
        .map_err(PathError::on("write", &temporary))?;
    Ok(std::fs::rename(&temporary, path).map_err(PathError::on("make", path))?)
}

fn format(path: &Path, arguments: &[&str], label: &str) -> Result<(), ScratchError> {
    let output = Command::new("mke2fs")
        .args(arguments)
        .arg(label)
        .arg(path)
        .env("PATH", search_path())
        .stdin(Stdio::null())
        .output()
        .map_err(|source| ScratchError::NoMke2fs { source })?;
    if output.status.success() {
        return Ok(());
    }
    let _ = std::fs::remove_file(path);
    Err(ScratchError::Format {
        path: path.to_owned(),
        output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

fn template(settings: &Settings, bytes: u64) -> Result<PathBuf, ScratchError> {
    let directory = settings.root.join("cache");
    let path = directory.join(format!("scratch-v{TEMPLATE_VERSION}-{bytes}.img"));
    if path.exists() {
        return Ok(path);
    }
    private::make(&directory)?;
    let lock = directory.join("lock");
    let _lock = FileLock::wait(&lock).map_err(PathError::on("lock", &lock))?;
    if path.exists() {
        return Ok(path);
    }
    let temporary = path.with_extension("new");
    let file = File::create(&temporary).map_err(PathError::on("make", &temporary))?;
    file.set_len(bytes)
        .map_err(PathError::on("size", &temporary))?;
    format(&temporary, &MKE2FS_ARGUMENTS, "scratch")?;
    std::fs::rename(&temporary, &path).map_err(PathError::on("make", &path))?;
    Ok(path)
}

/// The caller's PATH and where distributions keep administrators' programs.
fn search_path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/sbin")
}

fn copy_sparse(from: &Path, to: &Path, bytes: u64) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let from = File::open(from)?;
    let to = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)?;
    if rustix::fs::ioctl_ficlone(&to, &from).is_ok() {
        return Ok(());
    }
    to.set_len(bytes)?;
    let mut at = 0;
    loop {
        let data = match seek(&from, SeekFrom::Data(at)) {
            Ok(data) => data,
            // Nothing but a hole to the end.
            Err(rustix::io::Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let hole = seek(&from, SeekFrom::Hole(data))?;
        copy_range(&from, &to, data, hole)?;
        at = hole;
    }
}

fn copy_range(from: &File, to: &File, start: u64, end: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    let (mut read, mut written) = (start, start);
    while read < end {
        let length = usize::try_from(end - read).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut written), length) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            // Another file system on the other side: byte by byte.
            Err(
                rustix::io::Errno::XDEV | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP,
            ) => {
                let mut buffer = vec![0u8; length.min(64 << 10)];
                from.read_exact_at(&mut buffer, read)?;
                to.write_all_at(&buffer, read)?;
                read += buffer.len() as u64;
                written = read;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
