//! Networks of CNI (version 0.3.1 to 1.0.0 of its specification): plugins of
//! others make a pod's cards, and [`crate::host::carry`] leads these to its VM.
//!
//! ```text
//! <root>/network/cni/pods/UID       what was asked for, before anything is done; locked while it is
//! <root>/network/cni/results/…      what plugins have answered, as libcni keeps it
//! /run/netns/blgHASH-UID            the pod's network namespace
//! ```
//! What a pod was given is taken back by what these files say, by whoever comes
//! first: its supervisor, a start that has failed, or `gc`, also after a reboot.
//! Taking back twice does no harm: DEL may be asked for any number of times.

mod cache;
mod capability;
mod config;
mod error;
mod plugin;

pub use error::CniError;

use crate::host::carry;
use crate::host::lock::FileLock;
use crate::path_error::PathError;
use crate::plan::{Carried, CarriedDns, CniPlaces};
use crate::settings::Settings;
use crate::spec::PodSpec;
use crate::store::private;
use crate::sys::netns;
use beluga_proto::PodUid;
use capability::capabilities;
use config::Network;
use plugin::{Attachment, Verb};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// What was asked for a pod.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    /// The pod's UID.
    container: String,
    /// Its network namespace.
    netns: PathBuf,
    /// Where configurations and plugins are.
    places: CniPlaces,
    /// `KEY=VALUE;…`.
    args: String,
    /// By capability.
    capabilities: Map<String, Value>,
    /// In order.
    asked: Vec<Asked>,
}

/// One attachment.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Asked {
    /// The interface in the namespace.
    interface: String,
    /// The network's configuration.
    config: Value,
}

impl Asked {
    fn network(&self) -> &str {
        let name = self.config.get("name").and_then(Value::as_str);
        name.unwrap_or_default()
    }
}

/// A pod that gets cards.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Its UID.
    pub uid: &'a PodUid,
    /// Its name.
    pub name: &'a str,
    /// What is asked for it.
    pub spec: &'a PodSpec,
}

/// Cards that were made, and the lock that keeps others from taking them back
/// before the pod has a record.
#[derive(Debug)]
pub struct Held {
    /// The cards.
    pub carried: Carried,
    _lock: FileLock,
}

fn directory(settings: &Settings) -> PathBuf {
    settings.root.join("network/cni")
}

fn record_path(settings: &Settings, uid: &PodUid) -> PathBuf {
    directory(settings).join("pods").join(uid.as_str())
}

/// Where namespaces are kept: where `ip netns` looks for them.
const NAMESPACES: &str = "/run/netns";

fn netns_prefix(settings: &Settings) -> String {
    format!("blg{}-", settings.short_hash())
}

/// What plugins will be asked for; nothing is done.
fn record(settings: &Settings, wanted: Wanted<'_>) -> Result<Record, CniError> {
    let Wanted { uid, name, spec } = wanted;
    let networks = spec.cni_networks();
    // The native network's card comes first.
    let first = usize::from(spec.native_network().is_some());
    let mut asked = Vec::new();
    for (at, name) in networks.iter().enumerate() {
        let network = Network::find(&settings.cni.configs, name)?;
        if at == 0 && first == 0 && !spec.published().is_empty() && !network.can("portMappings") {
            return Err(CniError::NoPorts {
                network: network.name,
            });
        }
        asked.push(Asked {
            interface: format!("eth{}", at + first),
            config: network.source,
        });
    }
    let namespace = &spec.namespace;
    Ok(Record {
        container: uid.as_str().to_owned(),
        netns: Path::new(NAMESPACES).join(format!("{}{uid}", netns_prefix(settings))),
        places: settings.cni.clone(),
        args: format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};\
             K8S_POD_INFRA_CONTAINER_ID={uid};K8S_POD_UID={uid}"
        ),
        capabilities: capabilities(spec, first == 0),
        asked,
    })
}

/// What would be made, as far as that can be known before.
pub fn preview(settings: &Settings, wanted: Wanted<'_>) -> Result<Carried, CniError> {
    let record = record(settings, wanted)?;
    Ok(Carried {
        networks: record
            .asked
            .iter()
            .map(|one| one.network().to_owned())
            .collect(),
        netns: record.netns,
        cni: record.places,
        ..Carried::default()
    })
}

