//! Plans are pure, so each is one text. `BLESS=1 cargo test` writes the texts
//! anew; what changed in them is then for the reviewer to judge.

mod amend;
mod guard;
mod names;
mod networks;
mod restored;
mod size;

use beluga_proto::PodUid;
use beluga_proto::container::CgroupLimits;
use beluga_proto::pod::Address;
use beluga_proto::vm::MacAddress;
use beluga_runtime::plan::{
    Changes, HostFacts, Identity, ImageFacts, LayerFile, NetworkFacts, NetworkIdentity, Objects,
    Plan, PlanError, Tenant, amend, files, plan,
};
use beluga_runtime::spec::{self, PodSpec, Sandbox};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn address6(host: u16) -> Address {
    Address {
        ip: [0xfdb1, 0, 0, 0, 0, 0, 0, host].into(),
        prefix: 64,
    }
}

fn address(last: u8) -> Address {
    Address {
        ip: [10, 88, 0, last].into(),
        prefix: 16,
    }
}

/// A seccomp profile of the host.
const PROFILE: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
    {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 20}]}"#;

fn host() -> HostFacts {
    HostFacts {
        kernel: "/lib/beluga/vmlinux".into(),
        initramfs: "/lib/beluga/initramfs.cpio".into(),
        pod_dir: "/root/pods/u".into(),
        run_dir: "/run/pods/u".into(),
        cgroup: "beluga/u".into(),
        network: Some(NetworkFacts {
            name: String::new(),
            beyond: beluga_runtime::plan::Beyond::default(),
            bridge: "bel0".into(),
            gateway: address(1),
            gateway6: Some(address6(1)),
            mtu: 1500,
            resolver: true,
        }),
        claims_dir: "/claims".into(),
        host_paths: vec!["/srv".into()],
        unsafe_sysctls: vec!["kernel.msg*".into(), "net.core.somaxconn".into()],
        memory_throttling: None,
        pids_max: None,
        tenant: None,
        host_files: ["/srv/any".into()].into(),
        seccomp: [("deny/mkdir.json".to_owned(), PROFILE.to_owned())].into(),
        node_name: "node-1".into(),
        resolv_conf: "# host\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nsearch example.org\n"
            .into(),
        cpus: 2,
        memory_mib: 8192,
        scratch_bytes: 1 << 30,
    }
}

fn identity(name: &str) -> Identity {
    Identity {
        uid: PodUid::from_random([7; 16]),
        name: name.into(),
        namespace: "default".into(),
        carried: None,
        network: Some(NetworkIdentity {
            address: address(9),
            address6: Some(address6(9)),
            mac: MacAddress([2, 0, 0, 0, 0, 9]),
            tap: "belt9".into(),
        }),
    }
}

fn layer(name: &str, pages: u64) -> LayerFile {
    LayerFile {
        diff_id: format!("sha256:{name}"),
        path: PathBuf::from(format!("/images/{name}.erofs")),
        bytes: pages * 4096,
    }
}

fn images() -> BTreeMap<String, ImageFacts> {
    let tools = ImageFacts {
        id: "sha256:tools".into(),
        entrypoint: vec!["/bin/entry".into()],
        cmd: vec!["default".into()],
        env: vec!["LANG=C".into()],
        layers: vec![layer("base", 10)],
        ..ImageFacts::default()
    };
    let nginx = ImageFacts {
        id: "sha256:nginx".into(),
        cmd: vec!["nginx".into(), "-g".into(), "daemon off;".into()],
        env: vec!["PATH=/usr/sbin:/bin".into()],
        user: "www-data".into(),
        working_dir: "/srv".into(),
        stop_signal: "SIGQUIT".into(),
        layers: vec![layer("base", 10), layer("nginx", 3)],
        ..ImageFacts::default()
    };
    BTreeMap::from([("tools".to_owned(), tools), ("nginx:1".to_owned(), nginx)])
}

/// What lies in the volumes of the golden pod: `volume/path mode content`.
#[test]
fn volumes_are_filled_from_objects_and_the_pod() {
    let text = include_str!("../golden/config.yaml");
    let read = spec::read("pod.yaml", text).expect("a good manifest");
    let mut objects = Objects::default();
    for object in read.objects {
        objects.insert(object);
    }
    let spec = &read.pods[0].spec;
    let plan = planned(text).unwrap();
    let lines: Vec<String> = files(spec, &objects, &plan)
        .unwrap()
        .iter()
        .flat_map(|(volume, pieces)| {
            pieces.iter().map(move |piece| {
                let content = String::from_utf8_lossy(&piece.content.0);
                format!("{volume}/{} {:o} {content:?}", piece.path, piece.mode)
            })
        })
        .collect();
    assert_eq!(
        lines,
        [
            r#"all/cpu 644 "1500""#,
            r#"all/host 644 "db.example""#,
            r#"all/labels 644 "app=\"web\"\ntier/x=\"front\"""#,
            r#"all/note 444 "two\nlines""#,
            r#"login/keys/pass 440 "secret""#,
            r#"settings/1bad 640 "left out""#,
            r#"settings/HOST 640 "db.example""#,
            r#"settings/bytes 640 "\0\u{1}\u{2}""#,
            r#"settings/is.good-Too 640 "yes""#,
        ]
    );
    let error = files(spec, &Objects::default(), &plan).unwrap_err();
    assert_eq!(
        error.to_string(),
        "volume \"settings\": configmap \"settings\" not found"
    );
}

