//! `beluga run`: pods from a manifest, or one container from an image.

mod image;
mod mount;
mod process;
mod surroundings;
mod volume;

use super::dry::{Dry, Form};
use super::ensure::Mode;
use super::error::{StartError, UsageError};
use super::foreground::{self, Options};
use super::host_path::{self, Allowed};
use super::workloads::{self, Chosen};
use super::{CliError, doctor, exit, manifest, objects, plans, style, terminal, together};
use crate::engine::{self, StartRequest, StopRequest};
use crate::objects::Applied;
use crate::plan::{ImageFacts, Objects};
use crate::settings::Settings;
use crate::spec::{self, ConfigObject, Document, Manifest, ObjectKind, PodName};
use image::One;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The manifest: a file, a directory, or - for standard input
    #[arg(
        short,
        long = "filename",
        value_name = "FILE",
        conflicts_with = "image"
    )]
    files: Vec<PathBuf>,
    /// The image of a pod of one container; with --image the pod's name
    #[arg(value_name = "IMAGE|NAME")]
    image: Option<String>,
    /// Its command instead of the image's arguments
    #[arg(
        trailing_var_arg = true,
        value_name = "COMMAND",
        conflicts_with = "files"
    )]
    command: Vec<String>,
    /// Come back once the pods run
    #[arg(short, long)]
    detach: bool,
    /// Delete the pods when they end
    #[arg(long)]
    rm: bool,
    /// No progress and no receipt; with -d nothing but the pods' names
    #[arg(short, long)]
    quiet: bool,
    /// The Jobs of CronJobs, once and now
    #[arg(long, requires = "files", conflicts_with = "image")]
    now: bool,
    /// In the place of pods of the same names, which are ended and deleted
    #[arg(long)]
    replace: bool,
    /// Namespace of the pod, and of what a manifest names none for
    #[arg(short, long)]
    namespace: Option<String>,
    #[command(flatten)]
    dry: Dry,
    /// With --dry-run of an image: the manifest in this form
    #[arg(short, long, value_enum, requires = "image", conflicts_with_all = ["files", "detach", "stdin", "tty"])]
    output: Option<Form>,
    #[command(flatten)]
    allowed: Allowed,
    #[command(flatten)]
    one: One,
}

impl Args {
    /// A pod from an image is told the namespace too.
    fn arrange(&mut self) {
        self.one.plain.namespace.clone_from(&self.namespace);
    }
}

/// Runs the verb.
pub async fn run(settings: &Settings, mut args: Args) -> Result<u8, CliError> {
    let stays = !args.detach && !args.dry.is_run();
    args.arrange();
    args.one.plain.tty =
        args.one.plain.tty && (!stays || terminal::is_to_be_had(args.one.plain.stdin));
    let mut settings = args.allowed.settings(settings)?;
    // Who writes a path on the command line means it.
    settings.host_paths.extend(args.one.host_places());
    let shut = settings.tenant.is_some_and(|tenant| !tenant.exec);
    if shut && stays && (args.one.plain.stdin || args.one.plain.tty) {
        return Err(UsageError::StdinOfTenant.into());
    }
    let settings = &settings;
    let Some(read) = read(settings, &args)? else {
        return Ok(exit::OK);
    };
    if read.pods.is_empty() && read.workloads.is_empty() {
        return Err(UsageError::NoPodToRun.into());
    }
    if args.rm && args.detach && !read.workloads.is_empty() {
        return Err(UsageError::NobodyToRemove.into());
    }
    for document in &read.pods {
        document.can_be_created()?;
    }
    together::admit(&read)?;
    host_path::admit(settings, read.documents())?;
    let resolved = objects::resolve(settings, &read)?;
    let begun = Instant::now();
    let mode = if args.dry.is_run() {
        Mode::Shown
    } else {
        Mode::Started
    };
    let wanted = read
        .documents()
        .into_iter()
        .map(|document| (document, mode));
    let wanted: Vec<_> = wanted.collect();
    let images = manifest::images(settings, &wanted, (&read.objects, args.quiet))?;
    let image_nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    if args.dry.is_run() {
        plans::show(settings, &read, &resolved, &images)?;
        return Ok(exit::OK);
    }
    make_room(settings, &args, &read.pods).await?;
    bring_up(settings, &args, read, (images, resolved, image_nanos)).await
}

/// What shall run; nothing when it was only to be shown.
fn read(settings: &Settings, args: &Args) -> Result<Option<Manifest>, CliError> {
    let Some(image) = &args.image else {
        if args.files.is_empty() {
            return Err(UsageError::NothingToRun.into());
        }
        let namespace = args.namespace.as_deref();
        return manifest::read_new(&args.files, namespace, args.now).map(Some);
    };
    manifest::is_no_file(std::slice::from_ref(image))?;
    let meant = args.one.pod(image, &args.command)?;
    if args.dry.is_run() {
        match args.output {
            Some(Form::Json) => say!("{:#}", meant.object),
            Some(Form::Yaml) | None => put!("{}", meant.text),
        }
        return Ok(None);
    }
    if args.output.is_some() {
        return Err(UsageError::OutputWithoutDryRun.into());
    }
    let mut objects = Vec::new();
    for claim in meant.claims {
        // One that is there is used as it is, whatever its size.
        if crate::objects::read(settings, &claim.namespace, claim.kind, &claim.name)
            .map_err(crate::objects::ObjectError::from)?
            .is_none()
        {
            objects.push(claim);
        }
    }
    Ok(Some(Manifest {
        pods: meant.documents,
        objects,
        ..Manifest::default()
    }))
}

