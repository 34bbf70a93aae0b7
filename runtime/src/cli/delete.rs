//! `beluga delete` and `rm`.

use super::error::UsageError;
use super::pods::{self, Scope};
use super::resource::{self, Asked, Kind};
use super::{CliError, error, manifest, objects, patience, workloads};
use crate::engine::PodView;
use crate::settings::Settings;
use crate::spec::{Manifest, ObjectKind, PodName};
use crate::workload::end_all;
use std::path::PathBuf;

/// Arguments of `delete`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// `pod NAME…`, `TYPE/NAME…`; the same with deployment, configmap, …
    #[arg(value_name = "TYPE [NAME]")]
    what: Vec<String>,
    /// What a manifest says (- is standard input)
    #[arg(short, long = "filename", value_name = "FILE", conflicts_with = "what")]
    files: Vec<PathBuf>,
    /// All of the type in the namespace
    #[arg(long)]
    all: bool,
    /// Seconds from the stop signal to SIGKILL, instead of the pod's
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    grace_period: Option<i64>,
    /// The same as --grace-period=1
    #[arg(long, conflicts_with = "grace_period")]
    now: bool,
    /// Kill at once
    #[arg(long)]
    force: bool,
    /// No error when there is none of that name
    #[arg(long)]
    ignore_not_found: bool,
    #[command(flatten)]
    scope: Scope,
}

/// Arguments of `rm`, in podman's words.
#[derive(Debug, clap::Args)]
pub struct RmArgs {
    /// Names of pods
    #[arg(required_unless_present_any = ["all", "selector"])]
    pods: Vec<String>,
    /// All pods of the namespace
    #[arg(short, long)]
    all: bool,
    /// Kill at once
    #[arg(short, long)]
    force: bool,
    /// Seconds from the stop signal to SIGKILL, instead of the pod's
    #[arg(short, long, value_name = "SECONDS", conflicts_with = "force")]
    time: Option<u32>,
    /// No error when there is none of that name
    #[arg(short, long)]
    ignore: bool,
    #[command(flatten)]
    scope: Scope,
}

/// Runs `delete`.
pub async fn run(settings: &Settings, args: Args) -> Result<u8, CliError> {
    let grace = match args.grace_period {
        _ if args.force => Some(0),
        _ if args.now => Some(1),
        // kubectl takes a negative one for "the pod's own".
        Some(seconds) => u32::try_from(seconds).ok(),
        None => None,
    };
    let mut errors = if args.files.is_empty() {
        manifest::is_no_file(&args.what)?;
        let asked = resource::asked(&args.what)?.unwrap_or_else(|| {
            vec![Asked {
                kind: Kind::Pod,
                names: args.what.clone(),
            }]
        });
        let mut errors = Vec::new();
        for one in &asked {
            errors.extend(of_type(settings, one, &args, grace).await?);
        }
        errors
    } else {
        // Files say where they belong, unless the command does.
        let namespace = Some(args.scope.namespace.as_str()).filter(|name| *name != pods::DEFAULT);
        let read = manifest::read_now(&args.files, namespace)?;
        of_files(settings, &read, &args.scope, grace).await?
    };
    errors.retain(|error| !(args.ignore_not_found && matches!(error, CliError::NotFound { .. })));
    error::all(errors)
}

/// Runs `rm`.
pub async fn rm(settings: &Settings, args: RmArgs) -> Result<u8, CliError> {
    let names = pods::names(&args.pods)?;
    let what = names.iter().map(|name| format!("pod/{name}"));
    let args = Args {
        what: what.collect(),
        files: Vec::new(),
        all: args.all,
        grace_period: args.time.map(i64::from),
        now: false,
        force: args.force,
        ignore_not_found: args.ignore,
        scope: args.scope,
    };
    run(settings, args).await
}

/// Deletes what is asked for of one type; gives back what could not be.
async fn of_type(
    settings: &Settings,
    asked: &Asked,
    args: &Args,
    grace: Option<u32>,
) -> Result<Vec<CliError>, CliError> {
    let Asked { kind, names } = asked;
    let scope = &args.scope;
    if names.is_empty() && !args.all && scope.selector.is_none() {
        let what = format!("{}s", kind.word());
        let how = "Name them, or say --all, -l LABELS or -f FILE";
        return Err(UsageError::Which { what, how }.into());
    }
    let named = |names: &[String]| -> Vec<(String, String)> {
        let names = names.iter();
        let pairs = names.map(|name| (scope.namespace.clone(), name.clone()));
        pairs.collect()
    };
    let chosen = match (kind, names.as_slice()) {
        (Kind::Pod, []) => {
            let pods = pods::all(settings, scope).await?.into_iter();
            pods.map(|pod| (pod.namespace, pod.name)).collect()
        }
        (Kind::Object(kind), []) => objects::names(settings, scope, *kind)?,
        (Kind::Workload(kind), []) => workloads::names(settings, scope, *kind)?,
        (_, names) => named(names),
    };
    if chosen.is_empty() {
        say!("No resources found");
    }
    match *kind {
        Kind::Pod => of_pods(settings, &chosen, scope, grace).await,
        Kind::Object(kind) => Ok(of_objects(settings, kind, &chosen)),
        Kind::Workload(kind) => {
            let chosen = chosen.into_iter();
            let chosen = chosen.map(|(namespace, name)| workloads::Chosen {
                kind,
                namespace,
                name,
            });
            Ok(of_workloads(settings, chosen.collect(), grace).await)
        }
    }
}

