//! One KVM microVM: a typed configuration and open descriptors in, an exit
//! record out. The binary is `beluga-vmm`; the library exists for its tests.

pub mod memory;
mod sys;
pub mod virtio;
