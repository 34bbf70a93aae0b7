//! Why a pod's VM ended, in one line each: which phase and what happened, what to do.
//! The console's last lines stand beside it in the status.

use crate::store::status::VmEnd;
use beluga_proto::{ExitCause, Stamp};
use std::time::Duration;

/// The phase of the boot that comes after a stamp: the one that failed.
#[must_use]
pub(super) fn phase_after(stamp: Option<Stamp>) -> &'static str {
    match stamp {
        None => "starting the virtual machine",
        Some(Stamp::KernelEntry) => "booting the guest kernel",
        Some(Stamp::Init) => "mounting the agent's file systems",
        Some(Stamp::Mounted) => "connecting the agent to its supervisor",
        Some(Stamp::Connected) => "the handshake between agent and supervisor",
        Some(Stamp::Ready) => "setting up the pod",
        Some(Stamp::PodReady) => "starting the first container",
        Some(
            Stamp::FirstContainer | Stamp::EndShutdown | Stamp::EndAgentFault | Stamp::EndOrphaned,
        ) => "running the pod",
    }
}

/// A boot that neither gets on nor fails, as the host sees it.
#[derive(Debug)]
pub(super) struct Hung {
    /// How far it came, as far as anybody has told.
    pub(super) reached: Option<Stamp>,
    /// Whether the VMM says how it is.
    pub(super) answers: bool,
    /// The VMM's PID.
    pub(super) vmm: i32,
    /// Somebody has stopped the VMM.
    pub(super) is_stopped: bool,
    /// How long the VMM's threads could have run and had no CPU, together.
    pub(super) waited: Duration,
    /// How long the boot was waited for.
    pub(super) patience: Duration,
}

impl Hung {
    /// For most of the time there was no CPU for it.
    fn is_starved(&self) -> bool {
        self.waited > self.patience / 2
    }

    /// The phase, and what keeps the VMM from getting on where that is known.
    pub(super) fn message(&self) -> String {
        let phase = match self.reached {
            None if !self.answers => "booting",
            reached => phase_after(reached),
        };
        let vmm = format!(": its VMM, process {}, ", self.vmm);
        let why = match self {
            Self {
                is_stopped: true, ..
            } => format!("{vmm}is stopped"),
            _ if self.is_starved() => {
                format!("{vmm}waited {} s for a CPU", self.waited.as_secs())
            }
            Self { answers: false, .. } => format!("{vmm}does not answer"),
            _ => String::new(),
        };
        let seconds = self.patience.as_secs();
        format!("The pod's virtual machine hangs while {phase} ({seconds} s){why}")
    }

    /// What to do about it.
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Self {
                is_stopped: true, ..
            } => "somebody has stopped it (SIGSTOP, a debugger): start the pod anew without",
            _ if self.is_starved() => {
                "give its containers a larger resources.limits.cpu, or the host less to do; \
                 BELUGA_BOOT_TIMEOUT gives it more seconds"
            }
            _ => {
                "on a slow host set BELUGA_BOOT_TIMEOUT to more seconds; check that kernel and \
                 initramfs are the ones of this version (beluga doctor)"
            }
        }
    }
}

/// The whole story of a VM that ended although nobody asked for it.
#[must_use]
pub(super) fn describe(end: &VmEnd, booted: bool) -> String {
    if booted {
        format!("The pod's virtual machine ended: {}", end.detail)
    } else {
        format!(
            "The pod's virtual machine failed while {}: {}",
            phase_after(end.reached),
            end.detail
        )
    }
}

