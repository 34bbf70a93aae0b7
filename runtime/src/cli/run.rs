//! `beluga run`: pods from a manifest, or one container from an image.

use super::dry::{Dry, Form};
use super::foreground::{self, Options};
use super::host_path::{self, Allowed};
use super::workloads::{self, Chosen};
use super::{CliError, doctor, exit, manifest, objects, style, yaml};
use crate::engine::{self, StartRequest, StopRequest};
use crate::plan::{ImageFacts, Objects};
use crate::settings::Settings;
use crate::spec::{self, Document, Manifest, PodName};
use serde_json::{Value, json};
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
    /// The image of a pod of one container
    #[arg(required_unless_present = "files")]
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
    #[arg(long, conflicts_with = "detach")]
    rm: bool,
    #[command(flatten)]
    dry: Dry,
    /// With --dry-run of an image: the manifest in this form
    #[arg(short, long, value_enum, requires = "image", conflicts_with_all = ["detach", "stdin", "tty"])]
    output: Option<Form>,
    #[command(flatten)]
    allowed: Allowed,
    #[command(flatten)]
    one: One,
}

/// What only a pod from an image takes.
#[derive(Debug, clap::Args)]
#[group(id = "one", conflicts_with = "files", multiple = true)]
struct One {
    /// Hand standard input over
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give the container a terminal
    #[arg(short, long)]
    tty: bool,
    /// Name of the pod
    #[arg(long)]
    name: Option<String>,
    /// Namespace of the pod
    #[arg(short, long)]
    namespace: Option<String>,
    /// NAME=VALUE, or NAME to take the value from here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// A volume that lives as long as the pod (`NAME:PATH`), or a directory or file of the host (`/DIR:PATH`)
    #[arg(short, long, value_name = "NAME|/DIR:PATH[:ro]")]
    volume: Vec<String>,
    /// Limit, like 500m or 2
    #[arg(long)]
    cpus: Option<String>,
    /// Limit, like 64Mi
    #[arg(short, long)]
    memory: Option<String>,
    /// Working directory
    #[arg(short, long, value_name = "PATH")]
    workdir: Option<String>,
    /// All rights inside the pod's machine
    #[arg(long)]
    privileged: bool,
    /// Always, OnFailure or Never
    #[arg(long, default_value = "Never")]
    restart: String,
}

/// Runs the verb.
pub async fn run(settings: &Settings, args: Args) -> Result<u8, CliError> {
    let mut settings = args.allowed.settings(settings)?;
    // Who writes a path on the command line means it.
    let named = args.one.volume.iter().filter_map(|text| host_place(text));
    settings.host_paths.extend(named);
    let settings = &settings;
    let read = if let Some(image) = &args.image {
        let object = object(image, &args)?;
        let text = yaml(&object)?;
        let documents = spec::parse(manifest::COMMAND_LINE, &text)?;
        if args.dry.is_run() {
            match args.output {
                Some(Form::Json) => say!("{object:#}"),
                Some(Form::Yaml) | None => put!("{text}"),
            }
            return Ok(exit::OK);
        }
        if args.output.is_some() {
            return Err(CliError::Usage {
                message: "-o is for --dry-run".into(),
            });
        }
        Manifest {
            pods: documents,
            ..Manifest::default()
        }
    } else {
        manifest::read(&args.files)?
    };
    if read.pods.is_empty() && read.workloads.is_empty() {
        return Err(CliError::Usage {
            message: "there is no pod to run in the manifest; `beluga apply` keeps objects alone"
                .into(),
        });
    }
    for document in &read.pods {
        document.can_be_created()?;
    }
    host_path::admit(settings, read.documents())?;
    let mut resolved = objects::resolve(settings, &read)?;
    let begun = Instant::now();
    let images = manifest::images(settings, &read.documents())?;
    let image_nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    if args.dry.is_run() {
        let documents = read.documents().into_iter().zip(&resolved);
        dry_run(settings, documents, &images)?;
        return Ok(exit::OK);
    }
    let of_workloads = resolved.split_off(read.pods.len());
    let workloads: Vec<_> = read.workloads.into_iter().zip(of_workloads).collect();
    workloads::admit(settings, &workloads, &images)?;
    doctor::must_run_guests()?;
    let documents = read.pods;
    objects::keep(settings, &read.objects, objects::tell_aside)?;
    objects::update_pods(settings, &read.objects).await?;
    clear_ended(settings, &documents).await?;
    let options = Options {
        detach: args.detach,
        remove: args.rm,
        interactive: args.one.stdin || args.one.tty,
        tty: args.one.tty,
    };
    let requests = documents
        .into_iter()
        .zip(resolved)
        .map(|(document, objects)| StartRequest {
            manifest: super::apply::value(&document),
            spec: document.spec,
            images: images.clone(),
            objects,
            image_nanos,
        })
        .collect();
    let is_job = |one: &(spec::Workload, _)| one.0.job.is_some();
    let (jobs, workloads): (Vec<_>, Vec<_>) = workloads.into_iter().partition(is_job);
    let chosen: Vec<_> = workloads.iter().map(|(one, _)| Chosen::of(one)).collect();
    let mut begun = Vec::new();
    for (workload, objects) in workloads {
        let given = (&images, objects, image_nanos);
        begun.extend(workloads::begin(settings, workload, given).await?);
    }
    let jobs = async {
        let mut code = exit::OK;
        for (job, _) in jobs {
            code = code.max(workloads::run_job(settings, job, options).await?);
        }
        Ok::<u8, CliError>(code)
    };
    let pods = foreground::run(settings, requests, begun, options);
    let (of_pods, of_jobs) = tokio::join!(pods, jobs);
    let ended = of_pods.and_then(|code| Ok(code.max(of_jobs?)));
    if !options.detach {
        workloads::forget_empty(settings, &chosen).await?;
    }
    ended
}

