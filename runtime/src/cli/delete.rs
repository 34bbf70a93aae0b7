//! `beluga delete`.

use super::pods::{self, Scope};
use super::{CliError, exit, manifest, objects, workloads};
use crate::engine::PodView;
use crate::settings::Settings;
use crate::spec::{Manifest, ObjectKind, PodName};
use crate::workload::end_all;
use std::path::PathBuf;

/// Arguments of `delete`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// `pod NAME…` or `pod/NAME…`; the same with deployment, configmap, …
    #[arg(value_name = "TYPE [NAME]")]
    what: Vec<String>,
    /// What a manifest says (- is standard input)
    #[arg(short, long = "filename", value_name = "FILE", conflicts_with = "what")]
    files: Vec<PathBuf>,
    /// All pods of the namespace
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
    /// No error when there is no such pod
    #[arg(long)]
    ignore_not_found: bool,
    #[command(flatten)]
    scope: Scope,
}

/// Runs the verb.
pub async fn run(settings: &Settings, args: Args) -> Result<u8, CliError> {
    if let Some((kind, names)) = objects::named(&args.what)? {
        return delete_objects(settings, &args, kind, &names);
    }
    let grace = match args.grace_period {
        _ if args.force => Some(0),
        _ if args.now => Some(1),
        // kubectl takes a negative one for "the pod's own".
        Some(seconds) => u32::try_from(seconds).ok(),
        None => None,
    };
    if let Some((kind, names)) = workloads::named(&args.what)? {
        let chosen = workloads::choose(settings, &args.scope, kind, &names, args.all)?;
        let absent = workloads::delete(settings, chosen, grace).await?;
        return not_found(absent, &args);
    }
    let read = manifest::read(&args.files)?;
    let of_files = read.workloads.iter().map(workloads::Chosen::of).collect();
    let no_workload = workloads::delete(settings, of_files, grace).await?;
    let pods = pods::all(settings, &args.scope).await?;
    let (chosen, absent) = choose(pods, &args, &read)?;
    let mut failed: Option<CliError> = None;
    for (name, ended) in end_all(settings, chosen, grace).await {
        match ended {
            Ok(()) => say!("pod \"{name}\" deleted"),
            Err(error) => failed = Some(error.into()),
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    // After their pods, which may still read them while they end.
    let no_pod = absent.into_iter().next().map(|name| ("pod", name));
    let mut absent = no_workload.or(no_pod);
    for object in &read.objects {
        let name = (object.namespace.as_str(), object.name.as_str());
        let gone = objects::delete(settings, object.kind, [name])?;
        absent = absent.or(gone.map(|name| (object.kind.word(), name)));
    }
    not_found(absent, &args)
}

fn not_found(absent: Option<(&'static str, String)>, args: &Args) -> Result<u8, CliError> {
    match absent {
        Some((what, name)) if !args.ignore_not_found => Err(CliError::NotFound { what, name }),
        _ => Ok(exit::OK),
    }
}

fn delete_objects(
    settings: &Settings,
    args: &Args,
    kind: ObjectKind,
    names: &[String],
) -> Result<u8, CliError> {
    let namespace = args.scope.namespace.as_str();
    let absent = if !names.is_empty() {
        let names = names.iter().map(|name| (namespace, name.as_str()));
        objects::delete(settings, kind, names)?
    } else if args.all {
        let (all, _) = objects::choose(settings, &args.scope, kind, names)?;
        let names = all.iter().map(|kept| &kept.object);
        let names = names.map(|one| (one.namespace.as_str(), one.name.as_str()));
        objects::delete(settings, kind, names)?
    } else {
        return Err(CliError::Usage {
            message: format!("which {kind}s? Name them, or say --all or -f FILE"),
        });
    };
    not_found(absent.map(|name| (kind.word(), name)), args)
}

/// The pods that are meant, and the names of those that are not there.
fn choose(
    pods: Vec<PodView>,
    args: &Args,
    read: &Manifest,
) -> Result<(Vec<PodView>, Vec<String>), CliError> {
    let usage = |message: &str| CliError::Usage {
        message: message.to_owned(),
    };
    let mut wanted: Vec<(String, String)> = Vec::new();
    if args.files.is_empty() {
        let names = pods::names(&args.what)?;
        if names.is_empty() && (args.all || args.scope.selector.is_some()) {
            return Ok((pods, Vec::new()));
        }
        if names.is_empty() {
            return Err(usage(
                "which pods? Name them, or say --all, -l LABELS or -f FILE",
            ));
        }
        let namespace = &args.scope.namespace;
        wanted.extend(names.into_iter().map(|name| (namespace.clone(), name)));
    } else {
        for document in &read.pods {
            match &document.spec.name {
                PodName::Exact(name) => {
                    wanted.push((document.spec.namespace.clone(), name.clone()));
                }
                PodName::Generate(_) => {
                    return Err(usage(
                        "a pod with generateName cannot be deleted by its manifest",
                    ));
                }
            }
        }
    }
    let is = |pod: &PodView, (namespace, name): &(String, String)| {
        pod.name == *name && (pod.namespace == *namespace || args.scope.all_namespaces)
    };
    let absent = wanted
        .iter()
        .filter(|one| !pods.iter().any(|pod| is(pod, one)))
        .map(|(_, name)| name.clone())
        .collect();
    let chosen = pods
        .into_iter()
        .filter(|pod| wanted.iter().any(|one| is(pod, one)))
        .collect();
    Ok((chosen, absent))
}
