//! Security contexts: the pod's settings merged into each container's.

use super::check::Check;
use super::mac;
use super::schema::closest;
use super::sysctl;
use super::types::{ContainerSecurity, RunAs, SeccompChoice};
use beluga_proto::capability::CAPABILITIES;
use k8s_openapi::api::core::v1 as core;
use std::collections::{BTreeMap, BTreeSet};

/// What the pod says for all of its containers.
#[derive(Default)]
pub struct Shared {
    run_as: RunAs,
    seccomp: Option<SeccompChoice>,
    /// Owner of the volumes, and a group of every process.
    pub fs_group: Option<u32>,
    /// Only volumes whose root is not the owner's yet are given to it.
    pub fs_group_on_mismatch: bool,
    /// Groups of every process.
    pub supplemental_groups: Vec<u32>,
    /// No groups but these: the image's group file adds none.
    pub strict_groups: bool,
    /// Kernel parameters of the pod.
    pub sysctls: BTreeMap<String, String>,
}

/// Converts the pod's security context.
pub fn shared(context: Option<&core::PodSecurityContext>, check: &mut Check<'_>) -> Shared {
    let Some(context) = context else {
        return Shared::default();
    };
    let core::PodSecurityContext {
        app_armor_profile,
        fs_group,
        fs_group_change_policy,
        run_as_group,
        run_as_non_root,
        run_as_user,
        se_linux_change_policy,
        se_linux_options,
        seccomp_profile,
        supplemental_groups,
        supplemental_groups_policy,
        sysctls,
        windows_options,
    } = context;
    let path = "spec.securityContext";
    check.unsupported(path, &[("windowsOptions", windows_options.is_some())]);
    mac::apparmor(path, app_armor_profile.as_ref(), check);
    let policy = se_linux_change_policy.as_deref();
    mac::selinux(path, se_linux_options.as_ref(), policy, check);
    let fs_group_on_mismatch = check.choice(
        &format!("{path}.fsGroupChangePolicy"),
        fs_group_change_policy.as_deref(),
        // Most volumes are made new for each pod, and then both come to the same.
        &[("Always", false), ("OnRootMismatch", true)],
    );
    let groups = supplemental_groups.iter().flatten().enumerate();
    Shared {
        run_as: RunAs {
            user: id(path, "runAsUser", *run_as_user, check),
            group: id(path, "runAsGroup", *run_as_group, check),
            non_root: run_as_non_root.unwrap_or_default(),
        },
        seccomp: seccomp(path, seccomp_profile.as_ref(), check),
        sysctls: sysctl::read(path, sysctls.as_deref().unwrap_or_default(), check),
        fs_group: id(path, "fsGroup", *fs_group, check),
        fs_group_on_mismatch,
        strict_groups: check.choice(
            &format!("{path}.supplementalGroupsPolicy"),
            supplemental_groups_policy.as_deref(),
            &[("Merge", false), ("Strict", true)],
        ),
        supplemental_groups: groups
            .filter_map(|(at, group)| {
                id(
                    path,
                    &format!("supplementalGroups[{at}]"),
                    Some(*group),
                    check,
                )
            })
            .collect(),
    }
}

/// Converts a container's security context on top of the pod's.
pub fn merge(
    path: &str,
    context: Option<&core::SecurityContext>,
    shared: &Shared,
    check: &mut Check<'_>,
) -> ContainerSecurity {
    let mut out = ContainerSecurity {
        run_as: shared.run_as.clone(),
        seccomp: shared.seccomp.clone(),
        allow_privilege_escalation: true,
        ..ContainerSecurity::default()
    };
    if let Some(context) = context {
        container(path, context, &mut out, check);
    }
    if out.run_as.non_root && out.run_as.user == Some(0) {
        check.wrong(
            &format!("{path}.runAsUser"),
            "0 is root, which runAsNonRoot forbids",
        );
    }
    out
}

