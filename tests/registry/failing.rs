//! Commands of the store one of whose system calls fails, for want of room, of
//! descriptors, of memory, or by a broken disk: what went wrong is told, nothing of
//! it is left over, and the store goes on.

use beluga_tests::failing::each_call;
use beluga_tests::registry::{Puller, Registry, Wants};
use beluga_tests::{image, say};

/// Lets the calls of a command fail, one in `stride`, each time with a store of its own.
fn fails_at_each_call(stride: usize, has_image: bool, words: &[&str]) {
    let command = || {
        let puller = Puller::new();
        if has_image {
            puller.run(&["load", "-q", "-i", &image("busybox")]).ok();
        }
        let command = puller.command(words);
        (puller, command)
    };
    let failed = each_call(stride, command, |puller, failed| {
        failed.is_told();
        puller.run(&["gc"]).ok();
        puller.run(&["gc", "--check"]).ok();
        puller.run(words);
        puller.run(&["load", "-q", "-i", &image("busybox")]).ok();
        puller.run(&["save", "-o", "/dev/null", "busybox"]).ok();
        let left = puller.store();
        let is_whole = |name: &String| name.starts_with("blobs") || name.starts_with("layers");
        assert!(left.iter().all(is_whole), "{failed:?}\n{left:?}");
    });
    say(&format!("{words:?}: {failed} calls failed"));
    assert!(failed * stride > 30, "{failed} are too few");
}

#[test]
fn a_load_whose_calls_fail_is_told_and_leaves_nothing() {
    fails_at_each_call(3, false, &["load", "-i", &image("busybox")]);
}

#[test]
fn a_removal_whose_calls_fail_is_told_and_leaves_nothing() {
    fails_at_each_call(3, true, &["rmi", "busybox"]);
}

#[test]
fn a_pull_whose_calls_fail_is_told_and_leaves_nothing() {
    let registry = Registry::start(Wants::default());
    registry.push("busybox", "busybox", "");
    fails_at_each_call(13, false, &["pull", &registry.name("busybox")]);
}
