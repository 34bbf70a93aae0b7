//! What a pod from an image mounts. `--volume` is as podman has it: a named volume outlives the
//! pod and is a claim, one without a name lives as long as the pod, and a path is the host's.

use super::mount;
use crate::cli::error::UsageError;
use crate::cli::{CliError, manifest, yaml};
use crate::spec::{self, ConfigObject, ManifestError};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Size of the disk that a named volume is; a file with holes, which takes what is in it.
const SIZE: &str = "10Gi";

/// The flags.
#[derive(Debug, clap::Args)]
#[group(id = "mounted", conflicts_with = "files", multiple = true)]
pub struct Mounted {
    /// A volume that outlives the pod (`NAME:PATH`, a claim), one that does not (`PATH`), or a directory or file of the host (`/DIR:PATH`)
    #[arg(short, long, value_name = "[NAME:|/DIR:]PATH[:ro]")]
    volume: Vec<String>,
    /// The same in the words of docker: type=bind|volume|tmpfs|image,source=…,target=PATH, and readonly
    #[arg(long, value_name = "KEY=VALUE,…")]
    mount: Vec<String>,
    /// A file system in memory
    #[arg(long, value_name = "PATH[:size=SIZE]")]
    tmpfs: Vec<String>,
}

impl Mounted {
    /// What each of them says.
    fn read(&self) -> Result<Vec<Mount>, CliError> {
        let volumes = self.volume.iter().map(|text| parse(text));
        let mounts = self.mount.iter().map(|text| mount::mount(text));
        let tmpfs = self.tmpfs.iter().map(|text| mount::tmpfs(text));
        volumes.chain(mounts).chain(tmpfs).collect()
    }

    /// The places on the host that they name.
    pub fn host_places(&self) -> Vec<PathBuf> {
        // What is wrong with one of them is told where the pod is made.
        let mounts = self.read().unwrap_or_default().into_iter();
        let places = mounts.filter_map(|mount| match mount.place {
            Place::Host(place) => Some(place),
            _ => None,
        });
        places.collect()
    }
}

/// What one flag says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub place: Place,
    /// Where.
    pub path: String,
    /// Not to be written to.
    pub read_only: bool,
}

/// What can be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A claim of this name.
    Named(String),
    /// As long as the pod lives.
    Nameless,
    /// Of the host, as it is seen from here.
    Host(PathBuf),
    /// Memory of the pod's machine; with the most bytes of it.
    Memory(Option<u64>),
    /// What an image of this name has in it.
    Image(String),
}

impl Place {
    /// A volume of the pod for the flag at this place, with its name.
    fn volume(&self, at: usize) -> (String, Value) {
        let (name, kind, source) = match self {
            Self::Host(place) => (
                format!("host-{at}"),
                "hostPath",
                json!({"path": place, "type": ""}),
            ),
            Self::Nameless => (format!("volume-{at}"), "emptyDir", json!({})),
            Self::Named(name) => (
                name.clone(),
                "persistentVolumeClaim",
                json!({"claimName": name}),
            ),
            Self::Memory(size) => {
                let mut source = json!({"medium": "Memory"});
                if let Some(size) = size {
                    source["sizeLimit"] = json!(spec::Bytes(*size).to_string());
                }
                (format!("tmpfs-{at}"), "emptyDir", source)
            }
            Self::Image(image) => (format!("image-{at}"), "image", json!({"reference": image})),
        };
        let mut volume = json!({"name": name});
        volume[kind] = source;
        (name, volume)
    }
}

/// Volumes of a pod, its container's mounts, and the claims that they need.
#[derive(Debug, Default)]
pub struct Volumes {
    /// For `spec.volumes`.
    pub volumes: Vec<Value>,
    /// For the container's `volumeMounts`.
    pub mounts: Vec<Value>,
    /// Objects of their own.
    pub claims: Vec<Value>,
}

impl Volumes {
    /// Of these flags.
    pub fn read(flags: &Mounted, namespace: Option<&str>) -> Result<Self, CliError> {
        let mut all = Self::default();
        for (at, mount) in flags.read()?.into_iter().enumerate() {
            let (name, volume) = mount.place.volume(at);
            if !all.volumes.contains(&volume) {
                if matches!(mount.place, Place::Named(_)) {
                    all.claims.push(claim(&name, namespace));
                }
                all.volumes.push(volume);
            }
            let mut value = json!({"name": name, "mountPath": mount.path});
            if mount.read_only {
                value["readOnly"] = json!(true);
            }
            all.mounts.push(value);
        }
        Ok(all)
    }

    /// Its claims, checked.
    pub fn objects(&self) -> Result<Vec<ConfigObject>, CliError> {
        let mut found = Vec::new();
        for claim in &self.claims {
            let read = spec::read(manifest::COMMAND_LINE, &yaml(claim)?);
            let read = read.map_err(|error| wrong_name(claim, &error))?;
            found.extend(read.objects);
        }
        Ok(found)
    }
}

