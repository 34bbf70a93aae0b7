//! One Beluga with its own root and state, and the pods that a story makes in it.

use crate::command::tell_start;
use crate::stream::status_number;
use crate::{Ran, SOON, eventually, run, run_with_input};
use serde_json::Value;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tempfile::TempDir;

/// The instance that most stories share: test images are loaded in it, and the
/// runner holds it to account (`gc --check`) when all stories have ended.
pub fn shared() -> &'static Beluga {
    static SHARED: LazyLock<Beluga> = LazyLock::new(|| Beluga {
        root: var("BELUGA_TEST_ROOT"),
        state: var("BELUGA_TEST_STATE"),
        _own: None,
    });
    &SHARED
}

fn var(name: &str) -> PathBuf {
    std::env::var_os(name)
        .unwrap_or_else(|| panic!("{name} is not set: stories are run by `make test`"))
        .into()
}

/// A Beluga instance: `--root` and `--state` of its own.
#[derive(Debug)]
pub struct Beluga {
    root: PathBuf,
    state: PathBuf,
    _own: Option<TempDir>,
}

impl Beluga {
    /// An empty instance, gone with the value.
    pub fn fresh() -> Self {
        let own = tempfile::Builder::new()
            .prefix("beluga-")
            .tempdir()
            .expect("a place in /tmp");
        Self {
            root: own.path().join("root"),
            state: own.path().join("state"),
            _own: Some(own),
        }
    }

    /// A fresh instance in which the busybox image is loaded.
    pub fn with_busybox() -> Self {
        let beluga = Self::fresh();
        beluga.run(["load", "-i", &image("busybox")]).ok();
        beluga
    }

    /// Where it keeps what must survive a reboot.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where it keeps what must not.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// `beluga …`, ready to be run.
    pub fn command<I: AsRef<str>>(&self, args: impl IntoIterator<Item = I>) -> Command {
        let args: Vec<_> = args
            .into_iter()
            .map(|arg| arg.as_ref().to_owned())
            .collect();
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        self.of("beluga", &args)
    }

    /// The same of another program that works on this instance.
    pub fn of(&self, program: &str, args: &[&str]) -> Command {
        // What is only started, and waited for later, is not to go on beside a story
        // that measures time.
        tell_start();
        let mut command = Command::new(program);
        command
            .env("BELUGA_ROOT", &self.root)
            .env("BELUGA_STATE", &self.state);
        command.args(args);
        command
    }

    /// Runs `beluga …` with no input.
    pub fn run<I: AsRef<str>>(&self, args: impl IntoIterator<Item = I>) -> Ran {
        run(&mut self.command(args), SOON * 2)
    }

    /// Runs `beluga …` with the words of a line, as a person types them in a shell.
    #[track_caller]
    pub fn types(&self, line: &str) -> Ran {
        self.run(words(line))
    }

    /// Applies a manifest.
    pub fn apply(&self, manifest: &str) -> Ran {
        self.feed(["apply", "-f", "-"], manifest.as_bytes())
    }

    /// Runs `beluga …` on a terminal, which the words of the line are typed in.
    pub fn types_on_terminal(&self, line: &str, limit: Duration) -> Ran {
        let mut script = Command::new("script");
        script.args(["-qec", &format!("beluga {line}"), "/dev/null"]);
        script
            .env("BELUGA_ROOT", &self.root)
            .env("BELUGA_STATE", &self.state);
        run(&mut script, limit)
    }

    /// Runs `beluga …` with input.
    pub fn feed<I: AsRef<str>>(&self, args: impl IntoIterator<Item = I>, input: &[u8]) -> Ran {
        run_with_input(&mut self.command(args), input.to_vec(), SOON * 2)
    }

