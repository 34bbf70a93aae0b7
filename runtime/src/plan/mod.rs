//! What is going to happen, decided before anything does.
//!
//! [`plan`](crate::plan) is pure: a [`PodSpec`](crate::spec::PodSpec), the
//! images it names, facts about the host and an identity go in, a [`Plan`]
//! comes out. A dry run, a golden test and a bug report are this one text.

mod types;

pub use types::{
    CgroupPlan, ContainerKind, ContainerPlan, ContainerTemplate, DiskPlan, ExtentPlan, HostFacts,
    HostStep, Identity, ImageFacts, LayerFile, NetPlan, NetworkFacts, NetworkIdentity, Plan,
    SizeSource, SizeTerm, Sizing, VmPlan,
};
