//! Plans of running pods that are changed.

use super::{host, identity, images, layer, planned, pod};
use beluga_runtime::plan::{
    Changes, ContainerKind, HostFacts, HostStep, ImageFacts, Objects, Plan, Tenant, amend,
    difference, plan, with_layers_of,
};
use beluga_runtime::spec::{self, Container, Guest, PodSpec, Sandbox};
use std::collections::{BTreeMap, BTreeSet};

/// The plan of one container on another image, in the place of `present`.
fn amended(present: &Plan, text: &str, images: &BTreeMap<String, ImageFacts>) -> Plan {
    let mut documents = spec::parse("pod.yaml", text).expect("a good manifest");
    let spec = documents.remove(0).spec;
    let changed = Changes {
        anew: ["b".to_owned()].into(),
        ..Changes::default()
    };
    amend(
        present,
        &spec,
        &changed,
        images,
        &Objects::default(),
        &host(),
    )
    .expect("it can be planned")
}

#[test]
fn layers_of_a_changed_container_come_behind_those_that_are_there() {
    let before = pod("{name: a, image: 'nginx:1'}, {name: b, image: tools}");
    let present = planned(&before).unwrap();
    let mut images = images();
    // An image whose name means something else now: `a` keeps what it has.
    images.get_mut("nginx:1").unwrap().layers = vec![layer("moved", 9)];
    let more = ImageFacts {
        id: "sha256:more".into(),
        cmd: vec!["more".into()],
        layers: vec![layer("nginx", 3), layer("more", 5)],
        ..ImageFacts::default()
    };
    images.insert("more".into(), more);
    let next = amended(&present, &before.replace("tools", "more"), &images);
    assert_eq!(next.containers[0], present.containers[0]);
    assert_eq!(next.containers[1].template.layers, [2, 3]);
    assert_eq!(next.layers[..2], present.layers[..]);
    assert_eq!(
        (next.layers[2].offset, next.layers[2].length),
        (13 * 4096, 5 * 4096)
    );
    assert_eq!(
        difference(&present, &next, &BTreeSet::new())
            .unwrap()
            .replaced,
        [1]
    );
    // Undone, the disk stays as long as it is, and the next change goes on from there.
    let back = with_layers_of(&present, &next);
    assert_eq!(
        (&back.containers, &back.layers),
        (&present.containers, &next.layers)
    );
    assert!(difference(&next, &present, &BTreeSet::new()).is_err());
    assert_eq!(
        difference(&next, &back, &BTreeSet::new()).unwrap().replaced,
        [1]
    );
    assert_eq!(back.vm.disks[1..], present.vm.disks[1..]);
    assert_eq!((&next.guest, &next.host), (&present.guest, &present.host));
}

#[test]
fn a_container_of_a_sandbox_takes_the_place_of_one_that_has_gone() {
    let spec = PodSpec::of_sandbox("s".into(), "default".into(), Sandbox::default());
    let host = HostFacts {
        host_paths: vec!["".into()],
        ..host()
    };
    let identity = planned(&pod("{name: a, image: tools}")).unwrap().identity;
    let objects = Objects::default();
    let empty = plan(&spec, &BTreeMap::new(), &objects, &host, identity).unwrap();
    assert!(empty.sandbox && empty.containers.is_empty());
    assert_eq!(empty.vm.memory_mib, 512, "the default, whoever comes");
    let with = |present: &Plan, names: &[&str], new: &str| {
        let mut spec = spec.clone();
        let one = |name: &&str| {
            Container::of_sandbox((*name).to_owned(), "tools".into(), Guest::default())
        };
        spec.containers = names.iter().map(one).collect();
        let changes = Changes {
            anew: [new.to_owned()].into(),
            ..Changes::default()
        };
        let next = amend(present, &spec, &changes, &images(), &objects, &host).unwrap();
        let found = difference(present, &next, &BTreeSet::new()).unwrap();
        (next, found.added)
    };
    let (one, added) = with(&empty, &["a"], "a");
    assert_eq!(
        (added, one.containers[0].template.termination_log.as_ref()),
        (vec![0], None)
    );
    let (two, added) = with(&one, &["a", "b"], "b");
    assert_eq!(added, [1]);
    let (three, added) = with(&two, &["b", "c"], "c");
    assert_eq!(added, [0]);
    let names: Vec<_> = three.containers.iter().map(|one| one.name()).collect();
    assert_eq!(names, ["c", "b"]);
}

