use super::super::{Cli, Verb};
use clap::Parser as _;

mod flags;

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
fn now_is_for_manifests() {
    let parse = |line: &str| Cli::try_parse_from(line.split(' ')).map(drop);
    assert!(parse("beluga run --now --rm -f night.yaml").is_ok());
    assert!(parse("beluga run --now busybox").is_err());
    assert!(parse("beluga run --now").is_err());
}
