//! The end of a pod: the cause goes on record before anything is taken down.

use super::failure::{self, Hung};
use super::state::Stage;
use super::supervisor::{
    DRAIN_PATIENCE, STATUS_PATIENCE, STOP_PATIENCE, Supervisor, SupervisorError, after,
};
use super::vm::vm_end;
use super::{Now, boot};
use crate::host::{self, cgroup, process};
use crate::machine;
use crate::plan::HostStep;
use crate::policy;
use crate::store::Life;
use crate::store::status::BOOT_TIMEOUT;
use beluga_proto::control::VmStatus;
use beluga_proto::{ControlRequest, Stamp};

impl Supervisor {
    /// The last resort: a boot that neither gets on nor fails.
    pub(super) async fn on_hung_boot(&mut self, time: Now) {
        if self.is_hung {
            self.hung(None).await;
            return;
        }
        self.is_hung = true;
        self.boot_deadline = Some(after(time, STATUS_PATIENCE));
        if let Some(control) = &mut self.control {
            let _ = control.send(ControlRequest::Status).await;
        }
    }

    pub(super) async fn hung(&mut self, status: Option<&VmStatus>) {
        self.boot_deadline = None;
        self.hung_status = status.cloned();
        let vmm = self.record.vmm.map_or(0, |vmm| vmm.pid);
        let hung = Hung {
            reached: status.and_then(VmStatus::last_stamp).or(self.told()),
            answers: status.is_some(),
            vmm,
            is_stopped: process::is_stopped(vmm),
            waited: process::waited_for_cpu(vmm),
            patience: self.settings.boot_timeout,
        };
        self.record.state.status.advice = Some(hung.advice().to_owned());
        self.fail(BOOT_TIMEOUT, hung.message()).await;
    }

    /// How far the guest came by what its agent has told.
    fn told(&self) -> Option<Stamp> {
        let stamp = match self.is_set_up {
            true => Stamp::PodReady,
            false => Stamp::Ready,
        };
        self.said_hello.then_some(stamp)
    }

    /// The VM is gone: the cause goes on record, then the host is cleared.
    pub(super) async fn finish(&mut self) -> Result<(), SupervisorError> {
        self.kill_vm();
        if let Some(machine) = &self.machine {
            // A VMM in the middle of a large unmap takes a moment to go.
            let _ = tokio::time::timeout(STOP_PATIENCE, vm_end(self.exit_watch.as_ref())).await;
            let _ = process::wait_end(&machine.pidfd, 1000);
        } else {
            self.kill_unrecorded();
        }
        self.end_shares();
        self.runs.drain(DRAIN_PATIENCE).await;
        if self.record.life != Life::Ended {
            self.record_end();
        }
        let errors = host::release(&self.settings, &self.plan, &host::boot_id());
        for error in errors {
            let message = crate::error_chain(&error);
            self.warn("NotReleased", message);
        }
        // Its tables, and its address in those of others.
        if let Err(error) = policy::enforce(&self.settings) {
            self.warn("NotReleased", crate::error_chain(&error));
        }
        self.record.life = Life::Ended;
        self.is_dirty = true;
        if let Err(error) = self.save() {
            // The VM is gone: who looks next finds that, whatever is on record.
            tell!("{}", crate::error_chain(&error));
        }
        Ok(())
    }

    pub(super) fn record_end(&mut self) {
        let was_wanted = self.record.life == Life::Ending;
        let path = boot::exit_record(&self.settings, &self.plan);
        let oom_kills = self.oom_kills();
        let mut end = match &self.machine {
            Some(machine) => machine.end(&path, oom_kills),
            None => machine::read_end(&path, None, None, oom_kills),
        };
        // A VMM that is killed leaves no record: what it last said is kept.
        if end.cause.is_none()
            && let Some(status) = self.hung_status.take()
        {
            end.last_stamp = status.last_stamp();
            end.reached = end.last_stamp;
            end.console = status.console;
        }
        if end.last_stamp.is_none() && self.said_hello {
            end.last_stamp = self.told();
            end.reached = end.last_stamp;
        }
        if !was_wanted && self.record.state.stage != Stage::Over {
            let is_old_boot = self.record.boot_id != host::boot_id();
            let (reason, message, advice) = if is_old_boot {
                let message = "The host was restarted while the pod ran".to_owned();
                ("HostRestarted", message, None)
            } else {
                let message = failure::describe(&end, self.is_set_up);
                let advice = failure::advice(&end, self.is_set_up);
                (machine::reason(&end), message, advice)
            };
            self.record.state.status.advice = advice.map(str::to_owned);
            self.vm_ended(reason, message);
        }
        if self.machine.is_some() || self.record.vmm.is_some() {
            self.record.state.status.vm_end = Some(end);
        }
        self.record.life = Life::Ending;
        self.is_dirty = true;
        if let Err(error) = self.save() {
            tell!("{}", crate::error_chain(&error));
        }
    }

    pub(super) fn oom_kills(&self) -> u64 {
        let steps = self.plan.host.iter();
        steps
            .filter_map(|step| match step {
                HostStep::Cgroup(plan) => Some(cgroup::oom_kills(&plan.path)),
                _ => None,
            })
            .sum()
    }

    /// A VMM that was started but not recorded: its supervisor died in between.
    pub(super) fn kill_unrecorded(&self) {
        for (uid, process) in process::machines() {
            if uid == self.record.uid
                && let Some(pidfd) = process::open(process)
            {
                let _ = process::kill(&pidfd);
                let _ = process::wait_end(&pidfd, 3000);
            }
        }
    }
}
