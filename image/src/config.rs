//! What an image says about running it.

use std::collections::BTreeMap;

use oci_spec::image::ImageConfiguration;

use crate::digest::{Digest, DigestError};
use crate::platform::Platform;

/// The defaults that an image gives to its containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageConfig {
    /// The program and its first arguments; replaced by a container's `command`.
    pub entrypoint: Vec<String>,
    /// Further arguments; replaced by a container's `args`.
    pub cmd: Vec<String>,
    /// `NAME=value`, in the image's order.
    pub env: Vec<String>,
    /// Absolute path; `None` when the image gives none.
    pub workdir: Option<String>,
    /// `user`, `uid`, `user:group`, `uid:gid` and so on; `None` when the image gives none.
    pub user: Option<String>,
    /// As the image writes it: `SIGQUIT`, `QUIT`, `3`, `SIGRTMIN+3`.
    pub stop_signal: Option<String>,
    /// Directories that expect a volume, sorted.
    pub volumes: Vec<String>,
    /// `80/tcp`, `53/udp` or `8080`, sorted.
    pub exposed_ports: Vec<String>,
    /// The image's labels.
    pub labels: BTreeMap<String, String>,
    /// What the image was built for.
    pub platform: Platform,
    /// When it was built, in RFC 3339, as the image says.
    pub created: Option<String>,
}

/// Why an image configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not the JSON of an image configuration.
    #[error("image configuration {digest} is malformed")]
    Json {
        /// The configuration blob.
        digest: Digest,
        /// Where it goes wrong.
        #[source]
        source: serde_json::Error,
    },
    /// One of its diffIDs is no SHA-256 digest.
    #[error("image configuration {digest} lists a layer without a proper digest")]
    DiffId {
        /// The configuration blob.
        digest: Digest,
        /// What is wrong with it.
        #[source]
        source: DigestError,
    },
}

impl ImageConfig {
    /// Reads a configuration blob; the second value is the diffID of each layer, lowest first.
    pub(crate) fn parse(digest: Digest, blob: &[u8]) -> Result<(Self, Vec<Digest>), ConfigError> {
        let parsed: ImageConfiguration =
            serde_json::from_slice(blob).map_err(|source| ConfigError::Json { digest, source })?;
        let diff_ids = parsed
            .rootfs()
            .diff_ids()
            .iter()
            .map(|id| id.parse())
            .collect::<Result<_, _>>();
        let diff_ids = diff_ids.map_err(|source| ConfigError::DiffId { digest, source })?;
        let text = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        let list = |value: &Option<Vec<String>>| value.clone().unwrap_or_default();
        let sorted = |value: &Option<Vec<String>>| {
            let mut value = list(value);
            value.sort();
            value
        };
        let run = parsed.config().clone().unwrap_or_default();
        let config = ImageConfig {
            entrypoint: list(run.entrypoint()),
            cmd: list(run.cmd()),
            env: list(run.env()),
            workdir: text(run.working_dir()),
            user: text(run.user()),
            stop_signal: text(run.stop_signal()),
            volumes: sorted(run.volumes()),
            exposed_ports: sorted(run.exposed_ports()),
            labels: run
                .labels()
                .iter()
                .flatten()
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect(),
            platform: Platform {
                os: parsed.os().to_string(),
                architecture: parsed.architecture().to_string(),
                variant: text(parsed.variant()),
            },
            created: text(parsed.created()),
        };
        Ok((config, diff_ids))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_docker_writes() {
        let blob = br#"{"architecture":"amd64","os":"linux","config":{"Env":["A=b"],"Cmd":["sh"],
            "Entrypoint":null,"Volumes":{"/b":{},"/a":{}},"ExposedPorts":{"80/tcp":{}},"User":"",
            "WorkingDir":"/w","Labels":null,"StopSignal":"SIGQUIT","OnBuild":null,"Hostname":"x"},
            "rootfs":{"type":"layers","diff_ids":[]},"history":null,"docker_version":"25"}"#;
        let (config, diff_ids) = ImageConfig::parse(Digest::of(blob), blob).unwrap();
        assert_eq!(config.cmd, ["sh"]);
        assert!(config.entrypoint.is_empty() && diff_ids.is_empty());
        assert_eq!((config.user, config.workdir.as_deref()), (None, Some("/w")));
        assert_eq!(config.volumes, ["/a", "/b"]);
        assert!(config.platform.runs_on(&Platform {
            variant: None,
            ..config.platform.clone()
        }));
        assert_eq!(config.platform.to_string(), "linux/amd64");
    }

    #[test]
    fn refuses_a_bad_diff_id() {
        let blob = br#"{"architecture":"amd64","os":"linux",
            "rootfs":{"type":"layers","diff_ids":["sha256:../x"]}}"#;
        let error = ImageConfig::parse(Digest::of(blob), blob).unwrap_err();
        assert!(matches!(error, ConfigError::DiffId { .. }), "{error}");
    }
}
