//! `beluga build`: a directory becomes an image that other tools read, and buildah's is taken over.

use beluga_tests::image;
use beluga_tests::registry::{Puller, sh};
use serde_json::{Value, json};
use std::fs;
use std::io::Read as _;
use std::os::unix::net::UnixListener;
use std::process::Stdio;

/// A directory with a program, links, holes and a note.
fn tree(puller: &Puller, name: &str) -> String {
    let dir = puller.home.path().join(name).display().to_string();
    let line = format!(
        "mkdir -p {dir}/bin {dir}/srv && cd {dir} && cp /bin/busybox bin/busybox && ln bin/busybox bin/sh \
         && ln -s ../bin/sh srv/link && truncate -s 1M srv/hole && echo note > srv/note && mkfifo srv/pipe \
         && chmod 4750 bin/sh && touch -d @1600000000.5 srv/note && touch -h -d @5 srv/link srv bin"
    );
    sh(&line).ok();
    dir
}

fn saved(puller: &Puller, name: &str) -> String {
    let file = puller.home.path().join("saved.tar").display().to_string();
    puller.run(&["save", "-o", &file, name]).ok();
    file
}

#[test]
fn a_directory_is_an_image_for_every_tool() {
    let puller = Puller::new();
    let dir = tree(&puller, "app");
    let words = [
        "build",
        "-t",
        "app:1",
        "-t",
        "app:2",
        "--entrypoint",
        "[\"/bin/sh\"]",
        "--cmd",
        "-c 'echo x'",
        "--env",
        "A=b c",
        "-u",
        "1000:7",
        "-w",
        "/srv",
        "-l",
        "k=v",
        "--expose",
        "80",
        "--expose",
        "53/udp",
        "--stop-signal",
        "SIGQUIT",
        "--timestamp",
        "9",
        &dir,
    ];
    let built = puller.run(&words).ok();
    built.says("Built image: app:1\nBuilt image: app:2");
    let archive = saved(&puller, "app:1");
    let config = sh(&format!(
        "skopeo inspect --config --raw oci-archive:{archive}"
    ))
    .ok();
    let config: Value = serde_json::from_str(&config.out).expect("JSON");
    assert_eq!(
        config["config"],
        json!({
            "Entrypoint": ["/bin/sh"], "Cmd": ["-c", "echo x"], "User": "1000:7", "WorkingDir": "/srv",
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "A=b c"],
            "Labels": {"k": "v"}, "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "StopSignal": "SIGQUIT",
        })
    );
    assert_eq!(config["created"], "1970-01-01T00:00:09Z");
    // What umoci unpacks is what was there, but that nothing is younger than it was said to be.
    let work = puller.home.path().display().to_string();
    let unpack = format!(
        "cd {work} && skopeo copy -q oci-archive:{archive} oci:layout:x && umoci unpack \
         $([ $(id -u) = 0 ] || echo --rootless) --image layout:x bundle && diff -r --no-dereference \
         --exclude=pipe {dir} bundle/rootfs && [ -p bundle/rootfs/srv/pipe ] \
         && [ bundle/rootfs/bin/sh -ef bundle/rootfs/bin/busybox ] && stat -c '%a %Y' bundle/rootfs/bin/sh \
         && [ $(stat -c %s bundle/rootfs/srv/hole) = 1048576 ]"
    );
    sh(&unpack).ok().says("4750 9");
}

#[test]
fn the_same_files_are_the_same_image_whenever_and_wherever() {
    let (one, two) = (Puller::new(), Puller::new());
    let id = |puller: &Puller, epoch: &str| {
        let dir = tree(puller, "app");
        let mut command = puller.command(&["build", "-q", "-t", "app", "--chown", "0:0", &dir]);
        command.env("SOURCE_DATE_EPOCH", epoch);
        let ran = beluga_tests::run(&mut command, beluga_tests::SOON).ok();
        sh(&format!("rm -r {dir}")).ok();
        ran.text().to_owned()
    };
    let first = id(&one, "1700000000");
    assert!(first.starts_with("sha256:") && first.len() == 71, "{first}");
    assert_eq!(first, id(&two, "1700000000"));
    assert_eq!(one.store(), two.store());
    assert_ne!(first, id(&two, "1700000001"));
}

