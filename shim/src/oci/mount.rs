//! Mounts of a bundle.

use super::refused;
use crate::error::ShimError;
use beluga_runtime::engine::sandbox::HostMount;
use oci_spec::runtime::Mount;
use std::path::Path;

/// What the guest makes itself for every container.
const OWN: [&str; 9] = [
    "/proc",
    "/dev",
    "/dev/pts",
    "/dev/shm",
    "/dev/mqueue",
    "/sys",
    "/sys/fs/cgroup",
    "/run",
    "/etc/hostname",
];

/// Whether an option of a mount is set.
pub(super) fn has_option(mount: &Mount, option: &str) -> bool {
    mount.options().iter().flatten().any(|one| one == option)
}

/// Whether somebody wants a volume where the guest has its own: containerd binds
/// what it has made there as well, in a directory of the sandbox's name. A volume
/// may be called `shm` too.
fn is_asked(destination: &str, source: &Path, sandbox: Option<&str>) -> bool {
    let of_sandbox = match destination {
        "/dev/shm" => "shm",
        "/etc/hostname" => "hostname",
        _ => return true,
    };
    !sandbox.is_some_and(|id| source.ends_with(Path::new(id).join(of_sandbox)))
}

/// A directory or file of the host; nothing where the guest has its own, or has what
/// is the sandbox's of this identifier.
pub(super) fn mount(mount: &Mount, sandbox: Option<&str>) -> Result<Option<HostMount>, ShimError> {
    let destination = mount.destination().display().to_string();
    let is_bound = mount.typ().as_deref() == Some("bind")
        || has_option(mount, "bind")
        || has_option(mount, "rbind");
    let source = mount.source().clone().unwrap_or_default();
    let is_asked = is_bound && is_asked(&destination, &source, sandbox);
    if OWN.contains(&destination.as_str()) && !is_asked {
        return Ok(None);
    }
    if !is_bound {
        let kind = mount.typ().as_deref().unwrap_or_default();
        let field = format!("mounts: {kind} at {destination}");
        return Err(refused(
            field,
            "only directories and files of the host are mounted",
        ));
    }
    for passing in ["shared", "rshared", "slave", "rslave"] {
        if has_option(mount, passing) {
            let why = "mounts of the host and of the pod's machine do not reach one another";
            return Err(refused(format!("mounts: {passing} at {destination}"), why));
        }
    }
    if !source.is_absolute() {
        return Err(ShimError::Invalid {
            field: "mounts.source",
            why: format!("{} is no absolute path", source.display()),
        });
    }
    // Since containerd 2, `rro` is asked for by name; what is read-only is always so.
    let read_only = has_option(mount, "ro") || has_option(mount, "rro");
    Ok(Some(HostMount {
        source,
        destination,
        read_only,
        recursive: read_only,
        follows_host: false,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_only_is_so_below_as_well() {
        let made = |options: &[&str]| {
            let text = serde_json::json!({
                "type": "bind", "source": "/data", "destination": "/data", "options": options,
            });
            let mount: Mount = serde_json::from_value(text).unwrap();
            let mounted = super::mount(&mount, None).unwrap().unwrap();
            (mounted.read_only, mounted.recursive)
        };
        assert_eq!(made(&["rbind", "rw"]), (false, false));
        assert_eq!(made(&["rbind", "rprivate", "ro"]), (true, true));
        assert_eq!(made(&["rbind", "rprivate", "rro"]), (true, true));
    }

    #[test]
    fn a_volume_is_mounted_where_the_guest_has_its_own_too() {
        let made = |kind: &str, source: &str, destination: &str| {
            let text = serde_json::json!({
                "type": kind, "source": source, "destination": destination, "options": ["rbind"],
            });
            let text = if kind == "bind" {
                text
            } else {
                serde_json::json!({"type": kind, "source": source, "destination": destination})
            };
            let mount: Mount = serde_json::from_value(text).unwrap();
            let mounted = super::mount(&mount, Some("x")).unwrap();
            mounted.map(|mount| mount.destination)
        };
        assert_eq!(made("tmpfs", "tmpfs", "/run"), None);
        assert_eq!(made("bind", "/sandboxes/x/shm", "/dev/shm"), None);
        assert_eq!(made("bind", "/sandboxes/x/hostname", "/etc/hostname"), None);
        let named_so = made("bind", "/volumes/kubernetes.io~empty-dir/shm", "/dev/shm");
        assert_eq!(named_so.as_deref(), Some("/dev/shm"));
        for destination in ["/run", "/dev/shm", "/data"] {
            let mounted = made("bind", "/volumes/cache", destination);
            assert_eq!(mounted.as_deref(), Some(destination));
        }
    }
}
