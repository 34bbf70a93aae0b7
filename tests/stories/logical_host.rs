//! One logical host: what the containers of a pod share, and what they do not.
//!
//! One pod serves all stories here: two containers with a full userland.

use beluga_tests::{Pod, eventually, shared};
use std::sync::LazyLock;

static POD: LazyLock<Pod<'static>> = LazyLock::new(|| {
    shared().pod(
        "
apiVersion: v1
kind: Pod
metadata: {name: logical-host}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: a, image: debian, command: [sleep, infinity]}
  - {name: b, image: debian, command: [sleep, infinity]}
",
    )
});

static NEIGHBOUR: LazyLock<Pod<'static>> = LazyLock::new(|| {
    shared().pod(
        "
apiVersion: v1
kind: Pod
metadata: {name: neighbour}
spec:
  terminationGracePeriodSeconds: 1
  hostname: elsewhere
  subdomain: side
  shareProcessNamespace: true
  containers:
  - {name: a, image: busybox, command: [sleep, infinity]}
  - {name: b, image: busybox, command: [sleep, infinity]}
  - {name: c, image: busybox, command: [sleep, '654321']}
",
    )
});

/// Runs Python in a container; the debian image has it.
fn python(pod: &Pod, container: &str, code: &str) -> String {
    pod.try_exec(container, &["python3", "-c", code])
        .ok()
        .text()
        .to_owned()
}

#[test]
fn b02_boot_id_is_equal_inside_and_different_outside() {
    let read = "cat /proc/sys/kernel/random/boot_id";
    let mine = POD.sh("a", read);
    assert_eq!(mine, POD.sh("b", read));
    assert_ne!(mine, NEIGHBOUR.sh("a", read));
    let host = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("Linux");
    assert_ne!(mine, host.trim());
}

#[test]
fn b17_one_port_space() {
    let listen = "import socket, signal; s = socket.socket(); s.bind(('0.0.0.0', 7001)); \
                  s.listen(); print('bound', flush=True)";
    let hold = format!("python3 -c \"{listen}; signal.pause()\" >/tmp/bound 2>&1 &");
    POD.sh(
        "a",
        &format!("{hold} until grep -q bound /tmp/bound; do sleep 0.1; done"),
    );
    POD.try_exec("b", &["python3", "-c", listen])
        .exits(1)
        .complains("Address already in use");
}

#[test]
fn b17_equal_addresses_and_abstract_sockets() {
    let addresses = "ip -o addr | awk '{print $2, $4}'";
    assert_eq!(POD.sh("a", addresses), POD.sh("b", addresses));
    let serve = "import socket,signal; s=socket.socket(socket.AF_UNIX); s.bind('\\0story'); s.listen(); \
                 print('up', flush=True); signal.pause()";
    POD.sh(
        "a",
        &format!(
            "python3 -c \"{serve}\" >/tmp/up 2>&1 & until grep -q up /tmp/up; do sleep 0.1; done"
        ),
    );
    let call = "import socket; socket.socket(socket.AF_UNIX).connect('\\0story'); print('met')";
    assert_eq!(python(&POD, "b", call), "met");
}

