//! What the fronts do with pods: make, list, watch, reach, end, clean up.
//!
//! Every function first makes sure that pods whose supervisor died have a new
//! one. There is no daemon behind this: records and locks are all there is.

mod audit;
pub mod change;
pub mod claims;
mod damage;
mod gc;
mod holds;
mod owner;
mod pace;
mod place;
pub mod sandbox;
mod start;
mod stop;
mod usage;

pub use crate::api::client::{AttachSession, ExecSession, Remote, Update, Watch};
pub use crate::api::{AttachRequest, ExecRequest, StopRequest};
pub use audit::audit;
pub use change::ChangeOf;
pub use damage::{Damaged, damaged, discard};
pub use gc::{Leftover, gc};
pub use holds::{Images, hold_images, release_images};
pub use pace::pace;
pub use start::{StartRequest, Starting, fits, preview, start};
pub use stop::stop;
pub use usage::{Usage, usage};

use crate::api::client::{self, ClientError};
use crate::host::{HostError, network};
use crate::plan::{self, Objects, Plan, PlanError};
use crate::policy::PolicyError;
use crate::settings::{Settings, SettingsError};
use crate::spec::PodSpec;
use crate::store::status::PodStatus;
use crate::store::{self, Definition, Life, Record, StoreError};
use beluga_image::Digest;
use beluga_proto::{Fault, FaultCode, PodUid};
use owner::adopt;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long a pod between two supervisors is waited for, and looked at.
const REACH_PATIENCE: Duration = Duration::from_secs(10);
const REACH_STEP: Duration = Duration::from_millis(20);

/// Why something cannot be done with a pod.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Its record.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its supervisor.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Its plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A host object.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Who may talk to whom.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A part of the installation.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Its supervisor cannot be started.
    #[error("cannot start a supervisor for the pod {uid}")]
    Supervisor {
        /// The pod.
        uid: PodUid,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A claim that it needs is another pod's.
    #[error("persistentvolumeclaim {claim:?} is in use by the pod {holder:?}; {rule}")]
    ClaimHeld {
        /// The claim.
        claim: String,
        /// The pod that has it.
        holder: String,
        /// Why that is in the way.
        rule: &'static str,
    },
    /// Its supervisor does not answer.
    #[error("the supervisor of the pod {name} does not answer")]
    Silent {
        /// The pod.
        name: String,
        /// Its namespace.
        namespace: String,
    },
    /// It is not there.
    #[error("there is no pod {uid}")]
    Absent {
        /// Which.
        uid: PodUid,
    },
    /// It was changed, and is as it was before.
    #[error("{message}; the pod is as it was before")]
    RolledBack {
        /// Why.
        message: String,
    },
    /// It is not any more what the change was made for.
    #[error("the pod {name} has been changed meanwhile; look at it and try again")]
    ChangedMeanwhile {
        /// Which.
        name: String,
    },
    /// A container of a sandbox is not there.
    #[error("there is no container {name:?} in the pod {pod}")]
    NoContainer {
        /// The container.
        name: String,
        /// The pod.
        pod: String,
    },
    /// A container of a sandbox, or the sandbox itself, does not come up.
    #[error("{name} cannot be started: {message}")]
    NotStarted {
        /// Which.
        name: String,
        /// Why.
        message: String,
    },
    /// It has ended.
    #[error("the pod {name} has ended ({phase})")]
    Ended {
        /// Which.
        name: String,
        /// How.
        phase: crate::store::status::Phase,
    },
}

