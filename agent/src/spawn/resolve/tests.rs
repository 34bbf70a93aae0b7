use super::*;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// A directory that goes with the test; the tree is `inside` of it.
struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Self {
        let base = std::env::temp_dir().join(format!("paths-{}-{name}", std::process::id()));
        std::fs::create_dir_all(base.join("inside")).unwrap();
        std::fs::create_dir_all(base.join("outside/secret")).unwrap();
        Self(base.canonicalize().unwrap())
    }

    fn root(&self) -> OwnedFd {
        rustix::fs::open(
            self.0.join("inside"),
            DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .unwrap()
    }

    fn link(&self, at: &str, target: &str) {
        symlink(target, self.0.join("inside").join(at)).unwrap();
    }

    fn holds(&self, fd: &OwnedFd) -> bool {
        where_is(fd).starts_with(self.0.join("inside"))
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn where_is(fd: &OwnedFd) -> PathBuf {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap()
}

/// xorshift: the same numbers every time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

const MODE: Mode = Mode::from_bits_retain(0o755);

#[test]
fn components_never_climb() {
    assert_eq!(components("/a/./b//../c/"), ["a", "c"]);
    assert_eq!(components("/../../.."), Vec::<&str>::new());
    assert_eq!(components("../x"), ["x"]);
}

#[test]
fn missing_directories_are_made_behind_links_of_the_root() {
    let tree = Tree::new("made");
    tree.link("run", "/somewhere/else");
    tree.link("up", "../../../../outside");
    let root = tree.root();
    for (path, place) in [
        ("/a/b/c", "a/b/c"),
        ("/run/x", "somewhere/else/x"),
        ("/up/secret", "outside/secret"),
        ("/a/../../../d", "d"),
    ] {
        let made = directory(&root, path, MODE, Boundary::Root).unwrap();
        assert_eq!(where_is(&made), tree.0.join("inside").join(place), "{path}");
    }
    assert!(file(&root, "/run/x/y/hosts").is_ok_and(|fd| tree.holds(&fd)));
    assert!(matches!(
        file(&root, "/a/b"),
        Err(PathError::IsDirectory { .. })
    ));
}

#[test]
fn a_fence_refuses_what_a_root_would_redirect() {
    let tree = Tree::new("fence");
    tree.link("absolute", "/etc");
    tree.link("dangling", "/not/yet");
    tree.link("up", "../outside");
    tree.link("loop", "loop");
    let root = tree.root();
    for path in [
        "absolute",
        "absolute/x",
        "dangling",
        "dangling/x",
        "up",
        "up/secret",
    ] {
        let found = directory(&root, path, MODE, Boundary::Fence);
        assert!(
            matches!(found, Err(PathError::Escapes { .. })),
            "{path}: {found:?}"
        );
    }
    let found = directory(&root, "loop/x", MODE, Boundary::Fence);
    assert!(
        matches!(found, Err(PathError::TooManyLinks { .. })),
        "{found:?}"
    );
}

#[test]
fn a_link_cannot_stand_for_a_real_directory() {
    let tree = Tree::new("real");
    tree.link("proc", "tmp");
    let root = tree.root();
    assert!(matches!(
        real_directory(&root, "/proc"),
        Err(PathError::IsLink { .. })
    ));
    assert!(real_directory(&root, "/sys/fs/cgroup").is_ok_and(|fd| tree.holds(&fd)));
}

#[test]
fn no_path_through_no_links_leads_out() {
    const NAMES: [&str; 6] = ["a", "b", "c", "..", ".", "d"];
    const TARGETS: [&str; 8] = [
        "/",
        "..",
        "../..",
        "a/../..",
        "/a/b",
        "../../outside",
        "b/c",
        "../../../../tmp",
    ];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..40 {
        let tree = Tree::new(&format!("random{round}"));
        let root = tree.root();
        for _ in 0..6 {
            let at = NAMES[random.below(3)];
            let target = TARGETS[random.below(TARGETS.len())];
            let place = tree.0.join("inside").join(at);
            if std::fs::symlink_metadata(&place).is_err() {
                symlink(target, place).unwrap();
            }
        }
        for _ in 0..50 {
            let parts: Vec<&str> = (0..1 + random.below(6))
                .map(|_| NAMES[random.below(NAMES.len())])
                .collect();
            let path = parts.join("/");
            for boundary in [Boundary::Root, Boundary::Fence] {
                if let Ok(fd) = directory(&root, &path, MODE, boundary) {
                    assert!(tree.holds(&fd), "{path} is {:?}", where_is(&fd));
                }
            }
            if let Ok(fd) = file(&root, &path) {
                assert!(tree.holds(&fd), "{path} is {:?}", where_is(&fd));
            }
        }
        let outside: Vec<_> = std::fs::read_dir(tree.0.join("outside")).unwrap().collect();
        assert_eq!(outside.len(), 1, "something was made outside");
    }
}

#[test]
fn a_directory_that_becomes_a_link_meanwhile_does_not_lead_out() {
    let tree = Tree::new("race");
    let inside = tree.0.join("inside");
    std::fs::create_dir_all(inside.join("flip/secret")).unwrap();
    symlink("../outside", inside.join("flop")).unwrap();
    let stop = AtomicBool::new(false);
    let exchange = |at: &Path| {
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        let (one, two) = (at.join("flip"), at.join("flop"));
        rustix::fs::renameat_with(rustix::fs::CWD, one, rustix::fs::CWD, two, flags).unwrap();
    };
    let mut escaped = false;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                exchange(&inside);
            }
        });
        let root = tree.root();
        for number in 0..3000 {
            let path = format!("flip/secret/{}", number % 7);
            for boundary in [Boundary::Root, Boundary::Fence] {
                let found = directory(&root, &path, MODE, boundary);
                escaped |= found.is_ok_and(|fd| !tree.holds(&fd));
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(!escaped);
    let secret = std::fs::read_dir(tree.0.join("outside/secret")).unwrap();
    assert_eq!(secret.count(), 0, "something was made outside");
}
