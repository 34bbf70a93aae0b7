//! Commands that are interrupted or find no room: they say so, and nothing is there by half.

use crate::faults::large;
use beluga_tests::registry::{Puller, Registry, Wants, sh};
use beluga_tests::{Ran, SOON, eventually, image, run};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Interrupts a command, as Ctrl-C does.
fn interrupt(child: &Child) {
    sh(&format!("kill -INT {}", child.id())).ok();
}

/// Waits for the end of a command that was interrupted.
fn ended(child: &mut Child) {
    let ended = child.wait().expect("it ends");
    assert_eq!((ended.code(), ended.signal()), (Some(130), None));
}

/// Waits until a load has written something of this name.
fn has_begun(puller: &Puller, what: &str) {
    let (tmp, end) = (
        puller.beluga.root().join("images/tmp"),
        Instant::now() + SOON,
    );
    let is_there = || {
        let mut dirs = tmp.read_dir().into_iter().flatten().flatten();
        dirs.any(|dir| {
            let found = dir.path().join(what).metadata();
            found.is_ok_and(|found| found.len() > 0)
        })
    };
    while !is_there() {
        assert!(Instant::now() < end, "no load has begun");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn nothing_is_left(puller: &Puller) {
    assert_eq!(puller.store(), [""; 0]);
    puller.run(&["images", "-q"]).ok();
    puller.run(&["gc", "--check"]).ok().says("clean");
}

#[test]
fn an_interrupted_load_leaves_nothing() {
    let registry = Registry::start(Wants::default());
    large(&registry);
    let layout = registry.place().join("large/oci").display().to_string();
    let puller = Puller::new();
    // While layers are made into disks, unless it was faster.
    let mut command = puller.command(&["load", "-i", &layout]);
    let mut child = command.stderr(Stdio::null()).spawn().expect("beluga");
    std::thread::sleep(Duration::from_millis(50));
    interrupt(&child);
    match child.wait().expect("it ends").code() {
        Some(130) => nothing_is_left(&puller),
        code => assert_eq!(code, Some(0), "it was not faster, it failed"),
    }
    let puller = Puller::new();
    // While an archive comes.
    let mut command = puller.command(&["load"]);
    command.stdin(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("beluga");
    let archive = std::fs::read(image("redis")).expect("an archive");
    let (first, rest) = archive.split_at(archive.len() / 2);
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(first).expect("it reads");
    has_begun(&puller, "source");
    interrupt(&child);
    // It looks up when something comes, and leaves.
    let cut = rest
        .chunks(1 << 10)
        .any(|chunk| input.write_all(chunk).is_err());
    assert!(cut, "it has read everything");
    ended(&mut child);
    nothing_is_left(&puller);
}

/// A way to the registry on which what is sent to it takes its time, and how many bytes were.
fn slow_way(registry: &Registry) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let way = listener.local_addr().expect("an address").to_string();
    let (to, sent) = (registry.address.clone(), Arc::new(AtomicU64::new(0)));
    let counted = Arc::clone(&sent);
    std::thread::spawn(move || {
        for here in listener.incoming().map_while(Result::ok) {
            let Ok(there) = TcpStream::connect(&to) else {
                return;
            };
            let (mut back, mut answer) = (
                here.try_clone().expect("one"),
                there.try_clone().expect("one"),
            );
            std::thread::spawn(move || std::io::copy(&mut answer, &mut back));
            let counted = Arc::clone(&counted);
            std::thread::spawn(move || {
                let (mut here, mut there, mut buffer) = (here, there, vec![0; 64 << 10]);
                while let Ok(read @ 1..) = here.read(&mut buffer) {
                    counted.fetch_add(read as u64, Ordering::Relaxed);
                    if there.write_all(&buffer[..read]).is_err() {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
                drop(there.shutdown(std::net::Shutdown::Both));
            });
        }
    });
    (way, sent)
}

#[test]
fn an_interrupted_push_takes_back_what_it_has_begun() {
    let registry = Registry::start(Wants::default());
    let (puller, name) = (Puller::new(), "big:1");
    // More than the sockets' buffers hold.
    let dir = puller.home.path().join("big").display().to_string();
    sh(&format!(
        "mkdir {dir} && head -c 40000000 /dev/urandom > {dir}/data"
    ))
    .ok();
    puller.run(&["build", "-q", "-t", name, &dir]).ok();
    let before = puller.store();
    let (way, sent) = slow_way(&registry);
    let other = format!("{way}/other:1");
    let mut command = puller.command(&["push", name, &other]);
    let mut child = command.stderr(Stdio::null()).spawn().expect("beluga");
    let begun = || (sent.load(Ordering::Relaxed) > 1_000_000).then_some(());
    eventually("a layer is sent", begun);
    interrupt(&child);
    ended(&mut child);
    let deleted = registry.requests("DELETE", "/v2/other/blobs/uploads/");
    assert_eq!(deleted.len(), 1, "{deleted:?}");
    assert_eq!(registry.requests("PUT", "/manifests/1"), []);
    assert_eq!(puller.store(), before);
    puller.run(&["gc", "--check"]).ok().says("clean");
    // What was not sent is sent by the next, and the image is what it is here.
    puller.run(&["push", name, &registry.name("other:1")]).ok();
    let back = Puller::new();
    back.run(&["pull", &registry.name("other:1")]).ok();
    assert_eq!(back.store(), before);
}

/// Runs lines of shell where the root is a file system of 12 MB, in a mount namespace of its own;
/// nothing where there are none.
fn on_a_small_disk(test: &str, puller: &Puller, lines: &str) -> Option<Ran> {
    let root = puller.beluga.root();
    let line = format!(
        "mkdir -p {0} && mount -t tmpfs -o size=12m none {0} || exit 77; cd {0} || exit 77; {lines}",
        root.display()
    );
    let mut command = Command::new("unshare");
    command
        .args(["-rm", "sh", "-c", &line])
        .env("BELUGA_ROOT", root)
        .env("BELUGA_STATE", puller.beluga.state());
    let ran = run(&mut command, SOON);
    if ran.code == 77 || ran.err.contains("unshare") {
        beluga_tests::skip(test, "no mount namespaces here");
        return None;
    }
    Some(ran)
}

/// A manifest of a pod of this image; where it is.
fn manifest(puller: &Puller, image: &str) -> String {
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: crowded}}\nspec:\n  containers:\n  \
         - {{name: main, image: \"{image}\"}}\n"
    );
    puller.write("pod.yaml", &text);
    puller.home.path().join("pod.yaml").display().to_string()
}

#[test]
fn a_full_disk_is_told_and_leaves_room() {
    let registry = Registry::start(Wants::default());
    let (puller, name) = (Puller::new(), large(&registry));
    let lines = format!(
        "beluga pull {name}; code=$?; \
         find images/blobs images/layers images/ingest -type f | wc -l; exit $code"
    );
    let test = "a_full_disk_is_told_and_leaves_room";
    let Some(ran) = on_a_small_disk(test, &puller, &lines) else {
        return;
    };
    let ran = ran.exits(1).complains("No space left on device");
    assert_eq!(ran.text(), "0", "{ran}");
}

#[test]
fn a_pod_whose_image_fills_the_disk_is_refused_by_name_and_by_field() {
    let registry = Registry::start(Wants::default());
    let (puller, name) = (Puller::new(), large(&registry));
    let file = manifest(&puller, &name);
    let lines = format!(
        "beluga run -f {file}; code=$?; beluga get pods -o name; beluga gc --check; \
         find images/blobs images/layers images/ingest images/uses -type f | wc -l; \
         mount -o remount,size=100m none . && beluga pull -q {name}; exit $code"
    );
    let test = "a_pod_whose_image_fills_the_disk_is_refused_by_name_and_by_field";
    let Some(ran) = on_a_small_disk(test, &puller, &lines) else {
        return;
    };
    let ran = ran.exits(1).complains("No space left on device");
    let ran = ran.complains("pod \"crowded\" cannot be started");
    let place = format!("{file}:6:");
    let field = "spec.containers[0].image: cannot pull the image";
    let ran = ran.complains(&place).complains(field);
    // No pod, nothing left over, no file; and where there is room the pull goes through.
    assert!(ran.out.starts_with("clean\n0\nsha256:"), "{ran}");
}

#[test]
fn a_start_on_a_full_disk_is_refused_by_the_pods_name() {
    let puller = Puller::new();
    let file = manifest(&puller, "busybox");
    let lines = format!(
        "beluga load -q -i {} >/dev/null || exit 2; cat /dev/zero > full 2>/dev/null; \
         beluga run -f {file}; code=$?; beluga apply -f {file} && exit 3; \
         beluga get pods -o name; beluga gc --check; rm full; beluga gc --check; \
         find images/uses images/tmp -type f | wc -l; exit $code",
        image("busybox")
    );
    let test = "a_start_on_a_full_disk_is_refused_by_the_pods_name";
    let Some(ran) = on_a_small_disk(test, &puller, &lines) else {
        return;
    };
    let ran = ran.exits(1).complains("No space left on device");
    let ran = ran.complains("pod \"crowded\" cannot be started");
    assert_eq!(ran.text(), "clean\nclean\n0", "{ran}");
}
