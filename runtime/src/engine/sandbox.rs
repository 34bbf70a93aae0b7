//! Pods whose containers come and go one by one: what a front does with each.
//!
//! ```text
//! run ─► create ─► start ─► stop ─► remove    (stop and remove of what is gone are no errors)
//! ```
//! A container is created by a change of the pod, like one that is put beside the
//! others to look at them: its layers come to the layer disk, and it waits there.
//! Changes of one pod are made one at a time; whoever makes several sees to that.

use super::change::{self, ChangeOf};
use super::{EngineError, PodView, Reached, StartRequest, StopRequest, Update, reach};
use crate::api::ContainerAct;
use crate::api::client::{self, ClientError, Watch};
use crate::host::{HostError, mounts};
use crate::plan::{Changes, ImageFacts, Objects, root_entry};
use crate::settings::Settings;
use crate::spec::{Container, PodSpec, Resources, SHARED, VolumeMount};
use crate::store::status::{ContainerState, ContainerStatus, Phase, PodStatus};
use crate::store::{self, Life};
use beluga_proto::PodUid;
use beluga_proto::container::Propagation;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

/// From SIGKILL to a container's end being known. Emulated hosts are slow.
const KILL_PATIENCE: Duration = Duration::from_secs(60);

/// A container to be put into a sandbox.
#[derive(Debug, Clone)]
pub struct NewContainer {
    /// What it is to be; its mounts are those below.
    pub container: Container,
    /// What it runs from.
    pub image: ImageFacts,
    /// Directories and files of the host that it uses.
    pub mounts: Vec<HostMount>,
}

/// A directory or file of the host in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostMount {
    /// On the host.
    pub source: PathBuf,
    /// Absolute path in the container.
    pub destination: String,
    /// Not writable through this mount.
    pub read_only: bool,
    /// Nor are file systems that are mounted below the source.
    pub recursive: bool,
    /// What is mounted below the source later is seen in the container.
    pub follows_host: bool,
}

/// Where what the containers of a new sandbox use of the host is mounted.
#[must_use]
pub fn mounts_directory(settings: &Settings) -> PathBuf {
    let random: [u8; 8] = crate::pod::random_bytes();
    let name = format!("{:016x}", u64::from_le_bytes(random));
    settings.state.join("mounts").join(name)
}

/// Makes a sandbox and waits until it runs. On an error nothing is left.
pub async fn run(settings: &Settings, spec: PodSpec) -> Result<PodView, EngineError> {
    let mut settings = settings.clone();
    let own = spec.sandbox.iter().map(|one| one.mounts.clone());
    settings.host_paths.extend(own);
    let starting = super::start(
        &settings,
        StartRequest {
            manifest: manifest(&spec),
            spec,
            images: BTreeMap::new(),
            objects: Objects::default(),
            image_nanos: 0,
            remove: false,
        },
    )
    .await?;
    let (uid, name) = (starting.view.uid.clone(), starting.view.name.clone());
    let mut watch = starting.watch;
    let is_up = |status: &PodStatus| status.phase != Phase::Pending;
    let status = wait(&settings, &uid, &mut watch, is_up).await?;
    if status.phase == Phase::Running
        && let Some(view) = super::read_view(&settings, &uid)?
    {
        return Ok(view);
    }
    let message = status.message.or(status.reason);
    let end = StopRequest {
        grace: Some(0),
        delete: true,
    };
    super::stop(&settings, &uid, end).await?;
    Err(EngineError::NotStarted {
        name,
        message: message.unwrap_or_else(|| "it has ended".to_owned()),
    })
}

/// What of a sandbox can be said as a manifest.
fn manifest(spec: &PodSpec) -> Value {
    let containers = spec.containers.iter();
    let containers = containers.map(|one| json!({"name": one.name, "image": one.image}));
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": spec.name.resolve([0; 5]),
            "namespace": spec.namespace,
            "annotations": spec.annotations,
        },
        "spec": {
            "restartPolicy": "Never",
            "containers": containers.collect::<Vec<_>>(),
        },
    })
}

/// Puts a container into a sandbox. It does not run yet.
pub async fn create(
    settings: &Settings,
    uid: &PodUid,
    new: NewContainer,
) -> Result<(), EngineError> {
    let pod = view(settings, uid).await?;
    let name = new.container.name.clone();
    let container = Container {
        mounts: mount(&pod, &new.container, &new.mounts)?,
        ..new.container
    };
    let images = BTreeMap::from([(container.image.clone(), new.image)]);
    let mut spec = pod.spec.clone();
    spec.containers.retain(|one| is_there(&pod, &one.name));
    spec.containers.push(container);
    let changes = Changes {
        anew: BTreeSet::from([name.clone()]),
        resized: BTreeSet::new(),
    };
    let made = amend(settings, &pod, spec, changes, images).await;
    let made = match made {
        Ok(()) => admitted(settings, uid, &name).await,
        Err(error) => Err(error),
    };
    if made.is_err() {
        unmount(&pod, &name)?;
    }
    made
}