    /// Starts the pod of a manifest and waits until it is ready or has ended.
    #[track_caller]
    pub fn pod(&self, manifest: &str) -> Pod<'_> {
        self.pod_with(&[], manifest)
    }

    /// The same with more arguments to `apply`.
    #[track_caller]
    pub fn pod_with(&self, more: &[&str], manifest: &str) -> Pod<'_> {
        let args = ["apply", "-f", "-"].iter().chain(more);
        self.started(&mut self.command(args), manifest)
    }

    /// The same under a variable of the environment.
    #[track_caller]
    pub fn pod_under(&self, (variable, value): (&str, &str), manifest: &str) -> Pod<'_> {
        let mut apply = self.command(["apply", "-f", "-"]);
        self.started(apply.env(variable, value), manifest)
    }

    /// The pod that a command starts from its input.
    #[track_caller]
    fn started(&self, command: &mut Command, manifest: &str) -> Pod<'_> {
        let ran = run_with_input(command, manifest.as_bytes().to_vec(), SOON * 2);
        // Objects that it is configured with may be told before it.
        let mut words = ran.out.split_whitespace();
        let name = words.find_map(|word| word.strip_prefix("pod/"));
        let name = name.unwrap_or_default().to_owned();
        if ran.code != 0 {
            panic!("{ran}");
        }
        let namespace = namespace(manifest);
        let pod = Pod {
            beluga: self,
            name,
            namespace,
        };
        pod.eventually("ready or ended", |status| {
            let phase = status["phase"].as_str().unwrap_or_default();
            let ready = status["conditions"].as_array().is_some_and(|all| {
                all.iter()
                    .any(|one| one["type"] == "Ready" && one["status"] == "True")
            });
            ready || phase == "Succeeded" || phase == "Failed"
        });
        pod
    }

    /// A pod of the default namespace that is there; deleted with the value.
    pub fn here(&self, name: &str) -> Pod<'_> {
        Pod {
            beluga: self,
            name: name.to_owned(),
            namespace: "default".to_owned(),
        }
    }

    /// Asserts that nothing is left over on the host.
    #[track_caller]
    pub fn is_clean(&self) {
        self.run(["gc", "--check"]).ok();
    }
}

/// The words of a line, quoted as in a shell.
#[track_caller]
fn words(line: &str) -> Vec<String> {
    shlex::split(line).unwrap_or_else(|| panic!("a quote is not closed: {line}"))
}

/// The path of a test image (an OCI layout in a tar).
pub fn image(name: &str) -> String {
    format!("{}/{name}.tar", var("BELUGA_TEST_IMAGES").display())
}

/// A pod that a story made; deleted with the value.
#[derive(Debug)]
pub struct Pod<'a> {
    beluga: &'a Beluga,
    name: String,
    namespace: String,
}

/// What the metadata of a manifest, in one line, says of it.
fn namespace(manifest: &str) -> String {
    let mut lines = manifest.lines();
    let metadata = lines.find_map(|line| line.strip_prefix("metadata:"));
    let after = metadata.and_then(|line| line.split_once("namespace: "));
    let name = after.and_then(|(_, rest)| rest.split([',', '}']).next());
    name.unwrap_or("default").to_owned()
}

impl Pod<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The object as `get -o json` shows it.
    #[track_caller]
    pub fn object(&self) -> Value {
        let line = format!("get pod {} -n {} -o json", self.name, self.namespace);
        self.beluga.types(&line).ok().json()
    }

    /// A value of the object by JSON pointer, as text.
    #[track_caller]
    pub fn field(&self, pointer: &str) -> String {
        match self.object().pointer(pointer) {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => String::new(),
        }
    }

    /// Asserts that the object has something at each of these JSON pointers.
    #[track_caller]
    pub fn has(&self, pointers: &[&str]) {
        let object = self.object();
        for pointer in pointers {
            let value = object.pointer(pointer);
            let is_there = value.is_some_and(|value| !value.is_null());
            assert!(is_there, "{pointer}: {object:#}");
        }
    }

    /// What `describe` says of it.
    #[track_caller]
    pub fn described(&self) -> Ran {
        let line = format!("describe pod {} -n {}", self.name, self.namespace);
        self.beluga.types(&line).ok()
    }

    /// Its record, by which it is found again.
    #[track_caller]
    pub fn record(&self) -> Value {
        self.file("record.json")
    }

    /// A file of JSON in its directory.
    #[track_caller]
    pub fn file(&self, name: &str) -> Value {
        let uid = self.field("/metadata/uid");
        let path = self.beluga.root.join("pods").join(uid).join(name);
        let text = std::fs::read_to_string(path).expect("the pod has it");
        serde_json::from_str(&text).expect("it is JSON")
    }

    /// The processes of its VMM and of the supervisor that started it.
    #[track_caller]
    pub fn processes(&self) -> [u32; 2] {
        let record = self.record();
        let vmm = record["vmm"]["pid"].as_u64().expect("the pod has a VMM");
        let vmm = u32::try_from(vmm).expect("a PID");
        [vmm, status_number(vmm, "PPid:")]
    }

    /// Its IP.
    #[track_caller]
    pub fn ip(&self) -> String {
        self.field("/status/podIP")
    }

    /// The status of a container by name.
    #[track_caller]
    pub fn container(&self, name: &str) -> Value {
        let object = self.object();
        ["containerStatuses", "initContainerStatuses"]
            .iter()
            .filter_map(|list| object["status"][list].as_array())
            .flatten()
            .find(|status| status["name"] == name)
            .unwrap_or_else(|| panic!("no status of {name} in {object:#}"))
            .clone()
    }

    /// Waits until the status is as `holds` says.
    #[track_caller]
    pub fn eventually(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("pod {}: {what}", self.name), || {
            let status = self.object()["status"].take();
            holds(&status).then_some(status)
        })
    }

    /// Runs a command in a container and gives back what came of it.
    pub fn try_exec(&self, container: &str, command: &[&str]) -> Ran {
        let mut args = vec![
            "exec",
            "-n",
            &self.namespace,
            "-c",
            container,
            &self.name,
            "--",
        ];
        args.extend(command);
        self.beluga.run(args)
    }

    /// The same with the words of a line, as a person types them in a shell.
    #[track_caller]
    pub fn exec(&self, container: &str, line: &str) -> Ran {
        let words = words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.try_exec(container, &words)
    }

    /// Runs a shell line in a container; panics when it fails.
    #[track_caller]
    pub fn sh(&self, container: &str, line: &str) -> String {
        self.try_exec(container, &["sh", "-c", line])
            .ok()
            .text()
            .to_owned()
    }

    /// What a container has printed so far.
    #[track_caller]
    pub fn logs(&self, container: &str) -> String {
        self.beluga
            .run(["logs", "-n", &self.namespace, "-c", container, &self.name])
            .ok()
            .out
    }

    /// Deletes it and waits for the end.
    #[track_caller]
    pub fn delete(self) {
        self.beluga
            .run(["delete", "pod", &self.name, "-n", &self.namespace])
            .ok();
        std::mem::forget(self);
    }
}

