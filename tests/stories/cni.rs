//! Networks of CNI: cards that plugins of others make are the pod's, and are
//! taken back whatever happens.

use crate::network::page;
use beluga_tests::{Beluga, Pod, Ran, SOON, eventually, kill, run};
use std::path::PathBuf;
use std::process::Command;

/// A bridge with ports and a firewall, both families, names to ask for; its name
/// comes second, so that it is found by what it is called.
const FRONT: &str = r#"{
  "cniVersion": "1.0.0", "name": "front",
  "plugins": [
    {"type": "bridge", "bridge": "cnifront", "isGateway": true, "ipMasq": true, "mtu": 1400,
     "hairpinMode": true, "dns": {"nameservers": ["10.77.0.1"], "search": ["front.example"]},
     "ipam": {"type": "host-local", "dataDir": "@/leases",
              "ranges": [[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd77::/64"}]],
              "routes": [{"dst": "0.0.0.0/0"}]}},
    {"type": "portmap", "capabilities": {"portMappings": true}},
    {"type": "firewall"}
  ]
}"#;

/// A line to the host of a single plugin.
const SIDE: &str = r#"{
  "cniVersion": "0.3.1", "name": "side", "type": "ptp", "mtu": 1300,
  "ipam": {"type": "host-local", "dataDir": "@/leases", "subnet": "10.78.0.0/24",
           "routes": [{"dst": "10.99.0.0/16"}]}
}"#;

/// A plugin that works, says what it was asked for, and one that does not work.
const BROKEN: &str = r#"{
  "cniVersion": "0.4.0", "name": "broken",
  "plugins": [{"type": "good"}, {"type": "bad", "prevResult": null}]
}"#;

const GOOD: &str = "#!/bin/sh
echo \"good $CNI_COMMAND $CNI_IFNAME $CNI_ARGS\" >>@/asked
[ $CNI_COMMAND != ADD ] || echo '{\"cniVersion\": \"0.4.0\", \"ips\": []}'
";

const BAD: &str = "#!/bin/sh
echo \"bad $CNI_COMMAND\" >>@/asked
[ $CNI_COMMAND = ADD ] || exit 0
grep -q '\"prevResult\":{\"cniVersion\":\"0.4.0\"' || exit 9
echo '{\"cniVersion\": \"0.4.0\", \"code\": 115, \"msg\": \"the cable is out\", \"details\": \"port 7\"}'
exit 1
";

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: carried, annotations: {beluga/network: 'cni:front,cni:side'}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    securityContext: {privileged: true}
    ports: [{containerPort: 8000, hostPort: 18090}]
    readinessProbe: {tcpSocket: {port: 8000}, periodSeconds: 1}
    command: [sh, -c, 'mkdir /www; echo carried > /www/index.html; exec httpd -f -p 8000 -h /www']
";

/// A Beluga with networks and plugins of its own beside those of Debian.
struct Scene {
    beluga: Beluga,
    place: tempfile::TempDir,
}

impl Scene {
    fn new(beluga: Beluga) -> Self {
        let place = tempfile::tempdir().expect("a place");
        let at = place.path().display().to_string();
        for (name, text, mode) in [
            ("net.d/10-side.conf", SIDE, "0644"),
            ("net.d/20-front.conflist", FRONT, "0644"),
            ("net.d/30-broken.conflist", BROKEN, "0644"),
            ("bin/good", GOOD, "0755"),
            ("bin/bad", BAD, "0755"),
        ] {
            let path = place.path().join(name);
            std::fs::create_dir_all(path.parent().expect("below it")).expect("a directory");
            std::fs::write(&path, text.replace('@', &at)).expect("written");
            host(&format!("chmod {mode} {}", path.display()));
        }
        Self { beluga, place }
    }

    fn flags(&self) -> [String; 6] {
        let at = |name: &str| self.place.path().join(name).display().to_string();
        [
            "--cni-conf-dir".to_owned(),
            at("net.d"),
            "--cni-bin-dir".to_owned(),
            at("bin"),
            "--cni-bin-dir".to_owned(),
            "/usr/lib/cni".to_owned(),
        ]
    }

    fn run(&self, network: &str) -> Ran {
        let flags = self.flags();
        let words = ["run", "--rm", "--network", network].into_iter();
        let words = words.chain(flags.iter().map(String::as_str));
        self.beluga.run(words.chain(["busybox", "--", "true"]))
    }

