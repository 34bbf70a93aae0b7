//! Commands one of whose system calls fails.
//!
//! strace lets one call of a thread fail, the first, the second and so on, and
//! counts per thread. What fails before the program itself runs, while its
//! libraries are loaded, says nothing of it and is passed over.

use crate::{Ran, SOON, run};
use std::collections::BTreeMap;
use std::process::Command;
use tempfile::NamedTempFile;

/// What calls fail with, by turns.
const ERRORS: [&str; 4] = ["ENOSPC", "EMFILE", "ENOMEM", "EIO"];

/// Calls that change something beyond the process, or without which it has nothing
/// to work with.
const CALLS: &str = "openat,openat2,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,symlinkat,unlink,\
unlinkat,write,pwrite64,fsync,fdatasync,ftruncate,fallocate,flock,fchmod,chmod,statx,lseek,getdents64,\
copy_file_range,clone3,socket,connect,bind,sendto,recvfrom,ioctl,mount,unshare,setns,memfd_create";

/// A call that failed, and what the command made of it.
#[derive(Debug)]
pub struct Failed {
    /// Which, with what, as strace shows it.
    pub call: String,
    /// How the command ended.
    pub ran: Ran,
}

/// Runs a command again and again, each time another of its calls fails: one in
/// `stride` of all. `command` makes each of them ready; what came of it goes to
/// `judge` with what `command` gave. Gives how many failed.
pub fn each_call<T>(
    stride: usize,
    mut command: impl FnMut() -> (T, Command),
    mut judge: impl FnMut(&T, &Failed),
) -> usize {
    let trace = NamedTempFile::new().expect("a file");
    let (given, whole) = command();
    let ran = traced(&whole, &trace, &["-e", &format!("trace={CALLS}")]);
    let (counts, mut failed) = (counts(&text(&trace)), 0);
    let call = "none".to_owned();
    judge(&given, &Failed { call, ran });
    let each = counts
        .into_iter()
        .flat_map(|(call, count)| (1..=count).map(move |at| (call.clone(), at)));
    for (call, at) in each.step_by(stride) {
        let error = ERRORS[failed % ERRORS.len()];
        let (given, command) = command();
        let inject = format!("inject={call}:error={error}:when={at}");
        let ran = traced(
            &command,
            &trace,
            &["-e", &format!("trace={call}"), "-e", &inject],
        );
        let text = text(&trace);
        let injected = text.lines().find(|line| line.contains("(INJECTED)"));
        let Some(line) = injected.filter(|_| !ran.err.contains("loading shared libraries")) else {
            continue;
        };
        let call = line.to_owned();
        failed += 1;
        judge(&given, &Failed { call, ran });
    }
    failed
}

impl Failed {
    /// Panics unless it went well all the same, or said why not.
    #[track_caller]
    pub fn is_told(&self) {
        let Self { call, ran } = self;
        // A call that fails in each thread may be the one that writes the first line.
        let has_words = ["error: ", "caused by: "]
            .iter()
            .any(|words| ran.err.contains(words));
        let is_told = ran.code == 0 || (ran.code < 128 && has_words);
        assert!(is_told && !ran.err.contains("panicked"), "{call}\n{ran}");
    }
}

fn text(trace: &NamedTempFile) -> String {
    std::fs::read_to_string(trace.path()).expect("strace has written it")
}

fn traced(command: &Command, trace: &NamedTempFile, words: &[&str]) -> Ran {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o"]).arg(trace.path());
    strace
        .args(words)
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    run(&mut strace, SOON)
}

/// How often each call is made by the thread that makes it most often.
fn counts(trace: &str) -> BTreeMap<String, usize> {
    let mut threads: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for line in trace.lines() {
        let call = line.split_once(' ').and_then(|(thread, rest)| {
            let (call, _) = rest.trim_start().split_once('(')?;
            CALLS
                .split(',')
                .find(|name| *name == call)
                .map(|name| (thread, name))
        });
        if let Some(call) = call {
            *threads.entry(call).or_default() += 1;
        }
    }
    let mut most = BTreeMap::new();
    for ((_, call), count) in threads {
        let so_far = most.entry(call.to_owned()).or_default();
        *so_far = count.max(*so_far);
    }
    most
}
