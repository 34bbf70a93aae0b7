//! Volumes: shared, seen at once, limited, gone with the pod.
//!
//! They are those of `pods/logical-host.yaml`.

use crate::logical_host::POD;
use beluga_tests::shared;

#[test]
fn b28_one_volume_at_different_paths() {
    POD.sh("a", "echo text > /data/file; echo below > /data/one/two/f");
    let seen = POD.sh("b", "cat /elsewhere/deep/file /readonly/file /sub/f");
    assert_eq!(seen, "text\ntext\nbelow");
    assert_eq!(POD.sh("b", "stat -c %m /sub; ls -A /sub"), "/sub\nf");
    let refused = POD.exec("b", "touch /readonly/x");
    refused.fails(1, "Read-only file system");
}

#[test]
fn b28_an_image_is_a_volume_to_be_read_and_not_executed() {
    // One layer, two layers, and a part of those.
    let same = "test /web/usr/sbin/nginx -ef /sbin-of-web/nginx && test -f /web/bin/busybox";
    POD.sh("b", same);
    let refused = POD.exec("b", "touch /web/x");
    refused.fails(1, "Read-only file system");
    let refused = POD.exec("b", "/tools/bin/busybox true");
    refused.fails(126, "Permission denied");
    let described = POD.described();
    described.tells(&["image busybox", "image nginx"]);
    let removed = shared().types("rmi nginx");
    removed.fails(1, POD.name());
}

#[test]
fn b28_a_claim_of_mode_block_is_a_device_of_its_own_size() {
    let write = "echo text | dd of=/dev/xvda bs=4096 seek=2047 conv=sync,fsync";
    POD.sh("a", &format!("test -b /dev/xvda && {write}"));
    let read = "dd if=/disks/raw bs=4096 skip=2047 2>/dev/null | head -c 4 && id -u";
    assert_eq!(POD.sh("reader", read), "text1000");
    let more = POD.exec("a", "dd if=/dev/zero of=/dev/xvda bs=1M");
    more.fails(1, "No space left");
    let refused = POD.exec("reader", "dd if=/dev/zero of=/disks/raw count=1");
    refused.fails(1, "denied");
    // The neighbour's node is not its own: the scratch disk, the layers.
    let made = "mknod /tmp/layers b 254 0 && ! head -c 1 /tmp/layers";
    POD.sh("a", made);
    let told = shared().types("get pvc raw -o yaml").ok();
    told.says("volumeMode: Block");
}

#[test]
fn b32_a_volume_over_its_limit_is_edquot_and_memory_is_enospc() {
    let fill = |at: &str| {
        let line = format!("dd if=/dev/zero of={at}/fill bs=64k count=200");
        POD.exec("a", &line).exits(1)
    };
    fill("/small").complains("Disk quota exceeded");
    fill("/memory").complains("No space left on device");
    let again = "rm -f /small/fill /memory/fill; echo fits > /small/ok";
    POD.sh("a", again);
}