#[test]
fn b18_localhost_works_between_containers() {
    let serve = "import socket, threading
def tcp(s, address):
    s.listen(); yield
    while True: s.accept()[0].sendall(b'tcp ' + address)
def udp(s, address):
    yield
    while True:
        _, peer = s.recvfrom(64); s.sendto(b'udp ' + address, peer)
for f, a in ((socket.AF_INET, '127.0.0.1'), (socket.AF_INET6, '::1')):
    for kind, serve in ((socket.SOCK_STREAM, tcp), (socket.SOCK_DGRAM, udp)):
        s = socket.socket(f, kind); s.bind((a, 7002)); server = serve(s, a.encode()); next(server)
        threading.Thread(target=next, args=(server,)).start()
print('up', flush=True)";
    POD.sh(
        "a",
        &format!(
            "python3 -c \"{serve}\" >/tmp/l 2>&1 & until grep -q up /tmp/l; do sleep 0.1; done"
        ),
    );
    let call = "import socket
for f, a in ((socket.AF_INET, '127.0.0.1'), (socket.AF_INET6, '::1')):
    s = socket.create_connection((a, 7002)); print(s.recv(64).decode(), end=', ')
    u = socket.socket(f, socket.SOCK_DGRAM); u.settimeout(5); u.sendto(b'x', (a, 7002)); print(u.recv(64).decode(), end=', ')";
    assert_eq!(
        python(&POD, "b", call),
        "tcp 127.0.0.1, udp 127.0.0.1, tcp ::1, udp ::1,"
    );
}

#[test]
fn b19_hostname_is_the_pods_in_every_container() {
    assert_eq!(POD.sh("a", "hostname"), "logical-host");
    assert_eq!(POD.sh("b", "cat /etc/hostname"), "logical-host");
    assert_eq!(
        POD.sh("a", "readlink /proc/self/ns/uts"),
        POD.sh("b", "readlink /proc/self/ns/uts")
    );
    assert_eq!(NEIGHBOUR.sh("b", "hostname"), "elsewhere");
}

#[test]
fn b19_full_names_kernel_parameters_and_paths_with_variables() {
    let pod = shared().pod(
        "
apiVersion: v1
kind: Pod
metadata: {name: named}
spec:
  terminationGracePeriodSeconds: 1
  hostname: front
  subdomain: shop
  setHostnameAsFQDN: true
  securityContext:
    sysctls: [{name: net.core.somaxconn, value: '1234'}, {name: kernel.msgmax, value: '65536'}]
  volumes: [{name: data, emptyDir: {}}]
  containers:
  - name: main
    image: busybox
    command: [sleep, infinity]
    env: [{name: WHO, value: me}]
    volumeMounts:
    - {name: data, mountPath: /own, subPathExpr: of/$(WHO)}
    - {name: data, mountPath: /all, readOnly: true, recursiveReadOnly: Enabled}
",
    );
    let full = "front.shop.default.svc.cluster.local";
    assert_eq!(pod.sh("main", "hostname"), full);
    assert_eq!(pod.sh("main", "cat /etc/hostname"), full);
    let hosts = pod.sh("main", "cat /etc/hosts");
    let line = format!("{}\t{full}\tfront", pod.ip());
    assert!(hosts.lines().any(|one| one == line), "{hosts}");
    // A line for each family, as the kubelet writes them.
    assert_eq!(hosts.lines().filter(|one| one.contains(full)).count(), 2);
    assert_eq!(
        pod.sh(
            "main",
            "cat /proc/sys/net/core/somaxconn /proc/sys/kernel/msgmax"
        ),
        "1234\n65536"
    );
    assert_eq!(
        pod.sh("main", "echo x > /own/file; cat /all/of/me/file"),
        "x"
    );
    pod.try_exec("main", &["touch", "/all/of/me/file"])
        .exits(1)
        .complains("Read-only");
}

/// `libc` through ctypes: the shared memory, queue and semaphore of one key.
const SYSV: &str = "import ctypes; c=ctypes.CDLL(None, use_errno=True); c.shmat.restype=ctypes.c_void_p; K=0x6b6579";

#[test]
fn b20_sysv_objects_of_one_container_are_seen_in_another() {
    let make = "
i=c.shmget(K,4096,0o1666); ctypes.memmove(c.shmat(i,None,0),b'shared',7)
q=c.msgget(K,0o1666); s=c.semget(K,1,0o1666); print(min(i,q,s)>=0)";
    assert_eq!(python(&POD, "a", &format!("{SYSV}{make}")), "True");
    let look = "
print(ctypes.string_at(c.shmat(c.shmget(K,4096,0),None,0)).decode(), c.msgget(K,0)>=0, c.semget(K,1,0)>=0)";
    assert_eq!(
        python(&POD, "b", &format!("{SYSV}{look}")),
        "shared True True"
    );
}

