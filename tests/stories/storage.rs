//! Volumes: shared, seen at once, limited, gone with the pod.

use beluga_tests::{Pod, shared};
use std::sync::LazyLock;

const MANIFEST: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: raw}
spec:
  accessModes: [ReadWriteOnce]
  volumeMode: Block
  resources: {requests: {storage: 8Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: volumes}
spec:
  terminationGracePeriodSeconds: 1
  volumes:
  - {name: disk, emptyDir: {}}
  - {name: small, emptyDir: {sizeLimit: 1Mi}}
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 4Mi}}
  - {name: tools, image: {reference: busybox}}
  - {name: web, image: {reference: nginx, pullPolicy: IfNotPresent}}
  - {name: raw, persistentVolumeClaim: {claimName: raw}}
  - {name: raw-to-read, persistentVolumeClaim: {claimName: raw, readOnly: true}}
  containers:
  - name: a
    image: debian
    command: [sleep, infinity]
    volumeMounts:
    - {name: disk, mountPath: /data}
    - {name: small, mountPath: /small}
    - {name: memory, mountPath: /memory}
    volumeDevices:
    - {name: raw, devicePath: /dev/xvda}
  - name: b
    image: debian
    command: [sleep, infinity]
    volumeMounts:
    - {name: disk, mountPath: /elsewhere/deep}
    - {name: disk, mountPath: /readonly, readOnly: true}
    - {name: disk, mountPath: /sub, subPath: one/two}
    - {name: memory, mountPath: /memory}
    - {name: tools, mountPath: /tools}
    - {name: web, mountPath: /web}
    - {name: web, mountPath: /sbin-of-web, subPath: usr/sbin}
  - name: restarted
    image: debian
    command: [sh, -c, 'sleep infinity & wait']
    volumeMounts:
    - {name: disk, mountPath: /kept}
  - name: reader
    image: debian
    command: [sleep, infinity]
    securityContext: {runAsUser: 1000}
    volumeDevices:
    - {name: raw-to-read, devicePath: /disks/raw}
";

static POD: LazyLock<Pod<'static>> = LazyLock::new(|| shared().pod(MANIFEST));

#[test]
fn b28_one_volume_at_different_paths() {
    POD.sh("a", "echo text > /data/file; echo below > /data/one/two/f");
    assert_eq!(
        POD.sh("b", "cat /elsewhere/deep/file /readonly/file /sub/f"),
        "text\ntext\nbelow"
    );
    POD.try_exec("b", &["touch", "/readonly/x"])
        .exits(1)
        .complains("Read-only file system");
}

#[test]
fn b28_a_sub_path_never_leaves_the_volume() {
    assert_eq!(POD.sh("b", "stat -c %m /sub"), "/sub");
    POD.sh(
        "b",
        "cd /sub && test \"$(readlink -f .)\" = /sub && ! ls ../etc/shadow-of-the-host 2>/dev/null",
    );
}

#[test]
fn b28_an_image_is_a_volume_to_be_read_and_not_executed() {
    // One layer, two layers, and a part of those.
    POD.sh(
        "b",
        "test /web/usr/sbin/nginx -ef /sbin-of-web/nginx && test -f /web/bin/busybox",
    );
    POD.try_exec("b", &["touch", "/web/x"])
        .exits(1)
        .complains("Read-only file system");
    POD.try_exec("b", &["/tools/bin/busybox", "true"])
        .exits(126)
        .complains("Permission denied");
    let described = shared().run(["describe", "pod", "volumes"]).ok();
    drop(described.says("image busybox").says("image nginx"));
    let removed = shared().run(["rmi", "nginx"]).exits(1);
    drop(removed.complains("volumes"));
}

