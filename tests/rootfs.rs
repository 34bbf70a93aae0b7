//! How the guest's files are made: the same inputs give the same bytes, and the
//! kernel's cache key follows its inputs and nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

fn rootfs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../rootfs")
}

/// Standard output of a command that succeeds.
#[track_caller]
fn output(command: &mut Command) -> String {
    let done = command.output().expect("it can be run");
    assert!(
        done.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8(done.stdout).expect("text")
}

/// An initramfs made in a directory and with a umask of its own, of an agent
/// with a mode and a time of its own.
fn packed(agent: &[u8], umask: &str, mode: &str, date: &str) -> Vec<u8> {
    let work = TempDir::new().expect("a directory");
    let (program, out) = (work.path().join("agent"), work.path().join("out.cpio"));
    fs::write(&program, agent).expect("an agent");
    output(Command::new("chmod").arg(mode).arg(&program));
    output(Command::new("touch").args(["-d", date]).arg(&program));
    let line = format!("umask {umask}; exec \"$@\"");
    output(
        Command::new("sh")
            .args(["-c", &line, "sh"])
            .arg(rootfs().join("initramfs.sh"))
            .args([&program, &out]),
    );
    fs::read(out).expect("an archive")
}

#[test]
fn the_same_agent_gives_the_same_initramfs() {
    let agent = b"an agent of 22 bytes..";
    let first = packed(agent, "022", "755", "2001-01-01");
    assert_eq!(first, packed(agent, "077", "600", "2024-02-29"));
    assert_ne!(first, packed(b"another", "022", "755", "2001-01-01"));
}

#[test]
fn the_initramfs_holds_the_agent_and_nothing_else() {
    let archive = packed(b"an agent", "022", "755", "2001-01-01");
    let list = |flag: &str| {
        let work = TempDir::new().expect("a directory");
        fs::write(work.path().join("a.cpio"), &archive).expect("an archive");
        let line = format!("busybox cpio {flag} < a.cpio 2>/dev/null; [ ! -e init ] || cat init");
        output(
            Command::new("sh")
                .args(["-c", &line])
                .current_dir(work.path()),
        )
    };
    assert_eq!(list("-t"), "init\n");
    assert_eq!(list("-i"), "an agent");
}

/// The kernel's cache key after `change` was made to a copy of rootfs/.
fn key(change: impl Fn(&Path)) -> String {
    let work = TempDir::new().expect("a directory");
    output(Command::new("cp").arg("-r").arg(rootfs()).arg(work.path()));
    let copy = work.path().join("rootfs");
    change(&copy);
    let said = output(Command::new(copy.join("build.sh")).arg("key"));
    said.split(' ').next().expect("a key").to_owned()
}

/// Appends a line to a file.
fn append(file: PathBuf, line: &str) {
    let before = fs::read_to_string(&file).expect("a file");
    fs::write(file, format!("{before}{line}\n")).expect("written");
}

fn patch(rootfs: &Path) -> PathBuf {
    let found = fs::read_dir(rootfs.join("patches")).expect("patches");
    found.flatten().next().expect("a patch").path()
}

#[test]
fn the_kernels_key_follows_its_inputs() {
    let now = key(|_| ());
    assert_ne!(
        now,
        key(|copy| append(copy.join("kernel.config"), "CONFIG_X=y"))
    );
    assert_ne!(now, key(|copy| append(copy.join("pack-kernel.py"), "#")));
    assert_ne!(now, key(|copy| append(patch(copy), "--- a/x")));
    let without = key(|copy| fs::remove_file(patch(copy)).expect("removed"));
    assert_ne!(now, without);
}

#[test]
fn a_comment_builds_no_kernel() {
    let now = key(|_| ());
    assert_eq!(
        now,
        key(|copy| append(copy.join("kernel.config"), "# Why."))
    );
    let reason = |copy: &Path| {
        let file = patch(copy);
        let text = fs::read_to_string(&file).expect("a patch");
        fs::write(&file, format!("A reason.\n{text}")).expect("written");
    };
    assert_eq!(now, key(reason));
}
