//! What the supervisor and the VMM say to each other.

use super::now;
use super::supervisor::{STATUS_PATIENCE, STOP_PATIENCE, Supervisor, after};
use crate::host::process;
use crate::link;
use crate::machine::control::{Control, ControlError};
use crate::store::Life;
use crate::store::status::{DISK_STALLED, EventKind, PodStatus, ReceiptLine};
use beluga_proto::agent::Request;
use beluga_proto::control::VmStatus;
use beluga_proto::{
    CONTROL_PORT, ControlMessage, ControlReply, ControlRequest, Fault, FaultCode, STREAM_PORT,
    Stamp,
};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// How long a guest may take to write out what it holds of lasting disks.
const UNMOUNT_PATIENCE: Duration = Duration::from_secs(60);

impl Supervisor {
    /// Ends a VM in which nothing is wanted any more.
    pub(super) async fn end_vm(&mut self) {
        if self.record.life == Life::Ending || self.machine.is_none() {
            return;
        }
        self.record.life = Life::Ending;
        self.is_dirty = true;
        self.boot_deadline = None;
        // What the guest has written to a disk that outlives the pod may still
        // be in its memory: the agent unmounts it, and the VM ends by itself.
        if self.plan.vm.disks.iter().any(|disk| disk.flush) && self.link.is_connected() {
            drop(self.link.request(Request::Shutdown));
            self.end_deadline = Some(after(now(), UNMOUNT_PATIENCE));
            return;
        }
        self.end_deadline = Some(after(now(), STOP_PATIENCE));
        // Nothing else in the guest needs an orderly end: what it could write to
        // is deleted with it. So the VMM is stopped, which takes no guest time.
        let sent = match &mut self.control {
            Some(control) => control.send(ControlRequest::Stop).await.is_ok(),
            None => false,
        };
        if !sent {
            self.kill_vm();
        }
    }

    pub(super) fn kill_vm(&self) {
        if let Some(machine) = &self.machine {
            let _ = process::kill(&machine.pidfd);
        }
    }

    pub(super) async fn on_packet(
        &mut self,
        packet: Result<(ControlMessage, Vec<OwnedFd>), ControlError>,
    ) {
        match packet {
            Ok((ControlMessage::VsockOpened { host_port, .. }, fds)) => {
                self.on_stream(host_port, fds);
            }
            Ok((ControlMessage::Reply { result, .. }, _)) => {
                if let Ok(ControlReply::Status(status)) = result {
                    self.on_status(&status).await;
                }
            }
            Ok((ControlMessage::DiskStalled { disk, stalled }, _)) => {
                let message = if stalled {
                    format!("The disk {disk} waits: the host's file system is full")
                } else {
                    format!("The disk {disk} goes on")
                };
                self.event(EventKind::Warning, DISK_STALLED, message);
            }
            Err(error) => {
                // Its end comes by the pidfd; without control it is of no use.
                self.control = None;
                self.has_receipt = true;
                if self.record.life != Life::Ending {
                    tell!("{}", crate::error_chain(&error));
                    self.end_deadline.get_or_insert(after(now(), STOP_PATIENCE));
                }
            }
        }
    }

    /// Asks the VMM what the boot cost. Whoever watches the start waits for
    /// it, so it is not waited for long.
    pub(super) async fn fetch_receipt(&mut self) {
        let Some(control) = &mut self.control else {
            return;
        };
        if self.has_receipt || control.send(ControlRequest::Status).await.is_err() {
            return;
        }
        let until = tokio::time::Instant::now() + STATUS_PATIENCE;
        while !self.has_receipt {
            let next = tokio::time::timeout_at(until, packet(self.control.as_ref())).await;
            match next {
                Ok(message) => self.on_packet(message).await,
                Err(_) => self.has_receipt = true,
            }
        }
    }

