//! The pseudo-terminal of a process, made in its container's own devpts, so
//! that `tty` and `/dev/pts/N` agree inside.

use super::error::{Context, HelperError};
use super::kernel::clone_mount;
use super::resolve::file;
use super::root::cover;
use beluga_proto::container::TerminalSize;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use std::os::fd::{AsFd, OwnedFd};

/// `DEVPTS_SUPER_MAGIC` of linux/magic.h.
const DEVPTS_MAGIC: i64 = 0x1cd1;

/// Both sides of a pseudo-terminal.
pub struct Terminal {
    /// The agent's side, non-blocking.
    pub master: OwnedFd,
    /// The process's side.
    pub slave: OwnedFd,
}

/// Makes a terminal in a devpts. `terminals` is hostile when a container has
/// run in it before: it must prove to be a devpts.
pub fn make(terminals: &OwnedFd, size: TerminalSize) -> Result<Terminal, HelperError> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH | ResolveFlags::NO_XDEV;
    let kind = rustix::fs::fstatfs(terminals).to("look at /dev/pts")?;
    if kind.f_type != DEVPTS_MAGIC {
        return Err(HelperError::Invalid {
            what: "/dev/pts of the container is no devpts: no terminal can be made".to_owned(),
        });
    }
    let master = rustix::fs::openat2(terminals, "ptmx", flags, Mode::empty(), resolve)
        .to("open /dev/pts/ptmx")?;
    rustix::pty::unlockpt(&master).to("unlock a terminal")?;
    // Without a path: whatever is mounted over /dev/pts/N does not matter.
    let slave = rustix::pty::ioctl_tiocgptpeer(
        &master,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )
    .to("open a terminal")?;
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.cols,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(&master, size).to("set a terminal's size")?;
    Ok(Terminal { master, slave })
}

/// Shows the terminal as /dev/console.
pub fn mount_console(devices: &OwnedFd, slave: &OwnedFd) -> Result<(), HelperError> {
    let place = file(devices, "console").to("make /dev/console")?;
    let mount = clone_mount(slave.as_fd()).to("copy the mount of a terminal")?;
    cover(&mount, &place).to("mount /dev/console")
}

/// Makes the terminal on standard input the controlling one. The process must
/// lead a session already.
pub fn control() -> Result<(), HelperError> {
    rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()).to("take the controlling terminal")
}

/// Makes the terminal the three standard streams.
pub fn take(slave: &OwnedFd) -> Result<(), HelperError> {
    rustix::stdio::dup2_stdin(slave).to("take standard input")?;
    rustix::stdio::dup2_stdout(slave).to("take standard output")?;
    rustix::stdio::dup2_stderr(slave).to("take standard error")
}
