//! `beluga pull` from Debian's registry.

use beluga_tests::image;
use beluga_tests::registry::{Puller, Registry, Wants, sh};

/// The digest of the manifest that skopeo has for an image.
fn digest(registry: &Registry, name: &str) -> String {
    let name = registry.name(name);
    let line =
        format!("skopeo inspect --tls-verify=false --format '{{{{.Digest}}}}' docker://{name}");
    sh(&line).ok().text().to_owned()
}

#[test]
fn an_image_is_pulled_by_tag_and_by_digest() {
    let registry = Registry::start(Wants::default());
    registry.push("busybox", "team/busybox:1", "");
    let (puller, name) = (Puller::new(), registry.name("team/busybox:1"));
    let digest = digest(&registry, "team/busybox:1");
    let ran = puller.run(&["pull", &name]).ok().says(&digest);
    ran.says(&format!("Pulled image: {name}"));
    let again = puller.run(&["pull", &name]).ok();
    again.says(&format!("Image is up to date: {name}"));
    puller.run(&["images", &name]).ok().says("team/busybox");
    let other = Puller::new();
    let by_digest = registry.name(&format!("team/busybox@{digest}"));
    other.run(&["pull", "-q", &by_digest]).ok().says("sha256:");
    assert_eq!(puller.store(), other.store());
    let both = registry.name(&format!("team/busybox:none@{digest}"));
    other.run(&["pull", &both]).ok().says("Image is up to date");
}

#[test]
fn what_is_pulled_is_what_was_loaded() {
    let registry = Registry::start(Wants::default());
    registry.push("busybox", "busybox", "");
    let (pulled, loaded) = (Puller::new(), Puller::new());
    pulled.run(&["pull", &registry.name("busybox")]).ok();
    loaded.run(&["load", "-i", &image("busybox")]).ok();
    let disks = |puller: &Puller| -> Vec<String> {
        let all = puller.store().into_iter();
        all.filter(|name| name.starts_with("layers/")).collect()
    };
    assert!(!disks(&pulled).is_empty());
    assert_eq!(disks(&pulled), disks(&loaded));
    // Its layers are known by what is in them: nothing comes twice.
    let ran = loaded.run(&["pull", &registry.name("busybox")]).ok();
    assert!(!ran.err.contains("done"), "{ran}");
    ran.complains("is there already");
}

#[test]
fn every_kind_of_manifest_and_compression() {
    let registry = Registry::start(Wants::default());
    let (puller, first) = (Puller::new(), Puller::new());
    first.run(&["load", "-i", &image("busybox")]).ok();
    let layers = |puller: &Puller| -> Vec<String> {
        let all = puller.store().into_iter();
        all.filter(|name| name.starts_with("layers/")).collect()
    };
    for (name, how) in [
        (
            "gzip",
            "-f v2s2 --dest-compress-format gzip --dest-compress",
        ),
        ("zstd", "-f oci --dest-compress-format zstd --dest-compress"),
        ("plain", "-f oci --dest-decompress"),
    ] {
        registry.push("busybox", name, how);
        puller.run(&["pull", &registry.name(name)]).ok();
        assert_eq!(layers(&puller), layers(&first), "{name}");
        puller.run(&["rmi", &registry.name(name)]).ok();
        assert_eq!(puller.store(), [""; 0], "{name}");
    }
}

#[test]
fn errors_are_told_in_the_registrys_words() {
    let mut registry = Registry::start(Wants::default());
    registry.push("busybox", "busybox", "");
    let puller = Puller::new();
    puller
        .run(&["pull", &registry.name("busybox:none")])
        .exits(1)
        .complains("MANIFEST_UNKNOWN: manifest unknown")
        .complains("404 Not Found");
    puller
        .run(&[
            "pull",
            &registry.name("busybox"),
            "--platform",
            "linux/s390x",
        ])
        .exits(1)
        .complains("the image is for linux/amd64, and linux/s390x is wanted");
    registry.stop();
    puller
        .run(&["pull", &registry.name("busybox")])
        .exits(1)
        .complains("cannot be reached")
        .complains("Connection refused");
    assert_eq!(puller.store(), [""; 0]);
}
