//! A user of the host who is not root: in the group of /dev/kvm, with a home of its
//! own, on a host that has one way out.

use crate::{Ran, SOON, eventually, run, run_with_input};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Nobody's number on the machines that run this.
pub const USER: u32 = 4711;

/// Further users that are this one's to give to pods.
pub const FURTHER: std::ops::Range<u32> = 700_000..765_536;

/// What it is called, and what it has, in a mount namespace: the machine's own files
/// stay as they are.
const AS_USER: &str = r#"for name in passwd subuid subgid; do
    mount --bind "$OWN/$name" /etc/$name || exit; done; exec setpriv "$@""#;

/// The user. What it runs goes on in a network namespace that stands for a host's
/// network: other stories have this host's own.
#[derive(Debug)]
pub struct Ordinary {
    own: TempDir,
    group: u32,
}

impl Ordinary {
    /// A user with empty directories.
    pub fn fresh() -> Self {
        let own = tempfile::tempdir().expect("a place in /tmp");
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(own.path(), open).expect("it is ours");
        for name in ["home", "run", "shared"] {
            let path = own.path().join(name);
            std::fs::create_dir(&path).expect("it is ours");
            std::os::unix::fs::chown(&path, Some(USER), Some(USER)).expect("we are root");
        }
        std::fs::write(own.path().join("index.html"), "outside\n").expect("it is ours");
        let passwd = std::fs::read_to_string("/etc/passwd").expect("it is there");
        let passwd = format!("{passwd}ordinary:x:{USER}:{USER}::/nonexistent:/bin/sh\n");
        let further = format!("ordinary:{}:{}\n", FURTHER.start, FURTHER.len());
        for (name, text) in [
            ("passwd", &passwd),
            ("subuid", &further),
            ("subgid", &further),
        ] {
            std::fs::write(own.path().join(name), text).expect("it is ours");
        }
        let group = std::fs::metadata("/dev/kvm").expect("the device").gid();
        let user = Self { own, group };
        user.make_network();
        user
    }

    /// A server behind the host's way out, and one on its loopback.
    fn make_network(&self) {
        let pages = self.own.path().display();
        let line = format!(
            "ip netns add ordinary && ip -n ordinary link set lo up &&
             ip -n ordinary link add wan up type dummy &&
             ip -n ordinary addr add 192.0.2.1/24 dev wan &&
             ip -n ordinary route add default via 192.0.2.254 &&
             for at in 192.0.2.1:9000 127.0.0.1:9001; do
             ip netns exec ordinary busybox httpd -p $at -h {pages} || exit; done"
        );
        run(Command::new("sh").args(["-c", &line]), SOON).ok();
    }

    /// A directory of the user's.
    pub fn shared(&self) -> PathBuf {
        self.own.path().join("shared")
    }

    /// Where sockets of the user's pods lie.
    pub fn sockets(&self) -> PathBuf {
        self.own.path().join("run/beluga/pods")
    }

    fn command(&self, words: &[&str]) -> Command {
        let (user, group) = (format!("--reuid={USER}"), self.group);
        let mut command = Command::new("nsenter");
        command
            .args(["--net=/run/netns/ordinary", "unshare", "--mount"])
            .args(["sh", "-c", AS_USER, "sh", &user])
            .args([&format!("--regid={USER}"), &format!("--groups={group}")])
            .arg("beluga")
            .args(words)
            .current_dir("/")
            .env("OWN", self.own.path())
            .env("HOME", self.own.path().join("home"))
            .env("XDG_RUNTIME_DIR", self.own.path().join("run"));
        for variable in ["BELUGA_ROOT", "BELUGA_STATE", "XDG_DATA_HOME"] {
            command.env_remove(variable);
        }
        command
    }

    /// Runs `beluga …` as the user, with the words of a line.
    #[track_caller]
    pub fn types(&self, line: &str) -> Ran {
        let words = shlex::split(line).unwrap_or_else(|| panic!("a quote is not closed: {line}"));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        run(&mut self.command(&words), SOON * 2)
    }

    /// The same with input.
    pub fn feeds(&self, words: &[&str], input: &str) -> Ran {
        run_with_input(&mut self.command(words), input.into(), SOON * 2)
    }

    /// Asserts that none of the user's processes is there any more, nor a socket.
    #[track_caller]
    pub fn has_nothing_left(&self) {
        eventually("no process of the user", || {
            let all = run(Command::new("ps").args(["-eo", "uid="]), SOON).ok();
            let is_its = |user: u32| user == USER || FURTHER.contains(&user);
            let mut users = all.out.split_whitespace().flat_map(str::parse);
            (!users.any(is_its)).then_some(())
        });
        let left = entries(&self.sockets());
        assert!(left.is_empty(), "{left:?}");
        self.types("gc --check").ok();
    }
}

/// Names in a directory.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    entries.flatten().map(|entry| entry.path()).collect()
}

impl Drop for Ordinary {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.types("describe pods"));
        }
        self.types("delete pod --all --grace-period 0");
        let line = "ip netns pids ordinary | xargs -r kill; ip netns del ordinary";
        let _ = Command::new("sh").args(["-c", line]).status();
    }
}