/// Whether a container's layers have come.
async fn admitted(settings: &Settings, uid: &PodUid, name: &str) -> Result<(), EngineError> {
    let pod = view(settings, uid).await?;
    match container(&pod, name)?.state.clone() {
        ContainerState::Terminated(end) => {
            remove(settings, uid, name).await?;
            Err(EngineError::NotStarted {
                name: name.to_owned(),
                message: end.message.unwrap_or(end.reason),
            })
        }
        _ => Ok(()),
    }
}

/// Gives a container of a sandbox other limits.
pub async fn resize(
    settings: &Settings,
    uid: &PodUid,
    name: &str,
    resources: Resources,
) -> Result<(), EngineError> {
    let pod = view(settings, uid).await?;
    container(&pod, name)?;
    let mut spec = pod.spec.clone();
    for one in &mut spec.containers {
        if one.name == name {
            one.resources.clone_from(&resources);
        }
    }
    let changes = Changes {
        anew: BTreeSet::new(),
        resized: BTreeSet::from([name.to_owned()]),
    };
    amend(settings, &pod, spec, changes, BTreeMap::new()).await
}

async fn amend(
    settings: &Settings,
    pod: &PodView,
    spec: PodSpec,
    changes: Changes,
    images: BTreeMap<String, ImageFacts>,
) -> Result<(), EngineError> {
    let change = ChangeOf {
        manifest: manifest(&spec),
        spec,
        changes,
        restart: BTreeSet::new(),
        images,
        objects: Objects::default(),
        patience_seconds: 0,
    };
    let generation = change::begin(settings, pod, change).await?;
    change::outcome(settings, pod, generation).await.map(drop)
}

/// Runs a container that was created. Returns when its program has been executed.
pub async fn start(settings: &Settings, uid: &PodUid, name: &str) -> Result<(), EngineError> {
    let pod = view(settings, uid).await?;
    container(&pod, name)?;
    client::container(settings, uid, name, ContainerAct::Start).await?;
    let mut watch = super::watch(settings, uid).await?;
    let has_begun = |status: &PodStatus| {
        let known = status.containers.iter().find(|one| one.name == name);
        known.is_none_or(|one| !matches!(one.state, ContainerState::Waiting { .. }))
    };
    let status = wait(settings, uid, &mut watch, has_begun).await?;
    let known = status.containers.into_iter().find(|one| one.name == name);
    match known.map(|one| one.state) {
        Some(ContainerState::Terminated(end)) if end.started.is_none() => {
            Err(EngineError::NotStarted {
                name: name.to_owned(),
                message: end.message.unwrap_or(end.reason),
            })
        }
        _ => Ok(()),
    }
}

/// Ends a container and waits for that. One that does not run is no error.
pub async fn stop(
    settings: &Settings,
    uid: &PodUid,
    name: &str,
    grace_seconds: u32,
) -> Result<(), EngineError> {
    if let Reached::Ended(_) = reach(settings, uid).await? {
        return Ok(());
    }
    let mut watch = super::watch(settings, uid).await?;
    // One that is just being started can only be ended when it runs.
    let begins = |status: &PodStatus| !is_starting(status, name);
    wait(settings, uid, &mut watch, begins).await?;
    let act = ContainerAct::Stop { grace_seconds };
    match client::container(settings, uid, name, act).await {
        // It went meanwhile, with all that was in it.
        Err(ClientError::Channel(_) | ClientError::Closed) => return Ok(()),
        told => told?,
    }
    let is_over = |status: &PodStatus| !is_running(status, name);
    let patience = KILL_PATIENCE + Duration::from_secs(grace_seconds.into());
    let over = wait(settings, uid, &mut watch, is_over);
    match tokio::time::timeout(patience, over).await {
        Ok(ended) => ended.map(drop),
        Err(_) => Err(EngineError::NotStarted {
            name: name.to_owned(),
            message: "its processes do not end".to_owned(),
        }),
    }
}

/// Removes a container, ended before where it runs. One that is not there is no
/// error.
pub async fn remove(settings: &Settings, uid: &PodUid, name: &str) -> Result<(), EngineError> {
    let pod = match view(settings, uid).await {
        Err(EngineError::Absent { .. }) => return Ok(()),
        pod => pod?,
    };
    if container(&pod, name).is_err() {
        return Ok(());
    }
    stop(settings, uid, name, 0).await?;
    match reach(settings, uid).await? {
        Reached::Live => client::container(settings, uid, name, ContainerAct::Remove).await?,
        Reached::Ended(_) => forget(settings, uid, name)?,
    }
    unmount(&pod, name)
}

/// The same in a sandbox that has ended: nobody but us owns its record.
fn forget(settings: &Settings, uid: &PodUid, name: &str) -> Result<(), EngineError> {
    let Some(_lock) = store::try_own(settings, uid)? else {
        return Err(ClientError::Closed.into());
    };
    let Some(mut record) = store::read_record(settings, uid)? else {
        return Ok(());
    };
    if record.life == Life::Ended {
        let all = record.state.status.containers.iter_mut();
        for one in all.filter(|one| one.name == name) {
            one.is_gone = true;
        }
        store::write_record(settings, &record)?;
    }
    Ok(())
}