fn planned(text: &str) -> Result<Plan, PlanError> {
    let read = spec::read("pod.yaml", text).expect("a good manifest");
    let mut objects = Objects::default();
    for object in read.objects {
        objects.insert(object);
    }
    let spec = &read.pods[0].spec;
    plan(spec, &images(), &objects, &host(), identity("web"))
}

#[test]
fn plans_are_as_agreed() {
    for name in [
        "web", "least", "names", "config", "shares", "volumes", "host", "cluster",
    ] {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let text = std::fs::read_to_string(directory.join(format!("{name}.yaml"))).unwrap();
        let told = serde_saphyr::to_string(&planned(&text).unwrap()).unwrap();
        let golden = directory.join(format!("{name}.plan.yaml"));
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&golden, &told).unwrap();
        }
        let agreed = std::fs::read_to_string(&golden).unwrap();
        assert!(told == agreed, "the plan of {name} is now\n{told}");
    }
}

#[test]
fn a_profile_that_cannot_be_used_is_told() {
    let golden = include_str!("../golden/host.yaml");
    let refused = planned(&golden.replace("deny/mkdir.json", "absent.json")).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "container \"a\": there is no seccomp profile \"absent.json\" below /etc/beluga/seccomp (or BELUGA_SECCOMP)"
    );
}

#[test]
fn a_disk_is_used_as_what_it_is() {
    let golden = include_str!("../golden/volumes.yaml");
    let with = |from: &str, to: &str| {
        planned(&golden.replacen(from, to, 1))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        with("volumeMode: Block", "volumeMode: Filesystem"),
        "volume \"raw\": has volumeMode Filesystem, but is specified in volumeDevices"
    );
    assert_eq!(
        with("volumeMode: Filesystem", "volumeMode: Block"),
        "volume \"kept\": has volumeMode Block, but is specified in volumeMounts"
    );
    assert_eq!(
        with("reference: tools", "reference: absent"),
        "volume \"tools\": the image \"absent\" is not present"
    );
}

fn pod(containers: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec: {{containers: [{containers}]}}\n"
    )
}

#[test]
fn a_pod_that_does_not_fit_is_refused_with_its_sum() {
    let error = planned(&pod(
        "{name: a, image: tools, resources: {limits: {memory: 8Gi}}}, {name: b, image: tools, resources: {limits: {memory: 1Gi}}}",
    ));
    assert_eq!(
        error.unwrap_err().to_string(),
        "the pod needs 9392 MiB of memory (a 8Gi + b 1Gi + 176 MiB for the guest); this host has 8192 MiB"
    );
    let error = planned(&pod(
        "{name: a, image: tools, resources: {limits: {cpu: 30}}}, {name: b, image: tools, resources: {limits: {cpu: 2500m}}}",
    ));
    assert_eq!(
        error.unwrap_err().to_string(),
        "the pod needs 33 CPUs (a 30 + b 2500m); a pod's machine has at most 32"
    );
}

#[test]
fn a_kernel_parameter_that_nobody_allowed_is_refused() {
    let golden = include_str!("../golden/names.yaml");
    let refused = planned(&golden.replace("kernel/msgmax", "kernel.sem")).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "forbidden sysctl: \"kernel.sem\" not allowlisted"
    );
}

#[test]
fn a_part_of_the_host_that_nobody_allowed_is_refused() {
    let text = |paths: &[&str]| {
        let volumes = paths.iter().enumerate();
        let volumes =
            volumes.map(|(at, path)| format!("{{name: v{at}, hostPath: {{path: {path}}}}}"));
        let volumes = volumes.collect::<Vec<_>>().join(", ");
        pod("{name: a, image: tools}")
            .replace("spec: {", &format!("spec: {{volumes: [{volumes}], "))
    };
    for path in ["/etc", "/srvx", "/"] {
        let error = planned(&text(&["/srv/x", path])).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "spec.volumes[1].hostPath: forbidden by policy: {path} is below no path that pods \
                 may use (allow it with --allow-host-path {path}, or in BELUGA_ALLOW_HOST_PATH)"
            )
        );
    }
    assert!(planned(&text(&["/srv"; 10])).is_ok());
    assert_eq!(
        planned(&text(&["/srv"; 11])).unwrap_err().to_string(),
        "the pod has 0 disks of claims and 11 shared directories; a machine has room for 10 together"
    );
}

