//! What an ordinary user's pods have, and what takes root's rights. All of it is asked
//! before anything is made.

use super::pasta;
use crate::path_error::PathError;
use crate::settings::Settings;
use crate::spec::{DEFAULT_NETWORK, PodSpec};
use rustix::fs::{Access, Mode, access};
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// Why something is not for an ordinary user.
#[derive(Debug, thiserror::Error)]
pub enum OrdinaryError {
    /// A bridge is root's to make.
    #[error(
        "the network {name:?} needs root: an ordinary user's pod is in the default network or in none"
    )]
    Network {
        /// As it was asked for.
        name: String,
    },
    /// So are plugins.
    #[error(
        "networks of CNI need root: an ordinary user's pod is in the default network or in none"
    )]
    Cni,
    /// pasta takes what comes from the host itself to another place.
    #[error("port {port} of the host needs root: an ordinary user's pod publishes none")]
    Port {
        /// Of the host.
        port: u16,
    },
    /// Who talks to whom is said at bridges.
    #[error("a NetworkPolicy needs root: no pod of an ordinary user can reach another one")]
    Policy,
    /// The same.
    #[error(
        "the profile tenant needs root for a pod with a network, which it shuts: say none (beluga/network, --network)"
    )]
    Tenant,
    /// Files of other users are mounted.
    #[error("a sandbox, of beluga-cri or the shim, needs root")]
    Sandbox,
    /// There is no namespace to work in.
    #[error("an ordinary user's pod with a network needs a namespace of users: {why}")]
    Namespaces {
        /// What is in the way.
        why: &'static str,
    },
    /// There is nobody to carry packets.
    #[error("an ordinary user's pod with a network needs {what}")]
    Missing {
        /// What, and where it is from.
        what: &'static str,
    },
    /// Somebody else could put sockets there. Of root as well.
    #[error(
        "{path} is not this user's alone: sockets of pods lie there",
        path = .path.display()
    )]
    Shared {
        /// The directory.
        path: PathBuf,
    },
    /// A directory that cannot be made.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl OrdinaryError {
    /// What to do instead.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Port { .. } => "beluga port-forward, once the pod runs",
            Self::Namespaces { .. } | Self::Missing { .. } => "beluga doctor",
            Self::Shared { .. } => "set XDG_RUNTIME_DIR, or say --state",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// Errors when an ordinary user cannot have the pod, with what is in the way.
pub fn admit(settings: &Settings, spec: &PodSpec) -> Result<(), OrdinaryError> {
    if spec.sandbox.is_some() {
        return Err(OrdinaryError::Sandbox);
    }
    if !spec.cni_networks().is_empty() {
        return Err(OrdinaryError::Cni);
    }
    let Some(network) = spec.native_network() else {
        return Ok(());
    };
    if network != DEFAULT_NETWORK {
        let name = network.to_owned();
        return Err(OrdinaryError::Network { name });
    }
    if let Some(port) = spec.published().first() {
        let port = port.host.port;
        return Err(OrdinaryError::Port { port });
    }
    if settings.tenant.is_some() {
        return Err(OrdinaryError::Tenant);
    }
    Ok(())
}

/// Errors when this host does not have what an ordinary user's network takes.
pub fn can_have_network() -> Result<(), OrdinaryError> {
    if let Some(why) = crate::sys::userns::forbidden() {
        return Err(OrdinaryError::Namespaces { why });
    }
    if !is_there(pasta::PROGRAM) {
        let what = "pasta, of the package passt";
        return Err(OrdinaryError::Missing { what });
    }
    if access("/dev/net/tun", Access::READ_OK | Access::WRITE_OK).is_err() {
        let what = "/dev/net/tun, readable and writable (mode 0666, as udev makes it)";
        return Err(OrdinaryError::Missing { what });
    }
    Ok(())
}

/// Whether a program is in the search path.
#[must_use]
pub fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Makes the directory of sockets this user's alone. In a place like /tmp another one
/// may have been first, whose sockets and links are then in it.
pub fn own_state(settings: &Settings) -> Result<(), OrdinaryError> {
    let path = settings.state.as_path();
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(PathError::on("make directory", parent))?;
    }
    match rustix::fs::mkdir(path, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(PathError::on("make directory", path)(errno.into()).into()),
    }
    match is_own(path) {
        true => Ok(()),
        false => Err(OrdinaryError::Shared {
            path: path.to_owned(),
        }),
    }
}

/// Whether it is a directory, no link to one, that only this user can write to.
fn is_own(path: &Path) -> bool {
    let others = Mode::WGRP | Mode::WOTH;
    rustix::fs::lstat(path).is_ok_and(|stat| {
        let is_directory = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
        let is_open = Mode::from_raw_mode(stat.st_mode).intersects(others);
        is_directory && !is_open && stat.st_uid == rustix::process::geteuid().as_raw()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(annotation: &str, more: &str) -> Option<String> {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: a, annotations: {{beluga/network: '{annotation}'}}}}\nspec: {{containers: [{{name: a, image: b{more}}}]}}\n"
        );
        let spec = crate::spec::parse("p.yaml", &text).unwrap().remove(0).spec;
        let settings = Settings::new(Some("/r".into()), Some("/s".into())).unwrap();
        Some(admit(&settings, &spec).err()?.to_string())
    }

    #[test]
    fn what_takes_root_is_named() {
        for (annotation, more, named) in [
            ("front", "", "the network \"front\" needs root"),
            ("cni", "", "networks of CNI need root"),
            ("default,cni:a", "", "networks of CNI need root"),
            (
                "default",
                ", ports: [{containerPort: 80, hostPort: 8080}]",
                "port 8080 of the host needs root",
            ),
        ] {
            let why = refusal(annotation, more).unwrap();
            assert!(why.starts_with(named), "{annotation}: {why}");
        }
        assert_eq!(refusal("default", ", ports: [{containerPort: 80}]"), None);
        assert_eq!(refusal("none", ""), None);
    }

    #[test]
    fn a_directory_that_others_write_to_is_nobodys_own() {
        use std::os::unix::fs::PermissionsExt as _;
        let random: [u8; 8] = crate::pod::random_bytes();
        let own = std::env::temp_dir().join(format!("beluga-{:x}", u64::from_ne_bytes(random)));
        let mut settings = Settings::new(Some("/r".into()), Some(own.clone())).unwrap();
        own_state(&settings).unwrap();
        own_state(&settings).unwrap();
        let link = own.join("link");
        std::os::unix::fs::symlink(&own, &link).unwrap();
        settings.state = link;
        assert!(matches!(
            own_state(&settings),
            Err(OrdinaryError::Shared { .. })
        ));
        settings.state.clone_from(&own);
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(&own, open).unwrap();
        assert!(matches!(
            own_state(&settings),
            Err(OrdinaryError::Shared { .. })
        ));
        std::fs::remove_dir_all(own).unwrap();
    }
}
