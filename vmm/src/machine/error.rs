//! Why there is no machine.

use crate::arch::x86_64::{boot, entry, mptable, state};
use crate::config::ConfigError;
use crate::jail::{FilterError, JailError};
use crate::loader::ImageError;
use crate::memory;
use crate::vcpu;
use crate::virtio::DeviceError;
use beluga_proto::ExitCause;
use std::io;

/// Why there is no machine.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The configuration, or what it names.
    #[error("the configuration cannot be used")]
    Config(#[from] ConfigError),
    /// A device cannot be made as it is configured.
    #[error("cannot make device {name:?}")]
    Device {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: DeviceError,
    },
    /// Kernel or initramfs.
    #[error("the guest's images cannot be loaded")]
    Image(#[from] ImageError),
    /// What the kernel is told.
    #[error("the kernel cannot be told about its machine")]
    Boot(#[from] boot::BootError),
    /// The MP table.
    #[error("the machine cannot be described")]
    MpTable(#[from] mptable::MpTableError),
    /// Guest memory.
    #[error("there is no guest memory")]
    Memory(#[from] memory::MemoryError),
    /// vCPU state.
    #[error("a vCPU cannot be set up")]
    Vcpu(#[from] entry::EntryError),
    /// Saved state.
    #[error("the saved machine cannot be taken up")]
    State(#[from] state::StateError),
    /// KVM.
    #[error("KVM refused to {action}")]
    Kvm {
        /// What was tried, as an infinitive.
        action: &'static str,
        /// Its reason.
        #[source]
        source: kvm_ioctls::Error,
    },
    /// Anything else of the host's.
    #[error("the host refused to {action}")]
    Host {
        /// What was tried, as an infinitive.
        action: &'static str,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A thread.
    #[error("the machine cannot start")]
    Spawn(#[from] vcpu::SpawnError),
    /// What the process has cannot be given up.
    #[error("the machine is not shut in")]
    Jail(#[from] JailError),
    /// What its threads may call cannot be limited.
    #[error("the machine's threads are not limited")]
    Filter(#[from] FilterError),
}

impl MachineError {
    /// The cause that the exit record names.
    #[must_use]
    pub fn cause(&self) -> ExitCause {
        match self {
            Self::Config(_) | Self::Device { .. } | Self::Boot(_) => ExitCause::BadConfig,
            Self::Image(ImageError::TooLittleMemory { .. }) => ExitCause::TooLittleMemory,
            Self::Image(_) => ExitCause::BadImage,
            _ => ExitCause::HostError,
        }
    }
}

pub(super) fn kvm(action: &'static str) -> impl Fn(kvm_ioctls::Error) -> MachineError {
    move |source| MachineError::Kvm { action, source }
}

pub(super) fn host(action: &'static str) -> impl Fn(io::Error) -> MachineError {
    move |source| MachineError::Host { action, source }
}
