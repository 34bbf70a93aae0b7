//! `beluga stop`, `start` and `restart`: a pod's machine ends and another one
//! is made from the same manifest. The record stays in between; the new pod
//! has a UID of its own, as every replacement has.

use super::ensure::{self, Mode, Wanted};
use super::error::UsageError;
use super::pods::{self, Scope};
use super::{CliError, exit, host_path, patience};
use crate::engine::{self, PodView, StartRequest, StopRequest, Update};
use crate::settings::Settings;
use crate::store::status::Phase;
use std::time::Instant;

/// Arguments of `stop` and `restart`.
#[derive(Debug, clap::Args)]
pub struct StopArgs {
    /// `NAME…` or `pod/NAME…`
    #[arg(value_name = "POD")]
    what: Vec<String>,
    /// All pods of the namespace
    #[arg(long)]
    all: bool,
    /// Seconds from the stop signal to SIGKILL, instead of the pod's
    #[arg(short = 't', long, visible_alias = "time", value_name = "SECONDS")]
    grace_period: Option<u32>,
    #[command(flatten)]
    scope: Scope,
}

/// Arguments of `start`.
#[derive(Debug, clap::Args)]
pub struct StartArgs {
    /// `NAME…` or `pod/NAME…`
    #[arg(value_name = "POD")]
    what: Vec<String>,
    /// All pods of the namespace
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    scope: Scope,
}

/// Runs `stop`.
pub async fn stop(settings: &Settings, args: StopArgs) -> Result<u8, CliError> {
    for pod in chosen(settings, &args.what, args.all, &args.scope).await? {
        end(settings, &pod, args.grace_period).await?;
        say!("pod/{} stopped", pod.name);
    }
    Ok(exit::OK)
}

/// Runs `start`.
pub async fn start(settings: &Settings, args: StartArgs) -> Result<u8, CliError> {
    for pod in chosen(settings, &args.what, args.all, &args.scope).await? {
        if pod.status.phase.is_end() {
            replace(settings, &pod).await?;
            say!("pod/{} started", pod.name);
        } else {
            say!("pod/{} runs already", pod.name);
        }
    }
    Ok(exit::OK)
}

/// Runs `restart`.
pub async fn restart(settings: &Settings, args: StopArgs) -> Result<u8, CliError> {
    for pod in chosen(settings, &args.what, args.all, &args.scope).await? {
        end(settings, &pod, args.grace_period).await?;
        replace(settings, &pod).await?;
        say!("pod/{} restarted", pod.name);
    }
    Ok(exit::OK)
}

async fn chosen(
    settings: &Settings,
    what: &[String],
    all: bool,
    scope: &Scope,
) -> Result<Vec<PodView>, CliError> {
    let names = pods::names(what)?;
    if names.is_empty() && !all && scope.selector.is_none() {
        return Err(UsageError::which("pods", "Name them, or say --all or -l LABELS").into());
    }
    let mut chosen = pods::all(settings, scope).await?;
    chosen.retain(|pod| names.is_empty() || names.contains(&pod.name));
    match names
        .iter()
        .find(|name| !chosen.iter().any(|pod| pod.name == **name))
    {
        Some(name) => Err(CliError::NotFound {
            what: "pod",
            name: name.clone(),
        }),
        None => Ok(chosen),
    }
}

async fn end(settings: &Settings, pod: &PodView, grace: Option<u32>) -> Result<(), CliError> {
    let request = StopRequest {
        grace,
        delete: false,
    };
    let ending = || patience::ending(std::iter::once(pod), grace, "-t 0");
    let stopped = patience::told(ending, engine::stop(settings, &pod.uid, request));
    Ok(stopped.await?)
}

/// A new pod in the place of one that has ended. What the new one needs is
/// looked for before the old one goes.
async fn replace(settings: &Settings, pod: &PodView) -> Result<(), CliError> {
    let settings = &host_path::as_before(settings, pod);
    let begun = Instant::now();
    let mut spec = pod.spec.clone();
    // A generated name stays what it became.
    spec.name = crate::spec::PodName::Exact(pod.name.clone());
    // They were put beside the old one's containers.
    spec.ephemeral_containers.clear();
    let mut object = pod.manifest.clone();
    if let Some(fields) = object["spec"].as_object_mut() {
        fields.remove("ephemeralContainers");
    }
    let wanted = Wanted {
        spec: &spec,
        document: None,
        mode: Mode::Started,
        is_quiet: false,
    };
    let images = ensure::images(settings, &[wanted], &[])?;
    let image_nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let objects = crate::objects::of_pod(settings, &spec)?;
    engine::preview(settings, &spec, &images, &objects)?;
    let request = StopRequest {
        grace: Some(0),
        delete: true,
    };
    engine::stop(settings, &pod.uid, request).await?;
    let request = StartRequest {
        manifest: object,
        spec,
        images,
        objects,
        image_nanos,
        remove: false,
    };
    let mut started = engine::start(settings, request).await?;
    while let Some(Update::Status(status)) = started
        .watch
        .next()
        .await
        .map_err(engine::EngineError::from)?
    {
        if status.phase != Phase::Pending {
            break;
        }
    }
    Ok(())
}
