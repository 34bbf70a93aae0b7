//! What plugins have answered, kept as libcni keeps it: a file for each
//! attachment, `results/NETWORK-CONTAINER-INTERFACE`, which says what was asked
//! for and what came of it. CHECK and DEL get the result back.

use super::{Asked, CniError, Record};
use crate::path_error::PathError;
use crate::store::atomic;
use k8s_openapi::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// What libcni calls this layout.
const KIND: &str = "cniCacheV1";

/// Content of such a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cached {
    kind: String,
    container_id: String,
    config: ByteString,
    if_name: String,
    network_name: String,
    #[serde(default)]
    cni_args: Vec<[String; 2]>,
    #[serde(default)]
    capability_args: Map<String, Value>,
    result: Value,
}

fn path(directory: &Path, record: &Record, asked: &Asked) -> PathBuf {
    let (network, pod) = (asked.network(), &record.container);
    directory.join(format!("results/{network}-{pod}-{}", asked.interface))
}

/// Keeps a result.
pub fn keep(
    directory: &Path,
    record: &Record,
    asked: &Asked,
    result: &Value,
) -> Result<(), CniError> {
    let path = path(directory, record, asked);
    let pairs = record
        .args
        .split(';')
        .filter_map(|pair| pair.split_once('='));
    let cached = Cached {
        kind: KIND.to_owned(),
        container_id: record.container.clone(),
        config: ByteString(asked.config.to_string().into_bytes()),
        if_name: asked.interface.clone(),
        network_name: asked.network().to_owned(),
        cni_args: pairs.map(|(k, v)| [k.to_owned(), v.to_owned()]).collect(),
        capability_args: record.capabilities.clone(),
        result: result.clone(),
    };
    let directory = path.parent().unwrap_or(directory);
    std::fs::create_dir_all(directory).map_err(PathError::on("make directory", directory))?;
    let bytes = serde_json::to_vec(&cached).unwrap_or_default();
    // Outlives a power cut: leases of addresses lie on disks, too.
    let kept = atomic::replace_durably(&path, &bytes);
    Ok(kept.map_err(PathError::on("write", &path))?)
}

/// The result of an attachment; none where it has not come about.
pub fn read(directory: &Path, record: &Record, asked: &Asked) -> Option<Value> {
    let bytes = std::fs::read(path(directory, record, asked)).ok()?;
    let cached: Cached = serde_json::from_slice(&bytes).ok()?;
    (cached.kind == KIND).then_some(cached.result)
}

/// Forgets it.
pub fn forget(directory: &Path, record: &Record, asked: &Asked) -> Result<(), CniError> {
    Ok(PathError::remove_file(&path(directory, record, asked))?)
}
