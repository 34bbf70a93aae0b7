//! Commands and supervisors that are killed at a step of their work.
//!
//! strace sends SIGKILL to a process that enters a call of those that change something
//! beyond it, and the call is not made any more: what a process has done up to some
//! point is there, and nothing of what comes after. strace counts each call by
//! itself; that of what has been seen to be made is let pass, and what comes next is not.
//!
//! A command starts a supervisor by the path of its own file. Here a script is
//! mounted over that path once the command's file has been opened, so that
//! strace runs the supervisor and nothing else that the command does. It is told by
//! variables of such names as a supervisor is given.

use crate::{Beluga, Ran, SOON, eventually, run};
use std::collections::{BTreeMap, BTreeSet};
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

/// How often each call is let pass.
#[derive(Debug, Clone)]
pub struct Steps {
    made: BTreeMap<&'static str, u32>,
    /// How many more of each are let pass than have been seen.
    skipped: u32,
}

impl Steps {
    /// None at first; after each kill all that were made, and `skipped` more of each.
    pub fn new(skipped: u32) -> Self {
        let made = STEPS.split(',').map(|call| (call, 0)).collect();
        Self { made, skipped }
    }

    /// The same, but some are let pass at once.
    pub fn after(mut self, steps: u32) -> Self {
        self.made.values_mut().for_each(|count| *count = steps);
        self
    }

    /// What strace is told.
    fn words(&self) -> Vec<String> {
        let kill = |(call, made): (&&str, &u32)| {
            let at = made + self.skipped + 1;
            format!("inject={call}:signal=SIGKILL:when={at}")
        };
        self.made.iter().map(kill).collect()
    }

    /// Goes on behind what a trace shows; gives the step that was not made.
    fn pass(&mut self, trace: &Path) -> Option<String> {
        let text = std::fs::read_to_string(trace).ok()?;
        let mut killed = None;
        // Of several supervisors each is one that was killed at the same step.
        let last = text.trim_end().rsplit("+++\n").next().unwrap_or_default();
        for (call, made) in &mut self.made {
            let head = format!("{call}(");
            let count = last.lines().filter(|line| line.starts_with(&head)).count();
            *made = (*made).max(u32::try_from(count).unwrap_or(u32::MAX));
        }
        if last.contains("killed by SIGKILL") {
            killed = last.lines().rev().nth(1).map(str::to_owned);
        }
        killed
    }
}

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
             [ \"$1 $task\" != \"supervise $BELUGA_DOOMED_TASK\" ] || exec strace -qq -A -o {} -e trace={STEPS} \
             $BELUGA_DOOMED_WORDS {real} \"$@\"\nexec {real} \"$@\"\n",
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

    /// Runs a command, and kills at the next step the supervisor by which it starts a
    /// pod; gives the step that was not made, where it came so far.
    #[track_caller]
    pub fn start(&self, steps: &mut Steps, args: &[&str]) -> (Ran, Option<String>) {
        let command = self.beluga.of(&self.program(), args);
        let ran = self.traced(("start", steps), command, SOON * 2);
        assert_ne!(ran.code, 124, "it waits for ever behind {steps:?}\n{ran}");
        (ran, steps.pass(&self.trace))
    }

    /// The same of the command itself, whose supervisor does not make its first step.
    #[track_caller]
    pub fn command(&self, steps: &mut Steps, args: &[&str]) -> (Ran, Option<String>) {
        let trace = self.trace.with_extension("command");
        let mut command = self.strace(steps, &trace);
        command.arg(self.program()).args(args);
        let ran = self.traced(("start", &Steps::new(0)), command, SOON * 2);
        assert_ne!(ran.code, 124, "it waits for ever behind {steps:?}\n{ran}");
        (ran, steps.pass(&trace))
    }

    /// Kills a supervisor behind such steps of a command that comes now, and the next
    /// ones at their first; the command does not wait for them for ever.
    pub fn doom(&self, supervisor: u32, mut steps: Steps, args: &[&str]) -> Option<String> {
        let trace = self.trace.with_extension("first");
        let mut strace = self.strace(&steps, &trace);
        strace.args(["-p", &supervisor.to_string()]);
        let mut tracer = strace.stderr(Stdio::null()).spawn().expect("strace");
        let of_tracer = format!("TracerPid:\t{}\n", tracer.id());
        eventually("it is traced", || {
            let status = std::fs::read_to_string(format!("/proc/{supervisor}/status")).ok()?;
            status.contains(&of_tracer).then_some(())
        });
        let command = self.beluga.of(&self.program(), args);
        self.traced(("adopt", &Steps::new(0)), command, LITTLE);
        tracer.wait().expect("it ends with its supervisor");
        steps.pass(&trace)
    }

    /// Looks at pods, and kills at the next step a supervisor that goes on with one.
    /// Gives the step that was not made; none where it is `over` before.
    pub fn adopt(&self, steps: &mut Steps, over: impl Fn() -> bool) -> Option<String> {
        let _ = std::fs::remove_file(&self.trace);
        eventually("its supervisor is killed, or done", || {
            // Who traced the one before may hold the pod's lock a moment longer.
            if !self.trace.exists() {
                let look = self.beluga.of(&self.program(), &["get", "pods"]);
                self.traced(("adopt", steps), look, SOON);
            }
            let step = steps.pass(&self.trace);
            (step.is_some() || over()).then_some(step)
        })
    }

    fn strace(&self, steps: &Steps, trace: &Path) -> Command {
        let mut strace = self.beluga.of("strace", &["-qq", "-o"]);
        strace.arg(trace).args(["-e", &format!("trace={STEPS}")]);
        strace.args(steps.words().iter().flat_map(|word| ["-e", word]));
        strace
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

    fn traced(&self, (task, steps): (&str, &Steps), mut command: Command, limit: Duration) -> Ran {
        let _ = std::fs::remove_file(&self.trace);
        let words = steps.words().into_iter().map(|word| format!("-e {word} "));
        command.env("BELUGA_DOOMED_WORDS", words.collect::<String>());
        run(command.env("BELUGA_DOOMED_TASK", task), limit)
    }
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
