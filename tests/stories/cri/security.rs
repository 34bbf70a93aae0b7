//! What containers may do is what the request says, and no more.

use super::SHARED;
use beluga_tests::cri::{
    Capability, ContainerConfig, Cri, Int64Value, LinuxContainerConfig,
    LinuxContainerSecurityContext, SecurityProfile, SupplementalGroupsPolicy, busybox,
    security_profile::ProfileType,
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

/// One whose system calls go through this filter.
fn filtered(kind: ProfileType, path: &str) -> LinuxContainerSecurityContext {
    LinuxContainerSecurityContext {
        seccomp: Some(SecurityProfile {
            profile_type: kind.into(),
            localhost_ref: path.to_owned(),
        }),
        ..LinuxContainerSecurityContext::default()
    }
}

/// The mode of the filter of a container's programs: 0 is none, 2 is one.
fn filter(cri: &Cri, id: &str) -> String {
    cri.sh(id, "awk '/^Seccomp:/ {print $2}' /proc/self/status")
}

/// Asserts that a line of the shell fails, for this reason.
#[track_caller]
fn fails(cri: &Cri, id: &str, line: &str, why: &str) {
    let said = cri.sh(id, &format!("! {line} 2>&1"));
    assert!(said.contains(why), "{said}");
}

/// Where something is mounted below /proc.
fn below_proc(cri: &Cri, id: &str) -> String {
    cri.sh(id, "awk '$2 ~ \"^/proc/\" {print $2}' /proc/mounts")
}

#[test]
fn paths_are_masked_and_write_protected() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let covered = LinuxContainerSecurityContext {
        masked_paths: ["/bin/ls", "/no/such/path", "/proc/timer_list"]
            .map(str::to_owned)
            .into(),
        readonly_paths: vec!["/tmp".to_owned()],
        ..LinuxContainerSecurityContext::default()
    };
    let id = cri.container(sandbox, with("covered", covered));
    fails(cri, &id, "/bin/ls", "Permission denied");
    let refused = cri.sh(&id, "! touch /tmp/x 2>&1");
    assert_eq!(refused, "touch: /tmp/x: Read-only file system");
    assert_eq!(below_proc(cri, &id), "/proc/timer_list", "and nothing else");
    cri.remove(&id);
}

#[test]
fn users_and_groups_are_those_of_the_request() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let named = LinuxContainerSecurityContext {
        run_as_username: "nobody".to_owned(),
        supplemental_groups: vec![1234, 5678],
        ..LinuxContainerSecurityContext::default()
    };
    let id = cri.container(sandbox, with("named", named));
    assert_eq!(cri.sh(&id, "id -nu"), "nobody");
    let groups = cri.sh(&id, "id -G");
    assert!(groups.contains("1234"), "{groups}");
    assert!(groups.contains("5678"), "{groups}");
    cri.remove(&id);
}

#[test]
fn a_strict_container_has_no_groups_of_its_image() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let strict = LinuxContainerSecurityContext {
        run_as_user: Some(Int64Value { value: 1000 }),
        run_as_group: Some(Int64Value { value: 2000 }),
        supplemental_groups: vec![3000],
        supplemental_groups_policy: SupplementalGroupsPolicy::Strict.into(),
        ..LinuxContainerSecurityContext::default()
    };
    let id = cri.container(sandbox, with("strict", strict));
    assert_eq!(cri.sh(&id, "id -G"), "2000 3000");
    let user = cri.container_status(&id).and_then(|one| one.user?.linux);
    assert_eq!(user.expect("told").supplemental_groups, [2000, 3000]);
    cri.remove(&id);
}

#[test]
fn a_group_without_a_user_is_refused() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let group_alone = LinuxContainerSecurityContext {
        run_as_group: Some(Int64Value { value: 1002 }),
        ..LinuxContainerSecurityContext::default()
    };
    let refused = cri.create(sandbox, with("group", group_alone));
    assert!(refused.is_err(), "a group without a user");
}

#[test]
fn capabilities_are_those_of_the_request() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let mut security = LinuxContainerSecurityContext::default();
    let capabilities: &mut Capability = security.capabilities.get_or_insert_default();
    capabilities.add_capabilities = vec!["NET_ADMIN".to_owned()];
    capabilities.drop_capabilities = vec!["NET_RAW".to_owned()];
    let id = cri.container(sandbox, with("capabilities", security));
    // Whoever says nothing of system calls may make all of them.
    assert_eq!(filter(cri, &id), "0");
    cri.sh(&id, "ip link add kept type bridge && ip link del kept");
    fails(cri, &id, "ping -c 1 127.0.0.1", "permission denied");
    cri.remove(&id);
}

/// A profile that has chmod fail, in a file of the host.
fn profile(cri: &Cri, name: &str) -> String {
    let path = cri.place.path().join(name);
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls":
        [{"names": ["chmod", "fchmodat"], "action": "SCMP_ACT_ERRNO"}]}"#;
    fs::write(&path, text).expect("a profile");
    path.display().to_string()
}

#[test]
fn filters_of_system_calls_are_those_of_the_request() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let own = filtered(ProfileType::Localhost, &profile(cri, "own.json"));
    let id = cri.container(sandbox, with("profile", own));
    let why = "Operation not permitted";
    fails(cri, &id, "chmod 400 /", why);
    cri.remove(&id);
    let default = filtered(ProfileType::RuntimeDefault, "");
    let id = cri.container(sandbox, with("default", default));
    assert_eq!(filter(cri, &id), "2");
    cri.remove(&id);
}

#[test]
fn a_privileged_container_has_no_filter_whatever_the_request_says() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let path = profile(cri, "not-for-privileged.json");
    let privileged = LinuxContainerSecurityContext {
        privileged: true,
        ..filtered(ProfileType::Localhost, &path)
    };
    let id = cri.container(sandbox, with("privileged", privileged));
    assert_eq!(filter(cri, &id), "0");
    cri.remove(&id);
}
