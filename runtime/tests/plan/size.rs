//! How large a pod is, and what bounds it as a whole.

use super::*;

#[test]
fn sizes_follow_from_the_containers() {
    let size = |containers: &str| {
        let plan = planned(&pod(containers)).unwrap();
        (
            plan.vm.vcpus,
            plan.vm.memory_mib,
            plan.vm.sizing.cpu_line(plan.vm.vcpus),
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

#[test]
fn a_request_is_a_floor_and_leaves_room_to_burst() {
    let size = |resources: &str| {
        let quiet = "{name: b, image: tools}";
        let text = pod(&format!(
            "{{name: a, image: tools, resources: {resources}}}, {quiet}"
        ));
        let vm = planned(&text).unwrap().vm;
        (
            vm.vcpus,
            vm.memory_mib,
            vm.sizing.memory_line(vm.memory_mib),
        )
    };
    let more =
        |first: &str, sum: &str| format!("{first}, as not every container has a limit; {sum}");
    for (resources, vcpus, memory_mib, line) in [
        (
            "{requests: {memory: 64Mi, cpu: 100m}}",
            1,
            512,
            more("default", "a 64Mi + 33Mi guest"),
        ),
        (
            "{requests: {memory: 1Mi}}",
            1,
            512,
            more("default", "a 1Mi + 47Mi guest"),
        ),
        // 0 is no request, and no limit.
        (
            "{requests: {memory: 0, cpu: 0}}",
            1,
            512,
            "default".to_owned(),
        ),
        (
            "{limits: {memory: 0, cpu: 0}}",
            1,
            512,
            "default".to_owned(),
        ),
        // Half as much again for who has no limit; of CPUs those that the host has.
        (
            "{limits: {memory: 600Mi, cpu: 1}}",
            2,
            964,
            more("more", "a 600Mi + 41Mi guest"),
        ),
        (
            "{requests: {memory: 1Gi, cpu: 2}}",
            2,
            1608,
            more("more", "a 1Gi + 48Mi guest"),
        ),
        // Nobody is refused for room that nobody has asked for.
        (
            "{requests: {memory: 7Gi}}",
            1,
            8192,
            more("more", "a 7Gi + 144Mi guest"),
        ),
    ] {
        assert_eq!(size(resources), (vcpus, memory_mib, line), "{resources}");
    }
}

#[test]
fn cpus_have_room_to_burst_and_an_init_container_the_default() {
    let of_cpus = planned(&pod(
        "{name: a, image: tools, resources: {requests: {cpu: 1}}}",
    ));
    let vm = of_cpus.unwrap().vm;
    assert_eq!(
        vm.sizing.cpu_line(vm.vcpus),
        "more, as not every container has a limit; a 1"
    );
    // An init container has the machine to itself, which is the default at least.
    let init = "{name: a, image: tools, resources: {limits: {memory: 64Mi}}}], initContainers: \
                [{name: i, image: tools}";
    assert_eq!(planned(&pod(init)).unwrap().vm.memory_mib, 512);
}

#[test]
fn limits_of_nothing_are_none_and_who_asks_for_no_cpu_weighs_least() {
    let cgroups = |containers: &str| -> Vec<CgroupLimits> {
        let containers = planned(&pod(containers)).unwrap().containers;
        containers
            .into_iter()
            .map(|one| one.template.cgroup)
            .collect()
    };
    let least = CgroupLimits {
        cpu_weight: Some(1),
        ..CgroupLimits::default()
    };
    let zero = "{name: a, image: tools, resources: {limits: {cpu: 0, memory: 0}}}";
    assert_eq!(cgroups(zero), std::slice::from_ref(&least));
    let some =
        "{name: a, image: tools, resources: {requests: {cpu: 250m}}}, {name: b, image: tools}";
    let asks = CgroupLimits {
        cpu_weight: Some(25),
        ..CgroupLimits::default()
    };
    assert_eq!(cgroups(some), [asks, least]);
}

#[test]
fn storage_follows_from_requests_and_volumes_count_with_the_layers() {
    use beluga_proto::pod::VolumeKind;
    let pod = |resources: &str, volumes: &str| {
        let containers = format!("{{name: a, image: tools, resources: {resources}}}");
        let text = pod(&containers).replace("spec: {", &format!("spec: {{volumes: [{volumes}], "));
        planned(&text).unwrap()
    };
    let asked = pod("{requests: {ephemeral-storage: 30Gi}}", "");
    let scratch = asked
        .vm
        .disks
        .iter()
        .find(|disk| disk.id == "scratch")
        .unwrap();
    assert!(scratch.extents[0].length >= 30 << 30);
    for (resources, volume, kind) in [
        (
            "{limits: {ephemeral-storage: 1Gi}}",
            "{name: v, emptyDir: {}}",
            VolumeKind::EmptyDir {
                limit_bytes: Some(1 << 30),
            },
        ),
        (
            "{limits: {ephemeral-storage: 1Gi}}",
            "{name: v, emptyDir: {sizeLimit: 1Mi}}",
            VolumeKind::EmptyDir {
                limit_bytes: Some(1 << 20),
            },
        ),
        (
            "{limits: {ephemeral-storage: 0}}",
            "{name: v, emptyDir: {sizeLimit: 0}}",
            VolumeKind::EmptyDir { limit_bytes: None },
        ),
        // In memory it is what the pod may have, or what the guest leaves.
        (
            "{limits: {memory: 256Mi}}",
            "{name: v, emptyDir: {medium: Memory}}",
            VolumeKind::Memory {
                limit_bytes: Some(256 << 20),
            },
        ),
        (
            "{limits: {memory: 256Mi}}",
            "{name: v, emptyDir: {medium: Memory, sizeLimit: 1Gi}}",
            VolumeKind::Memory {
                limit_bytes: Some(256 << 20),
            },
        ),
        (
            "{}",
            "{name: v, emptyDir: {medium: Memory, sizeLimit: 0}}",
            VolumeKind::Memory {
                limit_bytes: Some(472 << 20),
            },
        ),
    ] {
        let plan = pod(resources, volume);
        assert_eq!(plan.guest.volumes[0].kind, kind, "{resources} {volume}");
    }
}

#[test]
fn a_limit_that_is_not_there_is_the_pods_or_what_containers_can_have() {
    let told = |pod_limits: &str| {
        let field = "resourceFieldRef: {resource: limits.memory}";
        let text = whole(
            &format!("{{limits: {pod_limits}}}"),
            &format!("{{name: a, image: tools, env: [{{name: M, valueFrom: {{{field}}}}}]}}"),
        );
        let plan = planned(&text).unwrap();
        let env = plan.containers[0].template.process.env.clone();
        env.into_iter().find(|line| line.starts_with("M=")).unwrap()
    };
    assert_eq!(told("{memory: 256Mi}"), format!("M={}", 256 << 20));
    assert_eq!(told("{cpu: 1}"), format!("M={}", 472 << 20));
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
    let least = CgroupLimits {
        cpu_weight: Some(1),
        ..CgroupLimits::default()
    };
    assert_eq!(limited.containers[0].template.cgroup, least);
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
