//! Whom the VMM becomes.

use crate::sys::userns;
use beluga_proto::PodUid;
use beluga_proto::vm::JailConfig;
use rustix::thread::CapabilitySet;
use std::ops::Range;

/// First user of pods: behind those that systemd gives to containers, and below
/// what old programs take for a negative number.
const FIRST_USER: u32 = 0x7000_0000;

/// How many there are.
const USERS: u32 = 0x0fff_fff0;

/// The jail of a pod's VMM. Its user is the pod's own, where this process may
/// become another: in an ordinary user's namespace it is one of those that the user
/// was given, where that is so.
#[must_use]
pub fn of(uid: &PodUid) -> JailConfig {
    JailConfig {
        user: may_become().then(|| user(uid, &userns::others())).flatten(),
    }
}

/// A pod's user: a number from its UID, of which two pods have the same one time
/// in 268 million. It owns no file and is in no database. Where there are fewer
/// `others`, it is one of them; `None` where there is none.
#[must_use]
pub fn user(uid: &PodUid, others: &Range<u32>) -> Option<u32> {
    by_text(uid.as_str(), others)
}

/// The user of a process that serves all pods of a network, by the name of its bridge;
/// `None` where this process may not become another.
#[must_use]
pub fn of_name(name: &str) -> Option<u32> {
    may_become()
        .then(|| by_text(name, &userns::others()))
        .flatten()
}

fn may_become() -> bool {
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::SETPCAP;
    let held = rustix::thread::capabilities(None);
    held.is_ok_and(|held| held.effective.contains(needed))
}

fn by_text(text: &str, others: &Range<u32>) -> Option<u32> {
    // FNV-1a.
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let own = FIRST_USER + hash % USERS;
    if others.contains(&own) {
        return Some(own);
    }
    let count = u32::try_from(others.len())
        .ok()
        .filter(|count| *count > 0)?;
    Some(others.start + hash % count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pod_has_a_user_of_its_own() {
        let users: std::collections::BTreeSet<u32> = (0..=255)
            .filter_map(|byte| user(&PodUid::from_random([byte; 16]), &(1..u32::MAX)))
            .collect();
        assert_eq!(users.len(), 256);
        assert!(
            users
                .iter()
                .all(|user| (0x7000_0000..0x8000_0000).contains(user))
        );
    }

    #[test]
    fn of_few_users_a_pod_has_one() {
        let of = |others| user(&PodUid::from_random([7; 16]), &others);
        assert!(of(1..65_537).is_some_and(|user| (1..65_537).contains(&user)));
        assert_eq!(of(1..1), None);
    }
}
