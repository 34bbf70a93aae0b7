//! A pod of one container, from an image and flags: podman's `run IMAGE`, and kubectl's
//! `run NAME --image=IMAGE`.

use super::volume::{self, Volumes};
use crate::cli::error::UsageError;
use crate::cli::{CliError, env, manifest, object, publish, yaml};
use crate::spec::{self, ConfigObject, Document, ManifestError};
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// What only a pod from an image takes.
#[derive(Debug, clap::Args)]
#[group(id = "one", conflicts_with = "files", multiple = true)]
pub struct One {
    /// Hand standard input over
    #[arg(short = 'i', long)]
    pub stdin: bool,
    /// Give the container a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// The image, where the pod's name stands in its place, as kubectl has it
    #[arg(
        long = "image",
        value_name = "IMAGE",
        requires = "image",
        conflicts_with = "name"
    )]
    pub of_image: Option<String>,
    /// COMMAND is the command, not the image's arguments
    #[arg(long = "command")]
    pub is_command: bool,
    /// Labels of the pod
    #[arg(
        short,
        long,
        visible_alias = "label",
        value_name = "KEY=VALUE,…",
        value_delimiter = ','
    )]
    pub labels: Vec<String>,
    /// Name of the pod
    #[arg(long)]
    pub name: Option<String>,
    /// Namespace of the pod, which one from a manifest has as well.
    #[arg(skip)]
    pub namespace: Option<String>,
    /// NAME=VALUE, or NAME to take the value from here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// A volume that outlives the pod (`NAME:PATH`, a claim), one that does not (`PATH`), or a directory or file of the host (`/DIR:PATH`)
    #[arg(short, long, value_name = "[NAME:|/DIR:]PATH[:ro]")]
    pub volume: Vec<String>,
    /// A port of the container at one of this host; without one of this host at any free one
    #[arg(short, long, value_name = "[[IP:]HOST:]PORT[/udp]")]
    pub publish: Vec<String>,
    /// default, none for a pod with its loopback only, or cni:NAME; several with commas
    #[arg(long, value_name = "NAME")]
    pub network: Option<String>,
    /// Limit, like 500m or 2
    #[arg(long)]
    pub cpus: Option<String>,
    /// Limit, like 64Mi
    #[arg(short, long)]
    pub memory: Option<String>,
    /// Working directory
    #[arg(short, long, value_name = "PATH")]
    pub workdir: Option<String>,
    /// Always, IfNotPresent or Never
    #[arg(long, value_name = "POLICY")]
    pub image_pull_policy: Option<String>,
    /// All rights inside the pod's machine
    #[arg(long)]
    pub privileged: bool,
    /// Always, OnFailure or Never
    #[arg(long, default_value = "Never")]
    pub restart: String,
}

/// A pod that a command line means, as it is and as it is written.
pub struct Meant {
    /// The object.
    pub object: Value,
    /// The same as a manifest.
    pub text: String,
    /// The same, checked.
    pub documents: Vec<Document>,
    /// The claims of its named volumes.
    pub claims: Vec<ConfigObject>,
}

impl One {
    /// The pod. What is wrong with it is said of the flags.
    pub fn pod(&self, image: &str, command: &[String]) -> Result<Meant, CliError> {
        let volumes = Volumes::read(&self.volume, self.namespace.as_deref())?;
        let claims = volumes.objects()?;
        let mut object = pod(image, command, self, &volumes)?;
        let mut text = yaml(&object)?;
        let documents = spec::parse(manifest::COMMAND_LINE, &text);
        let documents = documents.map_err(|error| refused(&error))?;
        if !volumes.claims.is_empty() {
            let texts = volumes.claims.iter().chain([&object]).map(yaml);
            text = texts.collect::<Result<Vec<_>, _>>()?.join("---\n");
            let all = volumes.claims.into_iter().chain([object]);
            object = object::list_of(all.collect());
        }
        Ok(Meant {
            documents,
            object,
            text,
            claims,
        })
    }

    /// The places on the host that its volumes name.
    pub fn host_places(&self) -> Vec<PathBuf> {
        volume::host_places(&self.volume)
    }
}