impl Pod<'_> {
    /// Shows what a failed story would be asked for next.
    fn show_if_panicking(&self) {
        if !std::thread::panicking() {
            return;
        }
        for args in [["describe", "pod"], ["logs", "--all-containers"]] {
            let args = args.into_iter().chain([&self.name, "-n", &self.namespace]);
            eprintln!("{}", self.beluga.run(args));
        }
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        self.show_if_panicking();
        self.beluga.run([
            "delete",
            "pod",
            &self.name,
            "-n",
            &self.namespace,
            "--grace-period",
            "0",
            "--ignore-not-found",
        ]);
    }
}

/// A pod of the shared instance that stays until all stories have ended: the first one
/// that looks at it starts it.
#[derive(Debug)]
pub struct Lasting(LazyLock<Pod<'static>>);

impl Lasting {
    /// The pod that this starts.
    pub const fn new(start: fn() -> Pod<'static>) -> Self {
        Self(LazyLock::new(start))
    }
}

impl Deref for Lasting {
    type Target = Pod<'static>;

    fn deref(&self) -> &Self::Target {
        // Before it is begun: whoever waits for a turn must not keep it from one who has
        // its turn.
        tell_start();
        &self.0
    }
}

/// A pod of the shared instance that several stories look at, to save a boot for
/// each: the first of them starts it, the last deletes it. Where only some of
/// the stories run, the runner does.
#[derive(Debug)]
pub struct Common {
    start: fn() -> Pod<'static>,
    kept: Mutex<Kept>,
    turn: Mutex<()>,
}

#[derive(Debug)]
struct Kept {
    stories_to_come: usize,
    pod: Option<Arc<Pod<'static>>>,
}

impl Common {
    /// A pod that so many stories ask for, each once.
    pub const fn new(stories: usize, start: fn() -> Pod<'static>) -> Self {
        let kept = Kept {
            stories_to_come: stories,
            pod: None,
        };
        Self {
            start,
            kept: Mutex::new(kept),
            turn: Mutex::new(()),
        }
    }

    /// The pod, for a story that no other may disturb which asks for it like this.
    #[track_caller]
    pub fn alone(&'static self) -> CommonPod {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pod = self.pod();
        pod.turn = Some(turn);
        pod
    }

    /// The pod, ready or ended.
    #[track_caller]
    pub fn pod(&self) -> CommonPod {
        // Before the pod is locked: whoever waits for a turn must not keep it from one
        // who has its turn.
        tell_start();
        // A story that could not start it says so itself; the next one tries again.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let start = || Arc::new((self.start)());
        let pod = Arc::clone(kept.pod.get_or_insert_with(start));
        kept.stories_to_come = kept.stories_to_come.saturating_sub(1);
        if kept.stories_to_come == 0 {
            kept.pod = None;
        }
        CommonPod { pod, turn: None }
    }
}

/// One story's hold of a [`Common`] pod.
#[derive(Debug)]
pub struct CommonPod {
    pod: Arc<Pod<'static>>,
    turn: Option<MutexGuard<'static, ()>>,
}

impl Deref for CommonPod {
    type Target = Pod<'static>;

    fn deref(&self) -> &Self::Target {
        &self.pod
    }
}

impl Drop for CommonPod {
    fn drop(&mut self) {
        self.pod.show_if_panicking();
        drop(self.turn.take());
    }
}
