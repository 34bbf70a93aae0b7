//! Addresses that roots have: each /24 of the pool is claimed by a file that
//! names its root, and so is each bridge of a network with a name.

use super::definition::{Definition, overlap};
use super::{NetworkError, PREFIX, bridge_of};
use crate::host::lock::FileLock;
use crate::host::netlink::Netlink;
use crate::path_error::PathError;
use crate::settings::Settings;
use crate::spec::Network as Block;
use crate::store::private;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

/// Where they are claimed. Gone with a reboot, as the bridges are.
pub const CLAIMS: &str = "/run/beluga-subnets";

/// Of a claimed /24, and of a bridge.
const SUBNET: &str = "10.88.";
const BRIDGE: &str = "bridge-";

/// Finds a /24 that no other root has, no network with a name, and that nothing
/// on this host routes to. With the claims locked.
pub fn claim(settings: &Settings, named: &[Block]) -> Result<u8, NetworkError> {
    let routed = Netlink::open()?.routed_networks()?;
    let bridge_is_ours = |path: &Path| is_claim_of(path, &settings.root);
    let is_free = |subnet: u8| {
        let path = self::path(subnet);
        let claimed = path.exists() && !bridge_is_ours(&path) && !is_abandoned(&path);
        let network = Ipv4Addr::new(10, 88, subnet, 0);
        let ours: Block = (network.into(), PREFIX);
        !claimed
            && !named.iter().any(|one| overlap(*one, ours))
            && (bridge_is_ours(&path) || !routed.iter().any(|at| overlaps(*at, network)))
    };
    let subnet = (0..=255)
        .find(|subnet| is_free(*subnet))
        .ok_or(NetworkError::NoSubnet)?;
    write(settings, &path(subnet))?;
    Ok(subnet)
}

fn write(settings: &Settings, path: &Path) -> Result<(), NetworkError> {
    use std::os::unix::ffi::OsStrExt as _;
    let owner = settings.root.as_os_str().as_bytes();
    Ok(std::fs::write(path, owner).map_err(PathError::on("write", path))?)
}

/// Says that this root has a network, which others then leave alone: anew after
/// a reboot. With the claims locked. Errors when another root has its addresses.
pub fn register(settings: &Settings, definition: &Definition) -> Result<(), NetworkError> {
    if let Some(path) = pooled(definition) {
        let is_theirs = path.exists() && !is_claim_of(&path, &settings.root);
        if is_theirs && !is_abandoned(&path) {
            let (ip, prefix) = definition.subnet;
            let why = format!(
                "{ip}/{prefix} of the network {} is another root's by now",
                definition.name
            );
            return Err(NetworkError::Refused { why });
        }
        write(settings, &path)?;
    }
    write(settings, &bridge_path(settings, definition))
}

/// Takes that back.
pub fn forget(settings: &Settings, definition: &Definition) -> Result<(), NetworkError> {
    let paths = [Some(bridge_path(settings, definition)), pooled(definition)];
    for path in paths.into_iter().flatten() {
        if is_claim_of(&path, &settings.root) {
            PathError::remove_file(&path)?;
        }
    }
    Ok(())
}

/// The claim of a network whose addresses are a /24 of the pool.
fn pooled(definition: &Definition) -> Option<PathBuf> {
    match definition.subnet {
        (IpAddr::V4(ip), PREFIX) => match ip.octets() {
            [10, 88, number, 0] => Some(path(number)),
            _ => None,
        },
        _ => None,
    }
}

fn bridge_path(settings: &Settings, definition: &Definition) -> PathBuf {
    let bridge = bridge_of(settings, Some(definition));
    Path::new(CLAIMS).join(format!("{BRIDGE}{bridge}"))
}

fn overlaps((network, prefix): (Ipv4Addr, u8), ours: Ipv4Addr) -> bool {
    // A default route overlaps with nothing: it is for what has no other route.
    prefix > 0 && overlap((network.into(), prefix), (ours.into(), PREFIX))
}

/// The file that says whose a /24 is.
pub fn path(subnet: u8) -> PathBuf {
    Path::new(CLAIMS).join(format!("{SUBNET}{subnet}"))
}

/// Whether a claim is this root's.
pub fn is_claim_of(path: &Path, root: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    std::fs::read(path).is_ok_and(|owner| owner == root.as_os_str().as_bytes())
}

/// Whether the root that claims this no longer exists.
fn is_abandoned(path: &Path) -> bool {
    owner(path).is_some_and(|root| !root.join("network").exists())
}

fn owner(path: &Path) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt as _;
    let owner = std::fs::read(path).ok()?;
    Some(PathBuf::from(std::ffi::OsString::from_vec(owner)))
}

/// Waits for the claims of all roots.
pub fn lock() -> Result<FileLock, NetworkError> {
    let directory = Path::new(CLAIMS);
    private::make(directory)?;
    let path = directory.join("lock");
    Ok(FileLock::wait(&path).map_err(PathError::on("lock", &path))?)
}

/// Roots that have networks.
pub fn claimants() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(CLAIMS).into_iter().flatten().flatten();
    let claims = entries.filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with(SUBNET) || name.starts_with(BRIDGE)
    });
    let mut roots: Vec<PathBuf> = claims.filter_map(|entry| owner(&entry.path())).collect();
    roots.sort();
    roots.dedup();
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_that_cover_a_network_are_seen() {
        let ours = Ipv4Addr::new(10, 88, 7, 0);
        assert!(overlaps((Ipv4Addr::new(10, 88, 7, 0), 24), ours));
        assert!(overlaps((Ipv4Addr::new(10, 0, 0, 0), 8), ours));
        assert!(overlaps((Ipv4Addr::new(10, 88, 7, 128), 25), ours));
        assert!(!overlaps((Ipv4Addr::new(10, 88, 8, 0), 24), ours));
        assert!(!overlaps((Ipv4Addr::UNSPECIFIED, 0), ours));
    }
}
