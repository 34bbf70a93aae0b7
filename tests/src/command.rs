//! Commands bounded in time, with all that they said.

use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

/// What came of a command.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Program and arguments.
    pub command: String,
    /// Exit code; 128 + signal, or 124 when its time ran out.
    pub code: i32,
    /// Standard output, lossy.
    pub out: String,
    /// Standard error, lossy.
    pub err: String,
    /// How long it took.
    pub took: Duration,
}

impl Ran {
    /// Itself, if the exit code is 0; panics with everything it said if not.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self}");
        self
    }

    /// Itself, if the exit code is `code`.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self}");
        self
    }

    /// Itself, if standard output holds `text`.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(
            self.out.contains(text),
            "standard output lacks {text:?}\n{self}"
        );
        self
    }

    /// Itself, if standard error holds `text`.
    #[track_caller]
    pub fn complains(self, text: &str) -> Self {
        assert!(
            self.err.contains(text),
            "standard error lacks {text:?}\n{self}"
        );
        self
    }

    /// Itself, if standard output holds each of these.
    #[track_caller]
    pub fn tells(self, all: &[&str]) -> Self {
        all.iter().fold(self, |ran, text| ran.says(text))
    }

    /// Itself, if standard output is this text and nothing else.
    #[track_caller]
    pub fn prints(self, text: &str) -> Self {
        assert_eq!(self.out, text, "{self}");
        self
    }

    /// Itself, if the exit code is `code` and standard error holds `text`.
    #[track_caller]
    pub fn fails(self, code: i32, text: &str) -> Self {
        self.exits(code).complains(text)
    }

    /// Standard output, which is JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("not JSON: {error}\n{self}"))
    }

    /// Standard output without white space around it.
    pub fn text(&self) -> &str {
        self.out.trim()
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "$ {}  -> {} in {:?}", self.command, self.code, self.took)?;
        writeln!(f, "--- stdout\n{}--- stderr\n{}", self.out, self.err)
    }
}

/// Kills processes and waits until they are gone: a process that is about to end
/// still is there for whoever looks.
#[track_caller]
pub fn kill(pids: &[u32]) {
    let mut kill = Command::new("kill");
    kill.arg("-9").args(pids.iter().map(u32::to_string));
    run(&mut kill, Duration::from_secs(10)).ok();
    crate::eventually("the killed are gone", || {
        (!pids.iter().copied().any(runs)).then_some(())
    });
}

/// Whether there is such a process, of any kind.
pub fn runs(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Runs a command with no input.
pub fn run(command: &mut Command, limit: Duration) -> Ran {
    run_with_input(command, Vec::new(), limit)
}

/// Runs a command and feeds it `input`. Kills it when `limit` is over.
pub fn run_with_input(command: &mut Command, input: Vec<u8>, limit: Duration) -> Ran {
    tell_start();
    let shown = format!("{command:?}").replace('"', "");
    let start = Instant::now();
    let stdin = if input.is_empty() {
        Stdio::null()
    } else {
        Stdio::piped()
    };
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {shown}: {error}"));
    let feeder = child
        .stdin
        .take()
        .map(|mut pipe| thread::spawn(move || pipe.write_all(&input)));
    let out = collect(child.stdout.take());
    let err = collect(child.stderr.take());
    let mut timed_out = false;
    let status = loop {
        match child.try_wait().expect("own child can be waited for") {
            Some(status) => break status,
            None if start.elapsed() > limit && !timed_out => {
                timed_out = true;
                child.kill().expect("own child can be killed");
            }
            None => thread::sleep(Duration::from_millis(10)),
        }
    };
    drop(feeder);
    let code = if timed_out { 124 } else { exit_code(status) };
    // A grandchild may hold the pipe open: its output is not waited for.
    let (out, err) = (take(out, limit), take(err, limit));
    Ran {
        command: shown,
        code,
        out,
        err,
        took: start.elapsed(),
    }
}

/// Says once that the story of this thread has begun: libtest names a story only
/// when it ends, and a lab host that dies takes that line with it. It waits for its
/// turn before.
pub(crate) fn tell_start() {
    thread_local!(static TOLD: Cell<bool> = const { Cell::new(false) });
    let thread = thread::current();
    let Some(story) = thread.name().filter(|name| name.contains("::")) else {
        return;
    };
    if !TOLD.replace(true) {
        turn(|| Turn::Beside(TURN.read().unwrap_or_else(PoisonError::into_inner)));
        tell(&format!("STARTED {story}"));
    }
}

/// Stories run beside each other, but for those that measure time.
static TURN: RwLock<()> = RwLock::new(());

/// Held by a story's thread until it ends.
#[expect(dead_code, reason = "held, and never looked at")]
enum Turn {
    Beside(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

/// Waits for this thread's turn, if it has not had it.
fn turn(wait: impl FnOnce() -> Turn) {
    thread_local!(static HELD: RefCell<Option<Turn>> = const { RefCell::new(None) });
    HELD.with_borrow_mut(|held| {
        held.get_or_insert_with(wait);
    });
}

/// Lets no other story run beside this one, which calls it first: where the lab
/// host is emulated, another one's work takes the time that is measured.
pub fn alone() {
    turn(|| {
        // Not by waiting in line: who makes a pod that others wait for, and have had
        // their turn, must have its own.
        loop {
            match TURN.try_write() {
                Ok(turn) => return Turn::Alone(turn),
                Err(TryLockError::Poisoned(turn)) => return Turn::Alone(turn.into_inner()),
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(50)),
            }
        }
    });
}

/// A line to the runner, past libtest, which keeps what `eprintln!` prints. One
/// write, so that lines of stories that run at the same time stay whole.
pub(crate) fn tell(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

type Collected = std::sync::mpsc::Receiver<Vec<u8>>;

fn collect(pipe: Option<impl Read + Send + 'static>) -> Collected {
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        let _ = sender.send(bytes);
    });
    receiver
}

fn take(collected: Collected, limit: Duration) -> String {
    let bytes = collected
        .recv_timeout(limit.min(Duration::from_secs(10)))
        .unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
