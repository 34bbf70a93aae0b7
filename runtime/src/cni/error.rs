//! Why a network of CNI is not a pod's, in the plugins' own words where they have any.

use crate::host::carry::CarryError;
use crate::path_error::PathError;
use std::path::PathBuf;

/// Why a network of CNI is not a pod's.
#[derive(Debug, thiserror::Error)]
pub enum CniError {
    /// A file.
    #[error(transparent)]
    Path(#[from] PathError),
    /// No configuration has that name.
    #[error(
        "there is no CNI network{named} in {directory}{others}",
        named = if .name.is_empty() { String::new() } else { format!(" {:?}", .name) },
        directory = .directory.display(),
        others = if .seen.is_empty() { String::new() } else { format!(", only {}", .seen.join(", ")) }
    )]
    NoNetwork {
        /// As it was asked for.
        name: String,
        /// Where it was looked for.
        directory: PathBuf,
        /// Those that are there.
        seen: Vec<String>,
    },
    /// A configuration is of no use.
    #[error("{path} is no CNI configuration that can be used: {why}", path = .source_path.display())]
    Config {
        /// The file.
        source_path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A plugin is not there.
    #[error(
        "the CNI plugin {plugin} of the network {network} is not in {looked}",
        looked = .looked.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    NoPlugin {
        /// Its type.
        plugin: String,
        /// The network.
        network: String,
        /// Where it was looked for.
        looked: Vec<PathBuf>,
    },
    /// A plugin cannot be run, or does not end.
    #[error("cannot run the CNI plugin {plugin}", plugin = .plugin.display())]
    Run {
        /// The program.
        plugin: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A plugin has failed.
    #[error(
        "the CNI plugin {plugin} of the network {network} has failed at {verb}: {message} (code {code})"
    )]
    Plugin {
        /// Its type.
        plugin: String,
        /// The network.
        network: String,
        /// What it was asked for.
        verb: &'static str,
        /// What it says.
        message: String,
        /// CNI's or its own.
        code: u64,
    },
    /// Nobody there can publish ports.
    #[error(
        "the CNI network {network} publishes no ports: none of its plugins has the capability portMappings"
    )]
    NoPorts {
        /// The first network.
        network: String,
    },
    /// What the plugins have made.
    #[error("the cards that CNI has made cannot be used")]
    Carry(#[from] CarryError),
}
