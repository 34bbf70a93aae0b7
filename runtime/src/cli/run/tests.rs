use super::super::{Cli, Verb};
use clap::Parser as _;
use serde_json::json;

fn manifest(line: &[&str]) -> Result<String, String> {
    let words = ["beluga", "run"].iter().chain(line);
    let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
    let Verb::Run(mut args) = cli.verb else {
        return Err("another verb".into());
    };
    args.arrange();
    assert!(
        args.image.is_some() || !args.files.is_empty(),
        "nothing to run"
    );
    let image = args.image.as_deref().unwrap_or_default();
    let meant = args.one.pod(image, &args.command);
    Ok(meant.map_err(|error| error.to_string())?.text)
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "a manifest, and the command line that says it"
)]
fn a_command_line_is_a_manifest() {
    let text = manifest(&[
        "-it",
        "--name",
        "web",
        "-e",
        "A=b=c",
        "-v",
        "data:/data:ro",
        "-v",
        "data:/again",
        "-m",
        "64Mi",
        "--cpus",
        "500m",
        "reg.example:5000/x/My.App:1",
        "--",
        "sh",
        "-c",
        "echo $A",
    ])
    .unwrap_err();
    assert!(text.contains("must be lower case"), "{text}");
    let text = manifest(&[
        "-it",
        "--name",
        "web",
        "-e",
        "A=b=c",
        "-v",
        "data:/data:ro",
        "-v",
        "data:/again",
        "-m",
        "64Mi",
        "--cpus",
        "500m",
        "reg.example:5000/x/my.app:1",
        "--",
        "sh",
        "-c",
        "echo $A",
    ])
    .unwrap();
    assert_eq!(
        text,
        r#"apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: data
spec:
  accessModes:
  - ReadWriteOnce
  resources:
    requests:
      storage: 10Gi
---
apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
  - args:
    - sh
    - -c
    - echo $A
    env:
    - name: A
      value: b=c
    image: reg.example:5000/x/my.app:1
    name: my-app
    resources:
      limits:
        cpu: 500m
        memory: 64Mi
    stdin: true
    stdinOnce: true
    tty: true
    volumeMounts:
    - mountPath: /data
      name: data
      readOnly: true
    - mountPath: /again
      name: data
  restartPolicy: Never
  volumes:
  - name: data
    persistentVolumeClaim:
      claimName: data
"#
    );
}

#[test]
fn a_volume_with_a_slash_is_a_place_on_the_host() {
    let text = manifest(&["-v", "/usr:/host:ro", "-v", "/etc/:/x", "busybox"]).unwrap();
    for line in ["path: /usr", "path: /etc", "name: host-0", "name: host-1"] {
        assert!(text.contains(line), "{text}");
    }
    assert!(!text.contains("emptyDir"), "{text}");
}

#[test]
fn a_volume_without_a_name_lives_as_long_as_the_pod() {
    let text = manifest(&["-v", "/scratch", "busybox"]).unwrap();
    assert!(text.contains("emptyDir: {}"), "{text}");
    assert!(!text.contains("PersistentVolumeClaim"), "{text}");
}

#[test]
fn kubectls_form_names_the_pod_and_the_image() {
    let line = [
        "web",
        "--image=nginx:1",
        "-n",
        "team",
        "--",
        "-g",
        "daemon off;",
    ];
    let text = manifest(&line).unwrap();
    assert_eq!(
        text,
        r#"apiVersion: v1
kind: Pod
metadata:
  labels:
    run: web
  name: web
  namespace: team
spec:
  containers:
  - args:
    - -g
    - daemon off;
    image: nginx:1
    name: web
  restartPolicy: Never
"#
    );
    let line = [
        "web",
        "--image=nginx",
        "-l",
        "app=a,tier=b",
        "--command",
        "--",
        "nginx",
    ];
    let text = manifest(&line).unwrap();
    for part in ["    app: a\n    tier: b\n", "  - command:\n    - nginx\n"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains("run: web"), "{text}");
}

/// The fields of the manifest that a command line makes, by JSON pointer.
fn fields(line: &str, meant: &[(&str, serde_json::Value)]) {
    let words: Vec<&str> = line.split(' ').collect();
    let cli = Cli::try_parse_from(["beluga", "run"].iter().chain(&words)).unwrap();
    let Verb::Run(args) = cli.verb else {
        panic!("another verb");
    };
    let image = args.image.as_deref().unwrap();
    let pod = args.one.pod(image, &args.command).unwrap().object;
    for (field, value) in meant {
        assert_eq!(pod.pointer(field), Some(value), "{line}: {field}: {pod}");
    }
}

