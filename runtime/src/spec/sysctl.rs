//! Kernel parameters of a pod: which ones it has of its own, and which of those
//! only an operator can allow, as the kubelet has it.

use super::check::Check;
use super::issue::Position;
use super::yaml::join;
use k8s_openapi::api::core::v1 as core;
use std::collections::BTreeMap;

/// Parameters that no operator has to allow: the kubelet's list.
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// Longest name, as Kubernetes has it.
const MAX_NAME: usize = 253;

/// Whether each pod has the parameter, or all that begin so, of its own: those of
/// its network and its IPC objects. The others are the guest kernel's, and with
/// them a pod could do no more harm than to itself; but a manifest must mean the
/// same everywhere.
fn is_own(name: &str) -> bool {
    const OWN: [&str; 4] = ["net.", "kernel.shm", "kernel.msg", "fs.mqueue."];
    name == "kernel.sem" || OWN.iter().any(|own| name.starts_with(own))
}

/// A name with dots, as sysctl(8): either separator, a dot inside a part is a
/// slash then.
fn dotted(name: &str) -> String {
    match (name.find('.'), name.find('/')) {
        (dot, Some(slash)) if dot.is_none_or(|dot| slash < dot) => name
            .chars()
            .map(|c| match c {
                '/' => '.',
                '.' => '/',
                other => other,
            })
            .collect(),
        _ => name.to_owned(),
    }
}

/// What is wrong with a list of parameters; what is not, by name.
pub(super) fn read(
    path: &str,
    list: &[core::Sysctl],
    check: &mut Check<'_>,
) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for (at, core::Sysctl { name, value }) in list.iter().enumerate() {
        let path = format!("{path}.sysctls[{at}]");
        let dotted = dotted(name);
        let is_shaped = dotted
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'/' | b'_' | b'-'));
        if !is_shaped || dotted.split(['.', '/']).any(str::is_empty) {
            check.shape(&join(&path, "name"), name, |_| {
                Err("is not the name of a kernel parameter")
            });
        } else if !is_own(&dotted) {
            check.wrong(
                &join(&path, "name"),
                format!("{name:?} is not a parameter that a pod has of its own"),
            );
        } else if value.contains(['\n', '\0']) {
            check.wrong(&join(&path, "value"), "must be one line");
        } else if out.insert(dotted, value.clone()).is_some() {
            check.wrong(&join(&path, "name"), format!("{name:?} is set twice"));
        }
    }
    out
}

/// Where each parameter is written, by its name with dots.
pub(super) fn places(pod: &core::Pod, check: &Check<'_>) -> BTreeMap<String, (Position, String)> {
    let context = pod.spec.iter().flat_map(|spec| &spec.security_context);
    let all = context.flat_map(|one| one.sysctls.iter().flatten());
    let places = all.enumerate().map(|(at, one)| {
        let path = format!("spec.securityContext.sysctls[{at}].name");
        (dotted(&one.name), check.position(&path))
    });
    places.collect()
}

/// A parameter that an operator allows, or with `*` at its end all that begin
/// so; errors with what the kubelet says.
pub fn sysctl_pattern(text: &str) -> Result<String, String> {
    let is_good =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"./_-".contains(&byte);
    let name = dotted(text.trim());
    let start = name.strip_suffix('*').unwrap_or(&name);
    if start.is_empty() || start.len() > MAX_NAME || !start.bytes().all(is_good) {
        return Err(format!(
            "sysctl {text:?} must have at most {MAX_NAME} characters and be the name of a kernel \
             parameter, or the beginning of one and *"
        ));
    }
    if is_own(start) {
        return Ok(name);
    }
    let what = if start.len() < name.len() {
        "sysctls"
    } else {
        "sysctl"
    };
    Err(format!(
        "the {what} {text:?} are not known to be namespaced"
    ))
}

/// A list of them with commas; `None` when one is wrong.
#[must_use]
pub fn sysctl_patterns(text: &str) -> Option<Vec<String>> {
    let all = text.split(',').filter(|one| !one.trim().is_empty());
    all.map(|one| sysctl_pattern(one).ok()).collect()
}

/// Whether a pod may have the parameter.
#[must_use]
pub fn is_allowed_sysctl(name: &str, patterns: &[String]) -> bool {
    let is_meant = |pattern: &String| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    };
    SAFE.contains(&name) || patterns.iter().any(is_meant)
}

/// What the kubelet says of a parameter that nobody has allowed.
#[must_use]
pub fn forbidden_sysctl(name: &str) -> String {
    format!("forbidden sysctl: {name:?} not allowlisted")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_safe_or_allowed_may_be_set() {
        let patterns = sysctl_patterns("kernel.msg*, net/core/somaxconn,,fs.mqueue.*").unwrap();
        let allowed = |name: &str| is_allowed_sysctl(name, &patterns);
        assert!(SAFE.iter().all(|name| is_own(name) && allowed(name)));
        assert!(SAFE.is_sorted());
        assert!(allowed("kernel.msgmax") && allowed("fs.mqueue.msg_max"));
        assert!(allowed("net.core.somaxconn"));
        assert!(!allowed("net.core.somaxconn2") && !allowed("kernel.sem"));
        assert!(!is_allowed_sysctl("kernel.msgmax", &[]));
    }

    #[test]
    fn patterns_of_what_pods_share_are_refused() {
        for (text, why) in [
            (
                "kernel.*",
                "the sysctls \"kernel.*\" are not known to be namespaced",
            ),
            (
                "vm.swappiness",
                "the sysctl \"vm.swappiness\" are not known to be namespaced",
            ),
            ("*", "must have at most 253 characters"),
            ("net.*.x", "must have at most 253 characters"),
            ("kernel.MSG*", "must have at most 253 characters"),
        ] {
            let error = sysctl_pattern(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
            assert!(sysctl_patterns(text).is_none());
        }
    }
}