/// The plan of a tenant's pod with this spec.
fn planned_for_a_tenant(spec: &str, exec: bool) -> Result<Plan, PlanError> {
    let text = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec: {spec}\n");
    let read = spec::read("pod.yaml", &text).expect("a good manifest");
    let tenant = Some(Tenant { exec });
    let host = HostFacts { tenant, ..host() };
    let (images, objects) = (images(), Objects::default());
    let spec = &read.pods[0].spec;
    plan(spec, &images, &objects, &host, identity("web"))
}

#[test]
fn a_tenants_pod_has_nothing_of_the_host_and_keeps_its_profile() {
    let planned = planned_for_a_tenant;
    let plain = "containers: [{name: a, image: tools}]";
    for (spec, path) in [
        (
            "{volumes: [{name: v, hostPath: {path: /srv/x}}], PLAIN}",
            "spec.volumes[0].hostPath: the profile tenant has no files of the host",
        ),
        (
            "{initContainers: [{name: i, image: tools, securityContext: {privileged: true}}], PLAIN}",
            "spec.initContainers[0].securityContext.privileged: the profile tenant has no privileged containers",
        ),
        (
            "{hostPID: true, PLAIN}",
            "spec.hostPID: the profile tenant has no processes of the guest in its containers: its agent is one",
        ),
    ] {
        let error = planned(&spec.replace("PLAIN", plain), true).unwrap_err();
        assert_eq!(error.to_string(), path);
    }
    for (more, path) in [
        (
            "securityContext: {capabilities: {add: [ALL]}}",
            "securityContext.capabilities.add: the profile tenant has no added capabilities beyond those of Kubernetes' level Baseline",
        ),
        (
            "securityContext: {capabilities: {add: [NET_RAW]}}",
            "securityContext.capabilities.add: the profile tenant has no added capabilities beyond those of Kubernetes' level Baseline",
        ),
        (
            "securityContext: {seccompProfile: {type: Unconfined}}",
            "securityContext.seccompProfile: the profile tenant has no containers that may make any system call",
        ),
        (
            "securityContext: {procMount: Unmasked}",
            "securityContext.procMount: the profile tenant has no /proc without masks",
        ),
        (
            "ports: [{containerPort: 80}, {containerPort: 81, hostPort: 81}]",
            "ports[1].hostPort: the profile tenant has no ports of the host",
        ),
    ] {
        let spec = plain.replace("tools}", &format!("tools, {more}}}"));
        let error = planned(&format!("{{{spec}}}"), true).unwrap_err();
        assert_eq!(error.to_string(), format!("spec.containers[0].{path}"));
    }
    let asked = plain.replace(
        "tools}",
        "tools, securityContext: {capabilities: {add: [CHOWN], drop: [ALL]}}}",
    );
    assert!(planned(&format!("{{{asked}}}"), false).is_ok());
    let kept = planned(&format!("{{{plain}}}"), false).unwrap();
    assert!(kept.guest.no_exec && kept.tenant == Some(Tenant { exec: false }));
    let granted = planned(&format!("{{{plain}}}"), true).unwrap();
    assert!(!granted.guest.no_exec && granted.tenant == Some(Tenant { exec: true }));
}

#[test]
fn a_path_whose_variable_is_not_set_is_refused() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  volumes: [{name: v}]\n  \
                containers: [{name: a, image: tools, env: [{name: UP, value: ../x}], volumeMounts: [{name: v, mountPath: /v, subPathExpr: PATH}]}]\n";
    let error = |path: &str| {
        planned(&text.replace("PATH", path))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        error("a/$(NOBODY)"),
        "container \"a\": the subPathExpr \"a/$(NOBODY)\" is of no use: a variable in it is not set"
    );
    assert_eq!(
        error("$(UP)"),
        "container \"a\": the subPathExpr \"$(UP)\" is of no use: must not contain '..'"
    );
}

#[test]
fn more_layers_than_partitions_are_refused() {
    let mut images = images();
    images.get_mut("tools").unwrap().layers =
        (0..300).map(|at| layer(&at.to_string(), 1)).collect();
    let documents = spec::parse("pod.yaml", &pod("{name: a, image: tools}")).unwrap();
    let error = plan(
        &documents[0].spec,
        &images,
        &Objects::default(),
        &host(),
        identity("web"),
    )
    .unwrap_err();
    assert_eq!(error, PlanError::Layers { count: 300 });
}

#[test]
fn what_cannot_run_is_refused_by_name() {
    let documents = spec::parse("pod.yaml", &pod("{name: a, image: absent}")).unwrap();
    let error = plan(
        &documents[0].spec,
        &images(),
        &Objects::default(),
        &host(),
        identity("web"),
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "container \"a\": the image \"absent\" is not present"
    );
    let mut images = images();
    let tools = images.get_mut("tools").unwrap();
    (tools.entrypoint, tools.cmd) = (Vec::new(), Vec::new());
    let documents = spec::parse("pod.yaml", &pod("{name: a, image: tools}")).unwrap();
    let error = plan(
        &documents[0].spec,
        &images,
        &Objects::default(),
        &host(),
        identity("web"),
    )
    .unwrap_err();
    assert!(matches!(error, PlanError::NoCommand { .. }));
}
