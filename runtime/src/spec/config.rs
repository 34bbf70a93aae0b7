//! What a pod takes from ConfigMaps, Secrets, claims and itself: variables and
//! volumes.

use super::claim::ClaimSpec;
use super::issue::Position;
use super::object::ObjectKind;
use super::types::PullPolicy;
use serde::{Deserialize, Serialize};

/// The value of an environment variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EnvValue {
    /// As it is written; `$(VAR)` not expanded yet.
    Text(String),
    /// From elsewhere; nothing in it is expanded.
    From(ValueSource),
}

/// Where the value of a variable comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueSource {
    /// A field of the pod.
    Field(Field),
    /// Requests and limits of a container.
    Resource(ResourceField),
    /// A key of an object.
    Key(KeyRef),
    /// A variable of a file in one of the pod's volumes.
    File(FileKeyRef),
}

/// A variable that a file in an emptyDir has when the container starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileKeyRef {
    /// The volume.
    pub volume: String,
    /// The file, relative to the volume's root.
    pub path: String,
    /// The variable's name in the file.
    pub key: String,
    /// Whether file or variable may be missing: there is no variable then.
    pub optional: bool,
}

/// A key of an object of the pod's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRef {
    /// ConfigMap or Secret.
    pub kind: ObjectKind,
    /// Its name.
    pub name: String,
    /// The key.
    pub key: String,
    /// Whether object or key may be missing: there is no variable then.
    pub optional: bool,
}

/// All keys of an object as variables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvFrom {
    /// ConfigMap or Secret.
    pub kind: ObjectKind,
    /// Its name.
    pub name: String,
    /// Put before each key.
    pub prefix: String,
    /// Whether the object may be missing.
    pub optional: bool,
}

/// A field of the pod that its containers may be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// `metadata.name`
    Name,
    /// `metadata.namespace`
    Namespace,
    /// `metadata.uid`
    Uid,
    /// `metadata.labels`: a line for each; for files only.
    Labels,
    /// `metadata.annotations`: a line for each; for files only.
    Annotations,
    /// `metadata.labels['…']`
    Label(String),
    /// `metadata.annotations['…']`
    Annotation(String),
    /// `spec.nodeName`; for variables only, as all that follow.
    NodeName,
    /// `spec.serviceAccountName`
    ServiceAccount,
    /// `status.podIP`
    PodIp,
    /// `status.podIPs`
    PodIps,
    /// `status.hostIP`
    HostIp,
    /// `status.hostIPs`
    HostIps,
}

/// A request or limit of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceField {
    /// Whose.
    pub container: String,
    /// The limit; otherwise the request.
    pub is_limit: bool,
    /// Of what.
    pub resource: Resource,
    /// The unit to tell it in: thousandths of a CPU, or bytes. Not 0.
    pub divisor: u64,
}

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Thousandths of a CPU.
    Cpu,
    /// Bytes.
    Memory,
    /// Bytes.
    EphemeralStorage,
}

/// A volume of the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Unique in the pod.
    pub name: String,
    /// What it is made of.
    pub source: VolumeSource,
}

/// What a volume is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeSource {
    /// Empty at the pod's start, gone at its end.
    EmptyDir {
        /// On the scratch disk or in memory.
        medium: Medium,
        /// Bytes.
        size_limit: Option<u64>,
    },
    /// Files from objects and from the pod itself, for containers to read.
    Files {
        /// In order; a later one wins.
        sources: Vec<FileSource>,
        /// Permission bits of files that have none of their own.
        mode: u32,
    },
    /// A disk or directory that outlives the pod.
    Claim {
        /// The claim's name.
        name: String,
        /// For containers to read only.
        read_only: bool,
    },
    /// A disk of the pod's own, gone with it.
    Ephemeral {
        /// As a claim would ask for it.
        claim: ClaimSpec,
    },
    /// A directory or file of the host.
    HostPath {
        /// Absolute, without `.`, `..` and doubled slashes.
        path: String,
        /// What has to be there.
        kind: HostPathKind,
    },
    /// The files of an image, for containers to read.
    Image {
        /// As the manifest writes it.
        image: String,
        /// When to fetch it.
        pull_policy: PullPolicy,
    },
}

