//! Pods of one image share it: on the disk, and in the host's page cache.

use beluga_tests::registry::sh;
use beluga_tests::{Beluga, Pod, run, say, shared};
use std::process::Command;
use std::time::Duration;

/// Longest that ten emulated pods may take to read an image.
const LONG: Duration = Duration::from_secs(20 * 60);

/// A disk under an instance's root: where files lie in memory anyway, there is no cache to look at.
struct Disk {
    root: String,
    file: tempfile::NamedTempFile,
}

impl Disk {
    fn under(beluga: &Beluga) -> Self {
        let disk = Self {
            root: beluga.root().display().to_string(),
            file: tempfile::NamedTempFile::new().expect("a file"),
        };
        let file = disk.file.path().display();
        let line = format!(
            "truncate -s 1G {file} && mkfs.ext4 -q -E lazy_itable_init=1 {file} && mkdir -p {0} \
             && mount -o loop {file} {0}",
            disk.root
        );
        sh(&line).ok();
        disk
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        sh(&format!("umount {0} || umount -l {0}", self.root));
    }
}

fn number(line: &str) -> u64 {
    let ran = sh(line).ok();
    ran.text().parse().unwrap_or_else(|_| panic!("{ran}"))
}

/// What lies where, in KiB.
#[derive(Debug)]
struct Place {
    /// The layers on the disk.
    layers: u64,
    /// The layers in the page cache.
    resident: u64,
    /// The whole page cache.
    cached: u64,
    /// What the pods have of their own.
    pods: u64,
}

fn look(root: &str) -> Place {
    let resident = format!(
        "fincore -bnro RES {root}/images/layers/* | awk '{{n += $1}} END {{print int(n / 1024)}}'"
    );
    Place {
        layers: number(&format!(
            "find {root}/images/layers -type f -printf '%s\\n' | awk '{{n += $1}} END {{print int(n / 1024)}}'"
        )),
        resident: number(&resident),
        cached: number("awk '/^Cached:/ {print $2}' /proc/meminfo"),
        pods: number(&format!(
            "mkdir -p {root}/pods && du -sk {root}/pods | cut -f1"
        )),
    }
}

/// Starts a pod and has it read every file of its image.
fn reader(beluga: &Beluga, number: usize) -> Pod<'_> {
    let manifest = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: reader-{number}}}\nspec:\n  \
         terminationGracePeriodSeconds: 0\n  containers:\n  \
         - {{name: main, image: nginx, command: [sleep, infinity], resources: {{limits: {{memory: 64Mi}}}}}}\n"
    );
    let pod = beluga.pod(&manifest);
    let read = [
        "exec",
        pod.name(),
        "--",
        "sh",
        "-c",
        "find / -xdev -type f -exec cat {} + | wc -c",
    ];
    let bytes = run(&mut beluga.command(read), LONG).ok();
    assert!(
        bytes
            .text()
            .parse::<u64>()
            .is_ok_and(|count| count > 20_000_000),
        "{bytes}"
    );
    pod
}

/// So many pods read all of one image; it is there once.
pub fn is_there_once(count: usize) {
    let beluga = Beluga::fresh();
    let disk = Disk::under(&beluga);
    // Loading costs minutes where processors are emulated, and is not what this is about.
    let images = shared().root().join("images");
    sh(&format!(
        "cp -a --sparse=always {} {}",
        images.display(),
        disk.root
    ))
    .ok();
    // Other stories have loaded what they needed.
    for line in beluga.run(["images"]).ok().out.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().take(2).collect();
        if words[0] != "nginx" {
            beluga.run(["rmi", "-f", &words.join(":")]).ok();
        }
    }
    sh("sync; echo 3 > /proc/sys/vm/drop_caches").ok();
    let before = look(&disk.root);
    let first = reader(&beluga, 1);
    let one = look(&disk.root);
    let mut others: Vec<Pod<'_>> = (2..=count).map(|number| reader(&beluga, number)).collect();
    let all = look(&disk.root);
    let more = others.len() as u64;
    let mut grown = all.cached.saturating_sub(one.cached) / more;
    // What other stories load meanwhile lies in the same memory: one more pod tells.
    for number in count + 1..count + 3 {
        if grown >= all.layers / 4 {
            let before = look(&disk.root).cached;
            others.push(reader(&beluga, number));
            grown = look(&disk.root).cached.saturating_sub(before);
        }
    }
    say(&format!(
        "{count} pods of one image: {} KiB on the disk, {} KiB of it cached after one, {} after all; \
         a further pod costs {grown} KiB of cache and {} KiB of disk",
        all.layers,
        one.resident,
        all.resident,
        (all.pods - one.pods) / more
    ));
    assert!(one.resident > one.layers / 2, "it was read: {one:?}");
    assert_eq!(all.layers, before.layers, "nobody made layers of their own");
    assert!(grown < all.layers / 4, "{one:?} {all:?}");
    assert!(
        (all.pods - one.pods) / more < all.layers / 4,
        "{one:?} {all:?}"
    );
    // Each machine has the very same files.
    for pod in others.iter().chain([&first]) {
        let [vmm, _] = pod.processes();
        let ran = Command::new("sh")
            .args(["-c", &format!("ls -l /proc/{vmm}/fd")])
            .output();
        let open = String::from_utf8_lossy(&ran.expect("ls").stdout).into_owned();
        assert!(
            open.contains(&format!("{}/images/layers/", disk.root)),
            "{open}"
        );
    }
    drop((others, first));
    beluga.is_clean();
}

#[test]
fn two_pods_of_one_image_have_it_once() {
    is_there_once(2);
}
