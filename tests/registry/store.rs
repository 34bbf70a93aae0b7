//! `beluga save`, `tag`, `inspect`: what the store keeps is what it was given.

use beluga_tests::image;
use beluga_tests::registry::{Puller, Registry, Wants, sh};
use serde_json::Value;
use std::path::Path;

/// The digests of an image's manifest, configuration and layers, as skopeo finds them.
fn digests(source: &str) -> Vec<String> {
    let skopeo = |more: &str| {
        let line = format!("skopeo inspect --tls-verify=false --raw {more} {source}");
        serde_json::from_str::<Value>(&sh(&line).ok().out).expect("JSON")
    };
    let manifest = skopeo("");
    let layers = manifest["layers"].as_array().expect("layers").iter();
    let parts = layers.chain([&manifest["config"]]);
    let parts = parts.map(|part| part["digest"].as_str().unwrap_or_default().to_owned());
    let own = format!("skopeo inspect --tls-verify=false --format '{{{{.Digest}}}}' {source}");
    parts.chain([sh(&own).ok().text().to_owned()]).collect()
}

fn archive(path: &Path) -> String {
    format!("oci-archive:{}", path.display())
}

#[test]
fn what_was_pulled_is_saved_digest_for_digest() {
    let registry = Registry::start(Wants::default());
    let plain = registry.place().join("plain");
    let plain = format!("dir:{}", plain.display());
    let from = format!("oci-archive:{}", image("busybox"));
    sh(&format!("skopeo copy -q --dest-decompress {from} {plain}")).ok();
    for (name, how) in [
        ("docker", "-f v2s2"),
        ("oci", "-f oci"),
        ("zstd", "-f oci --dest-compress-format zstd"),
        ("plain", "--preserve-digests"),
    ] {
        let puller = Puller::new();
        registry.push(&plain, name, how);
        let name = registry.name(name);
        puller.run(&["pull", &name]).ok();
        let file = puller.home.path().join("saved.tar");
        puller
            .run(&["save", "-o", &file.display().to_string(), &name])
            .ok();
        let pulled = digests(&format!("docker://{name}"));
        assert_eq!(digests(&archive(&file)), pulled, "{how}");
        // And skopeo can carry it on, with nothing changed.
        let back = format!("docker://{name}-back");
        let copy = format!(
            "skopeo copy -q --preserve-digests --dest-tls-verify=false {} {back}",
            archive(&file)
        );
        sh(&copy).ok();
        assert_eq!(digests(&back), pulled, "{how}");
    }
}

#[test]
fn a_saved_image_is_loaded_again_as_it_was() {
    let (first, second) = (Puller::new(), Puller::new());
    first.run(&["load", "-i", &image("busybox")]).ok();
    first
        .run(&["tag", "busybox", "other:1", "reg.example:5000/team/x"])
        .ok();
    for format in ["oci-archive", "docker-archive"] {
        let file = first.home.path().join(format).display().to_string();
        let names = ["busybox", "other:1", "reg.example:5000/team/x"];
        let words = [&["save", "--format", format, "-o", &file][..], &names].concat();
        first.run(&words).ok();
        let loaded = second.run(&["load", "-i", &file]).ok();
        loaded
            .says("busybox:latest")
            .says("other:1")
            .says("reg.example:5000/team/x:latest");
        let disks = |puller: &Puller| {
            let all = puller.store().into_iter();
            all.filter(|name| name.starts_with("layers/"))
                .collect::<Vec<_>>()
        };
        assert_eq!(disks(&second), disks(&first), "{format}");
        // Through a pipe, and the same bytes every time.
        let again = first.run(
            &words[..1]
                .iter()
                .chain(&words[1..3])
                .chain(&names)
                .copied()
                .collect::<Vec<_>>(),
        );
        assert!(again.ok().out.len() > 100_000);
        second.run(&["rmi", names[0], names[1], names[2]]).ok();
        assert_eq!(second.store(), [""; 0]);
    }
}

#[test]
fn a_damaged_store_gives_no_archive() {
    let puller = Puller::new();
    puller.run(&["load", "-i", &image("busybox")]).ok();
    let inspected = puller.run(&["image", "inspect", "busybox"]).ok().out;
    let inspected: Value = serde_json::from_str(&inspected).expect("JSON");
    let store = puller.beluga.root().join("images/blobs/sha256");
    let largest = format!("ls -S {0} | head -1", store.display());
    let blob = store.join(sh(&largest).ok().text());
    let file = puller.home.path().join("saved.tar");
    let words = ["save", "busybox", "-o", &file.display().to_string()];
    for damage in [
        "printf x | dd conv=notrunc seek=1000 bs=1 of=",
        "truncate -s -1 ",
    ] {
        sh(&format!("{damage}{}", blob.display())).ok();
        let refused = puller.run(&words).exits(1);
        refused
            .complains("is damaged")
            .complains(&blob.display().to_string());
        // It says to load the image again, and that helps.
        puller.run(&["load", "-i", &image("busybox")]).ok();
        puller.run(&["save", "-o", "/dev/null", "busybox"]).ok();
        let left = sh(&format!("ls {}", puller.home.path().display()));
        assert_eq!(left.ok().text(), "", "nothing half-written");
    }
    // A name that is there, one that is not, and no name for a digest.
    assert_eq!(inspected[0]["RepoTags"][0], "busybox:latest");
    puller
        .run(&["tag", "nobody", "x"])
        .exits(1)
        .complains("no such image: nobody");
    let digest = inspected[0]["Digest"].as_str().expect("a digest");
    let name = format!("x@{digest}");
    puller
        .run(&["tag", "busybox", &name])
        .exits(1)
        .complains("digest reference");
}