/// Deletes what a manifest says; its objects after the pods, which may still
/// read them while they end.
async fn of_files(
    settings: &Settings,
    read: &Manifest,
    scope: &Scope,
    grace: Option<u32>,
) -> Result<Vec<CliError>, CliError> {
    let pods = read.pods.iter().map(|document| match &document.spec.name {
        PodName::Exact(name) => Ok((document.spec.namespace.clone(), name.clone())),
        PodName::Generate(_) => Err(UsageError::GeneratedName),
    });
    let pods = pods.collect::<Result<Vec<_>, _>>()?;
    let (mut workloads, mut errors) = (Vec::new(), Vec::new());
    for workload in &read.workloads {
        let Some(name) = &workload.cron_job else {
            workloads.push(workloads::Chosen::of(workload));
            continue;
        };
        let jobs = workloads::of_cron_job(settings, &workload.namespace, name)?;
        if jobs.is_empty() {
            let what = workloads::CRON_JOB;
            let name = name.clone();
            errors.push(CliError::NotFound { what, name });
        }
        workloads.extend(jobs);
    }
    errors.extend(of_workloads(settings, workloads, grace).await);
    errors.extend(of_pods(settings, &pods, scope, grace).await?);
    for object in &read.objects {
        let name = (object.namespace.clone(), object.name.clone());
        errors.extend(of_objects(settings, object.kind, &[name]));
    }
    Ok(errors)
}

async fn of_pods(
    settings: &Settings,
    wanted: &[(String, String)],
    scope: &Scope,
    grace: Option<u32>,
) -> Result<Vec<CliError>, CliError> {
    let is = |pod: &PodView, (namespace, name): &(String, String)| {
        pod.name == *name && (pod.namespace == *namespace || scope.all_namespaces)
    };
    let mut pods = crate::engine::list(settings).await?;
    let absent = wanted.iter();
    let absent = absent.filter(|one| !pods.iter().any(|pod| is(pod, one)));
    let mut errors = Vec::new();
    for (namespace, name) in absent {
        match pods::damaged(settings, namespace, name)? {
            Some(pod) if grace == Some(0) => {
                crate::engine::discard(settings, &pod).await?;
                say!("pod \"{name}\" deleted");
            }
            Some(pod) => errors.push(pods::of_damaged(pod)),
            None => errors.push(Kind::Pod.absent(name)),
        }
    }
    pods.retain(|pod| wanted.iter().any(|one| is(pod, one)));
    let going = pods.clone();
    let ending = || patience::ending(going.iter(), grace, "--force");
    let ended = patience::told(ending, end_all(settings, pods, grace));
    for (name, ended) in ended.await {
        match ended {
            Ok(()) => say!("pod \"{name}\" deleted"),
            Err(error) => errors.push(error.into()),
        }
    }
    Ok(errors)
}

fn of_objects(settings: &Settings, kind: ObjectKind, chosen: &[(String, String)]) -> Vec<CliError> {
    let mut errors = Vec::new();
    for (namespace, name) in chosen {
        match objects::delete(settings, kind, (namespace, name)) {
            Ok(true) => say!("{kind} \"{name}\" deleted"),
            Ok(false) => errors.push(Kind::Object(kind).absent(name)),
            Err(error) => errors.push(error),
        }
    }
    errors
}

async fn of_workloads(
    settings: &Settings,
    chosen: Vec<workloads::Chosen>,
    grace: Option<u32>,
) -> Vec<CliError> {
    let mut errors = Vec::new();
    for one in chosen {
        let (kind, name) = (one.kind, one.name.clone());
        let ending = || {
            Some(format!(
                "{kind}/{name}: its pods are stopping (--force kills at once)"
            ))
        };
        let deleted = patience::told(ending, workloads::delete(settings, one, grace));
        match deleted.await {
            Ok(true) => {}
            Ok(false) => errors.push(Kind::Workload(kind).absent(&name)),
            Err(error) => errors.push(error),
        }
    }
    errors
}
