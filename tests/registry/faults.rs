//! Pulls that are killed, that meet, and that find no room.

use beluga_tests::registry::{Puller, Registry, Wants, sh};
use beluga_tests::{SOON, run};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// An image of several layers that do not compress, some 20 MB, in a registry.
fn large(registry: &Registry) -> String {
    let dir = registry.place().join("large");
    let line = format!(
        "mkdir {dir} && cd {dir} && umoci init --layout oci && umoci new --image oci:latest \
         && for n in 1 2 3 4 5; do mkdir layer$n && head -c 4000000 /dev/urandom > layer$n/data$n \
         && umoci insert --image oci:latest layer$n /layer$n; done",
        dir = dir.display()
    );
    sh(&line).ok();
    let from = format!("oci:{}/oci:latest", dir.display());
    registry.push(&from, "large", "");
    registry.name("large")
}

#[test]
fn a_pull_that_is_killed_ten_times_goes_on() {
    let registry = Registry::start(Wants::default());
    let name = large(&registry);
    let whole = Puller::new();
    let begun = Instant::now();
    whole.run(&["pull", &name]).ok();
    let span = begun.elapsed();
    let puller = Puller::new();
    for number in 1..=10 {
        let mut command = puller.command(&["pull", &name]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("beluga");
        // Spread over a pull's length; each is a little longer than the last.
        std::thread::sleep(span * number / 20);
        let _ = child.kill();
        let _ = child.wait();
        // The store is whole: it can be read, and nothing has a name too early.
        let listed = puller.run(&["images", "-q"]).ok().out;
        assert!(listed.lines().count() <= 1, "{listed}");
    }
    puller.run(&["pull", &name]).ok();
    let ids = |puller: &Puller| puller.run(&["images", "-q"]).ok().out;
    assert_eq!(ids(&puller), ids(&whole));
    assert_eq!(puller.store(), whole.store());
}

/// Begins a pull and waits until one layer is there and another one comes.
fn begun(puller: &Puller, name: &str) -> Child {
    let mut command = puller.command(&["pull", name]);
    let child = command.stderr(Stdio::null()).spawn().expect("beluga");
    let images = puller.beluga.root().join("images");
    let end = Instant::now() + SOON;
    let count = |part: &str| images.join(part).read_dir().map_or(0, Iterator::count);
    while (count("layers") == 0 || count("ingest") == 0) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

/// Bytes of layers that a store has, whole or in part.
fn has(puller: &Puller) -> u64 {
    let images = puller.beluga.root().join("images");
    // Documents are small: only a layer's blob has more than 100 kB.
    let line = format!(
        "cd {} && find blobs ingest -maxdepth 2 -type f ! -path '*.work*' \\( -path 'ingest/*' -o -size +100k \\) -printf '%s\\n'",
        images.display()
    );
    let sizes = sh(&line).ok().out;
    sizes
        .lines()
        .map(|size| size.parse::<u64>().expect("a size"))
        .sum()
}

/// Bytes of layers that the registry has sent since its log had so many lines of blobs.
fn sent(registry: &Registry, since: usize) -> u64 {
    let all = registry.requests("GET", "/blobs/sha256:");
    let layers = all.iter().skip(since).filter(|one| one.bytes > 10_000);
    layers.map(|one| one.bytes).sum()
}

/// Bytes of all layers.
fn whole(registry: &Registry, name: &str) -> u64 {
    let puller = Puller::new();
    let before = registry.requests("GET", "/blobs/sha256:").len();
    puller.run(&["pull", name]).ok();
    sent(registry, before)
}

#[test]
fn what_a_killed_pull_has_is_not_sent_again() {
    let mut registry = Registry::start(Wants::default());
    let name = large(&registry);
    let (puller, whole) = (Puller::new(), whole(&registry, &name));
    let mut child = begun(&puller, &name);
    let _ = child.kill();
    let _ = child.wait();
    let kept = has(&puller);
    registry.restart();
    assert!(kept > 4_000_000, "{kept}");
    let ran = puller.run(&["pull", &registry.name("large")]).ok();
    ran.complains("is there already");
    assert_eq!(
        sent(&registry, 0),
        whole - kept,
        "of {whole}, {kept} were there"
    );
}

#[test]
fn an_interrupted_pull_gives_back_what_it_has_begun() {
    let mut registry = Registry::start(Wants::default());
    let name = large(&registry);
    let (puller, whole) = (Puller::new(), whole(&registry, &name));
    let mut child = begun(&puller, &name);
    sh(&format!("kill -INT {}", child.id()));
    let ended = child.wait().expect("it ends");
    assert_eq!((ended.code(), ended.signal()), (Some(130), None));
    // No disk in part and nothing temporary; what has come of the layers is for the next one.
    let odd = |name: &String| name.contains(".work") || name.starts_with("tmp/");
    let left = puller.store();
    assert!(!left.iter().any(odd), "{left:?}");
    assert_eq!(puller.run(&["images", "-q"]).ok().text(), "");
    puller.run(&["gc", "--check"]).ok().says("clean");
    let kept = has(&puller);
    registry.restart();
    puller.run(&["pull", &registry.name("large")]).ok();
    assert_eq!(
        sent(&registry, 0),
        whole - kept,
        "of {whole}, {kept} were there"
    );
    let left = puller.store();
    assert!(
        !left
            .iter()
            .any(|name| name.starts_with("ingest/") || odd(name)),
        "{left:?}"
    );
}

/// A way to the registry on which the first connections break after so many bytes.
fn breaking_way(registry: &Registry, breaks: u64, after: u64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (way, to) = (
        listener.local_addr().expect("an address"),
        registry.address.clone(),
    );
    std::thread::spawn(move || {
        let broken = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for here in listener.incoming().map_while(Result::ok) {
                let Ok(there) = TcpStream::connect(&to) else {
                    return;
                };
                let (mut up, mut down) = (
                    here.try_clone().expect("one"),
                    there.try_clone().expect("one"),
                );
                scope.spawn(move || std::io::copy(&mut up, &mut { &there }));
                let broken = &broken;
                scope.spawn(move || {
                    let (mut passed, mut buffer) = (0, [0; 16 << 10]);
                    while let Ok(read @ 1..) = down.read(&mut buffer) {
                        passed += read as u64;
                        let is_over =
                            passed > after && broken.fetch_add(1, Ordering::Relaxed) < breaks;
                        if is_over || { &here }.write_all(&buffer[..read]).is_err() {
                            break;
                        }
                    }
                    drop((here.shutdown(Shutdown::Both), down.shutdown(Shutdown::Both)));
                });
            }
        });
    });
    way.to_string()
}

