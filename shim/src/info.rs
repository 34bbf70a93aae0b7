//! `-info`: what containerd 2 tells of a runtime: its name, its version, and what of OCI's
//! specification it can do. `ctr plugins inspect-runtime` shows it.

use crate::error::ShimError;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message as _, MessageField};
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use oci_spec::runtime::{Features, LinuxFeature, LinuxNamespaceType, MountExtensions, Seccomp};
use std::io::Write as _;

/// Under which containerd knows the runtime.
const NAME: &str = "io.containerd.beluga.v2";

/// What containerd calls OCI's features in other messages.
const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// Options of mounts that are heeded.
const MOUNT_OPTIONS: [&str; 7] = ["bind", "rbind", "private", "rprivate", "rw", "ro", "rro"];

/// Prints it.
pub fn print() -> Result<(), ShimError> {
    let bytes = info().write_to_bytes().unwrap_or_default();
    let mut stdout = std::io::stdout();
    let told = stdout.write_all(&bytes).and_then(|()| stdout.flush());
    told.map_err(ShimError::system("answer"))
}

fn info() -> RuntimeInfo {
    let version = RuntimeVersion {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..RuntimeVersion::default()
    };
    let features = Any {
        type_url: FEATURES.to_owned(),
        value: serde_json::to_vec(&features()).unwrap_or_default(),
        ..Any::default()
    };
    RuntimeInfo {
        name: NAME.to_owned(),
        version: MessageField::some(version),
        features: MessageField::some(features),
        ..RuntimeInfo::default()
    }
}

/// What is absent is unknown, what is empty or false is not to be had.
fn features() -> Features {
    let mut seccomp = Seccomp::default();
    seccomp.set_enabled(Some(true));
    let mut linux = LinuxFeature::default();
    linux.set_namespaces(Some(vec![
        LinuxNamespaceType::Cgroup,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Network,
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Uts,
    ]));
    linux.set_seccomp(Some(seccomp));
    linux.set_mount_extensions(Some(MountExtensions::default()));
    let mut features = Features::default();
    features.set_oci_version_min("1.0.0".to_owned());
    features.set_oci_version_max("1.2.0".to_owned());
    features.set_hooks(Some(Vec::new()));
    features.set_mount_options(Some(MOUNT_OPTIONS.map(str::to_owned).to_vec()));
    features.set_linux(Some(linux));
    features
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_what_is_heeded_and_nothing_that_is_refused() {
        let bytes = info().write_to_bytes().unwrap();
        let told = RuntimeInfo::parse_from_bytes(&bytes).unwrap();
        assert_eq!(told.name, NAME);
        let value: serde_json::Value = serde_json::from_slice(&told.features.value).unwrap();
        let has = |list: &serde_json::Value, word: &str| {
            let all = list.as_array().unwrap();
            all.iter().any(|one| one == word)
        };
        assert!(has(&value["mountOptions"], "rro"));
        assert!(!has(&value["linux"]["namespaces"], "user"));
    }
}