#[test]
fn one_damaged_image_costs_itself_and_a_pull_mends_it() {
    let registry = Registry::start(Wants::default());
    registry.push("busybox", "busybox", "");
    let (puller, name) = (Puller::new(), registry.name("busybox"));
    puller.run(&["pull", &name]).ok();
    puller.run(&["load", "-i", &image("nginx")]).ok();
    let images = puller.beluga.root().join("images");
    let digest = puller.run(&["images", &name, "--format", "{{.Digest}}"]);
    let record = digest.ok().text().replace("sha256:", "");
    let wanted = puller.run(&[
        "inspect",
        "--type",
        "image",
        "-f",
        "{{index .RootFS.Layers 0}}",
        &name,
    ]);
    let disk = wanted.ok().text().replace("sha256:", "");
    for (how, file) in [
        ("rm", format!("layers/{disk}.erofs")),
        ("truncate -s 0", format!("images/{record}.json")),
    ] {
        sh(&format!("{how} {}", images.join(file).display())).ok();
        for verb in ["images", "df"] {
            let shown = puller.run(&[verb]).ok();
            shown.complains(&format!("the image {name}:latest is damaged"));
        }
        puller.run(&["images"]).ok().says("nginx").says("<damaged>");
        puller.run(&["pull", &name]).ok();
        assert_eq!(puller.run(&["images"]).ok().err, "");
    }
}

#[test]
fn a_name_is_listed_alone_and_patterns_and_filters_mean_what_dockers_do() {
    let puller = Puller::new();
    puller.run(&["load", "-i", &image("busybox")]).ok();
    puller.run(&["tag", "busybox", "a:1", "b:2"]).ok();
    let names = |words: &[&str]| {
        let format = ["--format", "{{.Repository}}:{{.Tag}}"];
        let ran = puller.run(&[&["images"], words, &format].concat()).ok();
        ran.out.replace('\n', " ")
    };
    assert_eq!(names(&["busybox"]), "busybox:latest ");
    assert_eq!(names(&["busy*"]), "busybox:latest ");
    assert_eq!(names(&["-f", "reference=*:2"]), "b:2 ");
    assert_eq!(names(&["-f", "dangling=true"]), "");
    assert_eq!(names(&[]), "a:1 b:2 busybox:latest ");
    puller.run(&["image", "exists", "a:1"]).ok();
    puller.run(&["image", "exists", "a:2"]).exits(1);
    puller.run(&["history", "busybox"]).ok().says("CREATED BY");
}

#[test]
fn inspect_shows_what_docker_shows() {
    let registry = Registry::start(Wants::default());
    registry.push("nginx", "web", "-f v2s2");
    let (puller, name) = (Puller::new(), registry.name("web"));
    puller.run(&["pull", &name]).ok();
    let shown = |words: &[&str]| -> Value {
        serde_json::from_str(&puller.run(words).ok().out).expect("JSON")
    };
    let found = shown(&["image", "inspect", &name]);
    assert_eq!(found, shown(&["inspect", "--type", "image", &name]));
    assert_eq!(found, shown(&["inspect", &name]));
    let skopeo = |more: &str| -> Value {
        let line = format!("skopeo inspect --tls-verify=false {more} docker://{name}");
        serde_json::from_str(&sh(&line).ok().out).expect("JSON")
    };
    let (config, its) = (skopeo("--config --raw"), skopeo(""));
    assert_eq!(found[0]["Config"], config["config"]);
    assert_eq!(found[0]["RootFS"]["Layers"], config["rootfs"]["diff_ids"]);
    assert_eq!(found[0]["Architecture"], "amd64");
    assert_eq!(found[0]["RepoTags"][0], format!("{name}:latest"));
    let digest = its["Digest"].as_str().expect("a digest");
    assert_eq!(found[0]["RepoDigests"][0], format!("{}@{digest}", name));
    puller.run(&["images", "--digests"]).ok().says(digest);
    let id = found[0]["Id"].as_str().expect("an identifier");
    puller.run(&["images", "--no-trunc", "-q"]).ok().says(id);
    puller
        .run(&["images", "-o", "wide"])
        .ok()
        .says("linux/amd64");
    let both = puller.run(&["inspect", &name, "nobody"]).exits(1);
    both.says(id).complains("no such image: nobody");
}