fn container(
    path: &str,
    context: &core::SecurityContext,
    out: &mut ContainerSecurity,
    check: &mut Check<'_>,
) {
    let core::SecurityContext {
        allow_privilege_escalation,
        app_armor_profile,
        capabilities: caps,
        privileged,
        proc_mount,
        read_only_root_filesystem,
        run_as_group,
        run_as_non_root,
        run_as_user,
        se_linux_options,
        seccomp_profile,
        windows_options,
    } = context;
    check.unsupported(path, &[("windowsOptions", windows_options.is_some())]);
    mac::apparmor(path, app_armor_profile.as_ref(), check);
    mac::selinux(path, se_linux_options.as_ref(), None, check);
    out.privileged = privileged.unwrap_or_default();
    out.unmasked_proc = check.choice(
        &format!("{path}.procMount"),
        proc_mount.as_deref(),
        &[("Default", false), ("Unmasked", true)],
    );
    out.read_only_root = read_only_root_filesystem.unwrap_or_default();
    out.allow_privilege_escalation = allow_privilege_escalation.unwrap_or(true);
    let user = id(path, "runAsUser", *run_as_user, check);
    let group = id(path, "runAsGroup", *run_as_group, check);
    out.run_as.user = user.or(out.run_as.user);
    out.run_as.group = group.or(out.run_as.group);
    out.run_as.non_root = run_as_non_root.unwrap_or(out.run_as.non_root);
    out.seccomp = seccomp(path, seccomp_profile.as_ref(), check).or_else(|| out.seccomp.take());
    if let Some(core::Capabilities { add, drop }) = caps {
        out.add_capabilities = capabilities(&format!("{path}.capabilities.add"), add, check);
        out.drop_capabilities = capabilities(&format!("{path}.capabilities.drop"), drop, check);
    }
    if !out.allow_privilege_escalation {
        let path = format!("{path}.allowPrivilegeEscalation");
        if out.privileged {
            check.wrong(&path, "cannot be false while privileged is true");
        }
        if out.add_capabilities.contains("SYS_ADMIN") {
            check.wrong(
                &path,
                "cannot be false while the capability SYS_ADMIN is added",
            );
        }
    }
}

fn id(path: &str, field: &str, value: Option<i64>, check: &mut Check<'_>) -> Option<u32> {
    let id = check.number::<i32>(&format!("{path}.{field}"), value?, "from 0 to 2147483647")?;
    let unsigned = u32::try_from(id).ok();
    if unsigned.is_none() {
        check.wrong(
            &format!("{path}.{field}"),
            format!("{id} is not from 0 to 2147483647"),
        );
    }
    unsigned
}

fn seccomp(
    path: &str,
    profile: Option<&core::SeccompProfile>,
    check: &mut Check<'_>,
) -> Option<SeccompChoice> {
    let core::SeccompProfile {
        localhost_profile,
        type_,
    } = profile?;
    let path = format!("{path}.seccompProfile");
    let file = format!("{path}.localhostProfile");
    match (type_.as_str(), localhost_profile.as_deref()) {
        ("Localhost", None | Some("")) => {
            check.wrong(&file, "must be set when seccomp type is Localhost");
            return None;
        }
        ("Localhost", Some(profile)) => {
            if let Err(why) = super::sub_path(profile) {
                check.wrong(&file, why);
            }
            return Some(SeccompChoice::Localhost(profile.to_owned()));
        }
        (_, Some(_)) => check.wrong(&file, "can only be set when seccomp type is Localhost"),
        (_, None) => {}
    }
    let is_free = check.choice(
        &format!("{path}.type"),
        Some(type_),
        &[
            ("RuntimeDefault", false),
            ("Unconfined", true),
            ("Localhost", false),
        ],
    );
    Some(if is_free {
        SeccompChoice::Unconfined
    } else {
        SeccompChoice::RuntimeDefault
    })
}

/// Names in upper case and without the kernel's prefix: Kubernetes checks none of
/// them, and containerd takes `all` and `net_admin` as well.
fn capabilities(path: &str, list: &Option<Vec<String>>, check: &mut Check<'_>) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for (at, name) in list.iter().flatten().enumerate() {
        let upper = name.to_ascii_uppercase();
        // podman writes the prefix.
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if upper == "ALL" || CAPABILITIES.contains(&bare) {
            out.insert(bare.to_owned());
            continue;
        }
        let path = format!("{path}[{at}]");
        let shown: String = name.chars().take(60).collect();
        let message = format!("{shown:?} is not a capability of Linux");
        let known: Vec<&str> = std::iter::once("ALL").chain(CAPABILITIES).collect();
        match closest(bare, &known) {
            Some((_, meant)) => {
                check.wrong_with_hint(&path, message, format!("did you mean {meant}?"));
            }
            None => check.wrong(&path, message),
        }
    }
    out
}
