//! `beluga apply`: what a manifest says is there afterwards.

use super::change::{self, Changed, PATIENCE};
use super::dry::Dry;
use super::ensure::Mode;
use super::host_path::{self, Allowed};
use super::run::document_name;
use super::{CliError, doctor, exit, manifest, objects, plans, together, workloads};
use crate::engine::{self, EngineError, PodView, StartRequest};
use crate::settings::Settings;
use crate::spec::Document;
use crate::store::StoreError;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Arguments of `apply`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The manifest: a file, a directory, or - for standard input
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Namespace of what names none itself
    #[arg(short, long)]
    namespace: Option<String>,
    #[command(flatten)]
    dry: Dry,
    /// How long containers that are replaced may take until they are ready, like 2m
    #[arg(long, default_value = PATIENCE, value_parser = change::patience)]
    timeout: Duration,
    #[command(flatten)]
    allowed: Allowed,
}

/// Runs the verb.
#[expect(
    clippy::too_many_lines,
    reason = "its order is what it is: all checks come before the first change"
)]
pub async fn run(settings: &Settings, args: Args) -> Result<u8, CliError> {
    let settings = &args.allowed.settings(settings)?;
    let (read, mut resolved) = objects::read(settings, &args.files, args.namespace.as_deref())?;
    together::admit(&read)?;
    let present = engine::list(settings).await?;
    for document in &read.pods {
        if existing(&present, document).is_none() {
            document.can_be_created()?;
            host_path::admit(settings, [document])?;
        }
    }
    let begun = Instant::now();
    let mode = |document: &Document| match existing(&present, document) {
        _ if args.dry.is_run() => Mode::Shown,
        Some(_) => Mode::Kept,
        None => Mode::Started,
    };
    let wanted = read.documents().into_iter();
    let wanted: Vec<_> = wanted.map(|document| (document, mode(document))).collect();
    let images = manifest::images(settings, &wanted, (&read.objects, false))?;
    let image_nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    if args.dry.is_run() {
        host_path::admit(settings, read.documents())?;
        plans::show_objects(settings, &read.objects)?;
        plans::show(settings, &read, &resolved, &images)?;
        return Ok(exit::OK);
    }
    let of_workloads = resolved.split_off(read.pods.len());
    let workloads = read.workloads.into_iter().zip(of_workloads);
    let workloads: Vec<_> = workloads.collect();
    workloads::admit(settings, &workloads, &images)?;
    if !(read.pods.is_empty() && workloads.is_empty()) {
        doctor::must_run_guests()?;
    }
    // Nothing is started before everything is known to be right.
    let pods = read.pods.into_iter().zip(resolved);
    let (there, fresh): (Vec<_>, Vec<_>) =
        pods.partition(|(document, _)| existing(&present, document).is_some());
    let there = there.into_iter().map(|(document, _)| document);
    let there: Vec<_> = there
        .filter_map(|document| Some((existing(&present, &document)?, document)))
        .collect();
    for (pod, document) in &there {
        change::admit(pod, document)?;
    }
    objects::keep(settings, &read.objects, |object, applied| {
        say!("{}/{} {applied}", object.kind, object.name);
    })?;
    objects::update_pods(settings, &read.objects).await?;
    for (pod, document) in there {
        change(settings, pod, &document, args.timeout).await?;
    }
    for (document, objects) in fresh {
        let request = StartRequest {
            manifest: value(&document),
            spec: document.spec.clone(),
            images: images.clone(),
            objects,
            image_nanos,
            remove: false,
        };
        match engine::start(settings, request).await {
            // Somebody else has applied it since we looked.
            Err(EngineError::Store(StoreError::NameTaken { namespace, name })) => {
                let present = engine::list(settings).await?;
                let Some(pod) = existing(&present, &document) else {
                    return Err(EngineError::from(StoreError::NameTaken { namespace, name }).into());
                };
                change::admit(pod, &document)?;
                change(settings, pod, &document, args.timeout).await?;
            }
            Ok(started) => say!("pod/{} created", started.view.name),
            Err(error) => {
                let name = &document.spec.name;
                return Err(manifest::placed(&document, error).of_pod(name));
            }
        }
    }
    for (workload, objects) in workloads {
        let given = (&images, objects, image_nanos);
        workloads::apply(settings, workload, given).await?;
    }
    Ok(exit::OK)
}

/// Makes a pod that is there what the document says, and tells what that took.
async fn change(
    settings: &Settings,
    pod: &PodView,
    document: &Document,
    patience: Duration,
) -> Result<(), CliError> {
    let word = match change::to_document(settings, pod, document, patience).await? {
        Changed::Unchanged => "unchanged".to_owned(),
        Changed::Configured => "configured".to_owned(),
        Changed::Converging(why) => format!("configured: converging ({why})"),
    };
    say!("pod/{} {word}", pod.name);
    Ok(())
}

/// The object of a document as it is recorded.
pub fn value(document: &Document) -> serde_json::Value {
    serde_json::to_value(&document.pod).unwrap_or_default()
}

/// The pod that has the document's namespace and name.
pub fn existing<'p>(present: &'p [PodView], document: &Document) -> Option<&'p PodView> {
    let name = document_name(document)?;
    present
        .iter()
        .find(|pod| pod.namespace == document.spec.namespace && pod.name == name)
}
