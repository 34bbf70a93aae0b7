//! `beluga push` to Debian's registry; what is there is looked at by skopeo and in its log.

use beluga_tests::image;
use beluga_tests::registry::{Puller, Registry, Wants, sh};
use std::fs;

/// The digest that skopeo has for a name.
fn digest(name: &str) -> String {
    let line = format!(
        "skopeo inspect --tls-verify=false --creds user:pass --format '{{{{.Digest}}}}' docker://{name}"
    );
    sh(&line).ok().text().to_owned()
}

/// Bytes of blobs that clients have sent, by the registry's own log.
fn uploads(registry: &Registry) -> usize {
    registry.requests("PUT", "/blobs/uploads/").len()
}

#[test]
fn what_is_pushed_is_what_is_here() {
    let registry = Registry::start(Wants::default());
    let puller = Puller::new();
    puller.run(&["load", "-i", &image("nginx")]).ok();
    let name = registry.name("team/web:1");
    puller.run(&["tag", "nginx", &name]).ok();
    let file = puller.home.path().join("digest").display().to_string();
    let pushed = puller.run(&["push", "--digestfile", &file, &name]).ok();
    pushed
        .says(&format!("Pushed image: {name}"))
        .complains(": done, ");
    let digest = digest(&name);
    assert_eq!(fs::read_to_string(&file).expect("a digest"), digest);
    // Layers, configuration: each once. The manifest and every blob are byte for byte the same.
    assert_eq!(uploads(&registry), 3);
    let other = Puller::new();
    other.run(&["pull", &name]).ok();
    let blobs = |puller: &Puller| -> Vec<String> {
        let all = puller.store().into_iter();
        all.filter(|name| name.starts_with("blobs/")).collect()
    };
    assert_eq!(blobs(&other), blobs(&puller));
    // It is known by that digest now, and nothing is sent twice: only asked for.
    let known = puller.run(&["image", "inspect", "nginx"]).ok();
    known.says(&format!("{}@{digest}", registry.name("team/web")));
    let again = puller
        .run(&["push", "-q", "nginx", &format!("docker://{name}")])
        .ok();
    assert_eq!(again.text(), digest);
    let again = puller.run(&["push", &name]).ok();
    again.complains("is there already");
    assert_eq!(uploads(&registry), 3);
}

#[test]
fn a_layer_that_the_registry_has_elsewhere_is_not_sent() {
    let registry = Registry::start(Wants::default());
    registry.push("nginx", "one/web", "");
    let puller = Puller::new();
    let (from, to) = (registry.name("one/web"), registry.name("two/web:9"));
    puller.run(&["pull", &from]).ok();
    let before = uploads(&registry);
    let pushed = puller.run(&["push", &from, &to]).ok();
    pushed.complains("is in another repository there");
    assert_eq!(uploads(&registry), before);
    assert_eq!(digest(&to), digest(&from));
}

#[test]
fn a_push_has_a_password_and_an_authority() {
    let registry = Registry::start(Wants {
        password: true,
        tls: true,
    });
    let puller = Puller::new();
    puller.run(&["load", "-i", &image("busybox")]).ok();
    let name = registry.name("team/busybox");
    let unknown = puller.run(&["push", "busybox", &name]).exits(1);
    unknown.complains("comes from an authority that is not known here");
    let certificate = fs::read_to_string(registry.place().join("ca.crt")).expect("one");
    puller.write("certs.d/localhost/ca.crt", "");
    let dir = format!("certs.d/{}_", registry.address.replace(':', "_"));
    puller.write(&format!("{dir}/ca.crt"), &certificate);
    let nobody = puller.run(&["push", "busybox", &name]).exits(1);
    nobody
        .complains("cannot push the image")
        .complains("401 Unauthorized");
    // user:pass.
    let auths = format!(
        "{{\"auths\":{{\"{}\":{{\"auth\":\"dXNlcjpwYXNz\"}}}}}}",
        registry.address
    );
    puller.write("config.json", &auths);
    puller.run(&["push", "busybox", &name]).ok();
    assert!(digest(&name).starts_with("sha256:"));
    // A host that takes none is not asked.
    let hosts = format!(
        "server = \"https://{}\"\ncapabilities = [\"pull\", \"resolve\"]\n",
        registry.address
    );
    puller.write(&format!("{dir}/hosts.toml"), &hosts);
    let none = puller.run(&["push", "busybox", &name]).exits(1);
    none.complains("no host is configured that could push");
}

#[test]
fn what_cannot_be_pushed_is_told() {
    let mut registry = Registry::start(Wants::default());
    let puller = Puller::new();
    puller.run(&["load", "-i", &image("busybox")]).ok();
    let name = registry.name("busybox");
    puller
        .run(&["push", "nobody"])
        .exits(1)
        .complains("no such image: nobody");
    let id = puller.run(&["images", "-q"]).ok().text().to_owned();
    puller.run(&["push", &id]).exits(2).complains("where to?");
    let zeros = format!("{name}@sha256:{}", "0".repeat(64));
    puller
        .run(&["push", "busybox", &zeros])
        .exits(1)
        .complains("a name with a digest");
    let store = puller.beluga.root().join("images/blobs/sha256");
    let largest = sh(&format!("ls -S {} | head -1", store.display())).ok();
    let blob = store.join(largest.text());
    sh(&format!(
        "printf x | dd conv=notrunc seek=1000 bs=1 of={}",
        blob.display()
    ))
    .ok();
    let damaged = puller.run(&["push", "busybox", &name]).exits(1);
    damaged.complains("is damaged").complains(largest.text());
    // What was damaged is gone, so that a load brings it anew.
    puller.run(&["load", "-i", &image("busybox")]).ok();
    puller.run(&["save", "-o", "/dev/null", "busybox"]).ok();
    assert_eq!(registry.requests("PUT", "/manifests/").len(), 0);
    registry.stop();
    let gone = puller.run(&["push", "busybox", &name]).exits(1);
    gone.complains("cannot be reached")
        .complains("Connection refused");
}
