//! One thread per vCPU: `KVM_RUN`, and what the guest wants when it returns.

use crate::exit::{ExitCounters, ExitKind, Journal, chain};
use crate::jail::Confinement;
use crate::jail::calls::ThreadKind;
use crate::ports::{PortEvent, Ports};
use crate::run_state::RunState;
use crate::sys::process::KickTarget;
use crate::virtio::bus::MmioBus;
use beluga_proto::ExitCause;
use kvm_ioctls::{VcpuExit, VcpuFd};
use std::sync::{Arc, Mutex, PoisonError};

/// Stack of a vCPU thread in bytes: its calls are shallow.
const STACK: usize = 128 << 10;

/// What all vCPUs share.
#[derive(Debug)]
pub struct Board {
    /// I/O ports.
    pub ports: Ports,
    /// Device registers.
    pub bus: MmioBus,
    /// Pause and resume.
    pub run: RunState,
    /// What is seen.
    pub journal: Arc<Journal>,
}

/// Why a vCPU thread did not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the thread of vCPU {vcpu}")]
pub struct SpawnError {
    vcpu: u8,
    #[source]
    source: std::io::Error,
}

/// What one `KVM_RUN` led to.
enum Step {
    GoOn,
    End(ExitCause, String),
    Reset { triple_fault: bool },
}

/// Runs a vCPU on a thread of its own until the process ends. Others reach
/// the vCPU through the lock only while the machine is paused.
pub fn spawn(
    index: u8,
    vcpu: Arc<Mutex<VcpuFd>>,
    board: Arc<Board>,
    confinement: Confinement,
) -> Result<(), SpawnError> {
    let counters = board.journal.exit_counters(index);
    let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name(format!("vcpu{index}"))
        .stack_size(STACK)
        .spawn(move || {
            let kick = {
                let mut vcpu = lock(&vcpu);
                KickTarget::of_this_thread(vcpu.get_kvm_run())
            };
            board.run.join();
            // A pause counts on every thread to be known.
            let _ = ready.send(());
            drop(ready);
            if let Err(error) = confinement.begin(ThreadKind::Vcpu) {
                board.journal.end(ExitCause::HostError, chain(&error));
            }
            drop(confinement);
            run(&vcpu, &board, &counters);
            drop(kick);
        })
        .map_err(|source| SpawnError {
            vcpu: index,
            source,
        })?;
    let _ = is_ready.recv();
    Ok(())
}

fn lock(vcpu: &Mutex<VcpuFd>) -> std::sync::MutexGuard<'_, VcpuFd> {
    vcpu.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(vcpu: &Mutex<VcpuFd>, board: &Board, counters: &ExitCounters) {
    loop {
        board.run.wait_to_run();
        let mut vcpu = lock(vcpu);
        while !board.run.is_paused() {
            match step(&mut vcpu, board, counters) {
                Step::GoOn => {}
                Step::Reset { triple_fault } => board.journal.end_by_reset(triple_fault),
                Step::End(cause, detail) => board.journal.end(cause, detail),
            }
        }
        finish_access(&mut vcpu);
    }
}

/// The result of a register read lies in `kvm_run` until KVM is entered again:
/// enter it once without running the guest, so that the vCPU's registers have
/// it and can be saved.
fn finish_access(vcpu: &mut VcpuFd) {
    vcpu.set_kvm_immediate_exit(1);
    let _ = vcpu.run();
    vcpu.set_kvm_immediate_exit(0);
}

fn step(vcpu: &mut VcpuFd, board: &Board, counters: &ExitCounters) -> Step {
    match vcpu.run() {
        Ok(exit) => serve(exit, board, counters),
        Err(error) => {
            counters.count(ExitKind::Interrupted);
            match error.errno() {
                // A kick; the flag that it has set would make KVM_RUN return
                // for ever.
                libc::EINTR | libc::EAGAIN => {
                    vcpu.set_kvm_immediate_exit(0);
                    Step::GoOn
                }
                _ => Step::End(ExitCause::KvmError, format!("KVM_RUN failed: {error}")),
            }
        }
    }
}

fn serve(exit: VcpuExit<'_>, board: &Board, counters: &ExitCounters) -> Step {
    match exit {
        VcpuExit::MmioRead(address, data) => {
            counters.count(ExitKind::MmioRead);
            board.bus.read(address, data);
        }
        VcpuExit::MmioWrite(address, data) => {
            counters.count(ExitKind::MmioWrite);
            board.bus.write(address, data);
        }
        VcpuExit::IoIn(port, data) => {
            counters.count(ExitKind::IoIn);
            board.ports.read(port, data);
        }
        VcpuExit::IoOut(port, data) => {
            counters.count(ExitKind::IoOut);
            match board.ports.write(port, data) {
                PortEvent::None => {}
                PortEvent::Stamp(stamp) => board.journal.stamp(stamp),
                PortEvent::Reset => {
                    return Step::Reset {
                        triple_fault: false,
                    };
                }
            }
        }
        exit => {
            counters.count(ExitKind::Other);
            return unusual(&exit);
        }
    }
    Step::GoOn
}

fn unusual(exit: &VcpuExit<'_>) -> Step {
    match exit {
        VcpuExit::Intr | VcpuExit::IrqWindowOpen => Step::GoOn,
        VcpuExit::Shutdown => Step::Reset { triple_fault: true },
        VcpuExit::FailEntry(reason, cpu) => Step::End(
            ExitCause::KvmError,
            format!("the processor refused to enter the guest on CPU {cpu}: reason {reason:#x}"),
        ),
        VcpuExit::InternalError => Step::End(
            ExitCause::KvmError,
            "KVM met an internal error: it cannot emulate an instruction of the guest".to_owned(),
        ),
        VcpuExit::SystemEvent(kind, _) => Step::End(
            ExitCause::GuestCrashed,
            format!("KVM reported system event {kind}"),
        ),
        other => Step::End(
            ExitCause::KvmError,
            format!("KVM returned an exit that nobody asked for: {other:?}"),
        ),
    }
}
