//! The configuration: a TOML file in which everything may be left out.

use beluga_runtime::spec::{DEFAULT_NETWORK, NO_NETWORK, is_network_name};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Where it is looked for when nobody says.
const PLACE: &str = "/etc/beluga/cri.toml";

/// The first network that is configured for CNI.
const CNI: &str = "cni";

/// What `beluga-cri config default` prints; the defaults are read from it.
pub const DEFAULT: &str = include_str!("default.toml");

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {path}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// It does not say what it may say.
    #[error("the configuration {path} cannot be used", path = .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where, and what is wrong.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A value that cannot be meant.
    #[error("the configuration {path} cannot be used: {key}: {why}", path = .path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What is wrong with its value.
        why: String,
    },
}

/// Which names the kubelet gives cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupDriver {
    /// Paths.
    Cgroupfs,
    /// Slices.
    Systemd,
}

/// The configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where kubelets and crictl connect.
    pub socket: PathBuf,
    /// Images, records.
    pub root: PathBuf,
    /// Sockets of pods.
    pub state: PathBuf,
    /// The network of the pods.
    pub network: String,
    /// How cgroups are named: `cgroupfs` or `systemd`.
    pub cgroup_driver: CgroupDriver,
    /// Names under which RuntimeClasses may ask for this runtime.
    pub handlers: Vec<String>,
    /// MiB for the containers of a sandbox of whose memory nothing is said.
    pub memory_mib: u32,
}

/// A file, before defaults.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    socket: Option<PathBuf>,
    root: Option<PathBuf>,
    state: Option<PathBuf>,
    network: Option<String>,
    cgroup_driver: Option<CgroupDriver>,
    handlers: Option<Vec<String>>,
    memory_mib: Option<u32>,
}

impl Config {
    /// The configuration in that file, or in the usual one where it is there.
    pub fn read(path: Option<&Path>) -> Result<Self, ConfigError> {
        let place = path.unwrap_or(Path::new(PLACE));
        let given = match std::fs::read_to_string(place) {
            Ok(text) => parse::<Given>(place, &text)?,
            Err(error) if path.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                Given::default()
            }
            Err(source) => {
                let path = place.to_owned();
                return Err(ConfigError::Read { path, source });
            }
        };
        let Self {
            socket,
            root,
            state,
            network,
            cgroup_driver,
            handlers,
            memory_mib,
        } = parse::<Self>(Path::new("(default)"), DEFAULT)?;
        let config = Self {
            socket: given.socket.map_or(socket, plain),
            root: given.root.unwrap_or(root),
            state: given.state.unwrap_or(state),
            network: given.network.unwrap_or(network),
            cgroup_driver: given.cgroup_driver.unwrap_or(cgroup_driver),
            handlers: given.handlers.unwrap_or(handlers),
            memory_mib: given.memory_mib.unwrap_or(memory_mib),
        };
        config.check().map_err(|(key, why)| ConfigError::Value {
            path: place.to_owned(),
            key,
            why,
        })?;
        Ok(config)
    }

    /// Which key has a value that cannot be meant, and why not.
    fn check(&self) -> Result<(), (&'static str, String)> {
        let paths = [
            ("socket", &self.socket),
            ("root", &self.root),
            ("state", &self.state),
        ];
        if let Some((key, path)) = paths.into_iter().find(|(_, path)| !path.is_absolute()) {
            return Err((key, format!("{path:?} is no absolute path")));
        }
        let network = self.network.as_str();
        let of_cni = network == CNI
            || network
                .strip_prefix("cni:")
                .is_some_and(|one| !one.is_empty());
        let own = [DEFAULT_NETWORK, NO_NETWORK].contains(&network) || is_network_name(network);
        if !of_cni && !own {
            let why =
                format!("{network:?} is neither a network's name nor \"cni\" or \"cni:NAME\"");
            return Err(("network", why));
        }
        if self.handlers.iter().any(String::is_empty) {
            let why = "a name is empty; no name always works".to_owned();
            return Err(("handlers", why));
        }
        if self.memory_mib == 0 {
            return Err(("memory_mib", "0 MiB are no machine".to_owned()));
        }
        Ok(())
    }
}

/// The path of a socket, which kubelets and crictl write as an address.
fn plain(socket: PathBuf) -> PathBuf {
    let text = socket.to_str();
    let path = text.and_then(|text| text.strip_prefix("unix://"));
    path.map_or_else(|| socket.clone(), PathBuf::from)
}

fn parse<T: for<'d> Deserialize<'d>>(path: &Path, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|source| ConfigError::Malformed {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_what_is_printed() {
        let config: Config = parse(Path::new("d"), DEFAULT).unwrap();
        assert_eq!(config.socket, Path::new("/run/beluga/cri.sock"));
        assert_eq!(config.handlers, ["beluga"]);
    }

    fn read(text: &str) -> Result<Config, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let name = file.path().display().to_string();
        let read = Config::read(Some(file.path()));
        read.map_err(|error| beluga_runtime::error_chain(&error).replace(&name, "FILE"))
    }

    #[test]
    fn a_socket_may_be_written_as_an_address() {
        let socket = "socket = \"unix:///run/beluga/a.sock\"";
        assert_eq!(
            read(socket).unwrap().socket,
            Path::new("/run/beluga/a.sock")
        );
    }

    #[test]
    fn values_that_cannot_be_meant_are_told_with_key_and_file() {
        for (text, key) in [
            ("memory_mib = 0", "memory_mib"),
            ("network = \"cni:\"", "network"),
            ("network = \"Some Net\"", "network"),
            ("network = \"\"", "network"),
            ("handlers = [\"\"]", "handlers"),
            ("socket = \"unix://a.sock\"", "socket"),
            ("root = \"here\"", "root"),
        ] {
            let error = read(text).unwrap_err();
            let begin = format!("the configuration FILE cannot be used: {key}: ");
            assert!(error.starts_with(&begin), "{error}");
        }
        for good in [
            "network = \"cni\"",
            "network = \"cni:a\"",
            "network = \"blue\"",
        ] {
            assert!(read(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn what_is_unknown_is_told_with_its_line() {
        let error = parse::<Given>(Path::new("c.toml"), "root = \"/a\"\nrot = 1\n").unwrap_err();
        let text = beluga_runtime::error_chain(&error);
        assert!(text.contains("c.toml") && text.contains("rot"), "{text}");
        assert!(text.contains("line 2"), "{text}");
    }
}
