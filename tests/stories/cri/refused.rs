//! What a pod in a machine of its own cannot have is refused by name; none of this
//! takes a pod.

use beluga_tests::Beluga;
use beluga_tests::cri::{
    Code, Cri, Int64Value, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode,
    PodSandboxConfig, RemoveImageRequest, RemovePodSandboxRequest, RuntimeConfigRequest,
    StopContainerRequest,
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
fn the_hosts_network_is_refused() {
    let beluga = Beluga::fresh();
    let cri = Cri::start(&beluga);
    let mut security = LinuxSandboxSecurityContext::default();
    let namespaces = security.namespace_options.get_or_insert_default();
    namespaces.network = NamespaceMode::Node.into();
    let refused = cri.run(with(&cri, security));
    let refused = refused.expect_err("the host's network");
    assert_eq!(refused.code(), Code::Unimplemented);
    let why = refused.message();
    assert!(why.starts_with("hostNetwork is not supported"), "{refused}");
}

#[test]
fn a_group_without_a_user_is_refused() {
    let beluga = Beluga::fresh();
    let cri = Cri::start(&beluga);
    let security = LinuxSandboxSecurityContext {
        run_as_group: Some(Int64Value { value: 1000 }),
        ..LinuxSandboxSecurityContext::default()
    };
    let refused = cri.run(with(&cri, security));
    let refused = refused.expect_err("a group alone");
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[test]
fn what_is_not_there_is_stopped_and_removed_without_an_error() {
    let beluga = Beluga::fresh();
    let cri = Cri::start(&beluga);
    for gone in ["0123", "no such thing"] {
        cri.stop_sandbox(gone);
        cri.remove_sandbox(gone);
        cri.stop(gone, 1);
        cri.remove(gone);
        assert_eq!(cri.container_status(gone), None);
    }
    let mut request = RemoveImageRequest::default();
    request.image.get_or_insert_default().image = "absent:latest".to_owned();
    let removed = cri.call(async { cri.images().remove_image(request).await });
    removed.expect("nothing to remove");
}

#[test]
fn an_identifier_is_required() {
    let beluga = Beluga::fresh();
    let cri = Cri::start(&beluga);
    let request = StopContainerRequest::default();
    let stopped = cri.call(async { cri.runtime().stop_container(request).await });
    let request = RemovePodSandboxRequest::default();
    let removed = cri.call(async { cri.runtime().remove_pod_sandbox(request).await });
    for refused in [stopped.map(drop), removed.map(drop)] {
        let refused = refused.expect_err("nothing is named");
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
}

#[test]
fn the_runtime_says_what_it_is() {
    let beluga = Beluga::fresh();
    let cri = Cri::start(&beluga);
    assert!(cri.is_ready());
    let request = RuntimeConfigRequest::default();
    let config = cri.call(async { cri.runtime().runtime_config(request).await });
    let config = config.expect("a driver").linux.expect("linux");
    assert_eq!(config.cgroup_driver, 1);
}
