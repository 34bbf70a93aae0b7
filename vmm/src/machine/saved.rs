//! A machine as a value: taken while it stands, put into a new one.

use super::{Machine, MachineError};
use crate::arch::x86_64::state;
use crate::memory::GuestMemory;
use crate::ports::Registers;
use crate::virtio::mmio::TransportState;
use serde::{Deserialize, Serialize};
use std::sync::PoisonError;

/// All of a machine but its memory and files, as a plain value.
#[derive(Debug, Serialize, Deserialize)]
pub struct MachineState {
    platform: state::PlatformState,
    vcpus: Vec<state::VcpuState>,
    ports: Registers,
    devices: Vec<TransportState>,
}

/// A saved machine: its value, and a copy of its memory.
#[derive(Debug)]
pub struct Saved {
    /// Everything but memory.
    pub state: MachineState,
    /// Guest memory.
    pub memory: GuestMemory,
}

impl Machine {
    /// Stops the machine and takes its value. Memory is the caller's to copy
    /// before it goes on.
    pub fn save(&self) -> Result<MachineState, MachineError> {
        self.board.run.pause();
        let devices = self
            .devices
            .iter()
            .map(|(_, device)| device.save())
            .collect();
        let mut vcpus = Vec::new();
        for vcpu in &self.vcpus {
            let vcpu = vcpu.lock().unwrap_or_else(PoisonError::into_inner);
            vcpus.push(state::VcpuState::take(&vcpu)?);
        }
        Ok(MachineState {
            platform: state::PlatformState::take(&self.vm)?,
            vcpus,
            ports: self.board.ports.save(),
            devices,
        })
    }

    /// Goes on after a [`Machine::save`] or after it was built from a value.
    pub fn resume(&self) {
        for (_, device) in &self.devices {
            device.thaw();
        }
        self.board.run.resume();
    }

    pub(super) fn restore(&self, saved: MachineState) -> Result<(), MachineError> {
        if saved.vcpus.len() != self.vcpus.len() || saved.devices.len() != self.devices.len() {
            return Err(state::StateError::Shape.into());
        }
        saved.platform.put(&self.vm)?;
        for (vcpu, saved) in self.vcpus.iter().zip(&saved.vcpus) {
            let vcpu = vcpu.lock().unwrap_or_else(PoisonError::into_inner);
            saved.put(&vcpu)?;
        }
        self.board.ports.restore(saved.ports);
        for ((_, device), saved) in self.devices.iter().zip(saved.devices) {
            device
                .restore(saved)
                .map_err(|source| MachineError::Device {
                    name: device.name().to_owned(),
                    source,
                })?;
        }
        Ok(())
    }
}
