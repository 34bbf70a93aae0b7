//! Changes of a running pod: from a proposal to containers that are replaced.
//!
//! ```text
//! proposal ─► definition in place, change on record ─► layer disk grown ─► partitions ─► state machine
//! ```
//! The definition comes first: a supervisor that dies after it leaves a disk
//! that is at most too short, and the next one makes it longer.

use super::container::Face;
use super::state::{Input, Stage};
use super::supervisor::{Message, Supervisor};
use crate::api::ChangeRequest;
use crate::plan::{self, ExtentPlan, LAYER_DISK};
use crate::store::status::{ChangeState, EventKind};
use crate::store::{self, PendingChange, StoreError};
use beluga_proto::control::MAX_FDS;
use beluga_proto::vm::{Extent, FdNumber};
use beluga_proto::{ControlReply, ControlRequest, Fault, FaultCode, Request};
use std::fs::File;
use std::os::fd::AsFd as _;
use std::time::Duration;

/// How long the containers of a change may take whose client is not known.
const PATIENCE_SECONDS: u32 = 120;

fn refused(message: impl Into<String>) -> Fault {
    Fault::new(FaultCode::FailedPrecondition, message)
}

fn unreadable(error: StoreError) -> Fault {
    Fault::new(FaultCode::Internal, crate::error_chain(&error))
}

impl Supervisor {
    /// Takes a proposal up, or says why not.
    pub(super) async fn change(&mut self, request: &ChangeRequest) -> Result<(), Fault> {
        let uid = self.record.uid.clone();
        let next = store::change::proposed(&self.settings, &uid, &request.proposal)
            .map_err(unreadable)?
            .ok_or_else(|| refused("the proposal is not there"))?;
        let is_up =
            self.is_set_up && matches!(self.record.state.stage, Stage::Init | Stage::Running);
        if !is_up {
            return Err(refused("the pod is not running"));
        }
        if self.record.change.is_some() || self.record.state.is_changing() {
            return Err(refused("another change of the pod is under way"));
        }
        if next.generation != self.generation + 1 {
            return Err(refused(
                "the pod has been changed meanwhile; look at it and try again",
            ));
        }
        let difference =
            plan::difference(&self.plan, &next.plan, &request.restart).map_err(refused)?;
        let over = difference.replaced.iter().find(|index| {
            let is_app = self.plan.containers[**index].kind == plan::ContainerKind::App;
            is_app && self.record.state.is_over(**index)
        });
        if let Some(index) = over {
            let name = self.plan.containers[*index].name();
            return Err(refused(format!(
                "container {name} has ended and is not run again"
            )));
        }
        let added = &difference.added;
        if self.plan.sandbox && !added.iter().all(|at| self.record.state.is_free(*at)) {
            return Err(refused("the place of a new container is not free"));
        }
        if !difference.added.is_empty() && !difference.replaced.is_empty() {
            return Err(refused("it changes more than one thing at a time"));
        }
        store::change::accept(&self.settings, &uid, &request.proposal).map_err(unreadable)?;
        (self.plan, self.generation) = (next.plan, next.generation);
        let state = ChangeState::Progressing;
        self.record.state.set_change(self.generation, state, None);
        self.is_dirty = true;
        self.limit_on_host();
        if difference.replaced.is_empty() && difference.added.is_empty() {
            self.resize();
            self.resize_news();
        } else {
            self.add(&difference.added).await;
            self.record.change = Some(PendingChange {
                generation: self.generation,
                replaced: difference.replaced,
                patience_seconds: request.patience_seconds,
            });
            self.add_layers().await;
        }
        // What the pod says of itself may be in its volumes.
        self.refresh(None);
        Ok(())
    }

    /// Containers that are in the plan come to the others.
    async fn add(&mut self, places: &[usize]) {
        let containers = &self.plan.containers;
        let added = places.iter().map(|at| (*at, containers[*at].clone()));
        let containers: Vec<_> = added.collect();
        if containers.is_empty() {
            return;
        }
        let input = if self.plan.sandbox {
            Input::Place { containers }
        } else {
            let containers = containers.into_iter().map(|(_, one)| one).collect();
            Input::Add { containers }
        };
        self.step(input).await;
    }

    /// What a supervisor that died has left half done.
    pub(super) async fn go_on_with_change(&mut self) {
        if self.record.change.is_none() && !self.record.state.is_changing() {
            self.take_up().await;
        }
        if self.record.change.is_some() {
            self.add_layers().await;
        }
    }

    /// A definition that came into its place when there was no time left to
    /// note so in the record.
    async fn take_up(&mut self) {
        let status = &self.record.state.status.containers;
        let planned = self.plan.containers.iter().enumerate();
        let added = planned.filter(|(at, plan)| {
            let known = status.get(*at);
            known.is_none_or(|known| known.name != plan.name())
        });
        let added: Vec<usize> = added.map(|(at, _)| at).collect();
        let planned = self.plan.containers.iter().zip(status).enumerate();
        let replaced = planned.filter(|(index, (plan, status))| {
            let is_other = (&plan.image, &plan.image_id) != (&status.image, &status.image_id);
            is_other && !self.record.state.is_over(*index) && !added.contains(index)
        });
        let replaced: Vec<usize> = replaced.map(|(index, _)| index).collect();
        if added.is_empty() && replaced.is_empty() {
            return;
        }
        let generation = self.generation;
        let state = ChangeState::Progressing;
        self.record.state.set_change(generation, state, None);
        self.add(&added).await;
        self.record.change = Some(PendingChange {
            generation,
            replaced,
            patience_seconds: PATIENCE_SECONDS,
        });
        self.is_dirty = true;
    }

