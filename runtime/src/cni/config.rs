//! Network configurations as CNI has them: `*.conflist`, and `*.conf` or `*.json`
//! of a single plugin.

use super::CniError;
use crate::path_error::PathError;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Versions of the specification whose results are alike.
const VERSIONS: [&str; 4] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0"];

/// Those of them that know CHECK, and DEL with a result.
const WITH_CHECK: [&str; 2] = ["0.4.0", "1.0.0"];

/// A network: its plugins, one after another.
#[derive(Debug, Clone)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Version of the specification.
    pub version: String,
    /// CHECK is not to be asked for.
    pub no_check: bool,
    /// The plugins' own configurations.
    pub plugins: Vec<Map<String, Value>>,
    /// The whole, as it was read.
    pub source: Value,
}

impl Network {
    /// The network of that name among the files of a directory; that of the first
    /// file when the name is empty, as the kubelet takes it.
    pub fn find(directory: &Path, name: &str) -> Result<Self, CniError> {
        let mut seen = Vec::new();
        for path in files(directory)? {
            // Somebody else's broken file is not in the way of another's network.
            let read = Self::read(&path);
            match read {
                Ok(network) if name.is_empty() || network.name == name => return Ok(network),
                Ok(network) => seen.push(network.name),
                Err(error) if name.is_empty() => return Err(error),
                Err(CniError::Config {
                    source_path, why, ..
                }) if path.file_stem().is_some_and(|stem| stem == name) => {
                    return Err(CniError::Config { source_path, why });
                }
                Err(_) => {}
            }
        }
        Err(CniError::NoNetwork {
            name: name.to_owned(),
            directory: directory.to_owned(),
            seen,
        })
    }

    fn read(path: &Path) -> Result<Self, CniError> {
        let bytes = std::fs::read(path).map_err(PathError::on("read", path))?;
        let parsed = serde_json::from_slice(&bytes).map_err(|error| error.to_string());
        let network = parsed.and_then(Self::of);
        network.map_err(|why| CniError::Config {
            source_path: path.to_owned(),
            why,
        })
    }

    /// From what a file says, or a record has kept.
    pub fn of(source: Value) -> Result<Self, String> {
        let text = |key: &str| source.get(key).and_then(Value::as_str).map(str::to_owned);
        let name = text("name").unwrap_or_default();
        let is_plain = |name: &str| {
            name.starts_with(|first: char| first.is_ascii_alphanumeric())
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        };
        if !is_plain(&name) {
            return Err(format!("{name:?} is not the name of a network"));
        }
        let version = text("cniVersion").unwrap_or_default();
        if !VERSIONS.contains(&version.as_str()) {
            return Err(format!(
                "cniVersion {version:?} is not one of {}",
                VERSIONS.join(", ")
            ));
        }
        let one = [source.clone()];
        let listed = source.get("plugins").and_then(Value::as_array);
        let listed = listed.map_or(one.as_slice(), Vec::as_slice);
        let plugins: Option<Vec<_>> = listed.iter().map(|one| one.as_object().cloned()).collect();
        let plugins = plugins.unwrap_or_default();
        let is_whole = |one: &Map<String, Value>| {
            let kind = one.get("type").and_then(Value::as_str);
            kind.is_some_and(is_plain)
        };
        if plugins.is_empty() || !plugins.iter().all(is_whole) {
            return Err("each of its plugins needs a type".to_owned());
        }
        let no_check = source.get("disableCheck").and_then(Value::as_bool);
        Ok(Self {
            name,
            version,
            no_check: no_check.unwrap_or_default(),
            plugins,
            source,
        })
    }

    /// Whether CHECK can be asked for, and DEL is given a result.
    pub fn has_check(&self) -> bool {
        WITH_CHECK.contains(&self.version.as_str())
    }

    /// Whether one of its plugins knows a capability.
    pub fn can(&self, capability: &str) -> bool {
        self.plugins.iter().any(|one| can(one, capability))
    }
}

/// Whether a plugin's configuration says that it knows a capability.
pub fn can(plugin: &Map<String, Value>, capability: &str) -> bool {
    let all = plugin.get("capabilities");
    let one = all.and_then(|all| all.get(capability));
    one.and_then(Value::as_bool).unwrap_or_default()
}

/// Configurations of a directory in the order of their names.
fn files(directory: &Path) -> Result<Vec<PathBuf>, CniError> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(PathError::on("list", directory)(error).into()),
    };
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let ending = path.extension().and_then(|ending| ending.to_str());
            matches!(ending, Some("conflist" | "conf" | "json"))
        })
        .collect();
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_single_plugin_is_a_list_of_one() {
        let one = json!({"cniVersion": "0.3.1", "name": "a", "type": "ptp"});
        let network = Network::of(one).unwrap();
        assert_eq!(
            (network.plugins.len(), network.has_check()),
            (1, false),
            "{network:?}"
        );
        let list = json!({"cniVersion": "1.0.0", "name": "a", "plugins": [
            {"type": "bridge"}, {"type": "portmap", "capabilities": {"portMappings": true}}]});
        let network = Network::of(list).unwrap();
        assert!(network.has_check() && network.can("portMappings") && !network.can("bandwidth"));
    }

    #[test]
    fn what_is_no_configuration_says_why() {
        for (source, why) in [
            (json!({"name": "../a"}), "is not the name of a network"),
            (
                json!({"name": "a", "type": "b"}),
                "cniVersion \"\" is not one of",
            ),
            (
                json!({"name": "a", "cniVersion": "0.2.0", "type": "b"}),
                "\"0.2.0\" is not one of 0.3.0, 0.3.1",
            ),
            (
                json!({"name": "a", "cniVersion": "1.0.0", "plugins": []}),
                "needs a type",
            ),
            (
                json!({"name": "a", "cniVersion": "1.0.0", "plugins": [{"type": "../../bin/sh"}]}),
                "needs a type",
            ),
        ] {
            let error = Network::of(source).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