#[test]
fn b21_posix_shared_memory_is_one() {
    POD.sh("a", "echo from-a > /dev/shm/b21");
    assert_eq!(POD.sh("b", "cat /dev/shm/b21"), "from-a");
    NEIGHBOUR.try_exec("a", &["cat", "/dev/shm/b21"]).exits(1);
}

/// How many System V queues, semaphores and pieces of memory a container sees.
fn sysv_objects(pod: &Pod, container: &str) -> [usize; 3] {
    ["msg", "sem", "shm"].map(|kind| {
        let table = pod.sh(container, &format!("cat /proc/sysvipc/{kind}"));
        table.lines().count() - 1
    })
}

#[test]
fn b22_no_system_v_object_is_seen_in_another_pod() {
    let make = "
for n in range(3): print(min(c.msgget(K+1+n,0o1666), c.semget(K+1+n,1,0o1666), c.shmget(K+1+n,4096,0o1666)) >= 0)";
    let made = python(&POD, "a", &format!("{SYSV}{make}"));
    assert_eq!(made, "True\nTrue\nTrue");
    let seen = sysv_objects(&POD, "b");
    assert!(seen.iter().all(|count| *count >= 3), "{seen:?}");
    assert_eq!(sysv_objects(&NEIGHBOUR, "a"), [0, 0, 0]);
}

#[test]
fn b22_pods_share_neither_ipc_nor_addresses() {
    assert_ne!(POD.ip(), NEIGHBOUR.ip());
    assert_ne!(POD.field("/metadata/uid"), NEIGHBOUR.field("/metadata/uid"));
}

#[test]
fn b23_root_mounts_pids_and_cgroup_are_each_containers_own() {
    POD.sh("a", "echo a > /only-here");
    POD.try_exec("b", &["cat", "/only-here"]).exits(1);
    for namespace in ["mnt", "pid", "cgroup"] {
        let link = format!("readlink /proc/self/ns/{namespace}");
        assert_ne!(POD.sh("a", &link), POD.sh("b", &link), "{namespace}");
    }
    assert_eq!(POD.sh("a", "cat /proc/1/comm"), "sleep");
    assert_eq!(POD.sh("a", "cat /proc/self/cgroup"), "0::/");
}

#[test]
fn b23_share_process_namespace_shares_the_pid_view() {
    let link = "readlink /proc/self/ns/pid";
    assert_eq!(NEIGHBOUR.sh("a", link), NEIGHBOUR.sh("b", link));
    assert_eq!(NEIGHBOUR.sh("a", "ps | grep -c '[s]leep infinity'"), "2");
}

#[test]
fn b09_a_signal_from_another_container_reaches_the_process_itself() {
    let before = NEIGHBOUR.container("c");
    assert_eq!(before["restartCount"], 0);
    NEIGHBOUR.sh(
        "a",
        "kill -9 $(ps | grep '[s]leep 654321' | awk '{print $1}')",
    );
    NEIGHBOUR.eventually("c has ended and runs again", |status| {
        let mut all = status["containerStatuses"].as_array().into_iter().flatten();
        all.any(|one| one["restartCount"] == 1 && !one["state"]["running"].is_null())
    });
    let after = NEIGHBOUR.container("c");
    let end = &after["lastState"]["terminated"];
    assert_eq!(end["exitCode"], 137);
    assert_eq!(end["reason"], "Error");
    assert_ne!(after["containerID"], before["containerID"]);
}

#[test]
fn b25_one_address_per_pod_reachable_from_the_host() {
    let ip = POD.ip();
    assert!(
        POD.sh("a", "ip -4 -o addr show dev eth0")
            .contains(&format!("inet {ip}/"))
    );
    let ping = std::process::Command::new("ping")
        .args(["-c1", "-W10", &ip])
        .output()
        .expect("ping");
    assert!(ping.status.success(), "{ping:?}");
}

