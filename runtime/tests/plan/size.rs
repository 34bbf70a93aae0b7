//! How large a pod is, and what bounds it as a whole.

use super::*;

#[test]
fn sizes_follow_from_the_containers() {
    let size = |containers: &str| {
        let plan = planned(&pod(containers)).unwrap();
        (
            plan.vm.vcpus,
            plan.vm.memory_mib,
            plan.vm.sizing.cpu_line(),
            plan.vm.sizing.memory_line(plan.vm.memory_mib),
        )
    };
    assert_eq!(
        size("{name: a, image: tools}"),
        (1, 512, "default".into(), "default".into())
    );
    assert_eq!(
        size("{name: a, image: tools, resources: {limits: {memory: 1Mi}}}"),
        (1, 48, "default".into(), "a 1Mi + 47Mi guest".into())
    );
    assert_eq!(
        size("{name: a, image: tools, resources: {limits: {memory: 96Mi, cpu: 1200m}}}"),
        (2, 130, "a 1200m".into(), "a 96Mi + 33Mi guest".into())
    );
    // Who says nothing may use whatever is there.
    assert_eq!(
        size(
            "{name: a, image: tools, resources: {limits: {memory: 96Mi}}}, {name: b, image: tools}"
        ),
        (
            1,
            512,
            "default".into(),
            "default, as not every container has a limit; a 96Mi + 33Mi guest".into()
        )
    );
}

/// A pod that says itself what its containers may use.
fn whole(resources: &str, containers: &str) -> String {
    pod(containers).replace("spec: {", &format!("spec: {{resources: {resources}, "))
}

#[test]
fn a_pod_is_bounded_as_a_whole() {
    let quiet = "{name: a, image: tools}";
    let limited = planned(&whole("{limits: {cpu: 500m, memory: 64Mi}}", quiet)).unwrap();
    let both = CgroupLimits {
        cpu_quota_micros: Some(50_000),
        memory_max: Some(64 << 20),
        ..CgroupLimits::default()
    };
    assert_eq!(limited.guest.cgroup, both);
    assert_eq!((limited.vm.vcpus, limited.vm.memory_mib), (1, 98));
    assert!(limited.containers[0].template.cgroup.is_empty());
    assert!(planned(&pod(quiet)).unwrap().guest.cgroup.is_empty());
    // What is requested counts where the containers do not come to as much, and
    // bounds nobody.
    let own = "{name: a, image: tools, resources: {limits: {memory: 128Mi}}}";
    for (requests, line, vcpus) in [
        ("{cpu: 3, memory: 256Mi}", "pod 256Mi + 36Mi guest", 3),
        ("{memory: 128Mi}", "a 128Mi + 34Mi guest", 1),
    ] {
        let plan = planned(&whole(&format!("{{requests: {requests}}}"), own)).unwrap();
        assert_eq!(plan.vm.sizing.memory_line(plan.vm.memory_mib), line);
        assert_eq!(plan.vm.vcpus, vcpus);
        assert!(plan.guest.cgroup.is_empty());
    }
    // Whoever fills a sandbox says what may be used inside.
    let mut sandbox = PodSpec::of_sandbox("s".into(), "default".into(), Sandbox::default());
    sandbox.resources.memory_limit = Some(64 << 20);
    let host = HostFacts {
        host_paths: vec!["".into()],
        ..host()
    };
    let (none, images) = (Objects::default(), BTreeMap::new());
    let plan = plan(&sandbox, &images, &none, &host, identity("s")).unwrap();
    assert!(plan.guest.cgroup.is_empty());
}

#[test]
fn processes_are_as_many_as_the_operator_says() {
    let spec = spec::parse("pod.yaml", &pod("{name: a, image: tools}"))
        .unwrap()
        .remove(0)
        .spec;
    let bounded = HostFacts {
        pids_max: Some(100),
        ..host()
    };
    let objects = Objects::default();
    let plan = plan(&spec, &images(), &objects, &bounded, identity("web")).unwrap();
    assert_eq!(plan.guest.cgroup.pids_max, Some(100));
    assert_eq!(plan.containers[0].template.cgroup.pids_max, Some(100));
    // Who changes the pod later need not say it again.
    let changes = Changes {
        anew: ["a".to_owned()].into(),
        ..Changes::default()
    };
    let next = amend(&plan, &spec, &changes, &images(), &objects, &host()).unwrap();
    assert_eq!(next.containers[0].template.cgroup.pids_max, Some(100));
    assert_eq!(next.guest, plan.guest);
}
