//! The /24s of all roots: each is claimed by a file that names its root.

use super::{NetworkError, PREFIX};
use crate::host::lock::FileLock;
use crate::host::netlink::Netlink;
use crate::path_error::PathError;
use crate::settings::Settings;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// Where they are claimed. Gone with a reboot, as the bridges are.
pub const CLAIMS: &str = "/run/beluga-subnets";

/// Finds a /24 that no other root has and nothing on this host routes to. With
/// the claims locked.
pub fn claim(settings: &Settings) -> Result<u8, NetworkError> {
    use std::os::unix::ffi::OsStrExt as _;
    let routed = Netlink::open()?.routed_networks()?;
    let bridge_is_ours = |path: &Path| is_claim_of(path, &settings.root);
    let is_free = |subnet: u8| {
        let path = self::path(subnet);
        let claimed = path.exists() && !bridge_is_ours(&path) && !is_abandoned(&path);
        let network = Ipv4Addr::new(10, 88, subnet, 0);
        !claimed && (bridge_is_ours(&path) || !routed.iter().any(|at| overlaps(*at, network)))
    };
    let subnet = (0..=255)
        .find(|subnet| is_free(*subnet))
        .ok_or(NetworkError::NoSubnet)?;
    let path = self::path(subnet);
    std::fs::write(&path, settings.root.as_os_str().as_bytes())
        .map_err(PathError::on("write", &path))?;
    Ok(subnet)
}

fn overlaps((network, prefix): (Ipv4Addr, u8), ours: Ipv4Addr) -> bool {
    let bits = prefix.min(PREFIX);
    let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
    // A default route overlaps with nothing: it is for what has no other route.
    prefix > 0 && u32::from(network) & mask == u32::from(ours) & mask
}

/// The file that says whose a /24 is.
pub fn path(subnet: u8) -> PathBuf {
    Path::new(CLAIMS).join(format!("10.88.{subnet}"))
}

/// Whether a claim is this root's.
pub fn is_claim_of(path: &Path, root: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    std::fs::read(path).is_ok_and(|owner| owner == root.as_os_str().as_bytes())
}

/// Whether the root that claims this no longer exists.
fn is_abandoned(path: &Path) -> bool {
    use std::os::unix::ffi::OsStringExt as _;
    std::fs::read(path).is_ok_and(|owner| {
        let root = PathBuf::from(std::ffi::OsString::from_vec(owner));
        !root.join("network").exists()
    })
}

/// Waits for the claims of all roots.
pub fn lock() -> Result<FileLock, NetworkError> {
    let directory = Path::new(CLAIMS);
    std::fs::create_dir_all(directory).map_err(PathError::on("make directory", directory))?;
    let path = directory.join("lock");
    Ok(FileLock::wait(&path).map_err(PathError::on("lock", &path))?)
}

/// Roots that have a /24.
pub fn claimants() -> impl Iterator<Item = PathBuf> {
    use std::os::unix::ffi::OsStringExt as _;
    (0..=255).filter_map(|subnet| {
        let owner = std::fs::read(path(subnet)).ok()?;
        Some(PathBuf::from(std::ffi::OsString::from_vec(owner)))
    })
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