    /// Brings the layers of the plan into the guest.
    async fn add_layers(&mut self) {
        let generation = self.generation;
        let grown = self.grow_layer_disk().await;
        let layers = self.plan.layers.clone();
        let added = self.link.request(Request::AddLayers { layers });
        self.later(async move {
            let result = match grown {
                Ok(()) => added.await.map(drop),
                Err(fault) => Err(fault),
            };
            Message::Layered(generation, result)
        });
    }

    /// Appends to the layer disk what it lacks: the VMM knows how long it is.
    async fn grow_layer_disk(&mut self) -> Result<(), Fault> {
        let ControlReply::Status(status) = self.ask_vmm(ControlRequest::Status, &[]).await? else {
            return Err(refused("the pod's VMM does not say how it is"));
        };
        let disk = status.devices.get(LAYER_DISK);
        let size = disk.and_then(|disk| disk.get("size")).ok_or_else(|| {
            refused("the pod's VMM is of an older Beluga: restart the pod to change it")
        })?;
        let missing = self.layers_beyond(*size)?;
        for extents in missing.chunks(MAX_FDS / 2) {
            let mut files = Vec::with_capacity(extents.len());
            for extent in extents {
                let file = File::open(&extent.path).map_err(|error| {
                    let path = extent.path.display();
                    let message = format!("cannot open the image layer {path}: {error}");
                    Fault::new(FaultCode::NotFound, message)
                })?;
                files.push(file);
            }
            let fds: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
            let numbered = (0..).zip(extents);
            let extents = numbered.map(|(at, extent)| Extent {
                fd: FdNumber(at),
                offset: extent.offset,
                length: extent.length,
            });
            let request = ControlRequest::GrowDisk {
                disk: LAYER_DISK.to_owned(),
                extents: extents.collect(),
            };
            self.ask_vmm(request, &fds).await?;
        }
        Ok(())
    }

    /// Extents of the plan's layer disk behind its first `size` bytes.
    fn layers_beyond(&self, size: u64) -> Result<Vec<ExtentPlan>, Fault> {
        let mut disks = self.plan.vm.disks.iter();
        let Some(disk) = disks.find(|disk| disk.id == LAYER_DISK) else {
            return Ok(Vec::new());
        };
        let mut end = 0;
        let mut missing = Vec::new();
        for extent in &disk.extents {
            if end >= size {
                missing.push(extent.clone());
            }
            end += extent.length;
            if end > size && missing.is_empty() {
                return Err(refused(
                    "the layer disk of the pod's VMM has another length",
                ));
            }
        }
        Ok(missing)
    }

    /// The layers are there: containers are replaced. Or they are not: the pod
    /// stays as it was.
    pub(super) async fn layered(&mut self, generation: u64, result: Result<(), Fault>) {
        // The connection's end is not the change's: it is taken up again.
        if matches!(&result, Err(fault) if fault.code == FaultCode::Unavailable) {
            return;
        }
        let pending = self
            .record
            .change
            .take_if(|one| one.generation == generation);
        let Some(pending) = pending else { return };
        self.is_dirty = true;
        match result {
            result if pending.replaced.is_empty() => {
                let failure = result.err().map(|fault| fault.to_string());
                self.step(Input::Release { failure }).await;
                let state = ChangeState::Done;
                self.record.state.set_change(generation, state, None);
                self.settle();
            }
            Ok(()) => {
                let replaced = pending.replaced.iter();
                let next = replaced.filter_map(|index| {
                    let plan = self.plan.containers.get(*index)?;
                    Some((*index, Face::new(plan)))
                });
                let input = Input::Replace {
                    generation,
                    next: next.collect(),
                    patience: Duration::from_secs(pending.patience_seconds.into()),
                };
                self.step(input).await;
                self.resize();
            }
            Err(fault) => {
                let why = format!("its image layers cannot be added: {fault}");
                self.event(EventKind::Warning, "RolloutFailed", why.clone());
                self.roll_back();
                let state = ChangeState::RolledBack;
                self.record.state.set_change(generation, state, Some(why));
            }
        }
    }

    /// From now on the plan before the change holds.
    pub(super) fn roll_back(&mut self) {
        let uid = self.record.uid.clone();
        let before = store::change::before(&self.settings, &uid);
        match before.and_then(|before| {
            store::change::roll_back(&self.settings, &uid)?;
            Ok(before)
        }) {
            Ok(Some(before)) => (self.plan, self.generation) = (before.plan, before.generation),
            // Another supervisor has been here: what it left is what holds.
            Ok(None) => {}
            Err(error) => {
                let message = crate::error_chain(&error);
                self.warn("RollbackFailed", message);
            }
        }
        self.is_dirty = true;
        self.limit_on_host();
        self.resize();
    }

    /// The change is over.
    pub(super) fn settle(&self) {
        store::change::settle(&self.settings, &self.record.uid);
    }
}
