//! A containerd of a story's own, which runs pods through the built shim.

use crate::cri::{Client, ImageSpec, ImageStatusRequest};
use crate::{Beluga, Ran, SOON, eventually, image, run, run_with_input};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use tempfile::TempDir;

/// The name under which containerd finds the shim.
pub const RUNTIME: &str = "io.containerd.beluga.v2";

/// What busybox is called once its archive is imported.
pub const BUSYBOX: &str = "docker.io/library/busybox:latest";

/// The CRI plugin's namespace.
const KUBERNETES: &str = "k8s.io";

/// What a user is told to configure, which is what is configured here.
const DOCUMENT: &str = include_str!("../../docs/containerd.md");

/// What the plugin is told besides: an image that is there, and a network of its own.
/// `@` is where containerd lies.
const CRI: &str = r#"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/library/busybox:latest"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "@/net.d"
"#;

/// The same for 2.x.
const CRI_2: &str = r#"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "docker.io/library/busybox:latest"
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["/usr/lib/cni"]
  conf_dir = "@/net.d"
"#;

/// A line to the host for each pod, with nothing that stays.
const NETWORK: &str = r#"{
  "cniVersion": "0.4.0", "name": "pods",
  "plugins": [
    {"type": "ptp", "mtu": 1450,
     "ipam": {"type": "host-local", "dataDir": "@/leases", "subnet": "10.79.0.0/24",
              "routes": [{"dst": "0.0.0.0/0"}]}}
  ]
}"#;

/// MiB that a machine costs beside its containers, as the document's RuntimeClass says.
#[must_use]
pub fn overhead_mib() -> u64 {
    let after = DOCUMENT.split("podFixed: {memory: ").nth(1);
    let figure = after.and_then(|text| text.split("Mi").next()?.parse().ok());
    figure.expect("the document says it")
}

/// Whose containerd: Debian's of a release, as tests/containerds.sh has fetched those that
/// are not this machine's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// 1.6, which is installed.
    Bookworm,
    /// 1.7.
    Trixie,
    /// 2.x.
    Forky,
}

impl Release {
    /// containerd or one of its companions.
    fn program(self, name: &str) -> PathBuf {
        let suite = match self {
            Self::Bookworm => return PathBuf::from(name),
            Self::Trixie => "trixie",
            Self::Forky => "forky",
        };
        let cache = std::env::var_os("BELUGA_CACHE").unwrap_or("/var/cache/beluga".into());
        let place = Path::new(&cache).join("containerd").join(suite);
        place.join("usr/bin").join(name)
    }

    /// The version of its configuration's syntax.
    fn syntax(self) -> u32 {
        match self {
            Self::Bookworm | Self::Trixie => 2,
            Self::Forky => 3,
        }
    }

    /// What is the host's own, where nothing is said of it: two would want the same socket,
    /// and the later one ends.
    fn apart(self) -> &'static str {
        match self {
            Self::Bookworm | Self::Trixie => "",
            Self::Forky => {
                "[plugins.\"io.containerd.nri.v1.nri\"]\n  socket_path = \"@/nri.sock\"\n"
            }
        }
    }

    /// What the document says for it, and what only stories need.
    fn cri(self) -> String {
        let heading = format!("version = {}\n", self.syntax());
        let mut shown = DOCUMENT.split("```toml\n").skip(1);
        let shown = shown.find_map(|block| block.strip_prefix(&heading)?.split("```").next());
        let more = if self.syntax() == 3 { CRI_2 } else { CRI };
        format!("{}{more}", shown.expect("the document shows it"))
    }
}

/// Debian's containerd with a root, a state and a configuration of its own, and
/// busybox in it; ended when it is dropped.
#[derive(Debug)]
pub struct Containerd {
    place: TempDir,
    child: Mutex<Child>,
    release: Release,
    /// Where its pods are on record.
    pub beluga: Beluga,
}

impl Containerd {
    /// Starts one and imports busybox. `more` is said of its plugins.
    #[must_use]
    pub fn start(release: Release, more: &str) -> Self {
        // overlayfs does not lie on overlayfs, which a lab host's root is.
        let place = tempfile::Builder::new().prefix("ctd-").tempdir_in("/run");
        let place = place.expect("a place in /run");
        let at = place.path().display();
        let config = format!(
            "version = {}\nroot = \"{at}/root\"\nstate = \"{at}/state\"\n{more}\n\
             [grpc]\n  address = \"{at}/c.sock\"\n[ttrpc]\n  address = \"{at}/c.sock.ttrpc\"\n{}",
            release.syntax(),
            release.apart()
        );
        let config = config.replace('@', &at.to_string());
        std::fs::write(place.path().join("config.toml"), config).expect("a file");
        let beluga = Beluga::fresh();
        let child = Mutex::new(spawn(release, place.path(), &beluga));
        let containerd = Self {
            place,
            child,
            release,
            beluga,
        };
        containerd.answers();
        let imported = containerd.ctr(&["image", "import", &image("busybox")]);
        imported.ok().says(BUSYBOX);
        containerd
    }