#[test]
fn limits_change_within_the_machine_and_not_beyond_it() {
    let text = |limits: &str| {
        pod(&format!(
            "{{name: a, image: tools, resources: {{limits: {{{limits}}}}}}}"
        ))
    };
    let present = planned(&text("cpu: 1, memory: 64Mi")).unwrap();
    let changes = Changes {
        resized: ["a".to_owned()].into(),
        ..Changes::default()
    };
    let resized = |limits: &str| {
        let spec = spec::parse("pod.yaml", &text(limits))
            .unwrap()
            .remove(0)
            .spec;
        // No image is looked at.
        let none = BTreeMap::new();
        amend(
            &present,
            &spec,
            &changes,
            &none,
            &Objects::default(),
            &host(),
        )
    };
    let next = resized("cpu: 500m, memory: 32Mi").unwrap();
    let cgroup = &next.containers[0].template.cgroup;
    assert_eq!(cgroup.cpu_quota_micros, Some(50_000));
    assert_eq!(cgroup.memory_max, Some(32 << 20));
    assert_eq!(next.vm, present.vm);
    let host = |plan: &Plan| match &plan.host[0] {
        HostStep::Cgroup(cgroup) => (cgroup.memory_max, cgroup.cpu_weight),
        other => panic!("{other:?}"),
    };
    // The guest keeps its memory, and the host bounds it as before.
    assert_eq!(host(&next).0, host(&present).0);
    let large = planned(&text("cpu: 3, memory: 64Mi")).unwrap();
    let spec = spec::parse("pod.yaml", &text("cpu: 2, memory: 64Mi")).unwrap();
    let none = BTreeMap::new();
    let less = amend(
        &large,
        &spec[0].spec,
        &changes,
        &none,
        &Objects::default(),
        &self::host(),
    );
    let less = less.unwrap();
    assert_eq!((host(&large).1, host(&less).1), (Some(300), Some(200)));
    let found = difference(&present, &next, &BTreeSet::new()).unwrap();
    assert!(found.replaced.is_empty());
    let restart = ["a".to_owned()].into();
    assert_eq!(difference(&present, &next, &restart).unwrap().replaced, [0]);
    assert_eq!(
        resized("cpu: 1500m, memory: 64Mi").unwrap_err().to_string(),
        "refused: the pod's machine was started with 1 CPU and this needs 2 CPUs (a 1500m): delete the pod and make it anew"
    );
    assert_eq!(
        resized("cpu: 1, memory: 128Mi").unwrap_err().to_string(),
        "refused: the pod's machine was started with 98 MiB and this needs 162 MiB (a 128Mi + 34Mi guest): delete the pod and make it anew"
    );
}

#[test]
fn a_pod_is_slowed_down_as_it_was_when_it_started() {
    let spec = |limit: &str| {
        let resources = format!("{{requests: {{memory: 16Mi}}, limits: {{memory: {limit}}}}}");
        let text = pod(&format!(
            "{{name: a, image: tools, resources: {resources}}}"
        ));
        let mut documents = spec::parse("pod.yaml", &text).expect("a good manifest");
        documents.remove(0).spec
    };
    let started = |factor: Option<u32>| {
        let host = HostFacts {
            memory_throttling: factor,
            ..host()
        };
        let objects = Objects::default();
        plan(&spec("32Mi"), &images(), &objects, &host, identity("web")).expect("it fits")
    };
    let changes = Changes {
        resized: ["a".to_owned()].into(),
        ..Changes::default()
    };
    let high = |plan: &Plan| plan.containers[0].template.cgroup.memory_high;
    for (factor, before, after) in [
        (None, None, None),
        (Some(500_000), Some(24 << 20), Some(20 << 20)),
    ] {
        let present = started(factor);
        let (images, objects) = (BTreeMap::new(), Objects::default());
        let next = amend(
            &present,
            &spec("24Mi"),
            &changes,
            &images,
            &objects,
            &host(),
        );
        let next = next.expect("it fits");
        assert_eq!((high(&present), high(&next)), (before, after));
        assert_eq!(next.memory_throttling, factor);
    }
}

#[test]
fn a_supervisor_takes_no_debug_container_into_a_tenants_pod_either() {
    let text = pod("{name: a, image: tools}");
    for (tenant, is_taken) in [
        (None, true),
        (Some(Tenant { exec: true }), true),
        (Some(Tenant { exec: false }), false),
    ] {
        let present = Plan {
            tenant,
            ..planned(&text).unwrap()
        };
        let mut next = present.clone();
        let mut debug = present.containers[0].clone();
        debug.kind = ContainerKind::Ephemeral;
        debug.template.name = "debug".to_owned();
        next.containers.push(debug);
        let found = difference(&present, &next, &BTreeSet::new());
        assert_eq!(found.is_ok(), is_taken, "{tenant:?}: {found:?}");
        // Nor does it let a pod out of its profile.
        next.tenant = tenant.xor(Some(Tenant { exec: true }));
        next.containers.truncate(1);
        difference(&present, &next, &BTreeSet::new()).unwrap_err();
    }
}