/// Makes a namespace and has plugins make cards in it. On an error what was made
/// is there still: [`release`] takes it back.
pub fn add(settings: &Settings, wanted: Wanted<'_>) -> Result<Held, CniError> {
    let record = record(settings, wanted)?;
    let path = record_path(settings, wanted.uid);
    let parent = path.parent().unwrap_or(Path::new("/"));
    private::make(parent)?;
    let lock = FileLock::wait(&path).map_err(PathError::on("lock", &path))?;
    let text = serde_json::to_vec(&record).unwrap_or_default();
    // Before anything is made. The file is the lock: written in its place.
    std::fs::write(&path, text).map_err(PathError::on("write", &path))?;
    let namespaces = Path::new(NAMESPACES);
    std::fs::create_dir_all(namespaces).map_err(PathError::on("make directory", namespaces))?;
    std::fs::write(&record.netns, "").map_err(PathError::on("make", &record.netns))?;
    netns::make(&record.netns)
        .map_err(PathError::on("make the network namespace", &record.netns))?;
    let mut dns = CarriedDns::default();
    for asked in &record.asked {
        let result = attach(settings, &record, asked)?;
        collect_dns(&result, &mut dns);
    }
    let names: Vec<String> = record
        .asked
        .iter()
        .map(|one| one.interface.clone())
        .collect();
    let carried = Carried {
        networks: record
            .asked
            .iter()
            .map(|one| one.network().to_owned())
            .collect(),
        cards: carry::survey(&record.netns, &names)?,
        netns: record.netns,
        dns,
        cni: record.places,
        pasta: None,
    };
    Ok(Held {
        carried,
        _lock: lock,
    })
}

/// ADD of all plugins of a network, each with the result of the one before.
fn attach(settings: &Settings, record: &Record, asked: &Asked) -> Result<Value, CniError> {
    let network = network(asked)?;
    let mut result = None;
    for plugin in &network.plugins {
        let told = told(record, asked);
        let answer = plugin::run(Verb::Add, &network, plugin, &told, result.as_ref())?;
        result = Some(answer);
    }
    let result = result.unwrap_or_default();
    cache::keep(&directory(settings), record, asked, &result)?;
    Ok(result)
}

fn network(asked: &Asked) -> Result<Network, CniError> {
    Network::of(asked.config.clone()).map_err(|why| CniError::Config {
        source_path: PathBuf::from(asked.network()),
        why,
    })
}

fn told<'a>(record: &'a Record, asked: &'a Asked) -> Attachment<'a> {
    Attachment {
        container: &record.container,
        netns: record.netns.to_str().unwrap_or_default(),
        interface: &asked.interface,
        args: &record.args,
        plugins: &record.places.plugins,
        capabilities: &record.capabilities,
    }
}

fn collect_dns(result: &Value, dns: &mut CarriedDns) {
    let said = result.get("dns");
    let list = |key: &str| -> Vec<String> {
        let all = said
            .and_then(|said| said.get(key))
            .and_then(Value::as_array);
        let all = all.into_iter().flatten().filter_map(Value::as_str);
        // One line each, and nothing that ends a line.
        all.filter(|word| !word.is_empty() && !word.contains(char::is_whitespace))
            .map(str::to_owned)
            .collect()
    };
    dns.nameservers.extend(list("nameservers"));
    dns.searches.extend(list("search"));
    dns.options.extend(list("options"));
}

/// Asks the plugins whether a pod's cards are as they made them. Nothing to ask
/// is no error: versions before 0.4.0 know no such question.
pub fn check(settings: &Settings, uid: &PodUid) -> Result<(), CniError> {
    let Some((record, _)) = read(settings, uid)? else {
        return Ok(());
    };
    for asked in &record.asked {
        let network = network(asked)?;
        let result = cache::read(&directory(settings), &record, asked);
        if network.no_check || !network.has_check() {
            continue;
        }
        for plugin in &network.plugins {
            let told = told(&record, asked);
            plugin::run(Verb::Check, &network, plugin, &told, result.as_ref())?;
        }
    }
    Ok(())
}

/// What is on record of a pod, if anything is.
fn read(settings: &Settings, uid: &PodUid) -> Result<Option<(Record, PathBuf)>, CniError> {
    let path = record_path(settings, uid);
    match std::fs::read(&path) {
        // Begun and cut short before anything was made.
        Ok(bytes) if bytes.is_empty() => Ok(None),
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(record) => Ok(Some((record, path))),
            Err(error) => Err(CniError::Config {
                source_path: path,
                why: error.to_string(),
            }),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PathError::on("read", &path)(error).into()),
    }
}

