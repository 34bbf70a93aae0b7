//! Words of command lines, and what is said of wrong ones.

use crate::Instance;

const CLAIM: &str = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data, namespace: team}\n\
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 16Mi}}}\n";

#[test]
fn a_namespace_may_stand_before_the_verb() {
    let beluga = Instance::new("namespace");
    let file = beluga.write(
        "map.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, namespace: team}\n",
    );
    assert_eq!(beluga.run(&["apply", "-f", &file]).0, 0);
    let before = beluga.run(&["-n", "team", "get", "cm", "-o", "name"]);
    assert_eq!(before, (0, "configmap/m\n".into(), String::new()));
    let default = beluga.run(&["get", "cm", "-o", "name"]);
    assert_eq!(default.1, "");
    beluga.refuses(&["-n", "team", "images"], 2, &["unexpected argument '-n'"]);
}

#[test]
fn a_type_that_is_none_is_an_error_with_the_one_that_was_meant() {
    let beluga = Instance::new("types");
    beluga.refuses(&["get", "pdos"], 1, &["\"pdos\" (did you mean pods?)"]);
    beluga.refuses(&["get", "deploymnet"], 1, &["(did you mean deployments?)"]);
    beluga.refuses(
        &["get", "foo"],
        1,
        &[
            "\"foo\", only pods, deployments, ",
            " and events",
            "docs/fields.md",
        ],
    );
    beluga.refuses(
        &["logs", "service/web"],
        1,
        &["type \"service\", only pods"],
    );
}

#[test]
fn a_command_line_that_names_no_pod_says_how_to() {
    let beluga = Instance::new("usage");
    beluga.refuses(&["run"], 2, &["`beluga run IMAGE`", "`beluga run -f FILE`"]);
    beluga.refuses(
        &["run", "-e", "=x", "busybox"],
        2,
        &["--env \"=x\": the name is missing"],
    );
    beluga.refuses(
        &["run", "busy box"],
        2,
        &["IMAGE: ", "\"busy box\" has a blank in it"],
    );
    let missing = ["run", "-v", "/missing/x:/x", "busybox"];
    let why = "--volume \"/missing/x:/x\": /missing/x: no such file or directory on this host";
    beluga.refuses(&missing, 2, &[why]);
    beluga.refuses(
        &["exec", "-w", "here", "p", "sh"],
        2,
        &["--workdir \"here\": it is an absolute path"],
    );
    beluga.refuses(
        &["exec", "-u", ":", "p", "sh"],
        2,
        &["--user \":\": it is written USER or USER:GROUP"],
    );
    beluga.refuses(
        &["exec", "-e", "", "p", "sh"],
        2,
        &["--env \"\": the name is missing"],
    );
    // Tips to hide a flag behind two dashes are wrong with every verb of ours.
    for words in [
        &["get", "pods", "--labels"][..],
        &["exec", "p", "--bad", "sh"],
    ] {
        let (code, _, err) = beluga.run(words);
        assert_eq!(code, 2, "{err}");
        assert!(!err.contains("-- --"), "{err}");
    }
}

#[test]
fn kubectls_run_and_podmans_are_the_same_pod() {
    let beluga = Instance::new("run");
    let words = [
        "-n",
        "team",
        "run",
        "web",
        "--image=busybox",
        "--dry-run",
        "--",
        "id",
        "-u",
    ];
    let (code, kubectl, err) = beluga.run(&words);
    assert_eq!(code, 0, "{err}");
    for line in [
        "run: web",
        "name: web",
        "namespace: team",
        "image: busybox",
        "- id",
        "- -u",
    ] {
        assert!(kubectl.contains(line), "{kubectl}");
    }
    let words = [
        "run",
        "--name=web",
        "-n",
        "team",
        "-l",
        "run=web",
        "--dry-run",
        "busybox",
        "id",
        "-u",
    ];
    let podman = beluga.run(&words).1;
    assert_eq!(podman.replace("name: busybox", "name: web"), kubectl);
}

#[test]
fn a_named_volume_is_a_claim_that_can_be_applied_as_it_is_shown() {
    let beluga = Instance::new("volume");
    let words = ["run", "--dry-run", "-n", "team", "-v", "data:/d", "busybox"];
    let (code, text, err) = beluga.run(&words);
    assert_eq!(code, 0, "{err}");
    assert!(text.contains("kind: PersistentVolumeClaim"), "{text}");
    assert!(text.contains("claimName: data"), "{text}");
    let (code, text, err) = beluga.run(&[&words[..], &["-o", "json"]].concat());
    assert_eq!(code, 0, "{err}");
    let list: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(list["items"][0]["kind"], "PersistentVolumeClaim");
    assert_eq!(list["items"][1]["kind"], "Pod");
    // One that was made with another size stays as it is: this says nothing of sizes.
    let file = beluga.write("claim.yaml", CLAIM);
    assert_eq!(beluga.run(&["apply", "-f", &file]).0, 0);
    let (_, _, err) = beluga.run(&[
        "run",
        "-n",
        "team",
        "-v",
        "data:/d",
        "--image-pull-policy=Never",
        "busybox",
    ]);
    assert!(
        err.contains("is not present with pull policy of Never"),
        "{err}"
    );
    let size = [
        "get",
        "pvc",
        "-n",
        "team",
        "-o",
        "jsonpath={.items[0].spec.resources.requests.storage}",
    ];
    assert_eq!(beluga.run(&size).1, "16Mi");
}

