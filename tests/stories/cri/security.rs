//! What containers may do is what the request says, and no more.

use super::SHARED;
use beluga_tests::cri::{
    Capability, ContainerConfig, Int64Value, LinuxContainerConfig, LinuxContainerSecurityContext,
    SecurityProfile, busybox, security_profile::ProfileType,
};
use std::fs;

/// A container with a security context.
fn with(name: &str, security: LinuxContainerSecurityContext) -> ContainerConfig {
    ContainerConfig {
        linux: Some(LinuxContainerConfig {
            resources: None,
            security_context: Some(security),
        }),
        ..busybox(name, "sleep 1000")
    }
}

fn profile(kind: ProfileType, path: &str) -> Option<SecurityProfile> {
    Some(SecurityProfile {
        profile_type: kind.into(),
        localhost_ref: path.to_owned(),
    })
}

#[test]
fn paths_are_masked_and_write_protected_and_users_and_groups_are_those_of_the_request() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let covered = LinuxContainerSecurityContext {
        masked_paths: vec!["/bin/ls".to_owned(), "/no/such/path".to_owned()],
        readonly_paths: vec!["/tmp".to_owned()],
        ..LinuxContainerSecurityContext::default()
    };
    let id = cri.container(sandbox, with("covered", covered));
    let refused = cri.sh(&id, "! /bin/ls 2>&1");
    assert!(refused.contains("Permission denied"), "{refused}");
    let refused = cri.sh(&id, "! touch /tmp/x 2>&1");
    assert_eq!(refused, "touch: /tmp/x: Read-only file system");
    cri.remove(&id);
    let named = LinuxContainerSecurityContext {
        run_as_username: "nobody".to_owned(),
        supplemental_groups: vec![1234, 5678],
        ..LinuxContainerSecurityContext::default()
    };
    let id = cri.container(sandbox, with("named", named));
    assert_eq!(cri.sh(&id, "id -nu"), "nobody");
    let groups = cri.sh(&id, "id -G");
    assert!(
        groups.contains("1234") && groups.contains("5678"),
        "{groups}"
    );
    cri.remove(&id);
    let group_alone = LinuxContainerSecurityContext {
        run_as_group: Some(Int64Value { value: 1002 }),
        ..LinuxContainerSecurityContext::default()
    };
    let refused = cri.create(sandbox, with("group", group_alone));
    assert!(refused.is_err(), "a group without a user");
}

#[test]
fn capabilities_and_filters_of_system_calls_are_those_of_the_request() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let filter = |id: &str| cri.sh(id, "awk '/^Seccomp:/ {print $2}' /proc/self/status");
    let added = LinuxContainerSecurityContext {
        capabilities: Some(Capability {
            add_capabilities: vec!["NET_ADMIN".to_owned()],
            drop_capabilities: vec!["NET_RAW".to_owned()],
            ..Capability::default()
        }),
        ..LinuxContainerSecurityContext::default()
    };
    let id = cri.container(sandbox, with("capabilities", added));
    // Whoever says nothing of system calls may make all of them.
    assert_eq!(filter(&id), "0");
    cri.sh(&id, "ip link add kept type bridge && ip link del kept");
    let refused = cri.sh(&id, "! ping -c 1 127.0.0.1 2>&1");
    assert!(refused.contains("permission denied"), "{refused}");
    cri.remove(&id);
    let path = cri.place.path().join("chmod.json");
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls":
        [{"names": ["chmod", "fchmodat"], "action": "SCMP_ACT_ERRNO"}]}"#;
    fs::write(&path, text).expect("a profile");
    let filtered = |kind, path: &str| LinuxContainerSecurityContext {
        seccomp: profile(kind, path),
        ..LinuxContainerSecurityContext::default()
    };
    let localhost = filtered(ProfileType::Localhost, &path.display().to_string());
    let id = cri.container(sandbox, with("profile", localhost.clone()));
    let refused = cri.sh(&id, "! chmod 400 / 2>&1");
    assert!(refused.contains("Operation not permitted"), "{refused}");
    cri.remove(&id);
    let id = cri.container(
        sandbox,
        with("default", filtered(ProfileType::RuntimeDefault, "")),
    );
    assert_eq!(filter(&id), "2");
    cri.remove(&id);
    let privileged = LinuxContainerSecurityContext {
        privileged: true,
        ..localhost
    };
    let id = cri.container(sandbox, with("privileged", privileged));
    assert_eq!(filter(&id), "0");
    cri.remove(&id);
}
