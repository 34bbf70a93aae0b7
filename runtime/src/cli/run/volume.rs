//! `--volume` of a pod from an image, as podman has it: a named volume outlives the pod and is
//! a claim, one without a name lives as long as the pod, and a path is the host's.

use crate::cli::error::UsageError;
use crate::cli::{CliError, manifest, yaml};
use crate::spec::{self, ConfigObject, ManifestError};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Size of the disk that a named volume is; a file with holes, which takes what is in it.
const SIZE: &str = "10Gi";

/// What `--volume` says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// A claim of this name.
    Named(String),
    /// As long as the pod lives.
    Nameless,
    /// Of the host, as it is seen from here.
    Host(PathBuf),
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
    pub fn read(texts: &[String], namespace: Option<&str>) -> Result<Self, CliError> {
        let mut all = Self::default();
        for (at, text) in texts.iter().enumerate() {
            let (place, path, read_only) = parse(text)?;
            let (name, volume) = match place {
                Place::Host(place) => {
                    let name = format!("host-{at}");
                    let source = json!({"path": place, "type": ""});
                    (name.clone(), json!({"name": name, "hostPath": source}))
                }
                Place::Nameless => {
                    let name = format!("volume-{at}");
                    (name.clone(), json!({"name": name, "emptyDir": {}}))
                }
                Place::Named(name) => {
                    let source = json!({"claimName": name});
                    let volume = json!({"name": name, "persistentVolumeClaim": source});
                    (name, volume)
                }
            };
            if !all.volumes.contains(&volume) {
                if volume.get("persistentVolumeClaim").is_some() {
                    all.claims.push(claim(&name, namespace));
                }
                all.volumes.push(volume);
            }
            let mut mount = json!({"name": name, "mountPath": path});
            if read_only {
                mount["readOnly"] = json!(true);
            }
            all.mounts.push(mount);
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
fn parse(text: &str) -> Result<(Place, &str, bool), CliError> {
    let (rest, read_only) = match text.rsplit_once(':') {
        Some((rest, "ro")) => (rest, true),
        Some((rest, "rw")) => (rest, false),
        _ => (text, false),
    };
    let (place, path) = match rest.split_once(':') {
        None if rest.starts_with('/') => (Place::Nameless, rest),
        Some((place, path)) if !place.is_empty() && !path.contains(':') => {
            (host(text, place)?, path)
        }
        _ => {
            let why = "it is written NAME:PATH, /DIR:PATH or PATH, with :ro for read-only";
            return Err(flag(text, why));
        }
    };
    if !path.starts_with('/') {
        let why = format!("{path:?} is no absolute path in the container");
        return Err(flag(text, why));
    }
    Ok((place, path, read_only))
}

/// The place on the host that a word names: anything with a slash in it, as it is seen from
/// here. What is not there is told now, and not by a machine that has been booted for it.
fn host(text: &str, word: &str) -> Result<Place, CliError> {
    if !word.contains('/') && !word.starts_with('.') {
        return Ok(Place::Named(word.to_owned()));
    }
    // Links and `..` mean what they mean here and now.
    std::fs::canonicalize(word)
        .map(Place::Host)
        .map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => flag(
                text,
                format!("{word}: no such file or directory on this host"),
            ),
            _ => flag(text, format!("{word}: {source}")),
        })
}

/// The places on the host that these flags name.
pub fn host_places(texts: &[String]) -> Vec<PathBuf> {
    let places = texts.iter().filter_map(|text| match parse(text) {
        Ok((Place::Host(place), ..)) => Some(place),
        _ => None,
    });
    places.collect()
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
            assert_eq!(parse(text).unwrap(), (place, path, read_only), "{text}");
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
        let texts = [
            "data:/a".to_owned(),
            "data:/b:ro".to_owned(),
            "/c".to_owned(),
        ];
        let volumes = Volumes::read(&texts, Some("team")).unwrap();
        assert_eq!(volumes.claims.len(), 1);
        assert_eq!(volumes.volumes.len(), 2);
        assert_eq!(volumes.mounts.len(), 3);
        let objects = volumes.objects().unwrap();
        assert_eq!(
            (&*objects[0].namespace, &*objects[0].name),
            ("team", "data")
        );
        let wrong = Volumes::read(&["My_data:/a".to_owned()], None).unwrap();
        let error = wrong.objects().unwrap_err().to_string();
        assert!(error.starts_with("--volume \"My_data\": "), "{error}");
    }
}