#[test]
fn flags_about_the_process_are_fields_of_the_container() {
    const OF: &str = "/spec/containers/0/securityContext";
    fields(
        "-u 1000:7 --read-only --cap-drop all --cap-add CAP_net_admin,CHOWN busybox",
        &[(
            OF,
            json!({"runAsUser": 1000, "runAsGroup": 7, "readOnlyRootFilesystem": true,
                   "capabilities": {"add": ["NET_ADMIN", "CHOWN"], "drop": ["ALL"]}}),
        )],
    );
    fields(
        "--user 0 --privileged --group-add 5 --group-add 6 busybox",
        &[
            (OF, json!({"runAsUser": 0, "privileged": true})),
            ("/spec/securityContext/supplementalGroups", json!([5, 6])),
        ],
    );
    let of = |field: &str| format!("/spec/containers/0/{field}");
    fields(
        "--entrypoint sh busybox -- -c true",
        &[
            (&of("command"), json!(["sh"])),
            (&of("args"), json!(["-c", "true"])),
        ],
    );
    fields(
        r#"--entrypoint ["sh","-c"] busybox true"#,
        &[
            (&of("command"), json!(["sh", "-c"])),
            (&of("args"), json!(["true"])),
        ],
    );
    fields(
        "--entrypoint= busybox sh -c true",
        &[(&of("command"), json!(["sh", "-c", "true"]))],
    );
    fields(
        "--stop-signal int --stop-timeout 3 busybox",
        &[
            (&of("lifecycle/stopSignal"), json!("SIGINT")),
            ("/spec/terminationGracePeriodSeconds", json!(3)),
        ],
    );
    for (word, policy) in [
        ("no", "Never"),
        ("on-failure", "OnFailure"),
        ("unless-stopped", "Always"),
        ("Always", "Always"),
    ] {
        let line = format!("--restart {word} --pull missing busybox");
        fields(
            &line,
            &[
                ("/spec/restartPolicy", json!(policy)),
                (&of("imagePullPolicy"), json!("IfNotPresent")),
            ],
        );
    }
}

