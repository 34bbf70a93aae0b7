//! A place on a development machine where containers can be spawned: a mount
//! namespace of the test's own thread, with a busybox image on a tmpfs.

use super::super::*;
use beluga_proto::capability::{CAPABILITIES, DEFAULT_CAPABILITIES};
use beluga_proto::container::{CoveredPaths, Seccomp, UserSpec};
use beluga_proto::{ExecSpec, FaultCode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::{MountFlags, MountPropagationFlags, mount_bind, mount_change};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, waitpid};
use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Where everything of a test lies: on a tmpfs that only its thread sees.
pub const BASE: &str = "/run/beluga";

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n";
const GROUP: &str = "root:x:0:\napp:x:1000:\nlogs:x:20:app\n";

/// A place for containers; its cgroup goes with it.
pub struct Fixture {
    pub cgroup: PathBuf,
}

/// What came of a process.
pub struct Outcome {
    pub output: String,
    pub code: i32,
}

/// The fixture, or why there is none here.
pub fn fixture(name: &str) -> Option<Fixture> {
    match try_fixture(name) {
        Ok(fixture) => Some(fixture),
        Err(reason) => {
            skipped(name, &reason);
            None
        }
    }
}

/// Tells the gate that a test did not run; libtest keeps what the macros print
/// of a test that passes.
pub fn skipped(name: &str, reason: &str) {
    let line = format!("SKIPPED spawn::{name}: {reason}\n");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
}

fn try_fixture(name: &str) -> Result<Fixture, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("needs root".to_owned());
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .ok_or("needs busybox")?;
    let unified = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
        .into_iter()
        .find(|path| Path::new(path).join("cgroup.procs").exists())
        .ok_or("needs cgroup v2")?;
    let cgroup = Path::new(unified).join(format!("beluga-test-{}-{name}", std::process::id()));
    fs::create_dir_all(&cgroup).map_err(|error| format!("needs a cgroup: {error}"))?;
    // In the namespace that the test program was executed in: a mount can be
    // cloned only there.
    program_file().map_err(|error| format!("needs open_tree: {error}"))?;
    crate::sys::spawn::unshare(rustix::thread::UnshareFlags::NEWNS)
        .map_err(|error| format!("needs a mount namespace: {error}"))?;
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .unwrap();
    rustix::mount::mount("tmpfs", "/run", "tmpfs", MountFlags::empty(), None).unwrap();
    for dir in [
        "root",
        "layers/1",
        "image",
        "volumes/data",
        "etc",
        "scratch",
    ] {
        fs::create_dir_all(Path::new(BASE).join(dir)).unwrap();
    }
    image(busybox);
    mount_bind(format!("{BASE}/image"), format!("{BASE}/layers/1")).unwrap();
    fs::write(format!("{BASE}/etc/hosts"), "127.0.0.1 localhost\n").unwrap();
    fs::write(format!("{BASE}/etc/secret"), "the guest's own\n").unwrap();
    Ok(Fixture { cgroup })
}

