//! What the store keeps, what it lets go, and what is left when a command is killed.

use beluga_tests::registry::{Puller, sh};
use beluga_tests::{image, say};
use serde_json::Value;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn loaded(names: &[&str]) -> Puller {
    let puller = Puller::new();
    for name in names {
        puller.run(&["load", "-i", &image(name)]).ok();
    }
    puller
}

/// The line of `df` in JSON for one type.
fn summary(puller: &Puller, kind: &str) -> Value {
    let all: Value =
        serde_json::from_str(&puller.run(&["df", "-o", "json"]).ok().out).expect("JSON");
    let rows = all["summary"].as_array().expect("rows").iter();
    let mut of_kind = rows.filter(|row| row["type"] == kind);
    of_kind.next().expect("a row").clone()
}

#[test]
fn df_tells_what_du_tells() {
    let puller = loaded(&["busybox", "nginx"]);
    let images = puller.beluga.root().join("images");
    let du = format!(
        "cd {} && du -c -B1 blobs/sha256/* layers/* | tail -1 | cut -f1",
        images.display()
    );
    let du: u64 = sh(&du).ok().text().parse().expect("a number");
    let row = summary(&puller, "Images");
    assert_eq!(row["size"], du);
    assert_eq!((&row["total"], &row["active"]), (&2.into(), &0.into()));
    assert_eq!(row["reclaimable"], du, "no pod uses any");
    // A second name takes nothing, a removed image what it had alone.
    puller.run(&["tag", "busybox", "second"]).ok();
    assert_eq!(summary(&puller, "Images")["size"], du);
    let all = puller.run(&["df", "-o", "json"]).ok().out;
    let all: Value = serde_json::from_str(&all).expect("JSON");
    let of = |name: &str| {
        let images = all["images"].as_array().expect("images").iter();
        let mut found = images.filter(|one| one["repoTags"].to_string().contains(name));
        found.next().expect("an image")["unique"]
            .as_u64()
            .expect("a number")
    };
    let without = du - of("nginx");
    puller.run(&["rmi", "nginx"]).ok();
    assert_eq!(summary(&puller, "Images")["size"], without);
    puller
        .run(&["df", "-v"])
        .ok()
        .says("RECLAIMABLE")
        .says("UNIQUE")
        .says("busybox:latest");
}

#[test]
fn prune_takes_what_nobody_names_and_with_all_what_nobody_uses() {
    let puller = loaded(&["busybox", "nginx"]);
    let before = puller.store();
    puller
        .run(&["prune", "-f"])
        .ok()
        .says("reclaimed space: 0 kB");
    assert_eq!(puller.store(), before);
    // nginx loses its name to busybox.
    puller.run(&["tag", "busybox", "nginx"]).ok();
    puller.run(&["prune"]).exits(2).complains("--force");
    puller
        .run(&["prune", "--dry-run"])
        .ok()
        .says("would delete: sha256:");
    assert_eq!(puller.store(), before);
    puller
        .run(&["image", "prune", "-f"])
        .ok()
        .says("deleted: sha256:");
    let left = puller.run(&["images"]).ok().out;
    assert_eq!(left.lines().count(), 3, "busybox by two names: {left}");
    puller
        .run(&["prune", "-af"])
        .ok()
        .says("untagged: nginx:latest")
        .says("untagged: busybox");
    assert_eq!(puller.store(), [""; 0]);
}

#[test]
fn rmi_takes_several_and_an_identifier_with_all_its_names() {
    let puller = loaded(&["busybox", "nginx"]);
    puller.run(&["tag", "busybox", "a", "b"]).ok();
    let id = puller
        .run(&["images", "-q", "busybox"])
        .ok()
        .text()
        .to_owned();
    puller
        .run(&["rmi", &id[..6]])
        .exits(1)
        .complains("several names");
    let ran = puller.run(&["rmi", "nobody", "nginx", "neither"]).exits(1);
    ran.says("Untagged: nginx:latest")
        .complains("nobody")
        .complains("neither");
    let ran = puller.run(&["image", "rm", "-f", &id[..6]]).ok();
    ran.says("Untagged: a:latest")
        .says("Untagged: b:latest")
        .says("Deleted: sha256:");
    assert_eq!(puller.store(), [""; 0]);
}

#[test]
fn what_is_cut_off_is_found_named_and_mended() {
    let puller = loaded(&["busybox"]);
    let images = puller.beluga.root().join("images");
    puller.run(&["gc", "--check"]).ok().says("clean");
    for part in ["layers", "blobs/sha256"] {
        let largest = sh(&format!("ls -S -d {}/{part}/* | head -1", images.display())).ok();
        sh(&format!("truncate -s -4096 {}", largest.text())).ok();
        let found = puller.run(&["gc", "--check"]).exits(1);
        found
            .says("damaged:")
            .says(largest.text())
            .says("busybox:latest");
        assert!(puller.run(&["doctor"]).out.contains(largest.text()));
        puller.run(&["load", "-i", &image("busybox")]).ok();
        puller.run(&["gc", "--check"]).ok().says("clean");
    }
}

/// Kills commands at points that are nobody's choice; whatever they have left must be whole.
#[test]
fn commands_killed_at_any_point_leave_a_whole_store() {
    let puller = loaded(&["busybox"]);
    let archive = puller.home.path().join("saved.tar").display().to_string();
    let mut seed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |now| now.as_nanos() as u64);
    say(&format!("kills: seed {seed}"));
    let redis = image("redis");
    let commands: [&[&str]; 6] = [
        &["load", "-q", "-i", &redis],
        &["tag", "busybox", "other", "redis"],
        &["save", "-o", &archive, "busybox"],
        &["prune", "-f"],
        &["load", "-q", "-i", &redis, "-t", "other"],
        &["rmi", "other"],
    ];
    let mut killed = 0;
    for round in 0..60 {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let words = commands[round % commands.len()];
        let mut command = puller.command(words);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("beluga runs");
        // Loads take long, the others do not.
        let most = if words[0] == "load" { 600_000 } else { 12_000 };
        std::thread::sleep(Duration::from_micros((seed >> 33) % most));
        killed += u32::from(child.try_wait().expect("waited").is_none());
        drop(child.kill());
        child.wait().expect("it ends");
        // Every image that is there is whole, and so is every archive.
        let seen = puller.run(&["gc", "--check"]);
        let is_known = |line: &str| {
            let left = line.strip_prefix("left over: directory ");
            line == "clean" || left.is_some_and(|path| path.contains("/images/tmp/"))
        };
        assert!(
            !seen.out.is_empty() && seen.out.lines().all(is_known) && seen.err.is_empty(),
            "after {words:?}, round {round}: {seen}"
        );
        // The next command that opens the store takes away what the killed one has left.
        puller.run(&["image", "inspect", "busybox"]).ok();
        puller.run(&["gc", "--check"]).ok().says("clean");
    }
    say(&format!("kills: {killed} of 60 in the middle"));
    assert!(killed > 10, "{killed} commands were killed");
    puller.run(&["save", "-o", &archive, "busybox"]).ok();
    sh(&format!("skopeo inspect oci-archive:{archive}")).ok();
    puller.run(&["load", "-i", &redis]).ok();
    puller.run(&["prune", "-af"]).ok();
    assert_eq!(puller.store(), [""; 0]);
}