    /// Addresses that plugins hold for pods, and results that are kept.
    fn held(&self) -> Vec<PathBuf> {
        let leases = ["leases/front", "leases/side"].map(|name| self.place.path().join(name));
        let results = self.beluga.root().join("network/cni/results");
        let places = leases.into_iter().chain([results]);
        let entries = places.filter_map(|place| std::fs::read_dir(place).ok());
        let paths = entries.flatten().flatten().map(|entry| entry.path());
        paths
            .filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                !name.starts_with("last_reserved") && name != "lock"
            })
            .collect()
    }
}

/// A shell line on this host.
#[track_caller]
fn host(line: &str) -> String {
    run(Command::new("sh").args(["-c", line]), SOON).ok().out
}

/// What a guest's card is, in one line for each thing.
fn card(pod: &Pod<'_>, name: &str) -> String {
    pod.sh(
        "main",
        &format!("cat /sys/class/net/{name}/mtu /sys/class/net/{name}/address; ip -o addr show {name}; ip route show dev {name}"),
    )
}

/// The file of the pod's network namespace.
fn namespace(pod: &Pod<'_>) -> String {
    let uid = pod.field("/metadata/uid");
    host(&format!("ls -d /run/netns/*-{uid}")).trim().to_owned()
}

#[test]
fn cards_of_cni_are_the_pods_and_are_taken_back_after_a_crash() {
    let scene = Scene::new(Beluga::with_busybox());
    let flags = scene.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let pod = scene.beluga.pod_with(&flags, POD);
    what_the_networks_say_holds_in_the_guest(&scene, &pod);
    only_its_own_addresses(&scene, &pod);
    let [vmm, supervisor] = pod.processes();
    let netns = namespace(&pod);
    nothing_is_lost_with_a_supervisor(&scene, supervisor);
    let [_, supervisor] = pod_processes(&scene, vmm);
    what_is_gone_is_told_by_the_next_supervisor(&scene, supervisor);
    let [_, supervisor] = pod_processes(&scene, vmm);
    kill(&[supervisor, vmm]);
    all_is_taken_back(&scene, &netns);
    pod.delete();
}

fn nothing_is_lost_with_a_supervisor(scene: &Scene, supervisor: u32) {
    kill(&[supervisor]);
    assert_eq!(page("127.0.0.1:18090"), "carried\n", "without a supervisor");
    let told = scene.beluga.types("exec carried hostname").ok();
    told.says("carried");
    assert_eq!(scene.held().len(), 5, "{:?}", scene.held());
}

fn all_is_taken_back(scene: &Scene, netns: &str) {
    scene.beluga.types("gc --check").exits(1);
    scene.beluga.types("gc").ok();
    scene.beluga.is_clean();
    assert_eq!(scene.held(), Vec::<PathBuf>::new());
    assert!(!PathBuf::from(netns).exists());
    let rules = host("iptables-save 2>/dev/null; nft list ruleset 2>/dev/null");
    assert!(!rules.contains("18090"), "{rules}");
}

/// A bridge is its plugin's, and stays when its pods go; here it goes first.
fn what_is_gone_is_told_by_the_next_supervisor(scene: &Scene, supervisor: u32) {
    let events = || scene.beluga.run(["describe", "pod", "carried"]).ok();
    drop(events().says("Adopted"));
    host("ip link del cnifront");
    kill(&[supervisor]);
    eventually("what is wrong is told", || {
        let told = events().out;
        // Debian's portmap looks for the rules of one family in both, and finds them
        // wanting wherever ip6tables works.
        let is_of_bridge =
            |line: &&str| line.contains("NetworkChanged") && !line.contains("portmap");
        let mut lines = told.lines().filter(is_of_bridge);
        let line = lines.next()?;
        assert!(line.contains("cnifront"), "{told}");
        assert_eq!(lines.next(), None, "the first one found all well");
        Some(())
    });
}