impl EngineError {
    /// What kind of thing went wrong.
    #[must_use]
    pub fn code(&self) -> FaultCode {
        match self {
            Self::Client(ClientError::Fault(fault)) => fault.code,
            Self::Client(_) | Self::Silent { .. } => FaultCode::Unavailable,
            Self::Store(StoreError::NameTaken { .. }) => FaultCode::AlreadyExists,
            Self::Store(StoreError::BadName { .. }) | Self::Plan(_) => FaultCode::InvalidArgument,
            Self::Absent { .. } | Self::NoContainer { .. } => FaultCode::NotFound,
            Self::NotStarted { .. } => FaultCode::Internal,
            Self::Ended { .. }
            | Self::ClaimHeld { .. }
            | Self::ChangedMeanwhile { .. }
            | Self::RolledBack { .. } => FaultCode::FailedPrecondition,
            Self::Policy(_) => FaultCode::Internal,
            Self::Host(HostError::Ordinary(_)) => FaultCode::InvalidArgument,
            Self::Host(HostError::Network(
                network::NetworkError::Port(_) | network::NetworkError::Exists { .. },
            )) => FaultCode::AlreadyExists,
            Self::Host(HostError::Network(network::NetworkError::Absent { .. })) => {
                FaultCode::NotFound
            }
            Self::Host(HostError::Network(
                network::NetworkError::Full | network::NetworkError::NoSubnet,
            )) => FaultCode::ResourceExhausted,
            Self::Store(_) | Self::Host(_) | Self::Settings(_) | Self::Supervisor { .. } => {
                FaultCode::Internal
            }
        }
    }

    /// What to do next, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(StoreError::NameTaken { namespace, name }) => {
                Some(format!("beluga delete pod {name} -n {namespace}"))
            }
            Self::Store(StoreError::NoRoom { .. }) => Some(
                "a smaller sizeLimit or ephemeral-storage, or a larger BELUGA_STORAGE_OVERCOMMIT"
                    .to_owned(),
            ),
            Self::Store(error) if error.is_damage() => Some(
                "what it was is lost: beluga delete pod NAME --force ends it and removes the rest"
                    .to_owned(),
            ),
            Self::Silent { namespace, name } => {
                Some(format!("beluga delete pod {name} -n {namespace} --force"))
            }
            // What a variable takes is in the error itself.
            Self::Settings(SettingsError::Variable { variable, .. }) => {
                Some(format!("unset {variable}: there is a default"))
            }
            Self::Host(HostError::Network(network::NetworkError::Port(_))) => {
                Some("another port of the host, or none: hostPort, `run -p`".to_owned())
            }
            Self::Host(HostError::Network(network::NetworkError::Absent { name })) => {
                Some(format!("beluga network create {name}"))
            }
            Self::Host(HostError::Network(
                network::NetworkError::Exists { .. }
                | network::NetworkError::Used { .. }
                | network::NetworkError::Refused { .. },
            )) => None,
            Self::Host(HostError::Ordinary(error)) => error.hint(),
            // Others' plugins have their own words.
            Self::Host(HostError::Cni(_)) => None,
            Self::Settings(_) | Self::Host(_) => Some("beluga doctor".to_owned()),
            Self::Ended { name, .. } => Some(format!(
                "beluga describe pod {name} tells why; beluga start {name} runs it again"
            )),
            Self::Client(ClientError::Fault(Fault { code, .. }))
                if *code == FaultCode::Unavailable =>
            {
                Some("beluga get pods, then describe the one that has ended".to_owned())
            }
            Self::Client(ClientError::Closed) => Some("beluga get pods".to_owned()),
            Self::Client(ClientError::Stopped { pid, .. }) => Some(format!(
                "kill -CONT {pid}, or beluga delete pod NAME --force"
            )),
            _ => None,
        }
    }
}

/// A pod, all that is known of it.
#[derive(Debug, Clone)]
pub struct PodView {
    /// Its UID.
    pub uid: PodUid,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// As it was asked for, defaults filled in.
    pub manifest: serde_json::Value,
    /// The same, checked.
    pub spec: PodSpec,
    /// What was decided from it.
    pub plan: Option<Plan>,
    /// How it is.
    pub status: PodStatus,
}

