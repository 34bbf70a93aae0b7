use super::super::{Cli, Verb};
use clap::Parser as _;

fn manifest(line: &[&str]) -> Result<String, String> {
    let words = ["beluga", "run"].iter().chain(line);
    let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
    let Verb::Run(args) = cli.verb else {
        return Err("another verb".into());
    };
    let image = args.image.as_deref().unwrap_or_default();
    let meant = args.one.pod(image, &args.command);
    Ok(meant.map_err(|error| error.to_string())?.text)
}

#[test]
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
  - emptyDir: {}
    name: data
"#
    );
}

#[test]
fn a_volume_with_a_slash_is_a_place_on_the_host() {
    let text = manifest(&["-v", "/usr:/host:ro", "-v", "/none/x:/x", "busybox"]).unwrap();
    for line in [
        "path: /usr",
        "path: /none/x",
        "name: host-0",
        "name: host-1",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert!(!text.contains("emptyDir"), "{text}");
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
        (&[], "required"),
        (&["-f", "a.yaml", "busybox"], "cannot be used with"),
        (&["-f", "a.yaml", "--name", "x"], "cannot be used with"),
        (&["--rm", "-d", "busybox"], "cannot be used with"),
    ] {
        let error = manifest(line).unwrap_err();
        assert!(error.contains(said), "{line:?}: {error}");
    }
}
