//! Bytes through a command and back, made and compared on the way, and the
//! memory that it costs.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes made and compared at once.
const BLOCK: usize = 64 << 10;

/// How often one looks at a stream on its way.
const LOOKS: usize = 16;

/// The same pseudo-random bytes every time: a linear congruence (Knuth's
/// MMIX), cheap enough not to be what is measured.
struct Bytes(u64);

impl Bytes {
    fn fill(&mut self, block: &mut [u8]) {
        for word in block.chunks_exact_mut(8) {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            // The low bits of such a number are not random at all.
            word.copy_from_slice(&(self.0 ^ self.0 >> 32).to_le_bytes());
        }
    }
}

/// What it took to move bytes.
#[derive(Debug, Clone, Copy)]
pub struct Moved {
    /// How long it took.
    pub took: Duration,
    /// Most memory that the command's process has had in RAM, in KiB.
    pub peak_kib: u32,
}

/// Feeds `blocks` times 64 KiB to a command that gives back what it gets, and
/// compares every byte on arrival. The command must end with exit code 0 and
/// without another byte when its input ends. It is killed after `limit`. Some
/// times on the way `look` is called, and once at the end.
pub fn there_and_back(
    command: &mut Command,
    blocks: usize,
    limit: Duration,
    mut look: impl FnMut(),
) -> Moved {
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let (finished, watchdog) = kill_after(&child, limit);
    let mut input = child.stdin.take().expect("piped");
    let sender = thread::spawn(move || {
        let (mut bytes, mut block) = (Bytes(1), vec![0; BLOCK]);
        for _ in 0..blocks {
            bytes.fill(&mut block);
            input.write_all(&block)?;
        }
        Ok::<_, std::io::Error>(input)
    });
    let mut output = child.stdout.take().expect("piped");
    let (mut bytes, mut expected, mut block) = (Bytes(1), vec![0; BLOCK], vec![0; BLOCK]);
    for number in 0..blocks {
        let read = output.read_exact(&mut block);
        read.unwrap_or_else(|error| panic!("block {number} of {blocks} did not come: {error}"));
        bytes.fill(&mut expected);
        assert!(block == expected, "block {number} is not what was sent");
        if number % (blocks / LOOKS).max(1) == 0 {
            look();
        }
    }
    look();
    let moved = Moved {
        took: start.elapsed(),
        peak_kib: peak_kib(child.id()),
    };
    drop(sender.join().expect("no panic").expect("all was sent"));
    let more = output.read(&mut block).expect("the end");
    assert_eq!(more, 0, "more came back than was sent");
    let status = child.wait().expect("own child");
    drop(finished);
    watchdog.join().expect("no panic");
    assert!(status.success(), "{command:?} ended with {status}");
    moved
}

/// Kills a child unless the sender is dropped in time.
fn kill_after(child: &Child, limit: Duration) -> (mpsc::Sender<()>, thread::JoinHandle<()>) {
    let (finished, waits) = mpsc::channel::<()>();
    let pid = child.id().to_string();
    let watchdog = thread::spawn(move || {
        if waits.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            eprintln!("killed after {limit:?}");
            let _ = Command::new("kill").args(["-KILL", &pid]).status();
        }
    });
    (finished, watchdog)
}

/// Most memory that a process has had in RAM so far, in KiB.
pub fn peak_kib(pid: u32) -> u32 {
    status_number(pid, "VmHWM:")
}

/// Memory that a process has in RAM now, in KiB.
pub fn resident_kib(pid: u32) -> u32 {
    status_number(pid, "VmRSS:")
}

/// Memory of its own that a process has in RAM now, in KiB.
pub fn own_kib(pid: u32) -> u32 {
    status_number(pid, "RssAnon:")
}

/// The guest's first memory, for which the VMM asks for no huge pages.
const WITHOUT_HUGE: u64 = 2 << 20;

/// Memory that a VMM has for itself in RAM now, in KiB: every private mapping but
/// the guest's memory. That is one range of addresses, and all that has the flag
/// for huge pages (`hg`) is in it.
pub fn vmm_kib(pid: u32) -> u32 {
    let all = mappings(pid);
    let huge = || all.iter().filter(|one| one.flags.contains("hg"));
    let first = huge().map(|one| one.start).min();
    let first = first.unwrap_or_else(|| panic!("{pid} has no guest's memory"));
    let end = huge().map(|one| one.end).max().unwrap_or(first);
    let guest = first - WITHOUT_HUGE..end;
    let own = all.iter().filter(|one| !guest.contains(&one.start));
    own.map(|one| one.private_kib).sum()
}

#[derive(Debug, Default)]
struct Mapping {
    start: u64,
    end: u64,
    private_kib: u32,
    flags: String,
}

/// `/proc/PID/smaps`.
fn mappings(pid: u32) -> Vec<Mapping> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps")).expect("it runs");
    let mut all: Vec<Mapping> = Vec::new();
    for line in text.lines() {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        let address = |text: &str| u64::from_str_radix(text, 16).ok();
        if let Some((start, end)) = name.split_once('-')
            && let (Some(start), Some(end)) = (address(start), address(end))
        {
            all.push(Mapping {
                start,
                end,
                ..Mapping::default()
            });
        }
        let Some(last) = all.last_mut() else {
            continue;
        };
        match name {
            "Private_Clean:" | "Private_Dirty:" => {
                let number = rest.trim().trim_end_matches(" kB").parse::<u32>();
                last.private_kib += number.expect("a number of KiB");
            }
            "VmFlags:" => rest.clone_into(&mut last.flags),
            _ => {}
        }
    }
    all
}

/// A number of `/proc/PID/status`.
pub fn status_number(pid: u32, name: &str) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("no {name} in {status}"))
}
