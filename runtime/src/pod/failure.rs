//! Why a pod's VM ended, in one line each: which phase and what happened, what to do.
//! The console's last lines stand beside it in the status.

use crate::store::status::VmEnd;
use beluga_proto::{ExitCause, Stamp};

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
