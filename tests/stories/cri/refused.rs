//! What a pod in a machine of its own cannot have is refused by name; none of this
//! takes a pod.

use beluga_tests::Beluga;
use beluga_tests::cri::{
    Code, Cri, ImageSpec, Int64Value, LinuxPodSandboxConfig, LinuxSandboxSecurityContext,
    NamespaceMode, NamespaceOption, PodSandboxConfig, RemoveImageRequest, RuntimeConfigRequest,
    StatusRequest,
};

fn with(cri: &Cri, security: LinuxSandboxSecurityContext) -> PodSandboxConfig {
    PodSandboxConfig {
        linux: Some(LinuxPodSandboxConfig {
            security_context: Some(security),
            ..LinuxPodSandboxConfig::default()
        }),
        ..cri.sandbox("refused")
    }
}

#[test]
fn the_hosts_namespaces_and_a_group_without_a_user() {
    let beluga = Beluga::fresh();
    let cri = Cri::start(&beluga);
    let node = NamespaceMode::Node.into();
    let host_network = LinuxSandboxSecurityContext {
        namespace_options: Some(NamespaceOption {
            network: node,
            ..NamespaceOption::default()
        }),
        ..LinuxSandboxSecurityContext::default()
    };
    let refused = cri
        .run(with(&cri, host_network))
        .expect_err("the host's network");
    assert_eq!(refused.code(), Code::Unimplemented);
    assert!(
        refused
            .message()
            .starts_with("hostNetwork is not supported"),
        "{refused}"
    );
    let group = LinuxSandboxSecurityContext {
        run_as_group: Some(Int64Value { value: 1000 }),
        ..LinuxSandboxSecurityContext::default()
    };
    let refused = cri.run(with(&cri, group)).expect_err("a group alone");
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[test]
fn what_is_not_there_and_what_the_runtime_is() {
    let beluga = Beluga::fresh();
    let cri = Cri::start(&beluga);
    for gone in ["", "0123", "no such thing"] {
        cri.stop_sandbox(gone);
        cri.remove_sandbox(gone);
        cri.stop(gone, 1);
        cri.remove(gone);
        assert_eq!(cri.container_status(gone), None);
    }
    let image = Some(ImageSpec {
        image: "absent:latest".to_owned(),
        ..ImageSpec::default()
    });
    let request = RemoveImageRequest { image };
    cri.call(async { cri.images().remove_image(request).await })
        .expect("nothing to remove");
    let status = cri.call(async { cri.runtime().status(StatusRequest::default()).await });
    let conditions = status
        .expect("a status")
        .status
        .expect("a status")
        .conditions;
    assert!(conditions.iter().all(|one| one.status), "{conditions:?}");
    let config = RuntimeConfigRequest::default();
    let config = cri
        .call(async { cri.runtime().runtime_config(config).await })
        .expect("a driver");
    assert_eq!(config.linux.expect("linux").cgroup_driver, 1);
}