    /// One with the CRI plugin, and a client that speaks to it like a kubelet.
    #[must_use]
    pub fn with_cri(release: Release) -> (Self, Client) {
        let containerd = Self::start(release, &release.cri());
        let place = containerd.place.path();
        let network = NETWORK.replace('@', &place.display().to_string());
        std::fs::create_dir_all(place.join("net.d")).expect("a directory");
        std::fs::write(place.join("net.d/10-pods.conflist"), network).expect("a file");
        let client = Client::new(&place.join("c.sock"), "beluga", place.join("logs"));
        let import = ["-n", KUBERNETES, "image", "import", &image("busybox")];
        containerd.ctr(&import).ok().says(BUSYBOX);
        eventually("the plugin knows the image and the network", || {
            let spec = ImageSpec {
                image: BUSYBOX.to_owned(),
                ..ImageSpec::default()
            };
            let request = ImageStatusRequest {
                image: Some(spec),
                verbose: false,
            };
            let asked = async { client.images().image_status(request).await };
            let is_here = client.call(asked).ok()?.image.is_some();
            (is_here && client.is_ready()).then_some(())
        });
        (containerd, client)
    }

    /// Where it lies: its sockets, its state, its configuration.
    #[must_use]
    pub fn place(&self) -> &Path {
        self.place.path()
    }

    /// Kills it and starts it again, over what it has noted.
    pub fn restart(&self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.kill().expect("it is ours");
        child.wait().expect("it has ended");
        *child = spawn(self.release, self.place.path(), &self.beluga);
        drop(child);
        self.answers();
    }

    fn answers(&self) {
        eventually("containerd answers", || {
            (self.ctr(&["version"]).code == 0).then_some(())
        });
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.release.program("ctr"));
        command.arg("-a").arg(self.place.path().join("c.sock"));
        command.args(args);
        command
    }

    /// Runs `ctr`.
    pub fn ctr(&self, args: &[&str]) -> Ran {
        run(&mut self.command(args), SOON * 2)
    }

    /// The same, with input.
    pub fn feed(&self, args: &[&str], input: &[u8]) -> Ran {
        run_with_input(&mut self.command(args), input.to_vec(), SOON * 2)
    }

    /// `ctr run` of busybox with the shim; `more` are its options.
    pub fn run(&self, more: &[&str], name: &str, line: &str) -> Ran {
        self.run_in("default", more, name, line)
    }

    /// The same in a namespace of containerd.
    pub fn run_in(&self, namespace: &str, more: &[&str], name: &str, line: &str) -> Ran {
        let before = ["-n", namespace, "run", "--runtime", RUNTIME];
        let after = [BUSYBOX, name, "/bin/sh", "-c", line];
        self.ctr(&[&before[..], more, &after[..]].concat())
    }

    /// Waits until a task is said to be so.
    pub fn until(&self, task: &str, state: &str) {
        eventually(&format!("{task} is {state}"), || {
            let all = self.ctr(&["task", "ls"]).ok().out;
            let mut lines = all.lines();
            lines
                .any(|line| line.starts_with(task) && line.ends_with(state))
                .then_some(())
        });
    }

    /// Asserts that nothing of any task is there: no process, mount or record.
    #[track_caller]
    pub fn is_clean(&self) {
        self.beluga.is_clean();
        let mounts = std::fs::read_to_string("/proc/mounts").expect("it is always there");
        let at = self.place.path().display().to_string();
        let left: Vec<&str> = mounts.lines().filter(|line| line.contains(&at)).collect();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(self.shims(), Vec::<i32>::new(), "shims are left");
    }

    /// The processes that serve its pods.
    #[must_use]
    pub fn shims(&self) -> Vec<i32> {
        processes_that_name(&self.place.path().join("c.sock"))
    }

    /// Kills these processes, and their pods' supervisors with them.
    pub fn kill_shims(&self) {
        let supervisors = processes_that_name(self.beluga.state());
        let all = self.shims().into_iter().chain(supervisors);
        let all: Vec<String> = all.map(|pid| pid.to_string()).collect();
        let killed = Command::new("kill").arg("-9").args(&all).status();
        assert!(killed.is_ok_and(|status| status.success()), "{all:?}");
    }
}

/// The shim's processes in whose command line a path is.
fn processes_that_name(path: &Path) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").expect("it is always there");
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_such = |pid: &i32| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline"));
        line.is_ok_and(|line| {
            line.contains("containerd-shim-beluga-v2") && line.contains(&path.display().to_string())
        })
    };
    numbers.filter(is_such).collect()
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.place.path().join("log"));
            eprintln!("--- containerd\n{}", log.unwrap_or_default());
            let _ = self.ctr(&["task", "ls"]);
        }
        for pid in self.shims() {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
        let child = self.child.get_mut();
        let child = child.unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn spawn(release: Release, place: &Path, beluga: &Beluga) -> Child {
    let log = std::fs::File::options();
    let log = { log }.create(true).append(true).open(place.join("log"));
    Command::new(release.program("containerd"))
        .arg("-c")
        .arg(place.join("config.toml"))
        .env("BELUGA_ROOT", beluga.root())
        .env("BELUGA_STATE", beluga.state())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.expect("a file"))
        .spawn()
        .expect("containerd is there")
}