/// Prints the plan of each pod.
pub fn dry_run<'d>(
    settings: &Settings,
    documents: impl Iterator<Item = (&'d Document, &'d Objects)>,
    images: &BTreeMap<String, ImageFacts>,
) -> Result<(), CliError> {
    for (at, (document, objects)) in documents.enumerate() {
        if at > 0 {
            say!("---");
        }
        let plan = engine::preview(settings, &document.spec, images, objects)?;
        put!("{}", yaml(&plan)?);
    }
    Ok(())
}

/// The name of a document's pod, when it is not generated.
pub fn document_name(document: &Document) -> Option<&str> {
    match &document.spec.name {
        PodName::Exact(name) => Some(name),
        PodName::Generate(_) => None,
    }
}

/// A pod that has ended gives its name free: `run` twice runs twice.
async fn clear_ended(settings: &Settings, documents: &[Document]) -> Result<(), CliError> {
    let present = engine::list(settings).await?;
    for document in documents {
        if let Some(pod) = super::apply::existing(&present, document)
            && pod.status.phase.is_end()
        {
            let style = style::Style::stderr();
            let line = format!("pod/{} had ended and is replaced", pod.name);
            tell!("{}", style.dim(&line));
            let request = StopRequest {
                grace: Some(0),
                delete: true,
            };
            engine::stop(settings, &pod.uid, request).await?;
        }
    }
    Ok(())
}

/// The pod that a command line means.
fn object(image: &str, args: &Args) -> Result<Value, CliError> {
    let one = &args.one;
    let base = image.rsplit('/').next().unwrap_or(image);
    let base: String = base
        .split([':', '@'])
        .next()
        .unwrap_or_default()
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(40)
        .collect();
    let base = base.trim_matches('-');
    let base = if base.is_empty() { "pod" } else { base };
    let mut metadata = match &one.name {
        Some(name) => json!({"name": name}),
        None => json!({"generateName": format!("{base}-")}),
    };
    if let Some(namespace) = &one.namespace {
        metadata["namespace"] = json!(namespace);
    }
    let mut container = json!({"name": base, "image": image});
    // As kubectl run has it: what follows -- are the arguments.
    if !args.command.is_empty() {
        container["args"] = json!(args.command);
    }
    for (key, set) in [
        ("stdin", one.stdin),
        ("stdinOnce", one.stdin),
        ("tty", one.tty),
    ] {
        if set {
            container[key] = json!(true);
        }
    }
    if one.privileged {
        container["securityContext"] = json!({"privileged": true});
    }
    if let Some(workdir) = &one.workdir {
        container["workingDir"] = json!(workdir);
    }
    let env: Vec<Value> = one.env.iter().filter_map(|text| variable(text)).collect();
    if !env.is_empty() {
        container["env"] = json!(env);
    }
    for (key, amount) in [("cpu", &one.cpus), ("memory", &one.memory)] {
        if let Some(amount) = amount {
            container["resources"]["limits"][key] = json!(amount);
        }
    }
    let (volumes, mounts) = volumes(&one.volume)?;
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"restartPolicy": one.restart},
    });
    if !volumes.is_empty() {
        container["volumeMounts"] = json!(mounts);
        pod["spec"]["volumes"] = json!(volumes);
    }
    pod["spec"]["containers"] = json!([container]);
    Ok(pod)
}

/// `NAME=VALUE`, or `NAME` with its value here; none here is none there.
fn variable(text: &str) -> Option<Value> {
    match text.split_once('=') {
        Some((name, value)) => Some(json!({"name": name, "value": value})),
        None => {
            let value = std::env::var(text).ok()?;
            Some(json!({"name": text, "value": value}))
        }
    }
}

/// The place on the host that a `--volume` names, when it names one: anything
/// with a slash in it, as it is seen from here.
fn host_place(text: &str) -> Option<PathBuf> {
    let (place, _) = text.split_once(':')?;
    if !place.contains('/') && !place.starts_with('.') {
        return None;
    }
    // Links and `..` mean what they mean here and now.
    let path = std::fs::canonicalize(place).or_else(|_| std::path::absolute(place));
    path.ok()
}

fn volumes(texts: &[String]) -> Result<(Vec<Value>, Vec<Value>), CliError> {
    let mut volumes: Vec<Value> = Vec::new();
    let mut mounts = Vec::new();
    for text in texts {
        let usage = |why: &str| CliError::Usage {
            message: format!("--volume {text:?}: {why}"),
        };
        let parts: Vec<&str> = text.split(':').collect();
        let (name, path, read_only) = match parts.as_slice() {
            [name, path] => (*name, *path, false),
            [name, path, "ro"] => (*name, *path, true),
            [name, path, "rw"] => (*name, *path, false),
            _ => return Err(usage("it is written NAME:PATH or NAME:PATH:ro")),
        };
        let (name, volume) = match host_place(text) {
            Some(place) => {
                let name = format!("host-{}", mounts.len());
                let source = json!({"path": place, "type": ""});
                (name.clone(), json!({"name": name, "hostPath": source}))
            }
            None => (name.to_owned(), json!({"name": name, "emptyDir": {}})),
        };
        if !volumes.contains(&volume) {
            volumes.push(volume);
        }
        let mut mount = json!({"name": name, "mountPath": path});
        if read_only {
            mount["readOnly"] = json!(true);
        }
        mounts.push(mount);
    }
    Ok((volumes, mounts))
}

#[cfg(test)]
mod tests;