/// What a name of a volume is wrong with, of the flag and not of a manifest.
fn wrong_name(claim: &Value, error: &ManifestError) -> CliError {
    let name = claim["metadata"]["name"].as_str().unwrap_or_default();
    let why = error.issues.iter().map(|issue| issue.message.clone());
    let why: Vec<String> = why.collect();
    flag(name, why.join("; "))
}

fn claim(name: &str, namespace: Option<&str>) -> Value {
    let mut metadata = json!({"name": name});
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata,
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": SIZE}},
        },
    })
}

fn flag(text: &str, why: impl Into<String>) -> CliError {
    UsageError::flag("--volume", text, why).into()
}

/// Reads `NAME:PATH`, `/DIR:PATH` or `PATH`, each with `:ro` or `:rw` behind it.
fn parse(text: &str) -> Result<Mount, CliError> {
    let (rest, read_only) = match text.rsplit_once(':') {
        Some((rest, "ro")) => (rest, true),
        Some((rest, "rw")) => (rest, false),
        _ => (text, false),
    };
    let wrong = |why| flag(text, why);
    let (place, path) = match rest.split_once(':') {
        None if rest.starts_with('/') => (Place::Nameless, rest),
        Some((place, path)) if !place.is_empty() && !path.contains(':') => {
            (host(place).map_err(wrong)?, path)
        }
        _ => {
            let why = "it is written NAME:PATH, /DIR:PATH or PATH, with :ro for read-only";
            return Err(flag(text, why));
        }
    };
    let path = absolute(path).map_err(wrong)?;
    Ok(Mount {
        place,
        path,
        read_only,
    })
}

/// A place in the container.
pub fn absolute(path: &str) -> Result<String, String> {
    if path.starts_with('/') {
        Ok(path.to_owned())
    } else {
        Err(format!("{path:?} is no absolute path in the container"))
    }
}

/// The place on the host that a word names: anything with a slash in it, as it is seen from
/// here. What is not there is told now, and not by a machine that has been booted for it.
pub fn host(word: &str) -> Result<Place, String> {
    if !word.contains('/') && !word.starts_with('.') {
        return Ok(Place::Named(word.to_owned()));
    }
    // Links and `..` mean what they mean here and now.
    std::fs::canonicalize(word)
        .map(Place::Host)
        .map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => {
                format!("{word}: no such file or directory on this host")
            }
            _ => format!("{word}: {source}"),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_named_nameless_or_the_hosts() {
        for (text, place, path, read_only) in [
            ("data:/d", Place::Named("data".into()), "/d", false),
            ("data:/d:ro", Place::Named("data".into()), "/d", true),
            ("/d", Place::Nameless, "/d", false),
            ("/d:ro", Place::Nameless, "/d", true),
            ("/usr/./:/d:rw", Place::Host("/usr".into()), "/d", false),
        ] {
            let path = path.to_owned();
            let meant = Mount {
                place,
                path,
                read_only,
            };
            assert_eq!(parse(text).unwrap(), meant, "{text}");
        }
    }

    #[test]
    fn what_is_no_place_is_told_with_the_flag() {
        for (text, why) in [
            ("data", "it is written NAME:PATH"),
            (":/d", "it is written NAME:PATH"),
            ("a:b:c", "it is written NAME:PATH"),
            ("data:d", "\"d\" is no absolute path in the container"),
            (
                "/none/x:/d",
                "/none/x: no such file or directory on this host",
            ),
            (
                "./none:/d",
                "./none: no such file or directory on this host",
            ),
        ] {
            let error = parse(text).unwrap_err().to_string();
            let said = format!("--volume {text:?}: {why}");
            assert!(error.starts_with(&said), "{error}");
        }
    }

    #[test]
    fn a_named_volume_is_one_claim_however_often_it_is_mounted() {
        let flags = |texts: &[&str]| Mounted {
            volume: texts.iter().map(ToString::to_string).collect(),
            mount: Vec::new(),
            tmpfs: Vec::new(),
        };
        let texts = flags(&["data:/a", "data:/b:ro", "/c"]);
        let volumes = Volumes::read(&texts, Some("team")).unwrap();
        assert_eq!(volumes.claims.len(), 1);
        assert_eq!(volumes.volumes.len(), 2);
        assert_eq!(volumes.mounts.len(), 3);
        let objects = volumes.objects().unwrap();
        assert_eq!(
            (&*objects[0].namespace, &*objects[0].name),
            ("team", "data")
        );
        let wrong = Volumes::read(&flags(&["My_data:/a"]), None).unwrap();
        let error = wrong.objects().unwrap_err().to_string();
        assert!(error.starts_with("--volume \"My_data\": "), "{error}");
    }
}