/// Images by their names, the objects of each document, and what finding the
/// images took.
type Needs = (BTreeMap<String, ImageFacts>, Vec<Objects>, u64);

/// Starts everything and stays with it, where that is wanted.
async fn bring_up(
    settings: &Settings,
    args: &Args,
    read: Manifest,
    (images, mut resolved, image_nanos): Needs,
) -> Result<u8, CliError> {
    let of_workloads = resolved.split_off(read.pods.len());
    let workloads: Vec<_> = read.workloads.into_iter().zip(of_workloads).collect();
    workloads::admit(settings, &workloads, &images)?;
    doctor::must_run_guests()?;
    let made = RefCell::new(Vec::new());
    objects::keep(settings, &read.objects, |object, applied| {
        if !args.quiet {
            objects::tell_aside(object, applied);
        }
        if applied == Applied::Created {
            made.borrow_mut().push(object.clone());
        }
    })?;
    objects::update_pods(settings, &read.objects).await?;
    let pods = read.pods.into_iter().zip(resolved).collect();
    let ended = start_all(settings, args, (pods, workloads), (&images, image_nanos)).await;
    // What shall outlive pods stays: claims, and what says who may reach whom.
    let goes = |object: &ConfigObject| {
        let is_told = [ObjectKind::ConfigMap, ObjectKind::Secret].contains(&object.kind);
        is_told && args.rm && !args.detach
    };
    for object in made.into_inner().into_iter().filter(goes) {
        objects::delete(settings, object.kind, (&object.namespace, &object.name))?;
    }
    ended
}

/// Pods and workloads, each with its objects.
type Wanted = (Vec<(Document, Objects)>, Vec<(spec::Workload, Objects)>);

/// The same once their objects are there.
async fn start_all(
    settings: &Settings,
    args: &Args,
    (pods, workloads): Wanted,
    (images, image_nanos): (&BTreeMap<String, ImageFacts>, u64),
) -> Result<u8, CliError> {
    let options = Options {
        detach: args.detach,
        remove: args.rm,
        interactive: args.one.plain.stdin || args.one.plain.tty,
        tty: args.one.plain.tty,
        quiet: args.quiet,
    };
    let requests = pods.into_iter().map(|(document, objects)| {
        let request = StartRequest {
            manifest: super::apply::value(&document),
            spec: document.spec.clone(),
            images: images.clone(),
            objects,
            image_nanos,
            // Who stays with a pod removes it when its last line is printed.
            remove: args.rm && args.detach,
        };
        (document, request)
    });
    let is_job = |one: &(spec::Workload, _)| one.0.job.is_some();
    let (jobs, workloads): (Vec<_>, Vec<_>) = workloads.into_iter().partition(is_job);
    let chosen: Vec<_> = workloads.iter().map(|(one, _)| Chosen::of(one)).collect();
    let mut begun = Vec::new();
    for (workload, objects) in workloads {
        let given = (images, objects, image_nanos);
        begun.extend(workloads::begin(settings, workload, given).await?);
    }
    let jobs = async {
        let mut code = exit::OK;
        for (job, _) in jobs {
            code = code.max(workloads::run_job(settings, job, options).await?);
        }
        Ok::<u8, CliError>(code)
    };
    let pods = foreground::run(settings, requests.collect(), begun, options);
    let (of_pods, of_jobs) = tokio::join!(pods, jobs);
    let ended = of_pods.and_then(|code| Ok(code.max(of_jobs?)));
    if !options.detach {
        workloads::forget_empty(settings, &chosen).await?;
    }
    ended
}

/// The name of a document's pod, when it is not generated.
pub fn document_name(document: &Document) -> Option<&str> {
    match &document.spec.name {
        PodName::Exact(name) => Some(name),
        PodName::Generate(_) => None,
    }
}

/// Takes away what has the pods' names, where it may: a manifest is run again
/// once its pod has ended; of an image, and while a pod runs, that is to be said.
async fn make_room(
    settings: &Settings,
    args: &Args,
    documents: &[Document],
) -> Result<(), CliError> {
    let present = engine::list(settings).await?;
    for document in documents {
        let Some(pod) = super::apply::existing(&present, document) else {
            continue;
        };
        let has_ended = pod.status.phase.is_end();
        let may_go = args.replace || (has_ended && args.image.is_none());
        if !may_go {
            return Err(StartError::NameTaken {
                name: pod.name.clone(),
                namespace: pod.namespace.clone(),
                is_running: !has_ended,
            }
            .into());
        }
        let style = style::Style::stderr();
        let how = if has_ended { "had ended and " } else { "" };
        let line = format!("pod/{} {how}is replaced", pod.name);
        if !args.quiet {
            tell!("{}", style.dim(&line));
        }
        let request = StopRequest {
            grace: has_ended.then_some(0),
            delete: true,
        };
        engine::stop(settings, &pod.uid, request).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