/// What a hostPath has to be, as the kubelet checks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostPathKind {
    /// Anything; a directory is made where there is nothing.
    Any,
    /// A directory, made where there is nothing.
    DirectoryOrCreate,
    /// A directory.
    Directory,
    /// A file, made where there is nothing.
    FileOrCreate,
    /// A file.
    File,
}

impl HostPathKind {
    /// The type as manifests write it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::DirectoryOrCreate => "DirectoryOrCreate",
            Self::Directory => "Directory",
            Self::FileOrCreate => "FileOrCreate",
            Self::File => "File",
        }
    }
}

/// Where an emptyDir lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Medium {
    /// The scratch disk.
    Disk,
    /// tmpfs.
    Memory,
}

impl VolumeSource {
    /// The objects that the volume is made of.
    pub fn objects(&self) -> impl Iterator<Item = (ObjectKind, &str)> {
        let sources = match self {
            Self::Files { sources, .. } => sources.as_slice(),
            Self::EmptyDir { .. }
            | Self::Claim { .. }
            | Self::Ephemeral { .. }
            | Self::HostPath { .. }
            | Self::Image { .. } => &[],
        };
        let claim = match self {
            Self::Claim { name, .. } => Some((ObjectKind::Claim, name.as_str())),
            Self::Files { .. }
            | Self::EmptyDir { .. }
            | Self::Ephemeral { .. }
            | Self::HostPath { .. }
            | Self::Image { .. } => None,
        };
        let files = sources.iter().filter_map(|source| match source {
            FileSource::Object { kind, name, .. } => Some((*kind, name.as_str())),
            FileSource::Downward { .. } => None,
        });
        files.chain(claim)
    }
}

/// What a volume of files is filled with; a later source wins over an earlier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileSource {
    /// Keys of an object.
    Object {
        /// ConfigMap or Secret.
        kind: ObjectKind,
        /// Its name.
        name: String,
        /// Which keys, and where; all of them under their own names when none.
        items: Vec<KeyPath>,
        /// Whether object or keys may be missing.
        optional: bool,
    },
    /// Fields of the pod.
    Downward {
        /// Which, and where.
        items: Vec<DownwardPath>,
    },
}

/// A key and its place in the volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPath {
    /// The key.
    pub key: String,
    /// Relative path.
    pub path: String,
    /// Permission bits instead of the volume's.
    pub mode: Option<u32>,
}

/// A field of the pod and its place in the volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownwardPath {
    /// Relative path.
    pub path: String,
    /// Permission bits instead of the volume's.
    pub mode: Option<u32>,
    /// What.
    pub value: DownwardValue,
}

/// What a pod may be told of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DownwardValue {
    /// A field.
    Field(Field),
    /// A request or limit.
    Resource(ResourceField),
}

/// A place of a manifest that needs an object to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// ConfigMap or Secret.
    pub kind: ObjectKind,
    /// Its name.
    pub name: String,
    /// A key that it must have.
    pub key: Option<String>,
    /// Whether the key is to be a file, not a variable.
    pub is_file: bool,
    /// Field path of the name or the key.
    pub path: String,
    /// Where that is in the text.
    pub at: Position,
}

impl Reference {
    /// What is missing, in the words of a kubelet; `None` when nothing is.
    #[must_use]
    pub fn missing(&self, namespace: &str, object: Option<&super::ConfigObject>) -> Option<String> {
        let Some(object) = object else {
            return Some(format!("{} {:?} not found", self.kind, self.name));
        };
        let key = self.key.as_deref()?;
        let kind = self.kind;
        if self.is_file {
            let gone = object.value(key).is_none();
            gone.then(|| match kind {
                ObjectKind::Claim | ObjectKind::Policy => String::new(),
                ObjectKind::ConfigMap => {
                    format!("configmap references non-existent config key: {key}")
                }
                ObjectKind::Secret => format!("references non-existent secret key: {key}"),
            })
        } else {
            let gone = object.variable(key).is_none();
            let (kind, name) = (kind.kind(), &self.name);
            gone.then(|| format!("couldn't find key {key} in {kind} {namespace}/{name}"))
        }
    }
}
