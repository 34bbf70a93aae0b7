//! One KVM microVM: a typed configuration and open descriptors in, an exit
//! record out. The binary is `beluga-vmm`; the library exists for its tests.
//!
//! | module | what |
//! |---|---|
//! | [`config`] | the configuration, checked; descriptors claimed |
//! | [`machine`] | the boot order |
//! | [`memory`], [`loader`], [`arch`] | guest memory, what lies in it, how a CPU begins |
//! | [`vcpu`], [`run_state`], [`ports`] | `KVM_RUN`, pause and resume, I/O ports |
//! | [`virtio`] | devices |
//! | [`event_loop`], [`control`] | descriptors, the supervisor |
//! | [`jail`] | what is given up before the guest runs |
//! | [`exit`], [`console`], [`kvm_stats`], [`log`] | what is seen, and the record at the end |

pub mod arch;
pub mod config;
pub mod console;
pub mod control;
pub mod event_loop;
pub mod exit;
pub mod footprint;
pub mod jail;
pub mod kvm_stats;
pub mod loader;
pub mod log;
pub mod machine;
pub mod memory;
pub mod ports;
pub mod run_state;
mod sys;
pub mod vcpu;
pub mod virtio;
