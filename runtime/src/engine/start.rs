//! The making of a pod: its plan from the facts of this host, its record, its
//! supervisor.

use super::owner::supervise;
use super::place::{self, Places};
use super::{EngineError, PodView, claims, view};
use crate::api::client::Watch;
use crate::host;
use crate::host::lock::FileLock;
use crate::plan::{self, HostFacts, Identity, ImageFacts, NetworkFacts, Objects, Plan, PlanError};
use crate::pod::{self, PodState};
use crate::policy;
use crate::settings::Settings;
use crate::spec::{ObjectKind, PodSpec, SeccompChoice};
use crate::store::status::{EventKind, ReceiptLine};
use crate::store::{self, Definition, Record};
use beluga_proto::PodUid;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Size of a scratch disk when nothing asks for more, in bytes; sparse.
const SCRATCH_BYTES: u64 = 10 << 30;

/// A pod to be made.
#[derive(Debug, Clone)]
pub struct StartRequest {
    /// As it was asked for, defaults filled in.
    pub manifest: serde_json::Value,
    /// The same, checked.
    pub spec: PodSpec,
    /// By the containers' image as the manifest writes it.
    pub images: BTreeMap<String, ImageFacts>,
    /// The ConfigMaps and Secrets that it refers to.
    pub objects: Objects,
    /// What finding the images took, in nanoseconds.
    pub image_nanos: u64,
    /// Nothing of it is kept when it has ended, whoever is there then.
    pub remove: bool,
}

/// A pod that is being started.
#[derive(Debug)]
pub struct Starting {
    /// The pod.
    pub view: PodView,
    /// How it gets on.
    pub watch: Watch,
}

/// Makes a pod. Returns when it has a record and a supervisor; the rest is to
/// be watched. On an error nothing is left.
pub async fn start(settings: &Settings, request: StartRequest) -> Result<Starting, EngineError> {
    let uid = PodUid::from_random(pod::random_bytes());
    let boot_id = host::boot_id();
    let name = request.spec.name.resolve(pod::random_bytes());
    let places = place::claim(settings, &uid, &boot_id, (&name, &request.spec));
    let made = places.and_then(|places| make(settings, &uid, &boot_id, (name, places), request));
    let (view, lock) = match made {
        Ok(made) => made,
        Err(error) => {
            place::release(settings, &uid, &boot_id);
            return Err(error);
        }
    };
    // Before the pod can send or be sent anything.
    let is_isolated = settings.tenant.is_some();
    let enforced = policy::enforce_with(settings, is_isolated).map_err(EngineError::from);
    let supervised = enforced.and_then(|()| supervise(settings, &uid, &lock, pod::TASK_START));
    if let Err(error) = supervised {
        place::release(settings, &uid, &boot_id);
        let _ = policy::enforce(settings);
        if let Some(record) = store::read_record(settings, &uid)? {
            let _ = store::remove(settings, &record);
        }
        return Err(error);
    }
    // From here on the supervisor alone holds the lock.
    drop(lock);
    let watch = Watch::open(settings, &uid).await?;
    Ok(Starting { view, watch })
}

fn make(
    settings: &Settings,
    uid: &PodUid,
    boot_id: &str,
    named: (String, Places),
    request: StartRequest,
) -> Result<(PodView, FileLock), EngineError> {
    let given = (&request.spec, &request.images, &request.objects);
    // Until the pod has a record, nobody else may take its cards back.
    let (name, places) = &named;
    let plan = plan_for(settings, uid, (name, places), given)?;
    let files = plan::files(&request.spec, &request.objects, &plan)?;
    let mut state = PodState::new(&plan, pod::now());
    state.status.receipt.push(ReceiptLine {
        phase: "image".to_owned(),
        wall_nanos: request.image_nanos,
        cpu_nanos: None,
    });
    for warning in &plan.warnings {
        let (time, message) = (pod::now().unix, warning.message.clone());
        state
            .status
            .push_event(time, EventKind::Warning, &warning.reason, message);
    }
    let definition = Definition {
        generation: 0,
        manifest: request.manifest,
        spec: request.spec,
        plan,
    };
    let mut record = Record::new(&definition, boot_id, state);
    record.delete = request.remove;
    // No other pod may come to hold its claims between the look and the record.
    let _claims = claims::take(settings, &definition.spec)?;
    let _room = store::room::admit(settings, &definition.spec)?;
    let lock = store::create(settings, &definition, &record)?;
    for (volume, pieces) in files {
        if let Err(error) = store::files::begin(settings, uid, &volume, &pieces) {
            let _ = store::remove(settings, &record);
            return Err(error.into());
        }
    }
    Ok((view(record, definition), lock))
}

