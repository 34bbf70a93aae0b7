//! A pod of one container, from an image and flags.

use crate::cli::{CliError, manifest, publish, yaml};
use crate::spec::{self, Document, ManifestError};
use serde_json::{Value, json};
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
    /// Name of the pod
    #[arg(long)]
    pub name: Option<String>,
    /// Namespace of the pod
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// NAME=VALUE, or NAME to take the value from here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// A volume that lives as long as the pod (`NAME:PATH`), or a directory or file of the host (`/DIR:PATH`)
    #[arg(short, long, value_name = "NAME|/DIR:PATH[:ro]")]
    pub volume: Vec<String>,
    /// A port of the container at one of this host; without one of this host at any free one
    #[arg(short, long, value_name = "[[IP:]HOST:]PORT[/udp]")]
    pub publish: Vec<String>,
    /// default, or none for a pod with its loopback only
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
}

impl One {
    /// The pod. What is wrong with it is said of the flags.
    pub fn pod(&self, image: &str, command: &[String]) -> Result<Meant, CliError> {
        let object = object(image, command, self)?;
        let text = yaml(&object)?;
        let documents = spec::parse(manifest::COMMAND_LINE, &text);
        Ok(Meant {
            documents: documents.map_err(|error| refused(&error))?,
            object,
            text,
        })
    }

    /// The places on the host that its volumes name.
    pub fn host_places(&self) -> impl Iterator<Item = PathBuf> {
        self.volume.iter().filter_map(|text| host_place(text))
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
    CliError::Usage {
        message: lines.join("\n"),
    }
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
        ("spec.restartPolicy", "--restart"),
        ("spec.volumes", "--volume"),
        ("volumeMounts", "--volume"),
        ("workingDir", "--workdir"),
        ("ports", "--publish"),
        ("imagePullPolicy", "--image-pull-policy"),
        ("env", "--env"),
        ("image", "IMAGE"),
        ("args", "COMMAND"),
    ];
    let found = flags
        .iter()
        .find(|(field, _)| in_container.starts_with(field));
    found.map_or(path, |(_, flag)| flag)
}

/// The pod that a command line means.
fn object(image: &str, command: &[String], one: &One) -> Result<Value, CliError> {
    let base = container_name(image);
    let mut metadata = match &one.name {
        Some(name) => json!({"name": name}),
        None => json!({"generateName": format!("{base}-")}),
    };
    if let Some(namespace) = &one.namespace {
        metadata["namespace"] = json!(namespace);
    }
    if let Some(network) = &one.network {
        metadata["annotations"] = json!({spec::NETWORK: network});
    }
    let mut container = json!({"name": base, "image": image});
    // As kubectl run has it: what follows -- are the arguments.
    if !command.is_empty() {
        container["args"] = json!(command);
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
    let env: Vec<Value> = one.env.iter().filter_map(|text| variable(text)).collect();
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