/// What the C library finds for a name, in the container `a` of the pod.
fn found(name: &str) -> String {
    let look = "import socket, sys\ntry: print(*sorted({a[4][0] for a in socket.getaddrinfo(sys.argv[1], 80)}))\nexcept OSError as e: print(e)";
    let ran = POD.try_exec("a", &["python3", "-c", look, name]);
    ran.ok().text().to_owned()
}

/// Processes of this host with a word among their arguments, in this root.
fn processes(word: &str) -> Vec<u32> {
    let root = shared().root().display().to_string();
    let all = std::fs::read_dir("/proc").expect("Linux").flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        let words: Vec<&str> = line.split('\0').collect();
        words.contains(&word) && words.contains(&root.as_str())
    })
    .collect()
}

#[test]
fn b26_pods_find_each_other_by_name_whatever_ends() {
    let theirs = format!(
        "{} {}",
        NEIGHBOUR.ip(),
        NEIGHBOUR.field("/status/podIPs/1/ip")
    );
    for name in [
        "neighbour",
        "neighbour.default",
        "elsewhere.side",
        "side.default.svc.cluster.local",
    ] {
        assert_eq!(found(name), theirs, "{name}");
    }
    assert!(
        found("nobody.default.svc.cluster.local").contains("not known"),
        "no such pod"
    );
    let name = "import socket; print(socket.gethostbyaddr(sys.argv[1])[0])"
        .replace("sys.argv[1]", &format!("'{}'", NEIGHBOUR.ip()));
    assert_eq!(
        python(&POD, "a", &name),
        "elsewhere.side.default.svc.cluster.local"
    );
    let [before] = processes("resolve-names")[..] else {
        panic!("one resolver")
    };
    let [_, supervisor] = NEIGHBOUR.processes();
    for pid in [before, supervisor] {
        let kill = std::process::Command::new("kill")
            .args(["-9", &pid.to_string()])
            .status();
        assert!(kill.expect("kill").success());
    }
    eventually("another resolver", || {
        let now = processes("resolve-names");
        (now.len() == 1 && now[0] != before && found("neighbour") == theirs).then_some(())
    });
}

#[test]
fn b26_pods_reach_each_other_over_ipv6_and_see_the_real_source() {
    let serve = "import socket; s=socket.socket(socket.AF_INET6); s.bind(('::',7006)); s.listen(); print('up',flush=True); \
                 c,p=s.accept(); c.sendall(p[0].encode())";
    let line = format!(
        "python3 -c \"{serve}\" >/tmp/p6 2>&1 & until grep -q up /tmp/p6; do sleep 0.1; done"
    );
    POD.sh("a", &line);
    let ip6 = |pod: &Pod| pod.field("/status/podIPs/1/ip");
    let seen = NEIGHBOUR.sh("a", &format!("nc {} 7006 </dev/null", ip6(&POD)));
    assert_eq!(seen, ip6(&NEIGHBOUR));
    assert_ne!(
        ip6(&POD),
        ip6(&NEIGHBOUR),
        "one unique address per pod and family"
    );
}

#[test]
fn b26_pods_reach_each_other_and_see_the_real_source() {
    let serve = "import socket; s=socket.socket(); s.bind(('',7003)); s.listen(); print('up',flush=True); \
                 c,p=s.accept(); c.sendall(p[0].encode())";
    POD.sh(
        "a",
        &format!(
            "python3 -c \"{serve}\" >/tmp/p 2>&1 & until grep -q up /tmp/p; do sleep 0.1; done"
        ),
    );
    let seen = NEIGHBOUR.sh("a", &format!("nc {} 7003 </dev/null", POD.ip()));
    assert_eq!(seen, NEIGHBOUR.ip());
}
