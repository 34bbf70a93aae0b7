//! Ctrl-C while this process works on its own: the work is told to stop and gives back what it has
//! begun.

use super::exit;
use beluga_image::Cancel;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long the work may take to stop. A registry that says nothing would hold it up.
const PATIENCE: Duration = Duration::from_secs(5);

/// What an interrupt means.
enum Meaning {
    /// The end of the process, as if nobody had asked for the signal.
    End,
    /// Work is told to stop.
    Stop(Cancel),
    /// Nothing here: somebody else listens.
    NotOurs,
}

struct Watch {
    meaning: Meaning,
    is_running: bool,
}

static WATCH: Mutex<Watch> = Mutex::new(Watch {
    meaning: Meaning::End,
    is_running: false,
});

fn state() -> MutexGuard<'static, Watch> {
    // What is in it is whole at any time.
    WATCH.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does work that an interrupt stops.
pub fn during<T>(cancel: &Cancel, work: impl FnOnce() -> T) -> T {
    {
        let mut watch = state();
        watch.meaning = Meaning::Stop(cancel.clone());
        if !watch.is_running {
            // Without the thread the process ends at once, as processes do.
            let name = thread::Builder::new().name("interrupt".into());
            watch.is_running = name.spawn(listen).is_ok();
        }
    }
    let done = work();
    if cancel.is_cancelled() {
        return done;
    }
    state().meaning = Meaning::End;
    done
}

/// From now on somebody else listens for interrupts.
pub fn hand_over() {
    state().meaning = Meaning::NotOurs;
}

/// The end of the terminal, unless nobody is to hear of it: nohup(1) has it ignored, and a listener
/// would undo that.
pub fn hangup() -> Option<Signal> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    (!ignores_hangup(&status)?).then(|| signal(SignalKind::hangup()).ok())?
}

/// What proc_pid_status(5) says of signal 1, the lowest bit.
fn ignores_hangup(status: &str) -> Option<bool> {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = u64::from_str_radix(ignored?.trim(), 16).ok()?;
    Some(ignored & 1 == 1)
}

fn listen() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    if let Ok(runtime) = runtime {
        runtime.block_on(wait());
    }
}

async fn wait() {
    let (Ok(mut int), Ok(mut term)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return;
    };
    loop {
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
        }
        match &state().meaning {
            Meaning::NotOurs => continue,
            // The second time it has been told already.
            Meaning::Stop(cancel) if !cancel.is_cancelled() => cancel.cancel(),
            Meaning::Stop(_) | Meaning::End => end(),
        }
        thread::spawn(|| {
            thread::sleep(PATIENCE);
            end();
        });
    }
}

fn end() -> ! {
    std::process::exit(exit::INTERRUPTED.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_hangup_stays_ignored() {
        let of =
            |mask: &str| ignores_hangup(&format!("Name:\tberet\nSigIgn:\t{mask}\nSigCgt:\t1\n"));
        assert_eq!(of("0000000000001001"), Some(true));
        assert_eq!(of("0000000000001000"), Some(false));
        assert_eq!(ignores_hangup("Name:\tx\n"), None);
    }
}
