//! `beluga cp`: files into containers and out of them, without a program there.

use beluga_tests::{Pod, Ran, shared};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt, symlink};
use std::path::Path;

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: copied}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: busybox, command: [sh, -c, 'rm -f $(which tar); exec sleep 600'], workingDir: /srv}
  - {name: app, image: busybox, command: [sleep, '600'], securityContext: {runAsUser: 1000}}
";

fn cp(words: &[&str]) -> Ran {
    shared().run(["cp"].iter().chain(words).copied())
}

/// A tree with all that a copy should keep.
fn tree(at: &Path) {
    std::fs::create_dir_all(at.join("a/b")).expect("made");
    std::fs::write(at.join("a/b/big"), vec![b'x'; 8 << 20]).expect("written");
    std::fs::set_permissions(at.join("a/b/big"), PermissionsExt::from_mode(0o751)).expect("set");
    std::fs::hard_link(at.join("a/b/big"), at.join("again")).expect("linked");
    symlink("a/b/big", at.join("link")).expect("linked");
    let sparse = std::fs::File::create(at.join("sparse")).expect("made");
    sparse.set_len(256 << 20).expect("set");
    sparse.write_all_at(b"end", 200 << 20).expect("written");
}

#[test]
fn cp_keeps_modes_links_and_holes_both_ways() {
    let pod = shared().pod(POD);
    let here = tempfile::tempdir().expect("a place");
    let path = |name: &str| here.path().join(name).to_string_lossy().into_owned();
    tree(&here.path().join("tree"));
    cp(&["-c", "main", &path("tree"), "copied:/tmp/new"]).ok();
    let seen = "cd /tmp/new; stat -c '%a %h' a/b/big; stat -c %s sparse; readlink link; du -m sparse | cut -f 1";
    assert_eq!(pod.sh("main", seen), "751 2\n268435456\na/b/big\n1");
    // Into a directory that is there, then out of it again.
    cp(&["-c", "main", &path("tree"), "default/copied:/tmp"]).ok();
    pod.sh(
        "main",
        "test -e /tmp/tree/link && chmod 4755 /tmp/tree/a/b/big",
    );
    cp(&["-c", "main", "copied:/tmp/tree", &path("back")]).ok();
    let back = here.path().join("back");
    let found = |name: &str| std::fs::symlink_metadata(back.join(name)).expect("it came");
    assert_eq!(
        std::fs::read(back.join("a/b/big")).expect("read"),
        vec![b'x'; 8 << 20]
    );
    assert_eq!(
        (found("a/b/big").mode() & 0o7777, found("a/b/big").nlink()),
        (0o755, 2)
    );
    assert_eq!(
        (found("sparse").size(), found("sparse").blocks() < 4096),
        (256 << 20, true)
    );
    assert_eq!(
        std::fs::read_link(back.join("link")).expect("a link"),
        Path::new("a/b/big")
    );
    owners_and_errors(&pod, &path);
}

fn owners_and_errors(pod: &Pod, path: &dyn Fn(&str) -> String) {
    let file = path("tree/a/b/big");
    cp(&["-c", "app", &file, "copied:/tmp/mine"]).ok();
    assert_eq!(pod.sh("app", "stat -c '%u %a' /tmp/mine"), "1000 751");
    cp(&["-c", "app", &file, "copied:/etc/passwd"])
        .exits(1)
        .complains("Permission denied");
    cp(&["-c", "main", &file, "copied:relative"]).ok();
    assert_eq!(pod.sh("main", "ls /srv"), "relative");
    cp(&["-c", "main", &file, "copied:/no/such/place"])
        .exits(1)
        .complains("No such file");
    cp(&["-c", "main", "copied:/nobody", &path("x")])
        .exits(1)
        .complains("/nobody");
    cp(&[&path("nobody"), "copied:/tmp"])
        .exits(1)
        .complains("nobody");
    cp(&["copied:/a", "copied:/b"])
        .exits(2)
        .complains("POD:PATH");
    // A link at the path itself means what it means in the container.
    pod.sh(
        "main",
        "echo inside > /etc/hostname.test; ln -s /etc/hostname.test /tmp/l",
    );
    cp(&["-c", "main", "copied:/tmp/l", &path("l")]).ok();
    assert_eq!(
        std::fs::read_to_string(path("l")).expect("read"),
        "inside\n"
    );
}
