//! Who is refused by the host: by its rights, and by its full disk.

use crate::{Instance, said};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The commands as somebody who may do nothing; `None` where we are not root ourselves.
fn as_nobody(beluga: &Instance, words: &[&str]) -> Option<(i32, String, String)> {
    use std::os::unix::process::CommandExt as _;
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    // What cargo has built may lie where nobody may look.
    let program = beluga.directory.join("beluga");
    if !program.exists() {
        std::fs::copy(env!("CARGO_BIN_EXE_beluga"), &program).unwrap();
    }
    let mut command = Command::new(&program);
    let ran = command
        .args(words)
        .current_dir(&beluga.directory)
        .env("BELUGA_ROOT", "root")
        .env("BELUGA_STATE", "state")
        .uid(65534)
        .gid(65534)
        .output();
    Some(said(&ran.unwrap()))
}

#[test]
fn who_may_not_is_told_so_and_what_to_do() {
    let beluga = Instance::new("nobody");
    std::fs::create_dir(beluga.directory.join("tree")).unwrap();
    assert_eq!(beluga.run(&["build", "-t", "made:1", "tree"]).0, 0);
    for words in [
        &["images"][..],
        &["rmi", "made:1"],
        &["image", "inspect", "made:1"],
    ] {
        let Some((code, out, err)) = as_nobody(&beluga, words) else {
            return;
        };
        assert_eq!(code, 1, "{out}{err}");
        assert!(
            err.starts_with("error: the images of this host may not be used by this user\n"),
            "{err}"
        );
        assert!(err.contains("Permission denied"), "{err}");
        assert!(
            err.contains("try: run it as root, or with images of your own: --root DIR"),
            "{err}"
        );
    }
}

#[test]
fn a_full_disk_is_told_with_what_gives_room() {
    let beluga = Instance::new("full");
    let tree = beluga.directory.join("tree");
    std::fs::create_dir(&tree).unwrap();
    std::fs::write(tree.join("zeros"), vec![7; 64 << 10]).unwrap();
    let Some(small) = small_disk(&beluga.directory.join("root")) else {
        return;
    };
    let (code, out, err) = beluga.run(&["build", "-t", "made:1", "tree"]);
    drop(small);
    assert_eq!(code, 1, "{out}{err}");
    assert!(err.contains("No space left on device"), "{err}");
    assert!(
        err.contains("try: `beluga df` shows what takes the space"),
        "{err}"
    );
}

/// A file system of few bytes; gone when dropped. `None` where none may be mounted.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(&self.0).status());
    }
}

fn small_disk(at: &Path) -> Option<Mounted> {
    std::fs::create_dir_all(at).unwrap();
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=32k", "small"])
        .arg(at)
        .stderr(Stdio::null())
        .status();
    mount.ok()?.success().then(|| Mounted(at.to_owned()))
}