#[test]
fn what_is_a_clusters_alone_is_left_out_beside_other_files() {
    let beluga = Instance::new("left-out");
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n";
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\n";
    std::fs::create_dir(beluga.directory.join("all")).unwrap();
    beluga.write("all/a-service.yaml", service);
    beluga.refuses(
        &["apply", "-f", "all"],
        1,
        &["kind: Service is not supported"],
    );
    beluga.write("all/b-map.yaml", map);
    let (code, out, err) = beluga.run(&["apply", "-f", "all"]);
    assert_eq!((code, out.as_str()), (0, "configmap/m created\n"), "{err}");
    assert!(
        err.contains("all/a-service.yaml:2:7: Service \"web\" is left out"),
        "{err}"
    );
}

#[test]
fn an_error_in_a_list_names_the_item() {
    let beluga = Instance::new("list");
    let pod = |name: &str, container: &str| {
        format!(
            "- {{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{containers: [{container}]}}}}\n"
        )
    };
    let list = |items: &[String]| format!("apiVersion: v1\nkind: List\nitems:\n{}", items.concat());
    let text = list(&[
        pod("a", "{name: a, image: b}"),
        pod("b", "{name: a, imag: b}"),
    ]);
    let file = beluga.write("typo.yaml", &text);
    beluga.refuses(
        &["apply", "-f", &file],
        1,
        &[
            "items[1].spec.containers[0].imag: unknown field (did you mean image?)",
            "items[1].spec.containers[0].image: required",
        ],
    );
    let never = "{name: a, image: none, imagePullPolicy: Never}";
    let file = beluga.write("image.yaml", &list(&[pod("a", never)]));
    beluga.refuses(
        &["apply", "-f", &file],
        1,
        &["items[0].spec.containers[0].image"],
    );
    let text = list(&[pod(
        "a",
        "{name: a, image: b, env: [{name: X, valueFrom: {configMapKeyRef: {name: m, key: k}}}]}",
    )]);
    let file = beluga.write("map.yaml", &text);
    beluga.refuses(
        &["apply", "-f", &file],
        1,
        &["items[0].spec.containers[0].env[0].valueFrom.configMapKeyRef"],
    );
    let file = beluga.write(
        "names.yaml",
        &list(&[
            pod("a", "{name: a, image: b}"),
            pod("a", "{name: a, image: b}"),
        ]),
    );
    beluga.refuses(
        &["apply", "-f", &file],
        1,
        &["items[1].metadata.name: \"a\" is the name of another pod"],
    );
}

#[test]
fn a_look_leaves_nothing_behind() {
    let beluga = Instance::new("look");
    for words in [
        &["images"][..],
        &["images", "--format", "{{.ID}}"],
        &["get", "pods"],
        &["df"],
        &["image", "inspect", "x"],
        &["rmi", "x"],
        &["save", "-o", "/dev/null", "x"],
        &["push", "x", "y"],
        &["tag", "x", "y"],
        &["prune", "--dry-run"],
        &["gc", "--check"],
        &["network", "ls"],
        &["top"],
        &["describe", "pods"],
        &["doctor"],
    ] {
        let (_, out, err) = beluga.run(words);
        let left: Vec<_> = std::fs::read_dir(&beluga.directory).unwrap().collect();
        assert!(left.is_empty(), "{words:?}: {left:?}\n{out}{err}");
    }
}