#[test]
fn b28_a_claim_of_mode_block_is_a_device_of_its_own_size() {
    POD.sh(
        "a",
        "test -b /dev/xvda && echo text | dd of=/dev/xvda bs=4096 seek=2047 conv=sync,fsync",
    );
    let read = "dd if=/disks/raw bs=4096 skip=2047 2>/dev/null | head -c 4 && id -u";
    assert_eq!(POD.sh("reader", read), "text1000");
    POD.try_exec("a", &["dd", "if=/dev/zero", "of=/dev/xvda", "bs=1M"])
        .exits(1)
        .complains("No space left");
    POD.try_exec(
        "reader",
        &["dd", "if=/dev/zero", "of=/disks/raw", "count=1"],
    )
    .exits(1)
    .complains("denied");
    // The neighbour's node is not its own: the scratch disk, the layers.
    let made = "mknod /tmp/layers b 254 0 && ! head -c 1 /tmp/layers";
    POD.sh("a", made);
    let told = shared().run(["get", "pvc", "raw", "-o", "yaml"]).ok();
    drop(told.says("volumeMode: Block"));
}

#[test]
fn b29_inotify_fires_across_containers() {
    let watch = "import ctypes,os; c=ctypes.CDLL(None); f=c.inotify_init1(0); c.inotify_add_watch(f,b'/data',0x100); \
                 print('ready',flush=True); d=os.read(f,256); print('saw', b'inotify-me' in d, flush=True)";
    POD.sh(
        "a",
        &format!(
            "python3 -c \"{watch}\" >/tmp/i 2>&1 & until grep -q ready /tmp/i; do sleep 0.1; done"
        ),
    );
    POD.sh("b", "touch /elsewhere/deep/inotify-me");
    assert_eq!(
        POD.sh(
            "a",
            "until grep -q saw /tmp/i; do sleep 0.1; done; tail -1 /tmp/i"
        ),
        "saw True"
    );
}

#[test]
fn b29_a_unix_socket_on_a_volume_works() {
    let serve = "import socket; s=socket.socket(socket.AF_UNIX); s.bind('/data/sock'); s.listen(); print('up',flush=True); \
                 s.accept()[0].sendall(b'over-the-volume')";
    POD.sh(
        "a",
        &format!(
            "python3 -c \"{serve}\" >/tmp/s 2>&1 & until grep -q up /tmp/s; do sleep 0.1; done"
        ),
    );
    let call = "import socket; s=socket.socket(socket.AF_UNIX); s.connect('/elsewhere/deep/sock'); print(s.recv(64).decode())";
    POD.try_exec("b", &["python3", "-c", call])
        .ok()
        .says("over-the-volume");
}

#[test]
fn b30_volume_data_survives_a_restart_and_the_root_does_not() {
    POD.sh("restarted", "echo kept > /kept/file; echo lost > /lost");
    // The command ends with the container that it ends.
    POD.try_exec("restarted", &["sh", "-c", "kill $(pgrep -o -x sleep)"]);
    // Between the end and the new start it is neither waiting nor running.
    POD.eventually("runs again", |status| {
        let mut all = status["containerStatuses"].as_array().into_iter().flatten();
        all.any(|one| {
            one["name"] == "restarted"
                && one["restartCount"] == 1
                && !one["state"]["running"].is_null()
        })
    });
    let read = "cat /kept/file; cat /lost 2>/dev/null || echo fresh";
    assert_eq!(POD.sh("restarted", read), "kept\nfresh");
}

#[test]
fn b31_an_empty_dir_is_gone_with_the_pod() {
    let manifest = "
apiVersion: v1
kind: Pod
metadata: {name: b31}
spec:
  restartPolicy: Never
  volumes: [{name: v, emptyDir: {}}]
  containers:
  - {name: main, image: busybox, command: [sh, -c, 'ls -A /v; touch /v/x'], volumeMounts: [{name: v, mountPath: /v}]}
";
    for _ in 0..2 {
        let pod = shared().pod(manifest);
        pod.eventually("ended", |status| status["phase"] == "Succeeded");
        assert_eq!(pod.logs("main").replace("lost+found\n", ""), "");
        pod.delete();
    }
}

#[test]
fn b32_a_volume_over_its_limit_is_edquot_and_memory_is_enospc() {
    let fill = |path: &str| {
        POD.try_exec(
            "a",
            &[
                "dd",
                "if=/dev/zero",
                &format!("of={path}/fill"),
                "bs=64k",
                "count=200",
            ],
        )
    };
    fill("/small").exits(1).complains("Disk quota exceeded");
    fill("/memory")
        .exits(1)
        .complains("No space left on device");
    POD.sh("a", "rm -f /small/fill /memory/fill; echo fits > /small/ok");
}
