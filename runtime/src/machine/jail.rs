//! Whom the VMM becomes.

use beluga_proto::PodUid;
use beluga_proto::vm::JailConfig;
use rustix::thread::CapabilitySet;

/// First user of pods: behind those that systemd gives to containers, and below
/// what old programs take for a negative number.
const FIRST_USER: u32 = 0x7000_0000;

/// How many there are.
const USERS: u32 = 0x0fff_fff0;

/// The jail of a pod's VMM. Its user is the pod's own, where this process may
/// become another.
#[must_use]
pub fn of(uid: &PodUid) -> JailConfig {
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::SETPCAP;
    let held = rustix::thread::capabilities(None);
    let may = held.is_ok_and(|held| held.effective.contains(needed));
    JailConfig {
        user: may.then(|| user(uid)),
    }
}

/// A pod's user: a number from its UID, of which two pods have the same one time
/// in 268 million. It owns no file and is in no database.
#[must_use]
pub fn user(uid: &PodUid) -> u32 {
    // FNV-1a.
    let hash = uid.as_str().bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    FIRST_USER + hash % USERS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pod_has_a_user_of_its_own() {
        let users: std::collections::BTreeSet<u32> = (0..=255)
            .map(|byte| user(&PodUid::from_random([byte; 16])))
            .collect();
        assert_eq!(users.len(), 256);
        assert!(
            users
                .iter()
                .all(|user| (0x7000_0000..0x8000_0000).contains(user))
        );
    }
}