#[test]
fn formats_of_images_are_fields_of_a_template() {
    let beluga = Instance::new("images");
    let fields = [
        "invalid value '{{.Nme}}'",
        "is not among {{.Repository}}, {{.Tag}}, {{.ID}}",
    ];
    beluga.refuses(&["images", "--format", "{{.Nme}}"], 2, &fields);
    beluga.refuses(
        &["images", "--format", "csv"],
        2,
        &["it is json, yaml, wide or a template of"],
    );
    std::fs::create_dir(beluga.directory.join("tree")).unwrap();
    assert_eq!(beluga.run(&["build", "-t", "made:1", "tree"]).0, 0);
    let (_, out, _) = beluga.run(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert_eq!(out, "made:1\n");
    let (_, out, _) = beluga.run(&["images", "--format", r"table {{.Tag}}\t{{.Repository}}"]);
    assert_eq!(out, "TAG   REPOSITORY\n1     made\n");
}

#[test]
fn words_of_kubectl_and_docker_are_told_in_ours() {
    let beluga = Instance::new("foreign");
    for (words, ours) in [
        (&["create", "-f", "x.yaml"][..], "beluga apply -f FILE"),
        (&["scale", "deploy/web", "--replicas=2"], "spec.replicas"),
        (&["cluster-info"], "beluga doctor"),
        (&["api-resources"], "docs/fields.md"),
        (
            &["run", "--gpus", "all", "x"],
            "none of this host's devices",
        ),
    ] {
        beluga.refuses(words, 2, &["tip: ", ours]);
    }
    beluga.refuses(&["delte", "pod", "x"], 2, &["'delete'"]);
}

#[test]
fn help_keeps_apart_what_every_command_takes() {
    let beluga = Instance::new("help");
    let help = beluga.run(&["run", "--help"]).1;
    let (own, every) = help.split_once("Options of every command:").unwrap();
    assert!(own.contains("--entrypoint") && !own.contains("--root"));
    assert!(every.contains("--root <DIR>") && every.contains("--state <DIR>"));
    let top = beluga.run(&["top", "--help"]).1;
    for column in ["CPU(cores)", "HOST", "OVERHEAD", "WRITABLE", "(machine)"] {
        assert!(top.contains(&format!("\n  {column}")) || top.contains(&format!("\n{column}")));
    }
}

#[test]
fn flags_of_docker_are_fields_of_the_manifest() {
    let beluga = Instance::new("docker");
    let file = beluga.write("shop.env", "# of the shop\nCOLOUR=blue\n");
    let words = "run --dry-run -d --rm --read-only --user 33:33 --cap-drop ALL --tmpfs /tmp \
                 --env-file FILE -l app=shop --restart unless-stopped --entrypoint sh --hostname shop \
                 --mount type=volume,src=data,dst=/data shop -- -c id";
    let words = words.replace("FILE", &file);
    let words: Vec<&str> = words.split_whitespace().collect();
    let (code, text, err) = beluga.run(&words);
    assert_eq!(code, 0, "{err}");
    for part in [
        "readOnlyRootFilesystem: true",
        "runAsUser: 33",
        "medium: Memory",
        "value: blue",
        "restartPolicy: Always",
        "hostname: shop",
        "claimName: data",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // What it shows is a manifest.
    let file = beluga.write(
        "shop.yaml",
        &text.replace("image: shop", "image: shop\n    imagePullPolicy: Never"),
    );
    let absent = "Container image \"shop\" is not present";
    beluga.refuses(&["apply", "-f", &file], 1, &[absent]);
}

#[test]
fn an_image_that_was_nearly_named_is_told() {
    let beluga = Instance::new("near");
    std::fs::create_dir(beluga.directory.join("tree")).unwrap();
    assert_eq!(beluga.run(&["build", "-t", "busybox", "tree"]).0, 0);
    let run = ["run", "--pull=never", "busybx"];
    beluga.refuses(&run, 1, &["pull policy of Never (did you mean busybox?)"]);
    let run = ["run", "--pull=never", "postgres"];
    let (_, _, err) = beluga.run(&run);
    assert!(!err.contains("did you mean"), "{err}");
    beluga.refuses(
        &["pull", "busybox@sha256:12ab"],
        1,
        &["sha256: and 64 lower-case hexadecimal digits", "try: "],
    );
}

#[test]
fn objects_are_listed_in_the_order_of_a_field() {
    let beluga = Instance::new("sort");
    let map = |name: &str, size: &str| {
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{size: {size}}}\n"
        )
    };
    let text = map("a-10", "1Gi") + &map("a-9", "20Mi") + &map("b", "3Mi");
    let file = beluga.write("maps.yaml", &text);
    assert_eq!(beluga.run(&["apply", "-f", &file]).0, 0);
    let by = |path: &str| {
        beluga
            .run(&["get", "cm", "-o", "name", "--sort-by", path])
            .1
    };
    assert_eq!(
        by(".data.size"),
        "configmap/b\nconfigmap/a-9\nconfigmap/a-10\n"
    );
    assert_eq!(
        by("{.metadata.name}"),
        "configmap/a-9\nconfigmap/a-10\nconfigmap/b\n"
    );
    let table = beluga
        .run(&["get", "cm", "--no-headers", "--sort-by=.data.size"])
        .1;
    let names: Vec<&str> = table
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(names, ["b", "a-9", "a-10"]);
    beluga.refuses(
        &["get", "cm", "--sort-by", ".data.length"],
        2,
        &["--sort-by \".data.length\": none of what is listed has such a field"],
    );
    beluga.refuses(&["get", "pods", "-w", "-o", "json"], 2, &["with -o wide"]);
}
