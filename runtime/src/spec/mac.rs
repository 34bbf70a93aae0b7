//! SELinux and AppArmor: a pod's machine has neither. What a container runtime
//! does on a node without them is done here: labels and the default profile
//! have no effect, and a profile by name, which somebody relies on, is refused.

use super::check::Check;
use super::yaml::join;
use k8s_openapi::api::core::v1 as core;
use std::collections::BTreeMap;

/// Labels of SELinux, and how volumes would get them.
pub fn selinux(
    path: &str,
    options: Option<&core::SELinuxOptions>,
    change_policy: Option<&str>,
    check: &mut Check<'_>,
) {
    let why = "has no effect: a pod's machine has no SELinux";
    let policy = join(path, "seLinuxChangePolicy");
    let words = [("MountOption", ()), ("Recursive", ())];
    check.choice(&policy, change_policy, &words);
    if change_policy.is_some() {
        check.warn(&policy, why);
    }
    if options.is_some() {
        check.warn(&join(path, "seLinuxOptions"), why);
    }
}

/// Profiles of containers as manifests gave them before Kubernetes 1.30, where an API
/// server still makes the field of them.
pub fn apparmor_annotations(annotations: &BTreeMap<String, String>, check: &mut Check<'_>) {
    const PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
    for (key, profile) in annotations {
        let path = join("metadata.annotations", key);
        match profile.as_str() {
            _ if !key.starts_with(PREFIX) => {}
            "unconfined" => {}
            "runtime/default" => {
                check.warn(&path, "has no effect: a pod's machine has no AppArmor");
            }
            _ => check.wrong(
                &path,
                "refused: a pod's machine has no AppArmor, so that no profile would hold \
                 (runtime/default and unconfined run)",
            ),
        }
    }
}

/// Profiles of seccomp as manifests gave them before Kubernetes 1.19; since 1.27 an API
/// server makes nothing of them.
pub fn seccomp_annotations(annotations: &BTreeMap<String, String>, check: &mut Check<'_>) {
    const POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
    const CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
    let all = annotations.keys();
    for key in all.filter(|key| *key == POD || key.starts_with(CONTAINER)) {
        check.warn(
            &join("metadata.annotations", key),
            "has no effect since Kubernetes 1.27: seccompProfile of a securityContext has",
        );
    }
}

/// A profile of AppArmor.
pub fn apparmor(path: &str, profile: Option<&core::AppArmorProfile>, check: &mut Check<'_>) {
    let Some(profile) = profile else { return };
    let core::AppArmorProfile {
        localhost_profile,
        type_,
    } = profile;
    let path = join(path, "appArmorProfile");
    let file = join(&path, "localhostProfile");
    let words = [
        ("RuntimeDefault", "RuntimeDefault"),
        ("Unconfined", "Unconfined"),
        ("Localhost", "Localhost"),
    ];
    let kind = check.choice(&join(&path, "type"), Some(type_), &words);
    match (kind, localhost_profile.as_deref()) {
        ("Localhost", None | Some("")) => {
            check.wrong(&file, "must be set when AppArmor type is Localhost");
        }
        ("Localhost", Some(_)) => check.wrong(
            &file,
            "refused: a pod's machine has no AppArmor, so that no profile would hold \
             (RuntimeDefault and Unconfined run)",
        ),
        (_, Some(_)) => check.wrong(&file, "can only be set when AppArmor type is Localhost"),
        ("RuntimeDefault", None) => {
            check.warn(&path, "has no effect: a pod's machine has no AppArmor");
        }
        (_, None) => {}
    }
}
