//! Pulls that are killed, that meet, and whose connection breaks.

use beluga_tests::registry::{Puller, Registry, Wants, sh};
use beluga_tests::say;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// An image of several layers that do not compress, some 20 MB, in a registry.
pub fn large(registry: &Registry) -> String {
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

/// Kills a pull when it has so many bytes of layers, and a little later; whether it was still at
/// work.
fn kill_at(puller: &Puller, name: &str, bytes: u64, later: Duration) -> bool {
    let mut command = puller.command(&["pull", name]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("beluga");
    let is_running = |child: &mut Child| child.try_wait().expect("waited").is_none();
    while has(puller) < bytes && is_running(&mut child) {
        std::thread::sleep(Duration::from_micros(200));
    }
    std::thread::sleep(later);
    let was_running = is_running(&mut child);
    let _ = child.kill();
    child.wait().expect("it ends");
    was_running
}

/// Kills a pull at ten points that are nobody's choice, each in a store of its own; what is there
/// then is whole, and the next pull fetches what is missing, to the byte.
#[test]
fn a_pull_that_is_killed_at_any_point_goes_on_where_it_was() {
    let mut registry = Registry::start(Wants::default());
    let name = large(&registry);
    let (whole, all) = (whole(&registry, &name), Puller::new());
    all.run(&["pull", &name]).ok();
    let mut seed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |now| now.as_nanos() as u64);
    say(&format!("kills of a pull: seed {seed}"));
    let mut random = |below: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut killed = 0;
    for round in 0..10 {
        let (puller, at) = (Puller::new(), random(whole));
        let later = Duration::from_micros(random(5000));
        killed += u32::from(kill_at(&puller, &registry.name("large"), at, later));
        puller.run(&["gc", "--check"]).ok().says("clean");
        let named = puller.run(&["images", "-q"]).ok().out.lines().count();
        let kept = has(&puller);
        assert!(named == 0 || kept == whole, "a name too early: {kept}");
        registry.restart();
        puller.run(&["pull", &registry.name("large")]).ok();
        let what = format!("round {round}, killed at {at} and {later:?}, {kept} were there");
        assert_eq!(sent(&registry, 0), whole - kept, "{what}");
        assert_eq!(puller.store(), all.store(), "{what}");
    }
    say(&format!("kills of a pull: {killed} of 10 in the middle"));
    assert!(killed >= 3, "{killed} pulls were killed");
}

/// Begins a pull and waits until one layer is there and another one comes.
fn begun(puller: &Puller, name: &str) -> Child {
    let mut command = puller.command(&["pull", name]);
    let child = command.stderr(Stdio::null()).spawn().expect("beluga");
    let images = puller.beluga.root().join("images");
    let end = Instant::now() + beluga_tests::SOON;
    let count = |part: &str| images.join(part).read_dir().map_or(0, Iterator::count);
    while (count("layers") == 0 || count("ingest") == 0) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

/// Bytes of layers that a store has, whole or in part.
fn has(puller: &Puller) -> u64 {
    let images = puller.beluga.root().join("images");
    let sizes = |part: &str, least: u64| -> u64 {
        let files = images.join(part).read_dir().into_iter().flatten().flatten();
        let files = files.filter_map(|file| file.metadata().ok());
        let files = files.filter(|file| file.is_file() && file.len() > least);
        files.map(|file| file.len()).sum()
    };
    // Documents are small: only a layer's blob has more than 100 kB.
    sizes("ingest", 0) + sizes("blobs/sha256", 100_000)
}

/// Bytes of layers that the registry has sent since its log had so many lines of blobs.
fn sent(registry: &Registry, since: usize) -> u64 {
    // By name: of a layer a few bytes may have been missing, a document has no more.
    let data = registry.place().join("data").display().to_string();
    let line =
        format!("find {data} -path '*/blobs/sha256/*' -name data -size +100k -printf '%h\\n'");
    let layers = sh(&line).ok().out;
    let is_layer = |path: &str| {
        let hex = path.rsplit(':').next().unwrap_or(path);
        layers.lines().any(|dir| dir.ends_with(hex))
    };
    let all = registry.requests("GET", "/blobs/sha256:");
    let since = all.iter().skip(since);
    let of_layers = since.filter(|one| is_layer(&one.path));
    of_layers.map(|one| one.bytes).sum()
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
