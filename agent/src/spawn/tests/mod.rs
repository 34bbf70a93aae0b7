//! Containers spawned for real. Skipped by name where a right is missing.

mod faults;
mod fixture;
mod joining;
mod rights;
mod storage;
mod surroundings;

use super::*;
use beluga_proto::FaultCode;
use beluga_proto::container::{CoveredPaths, Rlimit, Seccomp, TerminalSize};
use fixture::{BASE, all_capabilities, fixture, read_terminal, shell, skipped, wait};
use std::fs;
use std::os::unix::fs::symlink;

fn root(plan: &mut SpawnPlan) -> &mut RootPlan {
    match &mut plan.place {
        Place::Create(root) => root,
        Place::Join { .. } => panic!("no root"),
    }
}

fn volume(destination: &str, sub_path: Option<&str>, read_only: bool) -> VolumeMount {
    VolumeMount {
        source: format!("{BASE}/volumes/data"),
        destination: destination.to_owned(),
        sub_path: sub_path.map(str::to_owned),
        read_only,
        propagation: beluga_proto::container::Propagation::None,
    }
}
