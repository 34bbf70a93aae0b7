//! A job's runner: looks at the job's pods whenever one of them changes, does
//! what the plan says, and waits again.

use super::failure::Failure;
use super::plan::{Active, JobState, JobStep, PodEnd, Verdict, step};
use super::{file, forget, read_state, write_state};
use crate::engine::{self, PodView, Update};
use crate::host::lock::FileLock;
use crate::path_error::PathError;
use crate::plan::{ImageFacts, image_facts};
use crate::pod;
use crate::settings::Settings;
use crate::spec::{FailureRule, PodSpec, Workload, WorkloadKind};
use crate::store::StoreError;
use crate::store::status::Phase;
use crate::workload::members::COMPLETION_INDEX;
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
    let mut state = read_state(settings, namespace, name)?;
    let Some(kept) = kept::read(settings, namespace, WorkloadKind::Job, name)? else {
        return Ok(());
    };
    // One that is done has only its own deletion before it, if that.
    let is_mortal = kept.object["spec"]["ttlSecondsAfterFinished"].is_u64();
    if state.end.is_some() && !is_mortal {
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
    let is_free = FileLock::try_take(&held).map_err(PathError::on("lock", &held));
    if is_free.map_err(StoreError::from)?.is_none() {
        return Ok(());
    }
    if state.tenant.is_none() && settings.tenant.is_some() {
        state.tenant = settings.tenant;
        write_state(settings, namespace, name, &state)?;
    }
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
                    watched.remove(&uid);
                }
            }
            () = pause => {}
        }
    }
}

/// The pods that are looked at as they change, and what is to be known of them
/// when they are gone.
type Watched = BTreeMap<PodUid, Seen>;

/// A pod that is watched.
#[derive(Debug, Clone, Copy)]
struct Seen {
    index: Option<u32>,
    /// It was on its way out already: maybe the job itself has ended it.
    was_leaving: bool,
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
    let now = pod::now().unix;
    let pods: Vec<PodView> = engine::list(settings).await?;
    let pods: Vec<PodView> = pods.into_iter().filter(|pod| of(&kept, pod)).collect();
    let before = read_state(settings, namespace, name)?;
    if let Some(finished) = before.finished {
        // Who has written that may not have come to end the pods.
        gone(settings, chosen(&pods, &staying(active(&pods))), watched).await?;
        let Some(seconds) = job.ttl_seconds else {
            return Ok(Turn::Over);
        };
        let ttl = seconds.saturating_mul(1_000_000_000);
        let left = finished.saturating_add(ttl).saturating_sub(now);
        if left > 0 {
            return Ok(Turn::Wait(Vec::new(), Some(Duration::from_nanos(left))));
        }
        remove(settings, (namespace, name), pods).await?;
        return Ok(Turn::Over);
    }
    let mut state = before.clone();
    count(&mut state, (&pods, watched), &job.failure_rules, now);
    // Its time begins anew when it is resumed.
    let begun = state.started.unwrap_or(now);
    state.started = (!job.is_suspended).then_some(begun);
    let active = active(&pods);
    let next = step(&job, &state, &active, (now, &settings.backoff));
    if let JobStep::End(end) = &next {
        state.end = Some(end.clone());
        state.finished = Some(now);
    }
    if state != before {
        write_state(settings, namespace, name, &state)?;
    }
    match next {
        JobStep::Await(wait) => {
            return Ok(Turn::Wait(unwatched(&active, watched), wait));
        }
        JobStep::Start(which) => start(settings, kept, (workload, &state), which).await?,
        JobStep::Delete(uids) => gone(settings, chosen(&pods, &uids), watched).await?,
        JobStep::End(_) => gone(settings, chosen(&pods, &staying(active)), watched).await?,
    }
    Ok(Turn::Again)
}

/// Those of some pods.
fn chosen(pods: &[PodView], uids: &[PodUid]) -> Vec<PodView> {
    let chosen = pods.iter().filter(|pod| uids.contains(&pod.uid));
    chosen.cloned().collect()
}

/// Those whose end nobody has asked for.
fn staying(active: Vec<Active>) -> Vec<PodUid> {
    let staying = active.into_iter().filter(|one| !one.is_leaving);
    staying.map(|one| one.uid).collect()
}

/// Those that nobody looks at yet; they are looked at from here on.
fn unwatched(active: &[Active], watched: &mut Watched) -> Vec<PodUid> {
    let fresh = active.iter().filter(|one| !watched.contains_key(&one.uid));
    let fresh: Vec<&Active> = fresh.collect();
    for one in &fresh {
        let seen = Seen {
            index: one.index,
            was_leaving: one.is_leaving,
        };
        watched.insert(one.uid.clone(), seen);
    }
    fresh.into_iter().map(|one| one.uid.clone()).collect()
}

/// Notes how pods have ended. One that was watched and is not there any more
/// was deleted by somebody, which counts as a failure.
fn count(
    state: &mut JobState,
    (pods, watched): (&[PodView], &mut Watched),
    rules: &[FailureRule],
    now: u64,
) {
    for pod in pods.iter().filter(|pod| pod.status.phase.is_end()) {
        watched.remove(&pod.uid);
        if state.ended.contains_key(&pod.uid) {
            continue;
        }
        let succeeded = pod.status.phase == Phase::Succeeded;
        let verdict = if succeeded {
            Verdict::Counts
        } else {
            let (verdict, why) = Failure::of(pod).judge(rules);
            state.failed_by_rule = state.failed_by_rule.take().or(why);
            verdict
        };
        let end = PodEnd {
            succeeded,
            at: pod.status.finished.unwrap_or(now),
            index: index(pod),
            verdict,
        };
        state.ended.insert(pod.uid.clone(), end);
    }
    let is_there = |uid: &PodUid| pods.iter().any(|pod| pod.uid == *uid);
    let lost = watched.extract_if(.., |uid, _| !is_there(uid));
    for (uid, Seen { index, .. }) in lost.filter(|(_, seen)| !seen.was_leaving) {
        state.ended.entry(uid).or_insert(PodEnd {
            succeeded: false,
            at: now,
            index,
            verdict: Verdict::Counts,
        });
    }
}

fn index(pod: &PodView) -> Option<u32> {
    pod.spec.labels.get(COMPLETION_INDEX)?.parse().ok()
}

fn active(pods: &[PodView]) -> Vec<Active> {
    let live = pods.iter().filter(|pod| !pod.status.phase.is_end());
    live.map(|pod| Active {
        uid: pod.uid.clone(),
        restarts: pod.status.containers.iter().map(|one| one.restarts).sum(),
        index: index(pod),
        is_leaving: pod.status.deleted.is_some(),
    })
    .collect()
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