/// Who writes flags knows no lines and no fields.
fn refused(error: &ManifestError) -> CliError {
    let lines = error.issues.iter().map(|issue| {
        let flag = flag(&issue.path);
        match &issue.hint {
            Some(hint) => format!("{flag}: {} ({hint})", issue.message),
            None => format!("{flag}: {}", issue.message),
        }
    });
    let mut lines: Vec<String> = lines.collect();
    // What a name is wrong with, its volume and its mount are.
    lines.dedup();
    UsageError::Flags { lines }.into()
}

/// The flag or argument that a field is made from.
fn flag(path: &str) -> &str {
    let in_container = path.strip_prefix("spec.containers[0].").unwrap_or(path);
    let flags = [
        ("resources.limits.memory", "--memory"),
        ("resources.limits.cpu", "--cpus"),
        ("metadata.namespace", "--namespace"),
        ("metadata.name", "--name"),
        ("metadata.annotations", "--network"),
        ("metadata.labels", "--labels"),
        ("spec.restartPolicy", "--restart"),
        ("spec.volumes", "--volume"),
        ("volumeMounts", "--volume"),
        ("workingDir", "--workdir"),
        ("ports", "--publish"),
        ("imagePullPolicy", "--image-pull-policy"),
        ("env", "--env"),
        ("image", "IMAGE"),
        ("args", "COMMAND"),
        ("command", "COMMAND"),
    ];
    let found = flags
        .iter()
        .find(|(field, _)| in_container.starts_with(field));
    found.map_or(path, |(_, flag)| flag)
}

/// The pod that a command line means.
fn pod(word: &str, command: &[String], one: &One, volumes: &Volumes) -> Result<Value, CliError> {
    let mut object = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata(word, one)?,
        "spec": {"restartPolicy": one.restart},
    });
    if !volumes.volumes.is_empty() {
        object["spec"]["volumes"] = json!(volumes.volumes);
    }
    let mut container = container(word, command, one)?;
    if !volumes.mounts.is_empty() {
        container["volumeMounts"] = json!(volumes.mounts);
    }
    object["spec"]["containers"] = json!([container]);
    Ok(object)
}

fn metadata(word: &str, one: &One) -> Result<Value, CliError> {
    let mut metadata = match (&one.of_image, &one.name) {
        (Some(_), _) => json!({"name": word}),
        (None, Some(name)) => json!({"name": name}),
        (None, None) => json!({"generateName": format!("{}-", container_name(word))}),
    };
    let mut labels = Map::new();
    for text in &one.labels {
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| UsageError::flag("--labels", text, "it is written KEY=VALUE"))?;
        labels.insert(key.to_owned(), json!(value));
    }
    // As kubectl has it.
    if one.of_image.is_some() && labels.is_empty() {
        labels.insert("run".to_owned(), json!(word));
    }
    if !labels.is_empty() {
        metadata["labels"] = json!(labels);
    }
    if let Some(namespace) = &one.namespace {
        metadata["namespace"] = json!(namespace);
    }
    if let Some(network) = &one.network {
        metadata["annotations"] = json!({spec::NETWORK: network});
    }
    Ok(metadata)
}

fn container(word: &str, command: &[String], one: &One) -> Result<Value, CliError> {
    let mut container = match &one.of_image {
        Some(image) => json!({"name": word, "image": image}),
        None => json!({"name": container_name(word), "image": word}),
    };
    // As kubectl run has it: what follows -- are the arguments.
    if !command.is_empty() {
        let field = if one.is_command { "command" } else { "args" };
        container[field] = json!(command);
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
    if let Some(policy) = &one.image_pull_policy {
        container["imagePullPolicy"] = json!(policy);
    }
    if let Some(workdir) = &one.workdir {
        container["workingDir"] = json!(workdir);
    }
    let env = env::objects(&one.env)?;
    if !env.is_empty() {
        container["env"] = json!(env);
    }
    for (key, amount) in [("cpu", &one.cpus), ("memory", &one.memory)] {
        if let Some(amount) = amount {
            container["resources"]["limits"][key] = json!(amount);
        }
    }
    let ports = publish::ports(&one.publish)?;
    if !ports.is_empty() {
        container["ports"] = json!(ports);
    }
    Ok(container)
}

/// The image's own name, as far as a container may have it.
fn container_name(image: &str) -> String {
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
    match base.trim_matches('-') {
        "" => "pod".to_owned(),
        base => base.to_owned(),
    }
}
