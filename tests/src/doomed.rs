//! Commands and supervisors that are killed at a step of their work.
//!
//! strace sends SIGKILL to a process that enters its n-th call of those that change
//! something beyond it, and the call is not made any more: whatever n is, what a
//! process has done up to some point is there, and nothing of what comes after.
//!
//! A command starts a supervisor by the path of its own file. Here a script is
//! mounted over that path once the command's file has been opened, so that
//! strace runs the supervisor and nothing else that the command does.

use crate::{Beluga, Ran, SOON, eventually, run};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Calls that change something beyond the process that makes them, or begin a
/// process that will.
const STEPS: &str = "mkdir,mkdirat,rmdir,unlink,unlinkat,rename,renameat,renameat2,link,linkat,symlink,\
symlinkat,write,pwrite64,ftruncate,fallocate,chmod,fchmod,fchmodat,sendto,sendmsg,ioctl,mount,umount2,\
clone,clone3,vfork,fork,memfd_create,kill,pidfd_send_signal,bind,flock,setns,unshare";

/// How long a command is waited for whose supervisors are killed again and again.
const LITTLE: Duration = Duration::from_secs(4);

/// A `beluga` whose supervisors, or which itself, can be killed at a step.
#[derive(Debug)]
pub struct Doomed<'a> {
    beluga: &'a Beluga,
    /// The program, below what is mounted over it.
    program: File,
    path: PathBuf,
    trace: PathBuf,
}

impl<'a> Doomed<'a> {
    /// One of this instance, gone with the value.
    pub fn of(beluga: &'a Beluga) -> Self {
        let directory = beluga.root().with_file_name("doomed");
        std::fs::create_dir_all(&directory).expect("a place beside the root");
        let real = run(Command::new("which").arg("beluga"), SOON).ok();
        let [path, script] = ["beluga", "script"].map(|name| directory.join(name));
        std::fs::copy(real.text(), &path).expect("a copy of the program");
        let trace = directory.join("trace");
        let text = format!(
            "#!/bin/sh\nfor task; do :; done\n\
             [ \"$1 $task\" != \"supervise $DOOMED_TASK\" ] || exec strace -qq -A -o {} -e trace={STEPS} \
             -e inject={STEPS}:signal=SIGKILL:when=$DOOMED_AT {real} \"$@\"\nexec {real} \"$@\"\n",
            trace.display(),
            real = real.text(),
        );
        std::fs::write(&script, text).expect("a script");
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&script, executable).expect("it is ours");
        let program = File::open(&path).expect("it is there");
        let mut mount = Command::new("mount");
        run(mount.arg("--bind").args([&script, &path]), SOON).ok();
        Self {
            beluga,
            program,
            path,
            trace,
        }
    }

    /// Runs a command, and kills at that step the supervisor by which it starts a
    /// pod; gives the step that was not made, where it came so far.
    #[track_caller]
    pub fn start(&self, at: u32, args: &[&str]) -> (Ran, Option<String>) {
        let ran = self.traced(
            ("start", at),
            self.beluga.of(&self.program(), args),
            SOON * 2,
        );
        assert_ne!(
            ran.code, 124,
            "it waits for ever where step {at} is not made\n{ran}"
        );
        (ran, step_of(&self.trace))
    }

    /// The same of the command itself, whose supervisor does not make its first step.
    #[track_caller]
    pub fn command(&self, at: u32, args: &[&str]) -> (Ran, Option<String>) {
        let trace = self.trace.with_extension("command");
        let mut command = self.beluga.of("strace", &["-qq", "-o"]);
        command.arg(&trace).args(["-e", &format!("trace={STEPS}")]);
        let inject = format!("inject={STEPS}:signal=SIGKILL:when={at}");
        command.args(["-e", &inject, &self.program()]).args(args);
        let ran = self.traced(("start", 1), command, SOON * 2);
        assert_ne!(
            ran.code, 124,
            "it waits for ever where step {at} is not made\n{ran}"
        );
        (ran, step_of(&trace))
    }

    /// Kills a supervisor at that step of a command that comes now, and the next ones
    /// at their first; the command does not wait for them for ever.
    pub fn doom(&self, supervisor: u32, at: u32, args: &[&str]) -> Option<String> {
        let trace = self.trace.with_extension("first");
        let mut strace = Command::new("strace");
        let inject = format!("inject={STEPS}:signal=SIGKILL:when={at}");
        let traced = format!("trace={STEPS}");
        strace
            .args(["-q", "-e", &traced, "-e", &inject, "-o"])
            .arg(&trace);
        strace.args(["-p", &supervisor.to_string()]);
        let mut tracer = strace.stderr(Stdio::null()).spawn().expect("strace");
        let of_tracer = format!("TracerPid:\t{}\n", tracer.id());
        eventually("it is traced", || {
            let status = std::fs::read_to_string(format!("/proc/{supervisor}/status")).ok()?;
            status.contains(&of_tracer).then_some(())
        });
        self.traced(("adopt", 1), self.beluga.of(&self.program(), args), LITTLE);
        tracer.wait().expect("it ends with its supervisor");
        step_of(&trace)
    }

    /// Looks at pods, and kills at that step each supervisor that goes on with one.
    /// Gives the step that was not made; none where it is `over` before.
    pub fn adopt(&self, at: u32, over: impl Fn() -> bool) -> Option<String> {
        let _ = std::fs::remove_file(&self.trace);
        eventually("its supervisor is killed, or done", || {
            // Who traced the one before may hold the pod's lock a moment longer.
            if !self.trace.exists() {
                let look = self.beluga.of(&self.program(), &["get", "pods"]);
                self.traced(("adopt", at), look, SOON);
            }
            let step = step_of(&self.trace);
            (step.is_some() || over()).then_some(step)
        })
    }

    /// Whether the last supervisor that was to be killed came to a step with this word.
    pub fn came_to(&self, word: &str) -> bool {
        let trace = std::fs::read_to_string(&self.trace);
        trace.is_ok_and(|text| text.contains(word))
    }

    fn program(&self) -> String {
        // Also for a process that does not inherit it.
        format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.program.as_raw_fd()
        )
    }

    fn traced(&self, (task, at): (&str, u32), mut command: Command, limit: Duration) -> Ran {
        let _ = std::fs::remove_file(&self.trace);
        let doom = [("DOOMED_TASK", task), ("DOOMED_AT", &at.to_string())];
        run(command.envs(doom), limit)
    }
}

