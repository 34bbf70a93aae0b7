//! Directories that nobody but their owner may enter, whatever the umask of whoever
//! makes them.

use crate::path_error::PathError;
use rustix::fs::Mode;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

/// Makes the directory, and those above it that are missing. One that is there stays
/// as it is.
pub fn make(path: &Path) -> Result<(), PathError> {
    let mut builder = std::fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(path);
    made.map_err(PathError::on("make directory", path))
}

/// What this process makes from here on is its user's alone. For processes that make
/// nothing in the name of others.
pub fn by_default() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

/// Runs what makes files of the host that are not ours alone, as a kubelet makes them.
pub fn but_for<T>(make: impl FnOnce() -> T) -> T {
    let before = rustix::process::umask(Mode::WGRP | Mode::WOTH);
    let made = make();
    rustix::process::umask(before);
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const VARIABLE: &str = "BELUGA_TEST_UMASK";

    /// The mask is the process's, which other tests share: this is of a process of its own.
    #[test]
    fn whatever_the_umask_what_is_ours_is_ours_alone() {
        if std::env::var_os(VARIABLE).is_some() {
            return made_with_an_open_umask();
        }
        let program = std::env::current_exe().unwrap();
        let mut child = std::process::Command::new(program);
        let name = "store::private::tests::whatever_the_umask_what_is_ours_is_ours_alone";
        child.args(["--exact", name]).env(VARIABLE, "1");
        let output = child.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
        assert!(text.contains("1 passed"), "{text}");
    }

    fn made_with_an_open_umask() {
        let random: [u8; 8] = crate::pod::random_bytes();
        let top = std::env::temp_dir().join(format!("beluga-{:x}", u64::from_ne_bytes(random)));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        rustix::process::umask(Mode::empty());
        make(&top.join("pods/uid")).unwrap();
        drop(crate::api::listen(&top.join("supervisor.sock")).unwrap());
        by_default();
        std::fs::write(top.join("log"), "").unwrap();
        but_for(|| std::fs::create_dir(top.join("volume"))).unwrap();
        let names = ["", "pods", "pods/uid", "supervisor.sock", "log", "volume"];
        let modes = names.map(|name| mode(&top.join(name)));
        std::fs::remove_dir_all(&top).unwrap();
        assert_eq!(modes, [0o700, 0o700, 0o700, 0o600, 0o600, 0o755]);
    }
}
