//! A job's runner: looks at the job's pods whenever one of them changes, does
//! what the plan says, and waits again.

use super::count::{Watched, active, count, staying, unheard, untold};
use super::plan::{JobState, JobStep, step};
use super::{file, forget, read_state, write_state};
use crate::engine::{self, PodView, Update};
use crate::host::lock::FileLock;
use crate::path_error::PathError;
use crate::plan::{ImageFacts, image_facts};
use crate::pod;
use crate::settings::Settings;
use crate::spec::{JobSpec, PodSpec, Workload, WorkloadKind};
use crate::store::{StoreError, private};
use crate::workload::{Ground, Kept, WorkloadError, delete, end_all, kept, list, lock, of};
use beluga_image::Reference;
use beluga_proto::PodUid;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

/// The hidden verb that makes a process a runner.
pub const RUNNER: &str = "run-job";

/// How long a runner waits when it cannot start a pod, before it tries again.
const AGAIN: Duration = Duration::from_secs(10);

/// How long a pod that tells nothing, since its supervisor has gone or goes, is left
/// alone before the next look.
const SILENCE: Duration = Duration::from_millis(100);

/// Gives each job that needs one a runner.
pub fn adopt_all(settings: &Settings) -> Result<(), WorkloadError> {
    for (namespace, name, _) in list(settings, WorkloadKind::Job)? {
        adopt(settings, &namespace, &name)?;
    }
    Ok(())
}

/// Gives a job a runner, if it needs one and has none.
pub fn adopt(settings: &Settings, namespace: &str, name: &str) -> Result<(), WorkloadError> {
    let Some(kept) = kept::read(settings, namespace, WorkloadKind::Job, name)? else {
        return Ok(());
    };
    if !needs_runner(&kept, &read_state(settings, namespace, name, &kept.uid)?) {
        return Ok(());
    }
    let held = file(settings, namespace, name, "runner")?;
    let made = std::fs::File::options()
        .create(true)
        .append(true)
        .open(&held);
    drop(
        made.map_err(PathError::on("make", &held))
            .map_err(StoreError::from)?,
    );
    let free = FileLock::try_take(&held).map_err(PathError::on("lock", &held));
    let Some(free) = free.map_err(StoreError::from)? else {
        return Ok(());
    };
    let mut state = read_state(settings, namespace, name, &kept.uid)?;
    if state.tenant.is_none() && settings.tenant.is_some() {
        state.tenant = settings.tenant;
        write_state(settings, namespace, name, &state)?;
    }
    // The runner takes it.
    drop(free);
    spawn(settings, (namespace, name), &state)
}

/// Whether anything is left to do for a job: of one that has ended its pods' end, and
/// its own deletion.
fn needs_runner(kept: &Kept, state: &JobState) -> bool {
    let is_mortal = kept.object["spec"]["ttlSecondsAfterFinished"].is_u64();
    state.end.is_none() || !state.is_over || is_mortal
}

/// Starts a runner.
fn spawn(
    settings: &Settings,
    (namespace, name): (&str, &str),
    state: &JobState,
) -> Result<(), WorkloadError> {
    let log = file(settings, namespace, name, "log")?;
    let spawned = std::fs::File::options()
        .create(true)
        .append(true)
        .open(&log)
        .and_then(|log| {
            Command::new(std::env::current_exe()?)
                .arg(RUNNER)
                .args([namespace, name])
                .args([&settings.root, &settings.state])
                // What the command's pods may, the job's may.
                .env("BELUGA_ALLOW_HOST_PATH", host_paths(settings))
                .env(
                    "BELUGA_ALLOWED_UNSAFE_SYSCTLS",
                    settings.unsafe_sysctls.join(","),
                )
                .envs(state.tenant.map(|one| ("BELUGA_PROFILE", one.to_string())))
                .current_dir("/")
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .process_group(0)
                .spawn()
        });
    drop(
        spawned
            .map_err(PathError::on("make", &log))
            .map_err(StoreError::from)?,
    );
    Ok(())
}

/// The list with colons that the variable holds.
fn host_paths(settings: &Settings) -> OsString {
    let paths = settings.host_paths.iter();
    std::env::join_paths(paths).unwrap_or_default()
}