/// The step that a killed process was about to make.
fn step_of(trace: &Path) -> Option<String> {
    let text = std::fs::read_to_string(trace).ok()?;
    let mut lines = text.lines().rev();
    lines.find(|line| line.contains("killed by SIGKILL"))?;
    lines.next().map(str::to_owned)
}

impl Drop for Doomed<'_> {
    fn drop(&mut self) {
        run(
            Command::new("umount").arg(&self.path),
            Duration::from_secs(10),
        );
    }
}

/// What there is on this host, one word each, of what a pod can leave behind.
/// Pods of others come and go unless the story is [`crate::alone`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host(BTreeSet<String>);

impl Host {
    /// What there is now.
    pub fn now(beluga: &Beluga) -> Self {
        let mut found = BTreeSet::new();
        let files = [
            "/sys/class/net",
            "/run/beluga-subnets",
            "/run/netns",
            &beluga.root().join("pods").display().to_string(),
            &beluga.root().join("names/default").display().to_string(),
            &beluga.state().join("pods").display().to_string(),
            &beluga.state().join("mounts").display().to_string(),
        ];
        for directory in files {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            let names = entries.map(|entry| entry.path().display().to_string());
            // Every instance has the same one, and notes what it found before itself.
            let is_shared = |path: &str| path.ends_with("/lock") || path.ends_with(".before");
            found.extend(names.filter(|path| !path.contains("/.") && !is_shared(path)));
        }
        let mut lines = |words: &[&str]| {
            let ran = run(Command::new(words[0]).args(&words[1..]), SOON).ok();
            found.extend(ran.out.lines().map(|line| format!("{}: {line}", words[0])));
        };
        lines(&["nft", "list", "tables"]);
        lines(&[
            "find",
            "/sys/fs/cgroup",
            "-ignore_readdir_race",
            "-type",
            "d",
        ]);
        lines(&["findmnt", "-rno", "TARGET"]);
        let root = beluga.root().display().to_string();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
            let [line, variables] = ["cmdline", "environ"].map(read);
            let [line, variables] = [&line, &variables].map(|text| String::from_utf8_lossy(text));
            let is_vmm = variables.contains("BELUGA_POD=");
            if is_vmm || line.contains(&root) {
                let pid = entry.file_name().display().to_string();
                found.insert(format!("process {pid}: {}", line.replace('\0', " ")));
            }
        }
        Self(found)
    }

    /// Directories of the pods that an instance knows.
    pub fn pods(beluga: &Beluga) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(beluga.root().join("pods"));
        let entries = entries.into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }

    /// Panics with what there is now and was not then.
    #[track_caller]
    pub fn is_as_before(&self, beluga: &Beluga, when: &str) {
        let now = Self::now(beluga);
        let more: Vec<_> = now.0.difference(&self.0).collect();
        assert!(more.is_empty(), "left over where {when}: {more:#?}");
    }
}