#[test]
fn a_broken_connection_costs_what_was_lost_on_it_and_no_more() {
    let registry = Registry::start(Wants::default());
    let name = large(&registry);
    let (puller, whole) = (Puller::new(), whole(&registry, &name));
    let before = registry.requests("GET", "/blobs/sha256:").len();
    let way = breaking_way(&registry, 3, 1_500_000);
    let pulled = puller.run(&["pull", &format!("{way}/large")]).ok();
    pulled.complains(": broke at 1.");
    // What comes after a break is asked for from there on.
    let all = registry.requests("GET", "/blobs/sha256:");
    let resumed: Vec<_> = all[before..]
        .iter()
        .filter(|one| one.status == 206)
        .collect();
    assert_eq!(resumed.len(), 3, "{all:?}");
    assert!(
        resumed.iter().all(|one| one.bytes < 4_000_000 - 1_000_000),
        "{resumed:?}"
    );
    // On its way when a connection broke: what the two sockets' buffers hold.
    let lost = sent(&registry, before) - whole;
    assert!(lost < 3 * 6_000_000, "{lost}");
    assert_eq!(has(&puller), whole);
}

#[test]
fn two_pulls_at_a_time_do_the_work_once() {
    let registry = Registry::start(Wants::default());
    let name = large(&registry);
    let (puller, whole) = (Puller::new(), whole(&registry, &name));
    let before = registry.requests("GET", "/blobs/sha256:").len();
    let both: Vec<_> = std::thread::scope(|scope| {
        let pulls = [(); 2].map(|()| scope.spawn(|| puller.run(&["pull", &name]).ok()));
        pulls.map(|pull| pull.join().expect("a pull")).into()
    });
    let done = |text: &str| text.lines().filter(|line| line.contains(": done,")).count();
    let sum: usize = both.iter().map(|ran| done(&ran.err)).sum();
    assert_eq!(sum, 5, "{}\n{}", both[0], both[1]);
    assert_eq!(sent(&registry, before), whole, "each layer was sent once");
    // And a third finds everything.
    let before = registry.requests("GET", "/blobs/sha256:").len();
    puller.run(&["pull", &name]).ok();
    assert_eq!(
        registry.requests("GET", "/blobs/sha256:").len(),
        before,
        "nothing was asked for"
    );
}

#[test]
fn a_full_disk_is_told_and_leaves_room() {
    let registry = Registry::start(Wants::default());
    let name = large(&registry);
    let puller = Puller::new();
    let root = puller.beluga.root().display().to_string();
    // A file system of 12 MB in a mount namespace of its own; after the failure it is empty.
    let line = format!(
        "mkdir -p {root} && mount -t tmpfs -o size=12m none {root} || exit 77; \
         beluga --root {root} pull {name}; code=$?; \
         find {root}/images/blobs {root}/images/layers {root}/images/ingest -type f | wc -l; exit $code"
    );
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", &line]);
    let ran = run(&mut command, SOON);
    if ran.code == 77 || ran.err.contains("unshare") {
        beluga_tests::skip(
            "a_full_disk_is_told_and_leaves_room",
            "no mount namespaces here",
        );
        return;
    }
    let ran = ran.exits(1).complains("No space left on device");
    assert_eq!(ran.text(), "0", "{ran}");
}
