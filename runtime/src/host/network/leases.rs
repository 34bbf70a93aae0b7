//! Who has which address, name and port: one file for each network.

use super::{NetworkError, POD_HOSTS};
use crate::host::lock::FileLock;
use crate::path_error::PathError;
use crate::settings::Settings;
use crate::spec::Published;
use crate::store::{atomic, private};
use beluga_proto::PodUid;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// In a network's directory.
pub const FILE: &str = "leases.json";

/// Content of `leases.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leases {
    /// Boot of the host in which all this holds.
    pub boot_id: String,
    /// `N` of 10.88.N.0/24; `None` without any lease.
    pub subnet: Option<u8>,
    /// Host part given out last, so that an address rests before it is used again.
    pub last: u8,
    /// Pod by host part.
    pub pods: BTreeMap<u8, PodUid>,
    /// Ports of the host by the host part of the pod that has them.
    #[serde(default)]
    pub ports: BTreeMap<u8, PortLease>,
    /// Names of the pods by host part.
    #[serde(default)]
    pub names: BTreeMap<u8, PodNames>,
}

/// What a pod is called in its network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodNames {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its host name, without a domain.
    pub hostname: String,
    /// The domain that it shares with pods of its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subdomain: Option<String>,
}

/// Ports of the host that are a pod's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortLease {
    /// `namespace/name`, for messages.
    pub pod: String,
    pub ports: Vec<Published>,
}

impl Leases {
    /// The next free host part after the one given out last, of those that may be
    /// given out.
    pub fn next_free(&self, may: impl Fn(u8) -> bool) -> Option<u8> {
        let start = if POD_HOSTS.contains(&self.last) {
            self.last
        } else {
            *POD_HOSTS.start() - 1
        };
        (start..=*POD_HOSTS.end())
            .skip(1)
            .chain(*POD_HOSTS.start()..=start)
            .find(|host| POD_HOSTS.contains(host) && !self.pods.contains_key(host) && may(*host))
    }

    /// Host part of a pod's addresses.
    pub fn host_of(&self, uid: &PodUid) -> Option<u8> {
        self.pods
            .iter()
            .find_map(|(host, owner)| (owner == uid).then_some(*host))
    }
}

/// Waits for the leases in a directory and all that they stand for.
pub fn lock(home: &Path) -> Result<FileLock, NetworkError> {
    private::make(home)?;
    let path = home.join("lock");
    Ok(FileLock::wait(&path).map_err(PathError::on("lock", &path))?)
}

/// Waits for the list of a root's networks.
pub fn lock_all(settings: &Settings) -> Result<FileLock, NetworkError> {
    let directory = settings.root.join("network");
    private::make(&directory)?;
    // Beside their directories: any name there is a network's.
    let path = directory.join("named.lock");
    Ok(FileLock::wait(&path).map_err(PathError::on("lock", &path))?)
}

/// The leases of this boot: those of an earlier one went with its bridge.
pub fn read(home: &Path, boot_id: &str) -> Result<Leases, NetworkError> {
    let path = home.join(FILE);
    let fresh = || Leases {
        boot_id: boot_id.to_owned(),
        ..Leases::default()
    };
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(fresh()),
        Err(source) => return Err(PathError::on("read", &path)(source).into()),
    };
    let leases: Leases = serde_json::from_slice(&bytes).map_err(|source| NetworkError::Leases {
        path: path.clone(),
        source,
    })?;
    Ok(if leases.boot_id == boot_id {
        leases
    } else {
        fresh()
    })
}

/// Puts leases in the place of those that are there.
pub fn write(home: &Path, leases: &Leases) -> Result<(), NetworkError> {
    let path = home.join(FILE);
    let bytes = serde_json::to_vec(leases).map_err(|source| NetworkError::Leases {
        path: path.clone(),
        source,
    })?;
    Ok(atomic::replace(&path, &bytes).map_err(PathError::on("write", &path))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid(byte: u8) -> PodUid {
        PodUid::from_random([byte; 16])
    }

    #[test]
    fn an_address_rests_before_it_is_given_out_again() {
        let mut leases = Leases::default();
        let first = leases.next_free(|_| true).unwrap();
        assert_eq!(first, 2);
        leases.last = first;
        assert_eq!(
            leases.next_free(|_| true),
            Some(3),
            "2 is free but was the last one"
        );
        leases.last = 254;
        assert_eq!(leases.next_free(|_| true), Some(2), "round again");
    }

    #[test]
    fn no_address_is_given_twice_and_a_full_network_says_so() {
        let mut leases = Leases::default();
        for count in 0..POD_HOSTS.len() {
            let host = leases.next_free(|_| true).unwrap();
            leases.last = host;
            let owner = uid(u8::try_from(count).unwrap());
            assert!(leases.pods.insert(host, owner).is_none());
        }
        assert_eq!(leases.next_free(|_| true), None);
        leases.pods.remove(&77);
        assert_eq!(leases.next_free(|_| true), Some(77));
    }
}