#[test]
fn what_cannot_be_built_is_told_and_leaves_nothing() {
    let puller = Puller::new();
    let dir = tree(&puller, "app");
    let _socket = UnixListener::bind(format!("{dir}/srv/socket")).expect("a socket");
    let built = puller.run(&["build", "-t", "app", &dir]).ok();
    built.complains(&format!("skipped: {dir}/srv/socket is a socket"));
    puller.run(&["rmi", "app"]).ok();
    fs::write(format!("{dir}/srv/.wh.note"), "").expect("a file");
    let hides = puller.run(&["build", "-t", "app", &dir]).exits(1);
    hides.complains("srv/.wh.note: in an image a name that begins with .wh. hides another file");
    fs::remove_file(format!("{dir}/srv/.wh.note")).expect("it is there");
    fs::write(format!("{dir}/Dockerfile"), "FROM scratch\n").expect("a file");
    let recipe = puller.run(&["build", "-t", "app", &dir]).exits(1);
    recipe
        .complains("Dockerfile is not read")
        .complains("buildah push");
    for wrong in [
        ["--expose", "x"],
        ["--workdir", "srv"],
        ["--tag", "A B"],
        ["--entrypoint", "'"],
    ] {
        let ran = puller.run(&["build", wrong[0], wrong[1], "--ignore-dockerfile", &dir]);
        assert!(ran.code == 1 || ran.code == 2, "{ran}");
        ran.complains(wrong[0].trim_start_matches("--tag"));
    }
    assert_eq!(puller.store(), [""; 0]);
    puller
        .run(&["build", "-t", "app", "--ignore-dockerfile", &dir])
        .ok();
}

#[test]
fn an_interrupted_build_leaves_nothing() {
    let puller = Puller::new();
    let dir = tree(&puller, "app");
    // More than is packed in the time that a signal takes.
    sh(&format!("head -c 400M /dev/urandom > {dir}/srv/large")).ok();
    let mut command = puller.command(&["build", "-t", "app", &dir]);
    let mut child = command.stderr(Stdio::piped()).spawn().expect("beluga");
    let packed = puller.beluga.root().join("images/tmp");
    beluga_tests::eventually("something is packed", || {
        let found = sh(&format!("find {} -name packed -size +1M", packed.display()));
        (!found.text().is_empty()).then_some(())
    });
    sh(&format!("kill -INT {}", child.id())).ok();
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    let mut said = String::new();
    let stderr = child.stderr.take().expect("a pipe");
    { stderr }.read_to_string(&mut said).expect("text");
    assert!(said.contains("interrupted"), "{said}");
    assert_eq!(puller.store(), [""; 0]);
}

#[test]
fn what_buildah_has_built_is_loaded() {
    let puller = Puller::new();
    let work = puller.home.path().display().to_string();
    let recipe = format!(
        "FROM oci-archive:{}\nCOPY note /srv/note\nENV A=b\nCMD [\"cat\", \"/srv/note\"]\n",
        image("busybox")
    );
    puller.write("app/Dockerfile", &recipe);
    puller.write("app/note", "from buildah\n");
    let buildah =
        format!("buildah --root {work}/storage --runroot {work}/run --storage-driver vfs");
    let line = format!(
        "{buildah} build -q -t app:1 {work}/app && {buildah} push -q app:1 oci-archive:{work}/app.tar:app:1"
    );
    let built = sh(&line).ok();
    let loaded = puller.run(&["load", "-i", &format!("{work}/app.tar")]).ok();
    loaded.says("Loaded image: app:1");
    let id = built.out.lines().next().unwrap_or_default().to_owned();
    let shown = puller.run(&["image", "inspect", "app:1"]).ok();
    shown.says(&id).says("/srv/note").says("A=b");
}
