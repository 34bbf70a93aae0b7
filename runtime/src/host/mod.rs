//! Carries out the host steps of a plan, and takes them back.
//!
//! Each step gives a [`Guard`] that undoes it when dropped, until the pod's VM
//! runs: from then on the pod's record owns what was made, and [`release`]
//! takes it back by name, in whichever process that happens.

pub mod audit;
pub mod carry;
pub mod cgroup;
pub mod firewall;
pub mod lock;
pub mod mounts;
pub mod netlink;
pub mod network;
mod nft;
pub mod ordinary;
pub mod pasta;
pub mod policy;
pub mod ports;
pub mod process;
pub mod resolver;
pub mod rules;
pub mod scratch;
pub mod share;
pub mod socket;

use crate::path_error::PathError;
use crate::plan::{HostStep, Plan};
use crate::settings::Settings;
use nft::Family;
use std::os::fd::OwnedFd;

/// Why a host step cannot be done or undone.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A directory or file.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The network.
    #[error(transparent)]
    Network(#[from] network::NetworkError),
    /// What an ordinary user's pods cannot have.
    #[error(transparent)]
    Ordinary(#[from] ordinary::OrdinaryError),
    /// An ordinary user's network.
    #[error(transparent)]
    Pasta(#[from] pasta::PastaError),
    /// A card that others have made.
    #[error(transparent)]
    Carry(#[from] carry::CarryError),
    /// A network of CNI.
    #[error(transparent)]
    Cni(#[from] crate::cni::CniError),
    /// The packet filter.
    #[error(transparent)]
    Rules(#[from] rules::RulesError),
    /// The scratch disk.
    #[error(transparent)]
    Scratch(#[from] scratch::ScratchError),
    /// The cgroup.
    #[error(transparent)]
    Cgroup(#[from] cgroup::CgroupError),
    /// A directory or file of the host.
    #[error(transparent)]
    Share(#[from] share::ShareError),
    /// A part of the installation.
    #[error(transparent)]
    Settings(#[from] crate::settings::SettingsError),
}

/// What the steps made that later steps need by descriptor.
#[derive(Debug, Default)]
pub struct Made {
    /// Taps by name.
    pub taps: Vec<(String, OwnedFd)>,
    /// Servers of directories and files of the host.
    pub shares: Vec<share::Served>,
    /// What could not be had and is not essential, one sentence each.
    pub warnings: Vec<String>,
    /// Whether this process is in the pod's cgroup now.
    pub in_cgroup: bool,
}

/// Undoes one step when dropped.
#[derive(Debug)]
pub struct Guard {
    step: Option<HostStep>,
}

impl Guard {
    /// Leaves what was made: the pod's record owns it now.
    pub fn keep(mut self) {
        self.step = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(step) = self.step.take() {
            // Nobody to tell: what is left is the next `gc`'s to find.
            let _ = undo(&step);
        }
    }
}

/// Does one step. The intent is on record: it is in the plan.
pub fn apply(settings: &Settings, step: &HostStep, made: &mut Made) -> Result<Guard, HostError> {
    let guard = Guard {
        step: Some(step.clone()),
    };
    match step {
        HostStep::Directory { path, mode } => {
            use std::os::unix::fs::DirBuilderExt as _;
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(*mode)
                .create(path)
                .map_err(PathError::on("make directory", path))?;
        }
        HostStep::Scratch { path, bytes } => scratch::create(settings, path, *bytes)?,
        HostStep::Disk(disk) => scratch::create_volume(&disk.path, disk.bytes, disk.is_block)?,
        HostStep::Mounts { path } => mounts::create(path)?,
        HostStep::Share(plan) => {
            made.shares
                .push(share::serve(&settings.share_server()?, plan)?);
        }
        HostStep::Bridge { .. } => {
            apply_network(settings, step)?;
            made.warnings.extend(firewall::warning());
        }
        HostStep::Tap { .. }
        | HostStep::Guard { .. }
        | HostStep::Publish { .. }
        | HostStep::Pasta(_)
        | HostStep::Carry { .. } => made.taps.extend(apply_network(settings, step)?),
        HostStep::Cgroup(plan) => match cgroup::create(plan) {
            Ok(missing) => {
                if !missing.is_empty() {
                    made.warnings.push(format!(
                        "the host's cgroup does not limit the pod: no {}",
                        missing.join(", ")
                    ));
                }
                match cgroup::enter(&plan.path) {
                    Ok(()) => made.in_cgroup = true,
                    Err(error) => made.warnings.push(describe(&error)),
                }
            }
            // A host without a writable cgroup v2 runs pods all the same.
            Err(error) => made.warnings.push(describe(&error)),
        },
    }
    Ok(guard)
}

/// Does one step of the network; gives the tap that it made, with its name.
fn apply_network(
    settings: &Settings,
    step: &HostStep,
) -> Result<Option<(String, OwnedFd)>, HostError> {
    match step {
        HostStep::Bridge {
            network,
            gateway,
            gateway6,
            mtu,
            beyond,
            ..
        } => {
            let gateways: Vec<_> = [Some(*gateway), *gateway6].into_iter().flatten().collect();
            network::ensure_bridge(settings, network, (&gateways, *mtu), beyond)?;
        }
        HostStep::Guard {
            tap,
            mac,
            addresses,
        } => rules::guard(tap, *mac, addresses)?,
        HostStep::Publish {
            table,
            addresses,
            ports,
        } => rules::publish(table, addresses, ports)?,
        HostStep::Tap { name, bridge, mtu } => {
            let tap = network::add_tap(name, bridge, *mtu)?;
            return Ok(Some((name.clone(), tap)));
        }
        HostStep::Pasta(plan) => pasta::connect(plan)?,
        HostStep::Carry {
            netns,
            card,
            tap,
            mac,
            mtu,
            addresses,
        } => {
            let fd = carry::tap(netns, card, tap, *mtu, (*mac, addresses))?;
            return Ok(Some((tap.clone(), fd)));
        }
        HostStep::Directory { .. }
        | HostStep::Scratch { .. }
        | HostStep::Disk(_)
        | HostStep::Mounts { .. }
        | HostStep::Share(_)
        | HostStep::Cgroup(_) => {}
    }
    Ok(None)
}

/// The table that a step makes.
fn table_of(step: &HostStep) -> Option<(Family, &str)> {
    match step {
        HostStep::Bridge { name, .. } => Some((Family::Internet, name)),
        HostStep::Guard { tap, .. } => Some((Family::Device, tap)),
        HostStep::Publish { table, .. } => Some((Family::Internet, table)),
        _ => None,
    }
}

/// Tables of the packet filter that a pod needs, of its own and of its network.
pub fn tables_of(plan: &Plan) -> impl Iterator<Item = (Family, &str)> {
    plan.host.iter().filter_map(table_of)
}

/// Makes what of a running pod's tables in the packet filter is not `present`.
pub fn restore_rules(
    settings: &Settings,
    plan: &Plan,
    present: &[(Family, String)],
) -> Result<(), HostError> {
    for step in &plan.host {
        let Some((family, name)) = table_of(step) else {
            continue;
        };
        let is_there = |one: &(Family, String)| one.0 == family && one.1 == name;
        if !present.iter().any(is_there) {
            // None of these makes a tap.
            apply_network(settings, step)?;
        }
    }
    Ok(())
}

fn describe(error: &cgroup::CgroupError) -> String {
    let why = crate::error_chain(error);
    format!("the pod has no cgroup on the host: {why}")
}

fn undo(step: &HostStep) -> Result<(), HostError> {
    match step {
        // Directories go with the record (`pods/<uid>`) or with the supervisor.
        HostStep::Directory { .. } => Ok(()),
        HostStep::Scratch { path, .. } => Ok(PathError::remove_file(path)?),
        HostStep::Disk(disk) => Ok(PathError::remove_file(&disk.path)?),
        HostStep::Mounts { path } => Ok(mounts::remove(path)?),
        // Ends with its VMM, or with what `Made` holds of it.
        HostStep::Share(_) => Ok(()),
        // Shared: goes with the last address, in `release`.
        HostStep::Bridge { .. } => Ok(()),
        HostStep::Tap { name, .. } => Ok(network::remove_interface(name)?),
        HostStep::Pasta(plan) => Ok(pasta::disconnect(plan)?),
        // Goes with its namespace, in `release`.
        HostStep::Carry { .. } => Ok(()),
        HostStep::Guard { tap, .. } => Ok(rules::remove(Family::Device, tap)?),
        HostStep::Publish { table, .. } => Ok(rules::remove(Family::Internet, table)?),
        HostStep::Cgroup(plan) => {
            let _ = cgroup::leave();
            Ok(cgroup::remove(&plan.path)?)
        }
    }
}

/// Takes back all that the plan's steps made, last first, then the address.
/// What is gone already is no error. Goes on after an error; gives them all.
pub fn release(settings: &Settings, plan: &Plan, boot_id: &str) -> Vec<HostError> {
    let mut errors: Vec<HostError> = plan
        .host
        .iter()
        .rev()
        .filter_map(|step| undo(step).err())
        .collect();
    let uid = &plan.identity.uid;
    if let Err(error) = network::release(settings, uid, boot_id) {
        errors.push(error.into());
    }
    if let Err(error) = crate::cni::release(settings, uid) {
        errors.push(error.into());
    }
    errors
}

/// The host's present boot.
#[must_use]
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}