#[test]
fn flags_about_the_surroundings_are_fields_of_the_pod() {
    fields(
        "--hostname db --add-host a:10.0.0.1 --add-host b:10.0.0.1 --add-host c:::1 busybox",
        &[
            ("/spec/hostname", json!("db")),
            (
                "/spec/hostAliases",
                json!([{"ip": "10.0.0.1", "hostnames": ["a", "b"]},
                       {"ip": "::1", "hostnames": ["c"]}]),
            ),
        ],
    );
    fields(
        "--dns 10.0.0.2 --dns-search lan --sysctl net.ipv4.tcp_syncookies=0 busybox",
        &[
            ("/spec/dnsPolicy", json!("None")),
            (
                "/spec/dnsConfig",
                json!({"nameservers": ["10.0.0.2"], "searches": ["lan"]}),
            ),
            (
                "/spec/securityContext/sysctls",
                json!([{"name": "net.ipv4.tcp_syncookies", "value": "0"}]),
            ),
        ],
    );
    fields(
        "--annotation a/b=c --network none busybox",
        &[(
            "/metadata/annotations",
            json!({"a/b": "c", "beluga/network": "none"}),
        )],
    );
    fields(
        "-v /a --tmpfs /t:size=64m --mount type=image,src=tools,dst=/tools busybox",
        &[
            (
                "/spec/volumes",
                json!([
                    {"name": "volume-0", "emptyDir": {}},
                    {"name": "image-1", "image": {"reference": "tools"}},
                    {"name": "tmpfs-2", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
                ]),
            ),
            (
                "/spec/containers/0/volumeMounts/2",
                json!({"name": "tmpfs-2", "mountPath": "/t"}),
            ),
        ],
    );
}

#[test]
fn a_variable_of_a_file_gives_way_to_one_of_the_command_line() {
    let name = format!("beluga-env-file-{}", std::process::id());
    let file = std::env::temp_dir().join(name);
    std::fs::write(&file, "A=1\nB=2\n").unwrap();
    let line = format!("--env-file {} -e A=3 busybox", file.display());
    fields(
        &line,
        &[(
            "/spec/containers/0/env",
            json!([{"name": "B", "value": "2"}, {"name": "A", "value": "3"}]),
        )],
    );
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (line, said) in [
        (&["-v", "a", "busybox"][..], "NAME:PATH"),
        (&["--memory", "much", "busybox"], "--memory: \"much\" is no"),
        (&["-m", "1g", "busybox"], "(did you mean 1Gi?)"),
        (&["--cpus", "1,5", "busybox"], "(did you mean 1.5?)"),
        (&["--restart", "Sometimes", "busybox"], "--restart: "),
        (&["--name", "No", "busybox"], "--name: "),
        (&["-n", "A_", "busybox"], "--namespace: "),
        (&["-w", "here", "busybox"], "--workdir: "),
        (
            &["--image-pull-policy", "Often", "busybox"],
            "--image-pull-policy: ",
        ),
        (&["--image", "busybox"], "IMAGE|NAME"),
        (&["a", "--image=b", "--name=c"], "cannot be used with"),
        (&["A_b", "--image=busybox"], "--name: "),
        (
            &["-e", "=x", "busybox"],
            "--env \"=x\": the name is missing",
        ),
        (
            &["-l", "app", "busybox"],
            "--labels \"app\": it is written KEY=VALUE",
        ),
        (
            &["-v", "/none/x:/x", "busybox"],
            "/none/x: no such file or directory on this host",
        ),
        (&["busy box"], "a blank in it"),
        (&["-f", "a.yaml", "busybox"], "cannot be used with"),
        (&["-f", "a.yaml", "--name", "x"], "cannot be used with"),
    ] {
        let error = manifest(line).unwrap_err();
        assert!(error.contains(said), "{line:?}: {error}");
    }
}

#[test]
fn what_makes_no_sense_of_dockers_flags_is_refused() {
    for (line, said) in [
        (&["-f", "a.yaml", "--read-only"][..], "cannot be used with"),
        (&["-f", "a.yaml", "--tmpfs", "/t"], "cannot be used with"),
        (&["-f", "a.yaml", "--hostname", "h"], "cannot be used with"),
        (
            &["-u", "www-data", "b"],
            "--user \"www-data\": a pod's users",
        ),
        (&["-u", "1:", "b"], "--user \"\": a pod's users"),
        (
            &["-u", "4294967295", "b"],
            "--user: 4294967295 is not from 0",
        ),
        (&["--group-add", "x", "b"], "--group-add \"x\": "),
        (
            &["--cap-add", "NET_ADMN", "b"],
            "--cap-add: \"NET_ADMN\" is not a capability of Linux (did you mean NET_ADMIN?)",
        ),
        (&["--cap-drop", "x", "b"], "--cap-drop: "),
        (&["--hostname", "A_", "b"], "--hostname: "),
        (&["--add-host", "a", "b"], "--add-host \"a\": it is written"),
        (&["--add-host", "a:b", "b"], "--add-host: "),
        (&["--dns", "x", "b"], "--dns: "),
        (&["--sysctl", "x", "b"], "--sysctl \"x\": it is written"),
        (&["--sysctl", "kernel.x=1", "b"], "--sysctl: "),
        (&["--stop-signal", "9x", "b"], "--stop-signal: "),
        (&["--entrypoint", "", "b"], "--entrypoint \"\": the program"),
        (&["--entrypoint", "[sh]", "b"], "or a JSON list"),
        (
            &["--entrypoint", "sh", "--command", "b"],
            "cannot be used with",
        ),
        (
            &["--restart", "on-failure:3", "b"],
            "--restart \"on-failure:3\": a pod's containers",
        ),
        (&["--env-file", "/none/x", "b"], "cannot read /none/x"),
    ] {
        let error = manifest(line).unwrap_err();
        assert!(error.contains(said), "{line:?}: {error}");
    }
}

#[test]
fn now_is_for_manifests() {
    let parse = |line: &str| Cli::try_parse_from(line.split(' ')).map(drop);
    assert!(parse("beluga run --now --rm -f night.yaml").is_ok());
    assert!(parse("beluga run --now busybox").is_err());
    assert!(parse("beluga run --now").is_err());
}