/// Has plugins take back what they have made for a pod, and removes its
/// namespace. What is gone already is no error. Where a plugin fails, what is on
/// record stays, so that somebody may try again.
pub fn release(settings: &Settings, uid: &PodUid) -> Result<(), CniError> {
    let path = record_path(settings, uid);
    if !path.exists() {
        return Ok(());
    }
    let _lock = FileLock::wait(&path).map_err(PathError::on("lock", &path))?;
    let mut failed = None;
    if let Some((record, _)) = read(settings, uid)? {
        let directory = directory(settings);
        for asked in record.asked.iter().rev() {
            match detach(settings, &record, asked) {
                Ok(()) => cache::forget(&directory, &record, asked)?,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        netns::remove(&record.netns)
            .map_err(PathError::on("remove the network namespace", &record.netns))?;
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(PathError::remove_file(&path)?),
    }
}

/// DEL of all plugins of a network, last first.
fn detach(settings: &Settings, record: &Record, asked: &Asked) -> Result<(), CniError> {
    let network = network(asked)?;
    let result = cache::read(&directory(settings), record, asked);
    let result = result.filter(|_| network.has_check());
    let mut told = told(record, asked);
    // Gone with a reboot, or with an attempt that failed: then the plugins clear
    // what is outside of it.
    if !is_mounted(&record.netns) {
        told.netns = "";
    }
    let mut failed = None;
    for plugin in network.plugins.iter().rev() {
        let run = plugin::run(Verb::Del, &network, plugin, &told, result.as_ref());
        failed = failed.or(run.err());
    }
    failed.map_or(Ok(()), Err)
}

/// Whether a file is a namespace, and not the empty file that one is put on.
fn is_mounted(path: &Path) -> bool {
    /// `NSFS_MAGIC`.
    const NAMESPACE: u64 = 0x6e73_6673;
    let found = rustix::fs::statfs(path);
    found.is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|kind| kind == NAMESPACE))
}

/// Pods for which something is on record and nobody is at work.
#[must_use]
pub fn holders(settings: &Settings) -> Vec<PodUid> {
    let pods = directory(settings).join("pods");
    let entries = std::fs::read_dir(pods).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| PodUid::parse(entry.file_name().to_str()?).ok());
    names
        .filter(|uid| {
            let lock = FileLock::try_take(&record_path(settings, uid));
            matches!(lock, Ok(Some(_)))
        })
        .collect()
}

/// Network namespaces of this root that no pod has on record.
#[must_use]
pub fn stray_namespaces(settings: &Settings) -> Vec<PathBuf> {
    let prefix = netns_prefix(settings);
    let entries = std::fs::read_dir(NAMESPACES)
        .into_iter()
        .flatten()
        .flatten();
    let own = entries.filter_map(|entry| {
        let name = entry.file_name();
        let uid = PodUid::parse(name.to_str()?.strip_prefix(&prefix)?).ok()?;
        (!record_path(settings, &uid).exists()).then(|| entry.path())
    });
    own.collect()
}

/// Removes such a namespace.
pub fn remove_namespace(path: &Path) -> Result<(), CniError> {
    let removed = netns::remove(path);
    Ok(removed.map_err(PathError::on("remove the network namespace", path))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_networks_say_of_names_is_lines_of_a_resolv_conf() {
        let result = json!({"dns": {"nameservers": ["10.1.0.1", "bad\nsearch evil"],
            "search": ["example.org"], "options": ["ndots:2"]}});
        let mut dns = CarriedDns::default();
        collect_dns(&result, &mut dns);
        assert_eq!(dns.nameservers, ["10.1.0.1"]);
        assert_eq!((dns.searches.len(), dns.options.len()), (1, 1));
    }

    #[test]
    fn an_empty_file_is_no_namespace() {
        let file = std::env::temp_dir().join(format!("beluga-cni-{}", std::process::id()));
        std::fs::write(&file, "").unwrap();
        assert!(!is_mounted(&file));
        std::fs::remove_file(&file).unwrap();
        assert!(is_mounted(Path::new("/proc/self/ns/net")));
    }
}