/// Lets the processes of a container stand still, or go on.
pub async fn freeze(
    settings: &Settings,
    uid: &PodUid,
    name: &str,
    frozen: bool,
) -> Result<(), EngineError> {
    super::live(settings, uid).await?;
    let act = if frozen {
        ContainerAct::Freeze
    } else {
        ContainerAct::Thaw
    };
    client::container(settings, uid, name, act).await?;
    Ok(())
}

/// A container's log was put aside: a new file is there when this returns.
pub async fn reopen_log(settings: &Settings, uid: &PodUid, name: &str) -> Result<(), EngineError> {
    super::live(settings, uid).await?;
    client::container(settings, uid, name, ContainerAct::ReopenLog).await?;
    Ok(())
}

/// The containers that are in a sandbox.
pub fn containers(pod: &PodView) -> impl Iterator<Item = &ContainerStatus> {
    pod.status.containers.iter().filter(|one| !one.is_gone)
}

fn container<'p>(pod: &'p PodView, name: &str) -> Result<&'p ContainerStatus, EngineError> {
    let found = containers(pod).find(|one| one.name == name);
    found.ok_or_else(|| EngineError::NoContainer {
        name: name.to_owned(),
        pod: pod.name.clone(),
    })
}

fn is_there(pod: &PodView, name: &str) -> bool {
    container(pod, name).is_ok()
}

fn is_running(status: &PodStatus, name: &str) -> bool {
    let mut all = status.containers.iter();
    all.any(|one| one.name == name && matches!(one.state, ContainerState::Running { .. }))
}

/// Whether a run has been asked for whose program has not been executed.
fn is_starting(status: &PodStatus, name: &str) -> bool {
    let mut all = status.containers.iter();
    all.any(|one| {
        let waits = matches!(one.state, ContainerState::Waiting { .. });
        one.name == name && waits && one.id.is_some()
    })
}

async fn view(settings: &Settings, uid: &PodUid) -> Result<PodView, EngineError> {
    let found = super::by_uid(settings, uid).await?;
    found.ok_or_else(|| EngineError::Absent { uid: uid.clone() })
}

/// The first status of which `is_it` says so, or the last one; through changes
/// of supervisors.
async fn wait(
    settings: &Settings,
    uid: &PodUid,
    watch: &mut Watch,
    is_it: impl Fn(&PodStatus) -> bool,
) -> Result<PodStatus, EngineError> {
    loop {
        let mut last = None;
        while let Ok(Some(Update::Status(status))) = watch.next().await {
            if is_it(&status) {
                return Ok(status);
            }
            last = Some(status);
        }
        let ended = matches!(reach(settings, uid).await?, Reached::Ended(_));
        *watch = super::watch(settings, uid).await?;
        if let (true, Ok(Some(Update::Status(status)))) = (ended, watch.next().await) {
            return Ok(status);
        }
        if let (true, Some(status)) = (ended, last) {
            return Ok(status);
        }
    }
}

/// Mounts what a container uses of the host where the pod's share finds it.
fn mount(
    pod: &PodView,
    container: &Container,
    wanted: &[HostMount],
) -> Result<Vec<VolumeMount>, EngineError> {
    let Some(sandbox) = &pod.spec.sandbox else {
        return Ok(Vec::new());
    };
    let name = &container.name;
    let mut found = Vec::new();
    let root = container.guest.as_ref().and_then(|one| one.root.as_ref());
    if let Some(root) = root {
        // What the container writes stays in the guest.
        let how = mounts::How {
            read_only: true,
            ..mounts::How::default()
        };
        let added = mounts::add(&sandbox.mounts, &root_entry(name), root, how);
        added.map_err(HostError::from)?;
    }
    for (at, one) in wanted.iter().enumerate() {
        let entry = format!("{name}-{at}");
        let how = mounts::How {
            read_only: one.read_only,
            recursive: one.recursive,
            follows_host: one.follows_host,
        };
        let added = match mounts::add(&sandbox.mounts, &entry, &one.source, how) {
            Ok(added) => added,
            Err(error) => {
                unmount(pod, name)?;
                return Err(HostError::from(error).into());
            }
        };
        found.push(VolumeMount {
            volume: SHARED.to_owned(),
            path: one.destination.clone(),
            sub_path: Some(entry),
            sub_path_expr: None,
            // The guest has one file system of it all: what may be written to below
            // is the host's to know.
            read_only: one.read_only && (one.recursive || !added.has_others_below),
            propagation: Propagation::None,
        });
    }
    Ok(found)
}

fn unmount(pod: &PodView, name: &str) -> Result<(), EngineError> {
    let Some(sandbox) = &pod.spec.sandbox else {
        return Ok(());
    };
    let is_its = |entry: &str| {
        let own = entry.rsplit_once('-');
        own.is_some_and(|(owner, _)| owner == name)
    };
    let dropped = mounts::drop_entries(&sandbox.mounts, is_its);
    Ok(dropped.map_err(HostError::from)?)
}
