//! Whether vCPUs run, and how they are stopped between two instructions.
//!
//! ```text
//!   Running ──pause──► Pausing ──last vCPU parked──► Paused
//!      ▲                                                │
//!      └───────────────────── resume ◄──────────────────┘
//! ```

use crate::sys::process::ThreadId;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What vCPU threads and the control loop share.
#[derive(Debug, Default)]
pub struct RunState {
    /// Read by every vCPU after every exit, without the lock.
    wanted_pause: AtomicBool,
    shared: Mutex<Shared>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Shared {
    threads: Vec<ThreadId>,
    parked: usize,
}

impl RunState {
    /// A machine that begins paused, or not.
    #[must_use]
    pub fn new(paused: bool) -> Self {
        Self {
            wanted_pause: AtomicBool::new(paused),
            ..Self::default()
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A vCPU thread says that it is there.
    pub fn join(&self) {
        self.lock().threads.push(ThreadId::current());
    }

    /// A vCPU is about to run: waits while the machine is paused.
    pub fn wait_to_run(&self) {
        if !self.wanted_pause.load(Ordering::Acquire) {
            return;
        }
        let mut shared = self.lock();
        shared.parked += 1;
        self.changed.notify_all();
        while self.wanted_pause.load(Ordering::Acquire) {
            shared = self
                .changed
                .wait(shared)
                .unwrap_or_else(PoisonError::into_inner);
        }
        shared.parked -= 1;
    }

    /// Whether the vCPUs are stopped, or about to.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.wanted_pause.load(Ordering::Acquire)
    }

    /// Stops all vCPUs; gives back when the last one stands. A vCPU that is
    /// in the middle of a register access finishes it first.
    pub fn pause(&self) {
        let mut shared = self.lock();
        self.wanted_pause.store(true, Ordering::Release);
        while shared.parked < shared.threads.len() {
            for thread in &shared.threads {
                thread.kick();
            }
            shared = self
                .changed
                .wait(shared)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets them go on.
    pub fn resume(&self) {
        let _shared = self.lock();
        self.wanted_pause.store(false, Ordering::Release);
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn nobody_moves_while_paused() {
        let state = Arc::new(RunState::default());
        let steps = Arc::new(AtomicU64::new(0));
        let (ready, is_ready) = std::sync::mpsc::channel();
        for _ in 0..2 {
            let (state, steps, ready) = (Arc::clone(&state), Arc::clone(&steps), ready.clone());
            std::thread::spawn(move || {
                // The process-wide default action of the kick would end us.
                let mut run = kvm_bindings::kvm_run::default();
                let _kick = crate::sys::process::KickTarget::of_this_thread(&mut run);
                state.join();
                ready.send(()).unwrap();
                loop {
                    state.wait_to_run();
                    steps.fetch_add(1, Ordering::SeqCst);
                    std::thread::yield_now();
                }
            });
        }
        is_ready.recv().unwrap();
        is_ready.recv().unwrap();
        for _ in 0..20 {
            state.pause();
            let before = steps.load(Ordering::SeqCst);
            std::thread::yield_now();
            assert_eq!(steps.load(Ordering::SeqCst), before);
            state.resume();
            while steps.load(Ordering::SeqCst) == before {
                std::thread::yield_now();
            }
        }
    }
}