/// The VMM and whoever supervises it now.
fn pod_processes(scene: &Scene, vmm: u32) -> [u32; 2] {
    let line = "pgrep -f 'beluga supervise'";
    let root = scene.beluga.root().display().to_string();
    let found = eventually("a new supervisor", || {
        let ran = run(Command::new("sh").args(["-c", line]), SOON);
        let pids = ran.out.lines().filter_map(|line| line.parse::<u32>().ok());
        pids.into_iter().find(|pid| {
            let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline"));
            words.is_ok_and(|words| words.contains(&root))
        })
    });
    [vmm, found]
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

fn what_the_networks_say_holds_in_the_guest(scene: &Scene, pod: &Pod<'_>) {
    let netns = namespace(pod);
    for (name, parts) in [
        (
            "eth0",
            [
                "1400",
                "10.77.0.2/24",
                "fd77::2/64",
                "default via 10.77.0.1",
            ]
            .as_slice(),
        ),
        (
            "eth1",
            ["1300", "10.78.0.2/", "10.99.0.0/16 via 10.78.0.1"].as_slice(),
        ),
    ] {
        let own = card(pod, name);
        has(&own, parts);
        let mac = host(&format!("nsenter --net={netns} ip -o link show {name}"));
        let mac = mac.split_once("link/ether ").expect("a MAC").1;
        has(&own, &[&mac[..17]]);
    }
    assert_eq!(pod.ip(), "10.77.0.2");
    assert_eq!(pod.field("/status/podIPs/1/ip"), "fd77::2");
    has(
        &pod.sh("main", "cat /etc/resolv.conf"),
        &["nameserver 10.77.0.1", "search front.example"],
    );
    for address in [
        "10.77.0.2:8000",
        "[fd77::2]:8000",
        "10.78.0.2:8000",
        "127.0.0.1:18090",
    ] {
        assert_eq!(page(address), "carried\n", "{address}");
    }
    pod.sh(
        "main",
        "ping -c 1 -W 20 10.77.0.1 && ping -c 1 -W 20 10.78.0.1",
    );
    assert_eq!(scene.held().len(), 5, "{:?}", scene.held());
}

/// What a guest sends from an address that is not the card's is dropped and told.
fn only_its_own_addresses(scene: &Scene, pod: &Pod<'_>) {
    let ping = "ip addr add 10.77.0.9/24 dev eth0; ping -c 1 -W 2 -I 10.77.0.9 10.77.0.1 >/dev/null && echo yes || echo no; ip addr del 10.77.0.9/24 dev eth0";
    assert_eq!(pod.sh("main", ping), "no");
    scene
        .beluga
        .run(["describe", "pod", "carried"])
        .ok()
        .says("dropped, sent with a foreign MAC or IP address");
}

impl Scene {
    /// What plugins were asked for, in its order.
    fn asked(&self) -> String {
        std::fs::read_to_string(self.place.path().join("asked")).expect("asked")
    }

    fn plugin(&self, name: &str) -> PathBuf {
        self.place.path().join("bin").join(name)
    }
}

#[test]
fn a_plugin_that_fails_is_told_by_its_name_and_nothing_is_left() {
    let scene = Scene::new(Beluga::with_busybox());
    let ran = scene.run("cni:broken").exits(1);
    ran.complains("the CNI plugin bad of the network broken has failed at ADD: the cable is out; port 7 (code 115)");
    let asked = scene.asked();
    let words = asked.lines().map(|line| &line[..line.len().min(8)]);
    let words: Vec<&str> = words.collect();
    let all = ["good ADD", "bad ADD", "bad DEL", "good DEL"];
    assert_eq!(words, all, "{asked}");
    let first = "good ADD eth0 IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=";
    has(&asked, &[first]);
    let other = scene.run("cni:other");
    other.fails(1, "only side, front, broken");
    scene.beluga.is_clean();
}

#[test]
fn a_plugin_that_is_gone_is_told_and_what_it_held_stays_on_record() {
    let scene = Scene::new(Beluga::with_busybox());
    std::fs::remove_file(scene.plugin("bad")).expect("removed");
    let ran = scene.run("cni:broken").exits(1);
    ran.complains("the CNI plugin bad of the network broken is not in");
    // What it had to take back, nobody could: that is on record until it is done.
    let check = scene.beluga.types("gc --check").exits(1);
    check.says("CNI networks of the pod");
    let copied = std::fs::copy(scene.plugin("good"), scene.plugin("bad"));
    copied.expect("copied");
    scene.beluga.types("gc").ok();
    scene.beluga.is_clean();
}
