//! What pods of an ordinary user take: the same KVM, and in the place of root's rights
//! a namespace of users and pasta.

use super::{Finding, Grade};
use crate::host::{ordinary, pasta};
use crate::settings::Settings;
use crate::sys::userns;

/// What takes the place of root's bridges, cgroups and taps.
pub(super) fn findings(settings: &Settings) -> Vec<Finding> {
    let mut findings = vec![rights(), cgroup(), namespaces(), network()];
    findings.extend(runtime_directory(settings));
    findings
}

fn rights() -> Finding {
    Finding::new(
        "rights",
        Grade::Good,
        "an ordinary user: what then needs root is named when it is asked for",
    )
}

fn cgroup() -> Finding {
    Finding::new(
        "cgroup",
        Grade::Doubtful,
        "none for an ordinary user: the size of its machine is a pod's only limit on this host",
    )
}

fn namespaces() -> Finding {
    const NAME: &str = "userns";
    match userns::forbidden() {
        None if has_others() => Finding::new(NAME, Grade::Good, "each VMM a user of /etc/subuid"),
        None => {
            let text = "no further users: VMMs run as this user, apart by their namespaces alone";
            Finding::new(NAME, Grade::Doubtful, text).advise(
                "as root: apt-get install uidmap; \
                 usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER",
            )
        }
        Some(why) => {
            let text = format!("{why}: no network for pods, and VMMs are less shut in");
            let (key, _) = why.split_once(" is ").unwrap_or((why, ""));
            let value = match key {
                "user.max_user_namespaces" => 10_000,
                "kernel.unprivileged_userns_clone" => 1,
                _ => 0,
            };
            let advice = format!("as root: sysctl -w {key}={value}");
            Finding::new(NAME, Grade::Doubtful, text).advise(advice)
        }
    }
}

fn has_others() -> bool {
    let own = rustix::process::geteuid().as_raw();
    let is_there = |program: &&str| ordinary::is_there(program);
    ["newuidmap", "newgidmap"].iter().all(is_there) && userns::has_others(own)
}

/// The tap and who carries its packets; pods without a network run without.
fn network() -> Finding {
    const NAME: &str = "network";
    if !ordinary::is_there(pasta::PROGRAM) {
        let text = "pasta is not found: only pods without a network (--network none) can run";
        return Finding::new(NAME, Grade::Doubtful, text).advise("apt-get install passt");
    }
    match super::tun() {
        Finding {
            grade: Grade::Good, ..
        } => Finding::new(NAME, Grade::Good, "pasta, /dev/net/tun"),
        Finding { found, .. } => {
            let text = format!("{found}: only pods without a network (--network none) can run");
            Finding::new(NAME, Grade::Doubtful, text)
                .advise("as root: modprobe tun; chmod 666 /dev/net/tun")
        }
    }
}

/// Nothing about a session that has one.
fn runtime_directory(settings: &Settings) -> Option<Finding> {
    let is_set = std::env::var_os("XDG_RUNTIME_DIR").is_some();
    let is_fallback = settings.state.starts_with("/tmp");
    (is_fallback && !is_set).then(|| {
        let shown = settings.state.display();
        let text = format!("XDG_RUNTIME_DIR is not set: sockets of pods lie in {shown}");
        Finding::new("runtime", Grade::Doubtful, text)
            .advise("log in by way of systemd, or `loginctl enable-linger`")
    })
}