impl PodView {
    /// The conditions that Kubernetes shows, with whether each holds: a pod that
    /// has readiness gates is ready when the conditions that they name are true.
    #[must_use]
    pub fn conditions(&self) -> [(&'static str, bool); 4] {
        let mut conditions = self.status.conditions();
        if self.missing_gates().next().is_some() {
            conditions[3].1 = false;
        }
        conditions
    }

    /// When a condition came to be as it is. One that nobody has kept count of is
    /// as old as the pod.
    #[must_use]
    pub fn transition(&self, kind: &str) -> u64 {
        let status = &self.status;
        let first = status.started.unwrap_or(status.created);
        let own = status.transitions.get(kind).copied();
        let at = own.map_or(first, |last| last.at);
        if kind != "Ready" {
            return at;
        }
        let since = |gate: &String| {
            let given = self.spec.conditions.get(gate);
            given.map_or(first, |given| given.since)
        };
        // True since the last of them came true, false since the first that is not.
        let missing = self.missing_gates().map(since).min();
        match (missing, status.conditions()[3].1) {
            (None, true) => {
                let gates = self.spec.readiness_gates.iter();
                gates.map(since).chain([at]).max().unwrap_or(at)
            }
            (Some(missing), false) => missing.min(at),
            (missing, _) => missing.unwrap_or(at),
        }
    }

    /// The identifiers of the images that it uses.
    fn images(&self) -> impl Iterator<Item = Digest> {
        let plan = self.plan.iter();
        let containers = plan.clone().flat_map(|plan| &plan.containers);
        // The place of one that was removed says nothing.
        let gone = self.status.containers.iter().filter(|one| one.is_gone);
        let gone: BTreeSet<&str> = gone.map(|one| one.name.as_str()).collect();
        let containers = containers.filter(move |one| !gone.contains(one.name()));
        let containers = containers.map(|container| &container.image_id);
        let all = containers.chain(plan.flat_map(|plan| &plan.volume_images));
        all.filter_map(|id| id.parse().ok())
    }

    /// The readiness gates whose conditions are not true.
    pub fn missing_gates(&self) -> impl Iterator<Item = &String> {
        let is_true = |gate: &String| {
            let given = self.spec.conditions.get(gate);
            given.is_some_and(|given| given.status == "True")
        };
        let gates = self.spec.readiness_gates.iter();
        gates.filter(move |gate| !is_true(gate))
    }
}

/// Brings a pod's volumes in line with objects that have changed; whether
/// there was anything to do.
pub async fn update(
    settings: &Settings,
    pod: &PodView,
    objects: &Objects,
) -> Result<bool, EngineError> {
    let Some(plan) = &pod.plan else {
        return Ok(false);
    };
    let mut is_news = false;
    for (volume, pieces) in plan::files(&pod.spec, objects, plan)? {
        is_news |= store::files::propose(settings, &pod.uid, &volume, &pieces)?;
    }
    if is_news && let Reached::Live = reach(settings, &pod.uid).await? {
        client::refresh(settings, &pod.uid).await?;
    }
    Ok(is_news)
}

/// Whoever looks at pods sees to it that nobody has thrown their rules away. A
/// packet filter that refuses keeps nobody from looking: [`gc()`] says why.
fn look(settings: &Settings) {
    let _ = crate::policy::restore(settings);
}

/// The pod with that UID.
pub async fn by_uid(settings: &Settings, uid: &PodUid) -> Result<Option<PodView>, EngineError> {
    look(settings);
    adopt(settings, uid).await?;
    read_view(settings, uid)
}

/// All pods, by namespace and name, but those that are [`damaged`].
pub async fn list(settings: &Settings) -> Result<Vec<PodView>, EngineError> {
    let mut views = Vec::new();
    look(settings);
    for uid in store::uids(settings)? {
        if damage::of(settings, &uid)?.is_none() {
            adopt(settings, &uid).await?;
            views.extend(read_view(settings, &uid)?);
        }
    }
    views.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Ok(views)
}

/// The pod of that name.
pub async fn get(
    settings: &Settings,
    namespace: &str,
    name: &str,
) -> Result<Option<PodView>, EngineError> {
    let Some(uid) = store::by_name(settings, namespace, name)? else {
        return Ok(None);
    };
    look(settings);
    adopt(settings, &uid).await?;
    read_view(settings, &uid)
}

/// The pods that use each image. A pod that has ended can be started again and needs its image
/// for that; `only_live` leaves it out.
pub async fn image_users(
    settings: &Settings,
    only_live: bool,
) -> Result<BTreeMap<Digest, Vec<String>>, EngineError> {
    let mut users: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
    for pod in list(settings).await? {
        if only_live && pod.status.phase.is_end() {
            continue;
        }
        for id in pod.images() {
            let of_image = users.entry(id).or_default();
            if !of_image.contains(&pod.name) {
                of_image.push(pod.name.clone());
            }
        }
    }
    Ok(users)
}

/// Watches a pod.
pub async fn watch(settings: &Settings, uid: &PodUid) -> Result<Watch, EngineError> {
    match reach(settings, uid).await? {
        Reached::Live => Ok(Watch::open(settings, uid).await?),
        Reached::Ended(record) => Ok(Watch::of_ended(record.state.status)),
    }
}

/// Runs a process beside a container's own.
pub async fn exec(
    settings: &Settings,
    uid: &PodUid,
    request: ExecRequest,
) -> Result<ExecSession, EngineError> {
    live(settings, uid).await?;
    Ok(client::exec(settings, uid, request).await?)
}

/// Joins a container's streams.
pub async fn attach(
    settings: &Settings,
    uid: &PodUid,
    request: AttachRequest,
) -> Result<AttachSession, EngineError> {
    live(settings, uid).await?;
    Ok(client::attach(settings, uid, request).await?)
}

/// Connects to a port of the pod's loopback: to what listens there, and from it.
pub async fn connect(
    settings: &Settings,
    uid: &PodUid,
    port: u16,
) -> Result<(OwnedFd, OwnedFd), EngineError> {
    let until = Instant::now() + REACH_PATIENCE;
    loop {
        live(settings, uid).await?;
        match client::connect(settings, uid, port).await {
            // A supervisor that is being killed still takes what it will not
            // answer; nothing was sent to the pod, so its successor may be asked.
            Err(ClientError::Channel(_) | ClientError::Closed) if Instant::now() < until => {
                tokio::time::sleep(REACH_STEP).await;
            }
            connected => return Ok(connected?),
        }
    }
}

async fn live(settings: &Settings, uid: &PodUid) -> Result<(), EngineError> {
    match reach(settings, uid).await? {
        Reached::Live => Ok(()),
        Reached::Ended(record) => Err(EngineError::Ended {
            phase: record.status().phase,
            name: record.name,
        }),
    }
}

/// Whether a pod has a supervisor, or what is left of it.
enum Reached {
    Live,
    Ended(Box<Record>),
}

async fn reach(settings: &Settings, uid: &PodUid) -> Result<Reached, EngineError> {
    let until = Instant::now() + REACH_PATIENCE;
    loop {
        adopt(settings, uid).await?;
        let record = store::read_record(settings, uid)?
            .ok_or_else(|| EngineError::Absent { uid: uid.clone() })?;
        if record.life == Life::Ended {
            return Ok(Reached::Ended(Box::new(record)));
        }
        // An owner that is being killed holds the pod a moment longer than its
        // socket, and one that another command has just made is not there yet.
        if client::supervisor(settings, uid).is_some() || Instant::now() >= until {
            return Ok(Reached::Live);
        }
        tokio::time::sleep(REACH_STEP).await;
    }
}

fn read_view(settings: &Settings, uid: &PodUid) -> Result<Option<PodView>, EngineError> {
    let record = store::read_record(settings, uid)?;
    let definition = store::read_definition(settings, uid)?;
    Ok(record
        .zip(definition)
        .map(|(record, definition)| view(record, definition)))
}

fn view(record: Record, definition: Definition) -> PodView {
    PodView {
        uid: record.uid,
        name: record.name,
        namespace: record.namespace,
        manifest: definition.manifest,
        spec: definition.spec,
        plan: Some(definition.plan),
        status: record.state.status,
    }
}
