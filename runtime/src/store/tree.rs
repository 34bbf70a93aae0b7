//! Removes directories that somebody else has filled, a pod as a rule: however deep
//! they are, with a bounded number of descriptors, without recursion, and following no
//! link.
//!
//! What lies deeper than [`MOST_OPEN`] directories is moved to the top, where the next
//! look finds it: no path is ever longer than one name.

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, open, openat, renameat, unlinkat};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// How many directories are open at once.
const MOST_OPEN: usize = 32;

/// A directory itself: through no link.
const ITSELF: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Removes a directory with all that is in it. Errors when it is not there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let top = match open(path, ITSELF, Mode::empty()) {
        // A link or a file in its place goes itself.
        Err(Errno::NOTDIR | Errno::LOOP) => return Ok(unlinkat(CWD, path, AtFlags::empty())?),
        opened => opened?,
    };
    let mut sweep = Sweep {
        top,
        moved: 0,
        has_got_on: true,
    };
    loop {
        match unlinkat(CWD, path, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) if sweep.has_got_on => sweep.look()?,
            removed => return Ok(removed?),
        }
    }
}

struct Sweep {
    top: OwnedFd,
    /// Names that were given to what was moved to the top.
    moved: u64,
    /// Something was removed or moved by the last look.
    has_got_on: bool,
}

impl Sweep {
    /// Removes what is found, from the bottom up.
    fn look(&mut self) -> io::Result<()> {
        self.has_got_on = false;
        // Each in the one before it, under this name.
        let mut open = vec![(CString::default(), Dir::read_from(&self.top)?)];
        loop {
            let depth = open.len();
            let Some((_, dir)) = open.last_mut() else {
                return Ok(());
            };
            let Some(entry) = dir.read().transpose()? else {
                self.leave(&mut open)?;
                continue;
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let is_directory = entry.file_type() == FileType::Directory;
            if !is_directory && self.is_removed(unlinkat(dir.fd()?, name, AtFlags::empty()))? {
                continue;
            }
            if depth == MOST_OPEN {
                self.lift(&open, name)?;
            } else {
                match openat(dir.fd()?, name, ITSELF, Mode::empty()) {
                    // Somebody else removes it as well.
                    Err(Errno::NOENT) => {}
                    child => open.push((name.to_owned(), Dir::new(child?)?)),
                }
            }
        }
    }

    /// Whether it has gone; it has not where it is a directory.
    fn is_removed(&mut self, outcome: Result<(), Errno>) -> io::Result<bool> {
        match outcome {
            Ok(()) => self.has_got_on = true,
            Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }

    /// Removes the last one, in which nothing more was found.
    fn leave(&mut self, open: &mut Vec<(CString, Dir)>) -> io::Result<()> {
        let left = open.pop();
        let (Some((name, _)), Some((_, parent))) = (left, open.last()) else {
            return Ok(());
        };
        match unlinkat(parent.fd()?, &name, AtFlags::REMOVEDIR) {
            // File systems may pass entries over while others are removed.
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            outcome => self.is_removed(outcome).map(drop),
        }
    }

    /// Moves a directory of the last one to the top.
    fn lift(&mut self, open: &[(CString, Dir)], name: &CStr) -> io::Result<()> {
        let Some((_, dir)) = open.last() else {
            return Ok(());
        };
        loop {
            let free = format!(".{}", self.moved);
            self.moved += 1;
            match renameat(dir.fd()?, name, self.top.as_fd(), free) {
                // Something of the pod's has the name.
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                outcome => return self.is_removed(outcome).map(drop),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{mkdirat, symlinkat};
    use std::fs;

    fn place() -> std::path::PathBuf {
        let random: [u8; 8] = crate::pod::random_bytes();
        let place =
            std::env::temp_dir().join(format!("beluga-tree-{}", u64::from_le_bytes(random)));
        fs::create_dir(&place).unwrap();
        place
    }

    /// A chain of directories, each with a file and a link beside the next one.
    fn chain(top: &Path, levels: usize, outside: &Path) {
        let mut dir = open(top, ITSELF, Mode::empty()).unwrap();
        for _ in 0..levels {
            let flags = OFlags::CREATE | OFlags::WRONLY;
            openat(&dir, "a", flags, Mode::RUSR).unwrap();
            symlinkat(outside, &dir, "l").unwrap();
            mkdirat(&dir, "d", Mode::RWXU).unwrap();
            dir = openat(&dir, "d", ITSELF, Mode::empty()).unwrap();
        }
    }

    /// Runs this test in a process that may have 64 files open; whether this is it.
    fn has_few_files(name: &str) -> bool {
        const CHILD: &str = "BELUGA_TEST_FEW_FILES";
        if std::env::var_os(CHILD).is_some() {
            return true;
        }
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "ulimit -n 64; exec \"$0\" --exact \"$1\""]);
        command.arg(std::env::current_exe().unwrap()).arg(name);
        let ran = command.env(CHILD, "1").output().unwrap();
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success() && said.contains("1 passed"), "{said}");
        false
    }

    #[test]
    fn a_tree_of_any_depth_goes_and_what_its_links_name_stays() {
        let name = "store::tree::tests::a_tree_of_any_depth_goes_and_what_its_links_name_stays";
        if !has_few_files(name) {
            return;
        }
        let (top, outside) = (place(), place());
        fs::write(outside.join("kept"), "somebody's").unwrap();
        chain(&top, 5000, &outside);
        for (at, name) in [".0", ".1", ".2"].into_iter().enumerate() {
            // Names that what is moved would have.
            match at {
                0 => fs::write(top.join(name), "").unwrap(),
                _ => fs::create_dir_all(top.join(name).join("x/y")).unwrap(),
            }
        }
        for wide in 0..200 {
            fs::create_dir_all(top.join(format!("w{wide}/x/y"))).unwrap();
        }
        remove(&top).unwrap();
        assert!(!top.exists());
        assert_eq!(fs::read(outside.join("kept")).unwrap(), b"somebody's");
        assert_eq!(remove(&top).unwrap_err().kind(), io::ErrorKind::NotFound);
        std::os::unix::fs::symlink(&outside, &top).unwrap();
        remove(&top).unwrap();
        assert!(outside.join("kept").exists() && top.symlink_metadata().is_err());
        remove(&outside).unwrap();
    }
}