    /// Asks the VMM something and waits for the answer, which takes it no time.
    pub(super) async fn ask_vmm(
        &mut self,
        request: ControlRequest,
        fds: &[BorrowedFd<'_>],
    ) -> Result<ControlReply, Fault> {
        let gone = || Fault::new(FaultCode::Unavailable, "the pod's VMM does not answer");
        let control = self.control.as_mut().ok_or_else(gone)?;
        let call = control
            .send_with(request, fds)
            .await
            .map_err(|error| Fault::from_error(FaultCode::Unavailable, &error))?;
        let until = tokio::time::Instant::now() + STATUS_PATIENCE;
        loop {
            let next = tokio::time::timeout_at(until, packet(self.control.as_ref())).await;
            match next.map_err(|_| gone())? {
                Ok((ControlMessage::Reply { id, result }, _)) if id == call => return result,
                Err(error) => {
                    self.on_packet(Err(error)).await;
                    return Err(gone());
                }
                // Boxed: one that ends the pod may come here again.
                other => Box::pin(self.on_packet(other)).await,
            }
        }
    }

    pub(super) fn on_stream(&mut self, port: u32, mut fds: Vec<OwnedFd>) {
        let Some(stream) = fds.pop().and_then(|fd| link::adopt(fd).ok()) else {
            return;
        };
        // Whatever gets no permit or has another port is closed: a reset.
        match port {
            CONTROL_PORT => {
                if let Ok(permit) = Arc::clone(&self.unproved).try_acquire_owned() {
                    self.link.offer(stream, permit);
                }
            }
            STREAM_PORT => {
                if let Some(permit) = self.streams.permit() {
                    self.streams.offer(stream, permit);
                }
            }
            _ => {}
        }
    }

    pub(super) async fn on_status(&mut self, status: &VmStatus) {
        if self.is_hung {
            self.hung(Some(status)).await;
        } else if !self.has_receipt {
            self.has_receipt = true;
            let lines = receipt(status);
            self.record.state.status.receipt.extend(lines);
            self.is_dirty = true;
        }
    }
}

/// Waits for the end of the VMM, for ever where there is none.
pub(super) async fn vm_end(watch: Option<&AsyncFd<OwnedFd>>) {
    match watch {
        Some(watch) => drop(watch.readable().await),
        None => std::future::pending().await,
    }
}

/// Waits for a moment since the host's boot, for ever where none is set.
pub(super) async fn sleep_until(boot_nanos: Option<u64>) {
    match boot_nanos {
        Some(at) => {
            let wait = Duration::from_nanos(at.saturating_sub(now().boot));
            tokio::time::sleep(wait).await;
        }
        None => std::future::pending().await,
    }
}

/// The next message of the VMM; never, when there is no connection.
pub(super) async fn packet(
    control: Option<&Control>,
) -> Result<(ControlMessage, Vec<OwnedFd>), ControlError> {
    match control {
        Some(control) => control.receive().await,
        None => std::future::pending().await,
    }
}

/// Whether what the boot cost is on record: one who died before the first
/// container ran has not asked for it.
pub(super) fn has_receipt(status: &PodStatus) -> bool {
    status.receipt.iter().any(|line| line.phase == "vmm")
}

/// What the guest's boot cost, from the VMM's stamps.
fn receipt(status: &VmStatus) -> Vec<ReceiptLine> {
    const PHASES: [(&str, Stamp); 5] = [
        ("vmm", Stamp::KernelEntry),
        ("kernel", Stamp::Init),
        ("agent", Stamp::Ready),
        ("setup", Stamp::PodReady),
        ("container", Stamp::FirstContainer),
    ];
    let (mut wall, mut cpu) = (0, 0);
    let mut lines = Vec::with_capacity(PHASES.len());
    for (phase, stamp) in PHASES {
        let Some(at) = status.stamps.iter().find(|at| at.stamp == stamp) else {
            continue;
        };
        lines.push(ReceiptLine {
            phase: phase.to_owned(),
            wall_nanos: at.nanos.saturating_sub(wall),
            cpu_nanos: Some(at.cpu_nanos.saturating_sub(cpu)),
        });
        (wall, cpu) = (at.nanos, at.cpu_nanos);
    }
    lines
}
