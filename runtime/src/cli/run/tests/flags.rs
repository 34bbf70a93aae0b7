//! Flags of docker and podman.

use super::manifest;
use crate::cli::{Cli, Verb};
use clap::Parser as _;
use serde_json::json;

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
