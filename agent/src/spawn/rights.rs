//! What a process may do: limits, identity, capabilities.

use super::error::{Context, HelperError};
use super::user::Identity;
use beluga_proto::ExecSpec;
use beluga_proto::capability::{self, CAPABILITIES};
use beluga_proto::container::Rlimit as RlimitSpec;
use rustix::process::{Gid, Resource, Rlimit, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// Open files of a process: systemd's, and so containerd's, default.
const DEFAULT_FILES: Rlimit = Rlimit {
    current: Some(1024),
    maximum: Some(524_288),
};

/// The set that a list of names means. Errors name what is no capability.
pub fn capability_set(names: &[String]) -> Result<CapabilitySet, HelperError> {
    names.iter().try_fold(CapabilitySet::empty(), |set, name| {
        let number = capability::number(name).ok_or_else(|| HelperError::Invalid {
            what: format!("{name:?} is no capability"),
        })?;
        Ok(set | CapabilitySet::from_bits_retain(1 << number))
    })
}

/// Sets the resource limits.
pub fn set_limits(process: &ExecSpec) -> Result<(), HelperError> {
    if process.rlimits.iter().all(|limit| limit.name != "nofile") {
        // Not this kernel's own 1024 and 4096, which are too few for servers.
        // Whoever may not raise it keeps what there is.
        let _ = rustix::process::setrlimit(Resource::Nofile, DEFAULT_FILES);
    }
    for limit in &process.rlimits {
        let resource = resource(limit)?;
        let value = |value: u64| (value != u64::MAX).then_some(value);
        let new = Rlimit {
            current: value(limit.soft),
            maximum: value(limit.hard),
        };
        rustix::process::setrlimit(resource, new).to_with("set the limit", &limit.name)?;
    }
    Ok(())
}

fn resource(limit: &RlimitSpec) -> Result<Resource, HelperError> {
    Ok(match limit.name.as_str() {
        "as" => Resource::As,
        "core" => Resource::Core,
        "cpu" => Resource::Cpu,
        "data" => Resource::Data,
        "fsize" => Resource::Fsize,
        "locks" => Resource::Locks,
        "memlock" => Resource::Memlock,
        "msgqueue" => Resource::Msgqueue,
        "nice" => Resource::Nice,
        "nofile" => Resource::Nofile,
        "nproc" => Resource::Nproc,
        "rss" => Resource::Rss,
        "rtprio" => Resource::Rtprio,
        "rttime" => Resource::Rttime,
        "sigpending" => Resource::Sigpending,
        "stack" => Resource::Stack,
        name => {
            return Err(HelperError::Invalid {
                what: format!("{name:?} is no resource limit"),
            });
        }
    })
}

/// Takes away from the bounding set what the process must never have.
pub fn bound_capabilities(allowed: CapabilitySet) -> Result<(), HelperError> {
    for number in 0..CAPABILITIES.len() {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if allowed.contains(one) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(one) {
            // The kernel is older than the capability.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(errno) => return Err(errno).to("bound the capabilities"),
        }
    }
    Ok(())
}

/// Becomes the user. The permitted capabilities are kept, for the steps that
/// follow; the effective ones are dropped by the kernel when the user is not
/// root.
pub fn become_user(identity: &Identity) -> Result<(), HelperError> {
    let groups: Vec<Gid> = identity
        .groups
        .iter()
        .map(|&gid| Gid::from_raw(gid))
        .collect();
    rustix::thread::set_keep_capabilities(true).to("keep capabilities")?;
    crate::sys::spawn::set_groups(&groups).to("set the groups")?;
    let gid = Gid::from_raw(identity.gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid).to("set the group")?;
    let uid = Uid::from_raw(identity.uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid).to("set the user")?;
    rustix::thread::set_keep_capabilities(false).to("keep no more capabilities")
}

/// Gives the process its list of capabilities, permitted and effective, none
/// inheritable or ambient (CVE-2022-24769). By the kernel's rules exec then
/// gives root the bounding set, which is the list, and other users nothing.
///
/// What the agent itself does not have, on a kernel without it or in a test,
/// cannot be given.
pub fn set_capabilities(allowed: CapabilitySet) -> Result<(), HelperError> {
    let own = rustix::thread::capabilities(None).to("read the capabilities")?;
    let allowed = allowed & own.permitted;
    let sets = CapabilitySets {
        effective: allowed,
        permitted: allowed,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::clear_ambient_capability_set().to("clear ambient capabilities")?;
    rustix::thread::set_capabilities(None, sets).to("set the capabilities")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bits_and_unknown_ones_are_refused() {
        let names = ["CAP_CHOWN", "SYS_ADMIN", "CAP_CHECKPOINT_RESTORE"].map(str::to_owned);
        let set = capability_set(&names).unwrap();
        assert_eq!(set.bits(), 1 | 1 << 21 | 1 << 40);
        assert!(capability_set(&["CAP_SYS_EVERYTHING".to_owned()]).is_err());
        assert!(capability_set(&["cap_chown".to_owned()]).is_err());
    }

    #[test]
    fn an_unknown_limit_is_refused_by_name() {
        let limit = RlimitSpec {
            name: "files".into(),
            soft: 1,
            hard: 1,
        };
        let error = resource(&limit).unwrap_err();
        assert_eq!(error.to_string(), r#""files" is no resource limit"#);
    }
}
