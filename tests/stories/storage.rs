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
    assert_eq!(POD.sh("b", "stat -c %m /sub; ls -A /sub"), "/sub\nf");
    POD.try_exec("b", &["touch", "/readonly/x"])
        .exits(1)
        .complains("Read-only file system");
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