fn image(busybox: &str) {
    let root = Path::new(BASE).join("image");
    for dir in ["bin", "etc", "root", "tmp", "usr/bin", "home/app"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::copy(busybox, root.join("bin/busybox")).unwrap();
    let applets = "sh cat ls id env pwd tty stty sleep readlink mount umount mkdir touch chroot \
        test true false echo stat wc head ps unshare mknod dd chown rm kill grep";
    for applet in applets.split_whitespace() {
        fs::hard_link(root.join("bin/busybox"), root.join("bin").join(applet)).unwrap();
    }
    fs::write(root.join("etc/passwd"), PASSWD).unwrap();
    fs::write(root.join("etc/group"), GROUP).unwrap();
    fs::write(root.join("bin/data"), "no program\n").unwrap();
    fs::write(root.join("bin/orphan"), "#!/no/such/interpreter\n").unwrap();
    for (name, mode) in [("data", 0o644), ("orphan", 0o755)] {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(root.join("bin").join(name), mode).unwrap();
    }
    symlink("/run/beluga/etc", root.join("escape")).unwrap();
    symlink("../../../../../../../../run/beluga/etc", root.join("climb")).unwrap();
    symlink("/proc/self", root.join("kernel")).unwrap();
    symlink("/not/yet", root.join("dangling")).unwrap();
}

/// A shell command as a process.
pub fn shell(script: &str) -> ExecSpec {
    ExecSpec {
        args: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: vec!["PATH=/bin".to_owned()],
        cwd: "/".to_owned(),
        user: UserSpec::default(),
        capabilities: DEFAULT_CAPABILITIES.map(str::to_owned).to_vec(),
        no_new_privileges: false,
        seccomp: Seccomp::RuntimeDefault,
        rlimits: Vec::new(),
        oom_score_adj: 0,
        tty: None,
        stdin: false,
    }
}

/// Every capability there is.
pub fn all_capabilities() -> Vec<String> {
    CAPABILITIES.map(str::to_owned).to_vec()
}

impl Fixture {
    /// A container of the busybox image.
    pub fn plan(&self, process: ExecSpec) -> SpawnPlan {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        SpawnPlan {
            place: Place::Create(Box::new(RootPlan {
                lower: None,
                images: Vec::new(),
                devices: Vec::new(),
                layers: vec![LayerMount {
                    device: "/dev/none".to_owned(),
                    mount_point: format!("{BASE}/layers/1"),
                }],
                writable: Writable {
                    dir: format!("{BASE}/scratch/{number}"),
                    project: None,
                },
                read_only: false,
                root: format!("{BASE}/root"),
                mounts: Vec::new(),
                files: vec![FileMount {
                    source: format!("{BASE}/etc/hosts"),
                    destination: "/etc/hosts".to_owned(),
                }],
                covered: CoveredPaths::default(),
                termination_log: None,
                shared_pid: None,
            })),
            process,
            cgroup: self.cgroup.display().to_string(),
            privileged: false,
            mask_paths: true,
            copy: None,
        }
    }

    /// A process beside another one.
    pub fn join(&self, pid: u32, process: ExecSpec) -> SpawnPlan {
        SpawnPlan {
            place: Place::Join { pid, unseen: true },
            ..self.plan(process)
        }
    }

    /// Runs a plan to its end.
    pub fn run(&self, plan: &SpawnPlan) -> Outcome {
        let (spawning, mut output) = self.begin(plan);
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        Outcome {
            output: text,
            code: wait(spawning.pid),
        }
    }

    /// The fault that a plan gives.
    pub fn fault(&self, plan: &SpawnPlan) -> (FaultCode, String) {
        let (spawning, _output) = self.launch(plan);
        let pid = spawning.pid;
        let fault = match finish(spawning).0 {
            Progress::Failed(fault) => fault,
            other => panic!("no fault but {other:?}"),
        };
        wait(pid);
        (fault.code, fault.message)
    }

    /// Starts a plan and gives back its output; panics when it fails.
    pub fn begin(&self, plan: &SpawnPlan) -> (Spawning, fs::File) {
        let (spawning, output) = self.launch(plan);
        match finish(spawning) {
            (Progress::Executed { .. }, spawning) => (spawning, output),
            (other, _) => panic!("not executed: {other:?}"),
        }
    }

    fn launch(&self, plan: &SpawnPlan) -> (Spawning, fs::File) {
        let (output, theirs) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let stdio = Stdio::Pipes {
            stdin: fs::File::open("/dev/null").unwrap().into(),
            stderr: theirs.try_clone().unwrap(),
            stdout: theirs,
        };
        (start(plan, stdio).unwrap(), output.into())
    }

    /// Starts a plan with a terminal.
    pub fn begin_terminal(&self, plan: &SpawnPlan) -> (u32, OwnedFd) {
        let spawning = start(plan, Stdio::Terminal).unwrap();
        match finish(spawning) {
            (
                Progress::Executed {
                    terminal: Some(terminal),
                },
                spawning,
            ) => (spawning.pid, terminal),
            (other, _) => panic!("no terminal: {other:?}"),
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = fs::write(self.cgroup.join("cgroup.kill"), "1");
        let events = self.cgroup.join("cgroup.events");
        while fs::read_to_string(&events).is_ok_and(|text| text.contains("populated 1")) {
            std::thread::yield_now();
        }
        let _ = fs::remove_dir(&self.cgroup);
    }
}

/// Polls until the process runs its program, or did not come to it.
pub fn finish(mut spawning: Spawning) -> (Progress, Spawning) {
    let limit = Timespec {
        tv_sec: 30,
        tv_nsec: 0,
    };
    loop {
        match spawning.poll() {
            Progress::Pending => {
                let mut fds = [PollFd::new(&spawning.status, PollFlags::IN)];
                assert_eq!(poll(&mut fds, Some(&limit)).unwrap(), 1, "the helper hangs");
            }
            progress => return (progress, spawning),
        }
    }
}

/// Reads a terminal until its process ends.
pub fn read_terminal(terminal: &OwnedFd) -> String {
    let mut text = Vec::new();
    loop {
        let mut buffer = [0; 1024];
        let mut fds = [PollFd::new(terminal, PollFlags::IN)];
        poll(&mut fds, None).unwrap();
        match rustix::io::read(terminal, &mut buffer) {
            Ok(0) | Err(rustix::io::Errno::IO) => break,
            Ok(count) => text.extend_from_slice(&buffer[..count]),
            Err(error) => panic!("{error}"),
        }
    }
    String::from_utf8(text).unwrap()
}

/// Reaps a process: its exit code, or 128 and its signal.
pub fn wait(pid: u32) -> i32 {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let (_, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
    status
        .exit_status()
        .unwrap_or_else(|| 128 + status.terminating_signal().unwrap_or(0))
}