/// The main function of a runner: `NAMESPACE NAME ROOT STATE`.
#[must_use]
pub fn runner_main(args: &[OsString]) -> ExitCode {
    let texts: Option<Vec<&str>> = args.iter().map(|arg| arg.to_str()).collect();
    let Some([namespace, name, root, state]) = texts.as_deref() else {
        tell!("beluga {RUNNER} is started by beluga itself");
        return ExitCode::from(2);
    };
    private::by_default();
    // Its own session: no terminal's signals reach it.
    let _ = rustix::process::setsid();
    let settings = match Settings::new(Some(root.into()), Some(state.into())) {
        Ok(settings) => settings,
        Err(error) => {
            tell!("{}", crate::error_chain(&error));
            return ExitCode::FAILURE;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = runtime.map(|runtime| {
        let local = LocalSet::new();
        local.block_on(&runtime, drive(&settings, namespace, name))
    });
    match ended {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            tell!("{}", crate::error_chain(&error));
            ExitCode::FAILURE
        }
        Err(error) => {
            tell!("cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn drive(settings: &Settings, namespace: &str, name: &str) -> Result<(), WorkloadError> {
    let held = file(settings, namespace, name, "runner")?;
    let taken = FileLock::try_take(&held).map_err(PathError::on("lock", &held));
    let Some(_held) = taken.map_err(StoreError::from)? else {
        return Ok(());
    };
    let (news, mut heard) = mpsc::unbounded_channel();
    let mut watched = Watched::new();
    loop {
        let turn = turn(settings, (namespace, name), &mut watched).await;
        let wait = match turn {
            Ok(Turn::Over) => return Ok(()),
            Ok(Turn::Again) => continue,
            Ok(Turn::Wait(fresh, wait)) => {
                for uid in fresh {
                    let (settings, news) = (settings.clone(), news.clone());
                    tokio::task::spawn_local(watch(settings, uid, news));
                }
                wait
            }
            Err(error) => {
                tell!("{}", crate::error_chain(&error));
                Some(AGAIN)
            }
        };
        // What others change about the job, nobody tells: it may be resumed, or gone.
        let pause = tokio::time::sleep(wait.map_or(AGAIN, |wait| wait.min(AGAIN)));
        tokio::select! {
            heard = heard.recv() => {
                if let Some(uid) = heard.flatten() {
                    // Its supervisor has gone, with the pod or without it.
                    if let Some(seen) = watched.get_mut(&uid) {
                        seen.is_heard = false;
                    }
                }
            }
            () = pause => {}
        }
    }
}

/// Tells of everything that happens to a pod; at the end its UID.
async fn watch(settings: Settings, uid: PodUid, news: mpsc::UnboundedSender<Option<PodUid>>) {
    let mut has_told = false;
    if let Ok(mut watch) = engine::watch(&settings, &uid).await {
        while let Ok(Some(Update::Status(_))) = watch.next().await {
            has_told = true;
            let _ = news.send(None);
        }
    }
    if !has_told {
        tokio::time::sleep(SILENCE).await;
    }
    let _ = news.send(Some(uid));
}

/// What comes after a look at the job.
enum Turn {
    /// Nothing: the job is done or gone.
    Over,
    /// Another look.
    Again,
    /// These pods are watched; until something happens or the time is over.
    Wait(Vec<PodUid>, Option<Duration>),
}

async fn turn(
    settings: &Settings,
    (namespace, name): (&str, &str),
    watched: &mut Watched,
) -> Result<Turn, WorkloadError> {
    if kept::read(settings, namespace, WorkloadKind::Job, name)?.is_none() {
        return Ok(Turn::Over);
    }
    // Whoever deletes the job holds this until its pods are gone.
    let _lock = lock(settings, namespace, WorkloadKind::Job, name)?;
    let Some(kept) = kept::read(settings, namespace, WorkloadKind::Job, name)? else {
        delete(settings, namespace, WorkloadKind::Job, name)?;
        return Ok(Turn::Over);
    };
    let workload = kept.workload(WorkloadKind::Job, name)?;
    let Some(job) = workload.job.clone() else {
        return Ok(Turn::Over);
    };
    // Those of an earlier job of the name are none of this one's.
    watched.retain(|_, seen| seen.of == kept.uid);
    let now = pod::now().unix;
    let pods: Vec<PodView> = engine::list(settings).await?;
    let pods: Vec<PodView> = pods.into_iter().filter(|pod| of(&kept, pod)).collect();
    let before = read_state(settings, namespace, name, &kept.uid)?;
    if before.finished.is_some() {
        return after_end(settings, (namespace, name), (&job, before), pods, watched).await;
    }
    let mut state = before.clone();
    count(&mut state, (&pods, watched), &job, now);
    // Its time begins anew when it is resumed.
    let begun = state.started.unwrap_or(now);
    state.started = (!job.is_suspended).then_some(begun);
    let active = active(&pods);
    let next = match untold(&state, &pods) {
        none if none.is_empty() => step(&job, &state, &active, (now, &settings.backoff)),
        untold => JobStep::Delete(untold),
    };
    match &next {
        JobStep::End(end) => {
            state.end = Some(end.clone());
            state.finished = Some(now);
        }
        // On record before they are told, so that they count for nothing whoever goes on.
        JobStep::Delete(uids) => state.sent_away.extend(uids.iter().cloned()),
        JobStep::Start(_) | JobStep::Await(_) => {}
    }
    if state != before {
        write_state(settings, namespace, name, &state)?;
    }
    match next {
        JobStep::Await(wait) => {
            return Ok(Turn::Wait(unheard(&kept.uid, &active, watched), wait));
        }
        JobStep::Start(which) => start(settings, kept, (workload, &state), which).await?,
        JobStep::Delete(uids) => gone(settings, chosen(&pods, &uids), watched).await?,
        JobStep::End(_) => gone(settings, chosen(&pods, &staying(active)), watched).await?,
    }
    Ok(Turn::Again)
}

/// What is left to do for a job that has ended: its pods' end, and later its own.
async fn after_end(
    settings: &Settings,
    (namespace, name): (&str, &str),
    (job, mut state): (&JobSpec, JobState),
    pods: Vec<PodView>,
    watched: &mut Watched,
) -> Result<Turn, WorkloadError> {
    // Who has written that it has ended may not have come to end them.
    gone(settings, chosen(&pods, &staying(active(&pods))), watched).await?;
    if !state.is_over {
        state.is_over = true;
        write_state(settings, namespace, name, &state)?;
    }
    let (Some(seconds), Some(finished)) = (job.ttl_seconds, state.finished) else {
        return Ok(Turn::Over);
    };
    let ttl = seconds.saturating_mul(1_000_000_000);
    let left = finished.saturating_add(ttl).saturating_sub(pod::now().unix);
    if left > 0 {
        return Ok(Turn::Wait(Vec::new(), Some(Duration::from_nanos(left))));
    }
    remove(settings, (namespace, name), pods).await?;
    Ok(Turn::Over)
}

/// Those of some pods.
fn chosen(pods: &[PodView], uids: &[PodUid]) -> Vec<PodView> {
    let chosen = pods.iter().filter(|pod| uids.contains(&pod.uid));
    chosen.cloned().collect()
}

/// Ends pods that are too many: by the job itself, so that they do not count.
async fn gone(
    settings: &Settings,
    pods: Vec<PodView>,
    watched: &mut Watched,
) -> Result<(), WorkloadError> {
    for pod in &pods {
        watched.remove(&pod.uid);
    }
    for (_, ended) in end_all(settings, pods, None).await {
        ended?;
    }
    Ok(())
}

async fn remove(
    settings: &Settings,
    (namespace, name): (&str, &str),
    pods: Vec<PodView>,
) -> Result<(), WorkloadError> {
    for (_, ended) in end_all(settings, pods, None).await {
        ended?;
    }
    delete(settings, namespace, WorkloadKind::Job, name)?;
    Ok(forget(settings, namespace, name)?)
}

async fn start(
    settings: &Settings,
    kept: Kept,
    (workload, state): (Workload, &JobState),
    which: Vec<Option<u32>>,
) -> Result<(), WorkloadError> {
    let begun = std::time::Instant::now();
    // Until the pods have records.
    let mut held = crate::engine::hold_images(settings)?;
    let images = images(&mut held, &workload.template.spec)?;
    let ground = Ground {
        settings,
        kept,
        images,
        failures: match &workload.job {
            Some(job) => state.index_failures(job),
            None => BTreeMap::new(),
        },
        objects: crate::objects::of_pod(settings, &workload.template.spec)?,
        workload,
        image_nanos: u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX),
    };
    ground.start_some(which, &mut Vec::new()).await
}

/// The images of a pod, all of which were there when the job was made.
fn images(
    store: &mut crate::engine::Images,
    spec: &PodSpec,
) -> Result<BTreeMap<String, ImageFacts>, WorkloadError> {
    let mut found = BTreeMap::new();
    for (_, image, _) in spec.images() {
        let reference = image.parse::<Reference>().ok();
        let known = reference
            .map(|reference| store.resolve(&reference))
            .transpose()?;
        let known = known.flatten().ok_or_else(|| WorkloadError::Image {
            image: image.to_owned(),
        })?;
        found.insert(image.to_owned(), image_facts(&known));
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