/// What would be done for a pod; nothing is made or claimed.
pub fn preview(
    settings: &Settings,
    spec: &PodSpec,
    images: &BTreeMap<String, ImageFacts>,
    objects: &Objects,
) -> Result<Plan, EngineError> {
    // A UID that says that it is nobody's.
    let uid = PodUid::from_random([0; 16]);
    let name = spec.name.resolve(pod::random_bytes());
    let places = place::preview(settings, &uid, (&name, spec))?;
    plan_for(settings, &uid, (&name, &places), (spec, images, objects))
}

fn plan_for(
    settings: &Settings,
    uid: &PodUid,
    (name, places): (&str, &Places),
    (spec, images, objects): (&PodSpec, &BTreeMap<String, ImageFacts>, &Objects),
) -> Result<Plan, EngineError> {
    let (network, shared) = places.native.clone().unzip();
    let facts = host_facts(settings, uid, spec, shared)?;
    let identity = Identity {
        uid: uid.clone(),
        name: name.to_owned(),
        namespace: spec.namespace.clone(),
        network,
        carried: places.carried().cloned(),
    };
    Ok(plan::plan(spec, images, objects, &facts, identity)?)
}

pub(super) fn host_facts(
    settings: &Settings,
    uid: &PodUid,
    spec: &PodSpec,
    network: Option<NetworkFacts>,
) -> Result<HostFacts, EngineError> {
    let parts = settings.parts()?;
    Ok(HostFacts {
        kernel: parts.kernel,
        initramfs: parts.initramfs,
        pod_dir: settings.pod_dir(uid),
        run_dir: settings.run_dir(uid),
        cgroup: cgroup(settings, uid, spec),
        network,
        claims_dir: crate::objects::directory(settings, &spec.namespace, ObjectKind::Claim),
        host_paths: settings.host_paths.clone(),
        unsafe_sysctls: settings.unsafe_sysctls.clone(),
        memory_throttling: settings.memory_throttling,
        pids_max: settings.pod_pids_limit,
        tenant: settings.tenant,
        host_files: host::share::files(spec.host_paths()),
        seccomp: seccomp_profiles(settings, spec),
        node_name: node_name(),
        resolv_conf: std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
        cpus: std::thread::available_parallelism()
            .map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX)),
        memory_mib: host_memory_mib(),
        scratch_bytes: SCRATCH_BYTES,
    })
}

/// The pod's cgroup: below the one of this root, or below one that is not ours.
fn cgroup(settings: &Settings, uid: &PodUid, spec: &PodSpec) -> PathBuf {
    let parent = spec
        .sandbox
        .as_ref()
        .and_then(|one| one.cgroup_parent.as_ref());
    match parent {
        Some(parent) => parent.join(format!("{}-{uid}", settings.cgroup().display())),
        None => settings.cgroup().join(uid.as_str()),
    }
}

/// The seccomp profiles of the host that a pod names. What cannot be read is
/// missed by the plan.
fn seccomp_profiles(settings: &Settings, spec: &PodSpec) -> BTreeMap<String, String> {
    let choices = spec.all_containers().map(|one| &one.security.seccomp);
    let named = choices.filter_map(|choice| match choice {
        Some(SeccompChoice::Localhost(profile)) => Some(profile),
        _ => None,
    });
    let found = named.filter_map(|profile| {
        let text = std::fs::read_to_string(settings.seccomp_dir.join(profile)).ok()?;
        Some((profile.clone(), text))
    });
    found.collect()
}

/// The host's name, as a node's.
fn node_name() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

/// Errors when this host is too small for a pod, with the sum.
pub fn fits(spec: &PodSpec) -> Result<(), PlanError> {
    plan::fits(spec, host_memory_mib())
}

fn host_memory_mib() -> u64 {
    let info = rustix::system::sysinfo();
    u64::from(info.mem_unit).saturating_mul(info.totalram) >> 20
}
