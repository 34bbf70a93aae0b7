//! A pod of one container, from an image and flags: podman's `run IMAGE`, and kubectl's
//! `run NAME --image=IMAGE`.

use super::process::Process;
use super::surroundings::{self, Surroundings};
use super::volume::{Mounted, Volumes};
use crate::cli::error::UsageError;
use crate::cli::{CliError, env, manifest, object, publish, yaml};
use crate::spec::{self, ConfigObject, Document, ManifestError};
use serde_json::{Value, json};
use std::path::PathBuf;

/// What only a pod from an image takes.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct One {
    /// The others.
    #[command(flatten)]
    pub plain: Plain,
    #[command(flatten)]
    mounted: Mounted,
    #[command(flatten)]
    surroundings: Surroundings,
    #[command(flatten)]
    process: Process,
}

/// The flags that need no words of their own.
// A group of clap's has the flags of its struct only if no other is flattened into it.
#[derive(Debug, clap::Args)]
#[group(id = "one", conflicts_with = "files", multiple = true)]
pub struct Plain {
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
    /// COMMAND is the program with its arguments, not the arguments of the image's
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
    /// A file with NAME=VALUE or NAME on each line, for what --env does not name
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// A port of the container at one of this host; without one of this host at any free one
    #[arg(short, long, value_name = "[[IP:]HOST:]PORT[/udp]")]
    pub publish: Vec<String>,
    /// A port that the container listens at, as its manifest says it; nothing is opened by it
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// default, none for a pod with its loopback only, or cni:NAME; several with commas
    #[arg(long, alias = "net", value_name = "NAME")]
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
    #[arg(long, visible_alias = "pull", value_name = "POLICY")]
    pub image_pull_policy: Option<String>,
    /// Always, OnFailure or Never
    #[arg(long, value_name = "POLICY", default_value = "Never")]
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
        let volumes = Volumes::read(&self.mounted, self.plain.namespace.as_deref())?;
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
        self.mounted.host_places()
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
        ("metadata.annotations[beluga/network]", "--network"),
        ("metadata.annotations", "--annotation"),
        ("metadata.labels", "--labels"),
        ("spec.restartPolicy", "--restart"),
        ("spec.hostname", "--hostname"),
        ("spec.hostAliases", "--add-host"),
        ("spec.dnsConfig.nameservers", "--dns"),
        ("spec.dnsConfig.searches", "--dns-search"),
        ("spec.securityContext.sysctls", "--sysctl"),
        ("spec.securityContext.supplementalGroups", "--group-add"),
        ("spec.terminationGracePeriodSeconds", "--stop-timeout"),
        ("lifecycle.stopSignal", "--stop-signal"),
        ("securityContext.runAs", "--user"),
        ("securityContext.capabilities.add", "--cap-add"),
        ("securityContext.capabilities.drop", "--cap-drop"),
        ("securityContext.privileged", "--privileged"),
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
    let plain = &one.plain;
    let mut metadata = metadata(word, plain)?;
    let mut spec = json!({"restartPolicy": restart_policy(&plain.restart)?});
    if !volumes.volumes.is_empty() {
        spec["volumes"] = json!(volumes.volumes);
    }
    let mut container = container(word, plain)?;
    if !volumes.mounts.is_empty() {
        container["volumeMounts"] = json!(volumes.mounts);
    }
    one.surroundings.write(&mut metadata, &mut spec)?;
    one.process
        .write((&mut spec, &mut container), (command, plain.is_command))?;
    spec["containers"] = json!([container]);
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": spec,
    }))
}

/// The policy of a word of Kubernetes or of docker.
fn restart_policy(word: &str) -> Result<&str, UsageError> {
    Ok(match word {
        "no" => "Never",
        "on-failure" => "OnFailure",
        // With docker the one is for those that somebody has stopped; no daemon starts them here.
        "always" | "unless-stopped" => "Always",
        word if word.starts_with("on-failure:") => {
            let why = "a pod's containers are restarted without end; a Job has a backoffLimit";
            return Err(UsageError::flag("--restart", word, why));
        }
        word => word,
    })
}

/// The same of `--pull`.
fn pull_policy(word: &str) -> &str {
    match word {
        "always" | "newer" => "Always",
        "missing" => "IfNotPresent",
        "never" => "Never",
        word => word,
    }
}

fn metadata(word: &str, one: &Plain) -> Result<Value, CliError> {
    let mut metadata = match (&one.of_image, &one.name) {
        (Some(_), _) => json!({"name": word}),
        (None, Some(name)) => json!({"name": name}),
        (None, None) => json!({"generateName": format!("{}-", container_name(word))}),
    };
    let mut labels = surroundings::labels(&one.labels)?;
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

fn container(word: &str, one: &Plain) -> Result<Value, CliError> {
    let mut container = match &one.of_image {
        Some(image) => json!({"name": word, "image": image}),
        None => json!({"name": container_name(word), "image": word}),
    };
    for (key, set) in [
        ("stdin", one.stdin),
        ("stdinOnce", one.stdin),
        ("tty", one.tty),
    ] {
        if set {
            container[key] = json!(true);
        }
    }
    if let Some(policy) = &one.image_pull_policy {
        container["imagePullPolicy"] = json!(pull_policy(policy));
    }
    if let Some(workdir) = &one.workdir {
        container["workingDir"] = json!(workdir);
    }
    let env = env::objects(&one.env, &one.env_file)?;
    if !env.is_empty() {
        container["env"] = json!(env);
    }
    for (key, amount) in [("cpu", &one.cpus), ("memory", &one.memory)] {
        if let Some(amount) = amount {
            container["resources"]["limits"][key] = json!(amount);
        }
    }
    let mut ports = publish::ports(&one.publish)?;
    if let Some(port) = one.port
        && ports.iter().all(|there| there["containerPort"] != port)
    {
        ports.push(json!({"containerPort": port}));
    }
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