/// What to do about it.
#[must_use]
pub(super) fn advice(end: &VmEnd, booted: bool) -> Option<&'static str> {
    match end.cause {
        _ if end.last_stamp == Some(Stamp::EndOrphaned) && !booted => Some(
            "the agent found no way to its supervisor: a guest kernel without virtio vsock built \
             in has none; use the one of this version (beluga doctor)",
        ),
        Some(ExitCause::BadImage) => Some(
            "check that the guest kernel and the initramfs are the ones of this version \
             (beluga doctor); BELUGA_KERNEL and BELUGA_INITRAMFS name others",
        ),
        Some(ExitCause::TooLittleMemory) => {
            Some("give its containers a larger resources.limits.memory")
        }
        Some(ExitCause::BadConfig) => {
            Some("check that beluga and beluga-vmm are of one version (beluga version)")
        }
        Some(ExitCause::HostError) => {
            Some("run beluga doctor: it checks KVM, rights, memory and network")
        }
        Some(ExitCause::TripleFault) if booted => Some(
            "the guest's kernel ran: a privileged container may have reset the machine \
             (reboot, sysrq), or corrupted its kernel",
        ),
        Some(ExitCause::KvmError | ExitCause::TripleFault) => {
            Some("run beluga doctor: this host's KVM may not be able to run a guest kernel")
        }
        Some(ExitCause::KernelPanic | ExitCause::GuestCrashed | ExitCause::GuestEnded)
            if !booted =>
        {
            Some(
                "the console says why; a kernel that finds no working init was given a wrong \
                 initramfs, one that is out of memory needs a larger resources.limits.memory",
            )
        }
        None if end.is_host_oom => {
            Some("give the pod a memory limit that it keeps to, or the host more memory")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_boot_names_its_phase_and_remedy() {
        let end = VmEnd {
            cause: Some(ExitCause::KernelPanic),
            detail: "the guest kernel panicked".to_owned(),
            is_host_oom: false,
            exit_code: Some(1),
            signal: None,
            last_stamp: Some(Stamp::KernelEntry),
            reached: Some(Stamp::KernelEntry),
            console: "Kernel panic - not syncing: No working init found.\n".to_owned(),
        };
        let text = describe(&end, false);
        assert!(text.contains("while booting the guest kernel: the guest kernel panicked"));
        assert!(!text.contains('\n'));
        assert!(advice(&end, false).is_some_and(|text| text.contains("wrong initramfs")));
        let end = VmEnd {
            cause: Some(ExitCause::TripleFault),
            ..end
        };
        assert!(advice(&end, false).is_some_and(|text| text.contains("beluga doctor")));
        assert!(advice(&end, true).is_some_and(|text| text.contains("sysrq")));
    }

    #[test]
    fn a_boot_that_hangs_names_its_phase_and_what_keeps_the_vmm() {
        let hung = |reached, answers, is_stopped, waited| {
            let hung = Hung {
                reached,
                answers,
                vmm: 7,
                is_stopped,
                waited: Duration::from_secs(waited),
                patience: Duration::from_secs(60),
            };
            let message = hung.message();
            let told = message.strip_prefix("The pod's virtual machine hangs while ");
            (told.unwrap().to_owned(), hung.advice())
        };
        let kernel = Some(Stamp::KernelEntry);
        for (case, told, advised) in [
            (
                hung(kernel, true, false, 1),
                "booting the guest kernel (60 s)",
                "(beluga doctor)",
            ),
            (
                hung(kernel, true, false, 31),
                "booting the guest kernel (60 s): its VMM, process 7, waited 31 s for a CPU",
                "resources.limits.cpu",
            ),
            (
                hung(None, false, false, 0),
                "booting (60 s): its VMM, process 7, does not answer",
                "BELUGA_BOOT_TIMEOUT",
            ),
            (
                hung(Some(Stamp::Ready), false, true, 0),
                "setting up the pod (60 s): its VMM, process 7, is stopped",
                "SIGSTOP",
            ),
        ] {
            assert_eq!(case.0, told);
            assert!(case.1.contains(advised), "{case:?}");
        }
    }

    #[test]
    fn an_agent_that_gave_up_tells_the_phase_before() {
        let end = VmEnd {
            cause: Some(ExitCause::GuestEnded),
            detail: "no supervisor came in time".to_owned(),
            is_host_oom: false,
            exit_code: Some(1),
            signal: None,
            last_stamp: Some(Stamp::EndOrphaned),
            reached: Some(Stamp::Mounted),
            console: String::new(),
        };
        let text = describe(&end, false);
        assert!(text.contains("failed while connecting the agent to its supervisor"));
        assert!(advice(&end, false).is_some_and(|text| text.contains("vsock")));
    }
}
