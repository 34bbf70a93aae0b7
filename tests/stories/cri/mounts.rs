//! Directories of the host in which other file systems are mounted.

use super::SHARED;
use beluga_tests::cri::{Code, ContainerConfig, Mount, MountPropagation, busybox};
use beluga_tests::{SOON, eventually, run};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of its own at a place of the host, until it is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn at(place: PathBuf) -> Self {
        fs::create_dir_all(&place).expect("a directory");
        run(
            Command::new("mount")
                .args(["-t", "tmpfs", "none"])
                .arg(&place),
            SOON,
        )
        .ok();
        Self(place)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run(Command::new("umount").arg("-l").arg(&self.0), SOON).ok();
    }
}

/// A container with a directory of the host at /mnt.
fn with(name: &str, host: &Path, mount: Mount) -> ContainerConfig {
    ContainerConfig {
        mounts: vec![Mount {
            host_path: host.display().to_string(),
            container_path: "/mnt".to_owned(),
            ..mount
        }],
        ..busybox(name, "sleep 1000")
    }
}

#[test]
fn a_read_only_mount_is_so_below_where_the_request_says_so() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let host = cri.place.path().join("read-only");
    let _below = Mounted::at(host.join("below"));
    let read_only = |recursive_read_only| Mount {
        readonly: true,
        recursive_read_only,
        ..Mount::default()
    };
    let id = cri.container(sandbox, with("read-only", &host, read_only(false)));
    let refused = cri.sh(&id, "touch /mnt/below/file; ! touch /mnt/file 2>&1");
    assert!(refused.contains("Read-only file system"), "{refused}");
    assert!(host.join("below/file").exists());
    cri.remove(&id);
    let id = cri.container(sandbox, with("all-read-only", &host, read_only(true)));
    let refused = cri.sh(&id, "! touch /mnt/below/other 2>&1");
    assert!(refused.contains("Read-only file system"), "{refused}");
    // One that may be written to, of the same directory, beside it.
    let writes = cri.container(sandbox, with("writes", &host, Mount::default()));
    cri.sh(&writes, "touch /mnt/written");
    let refused = cri.sh(&id, "! touch /mnt/written 2>&1");
    assert!(refused.contains("Read-only file system"), "{refused}");
    cri.remove(&writes);
    cri.remove(&id);
    let writable = Mount {
        recursive_read_only: true,
        ..Mount::default()
    };
    let refused = cri.create(sandbox, with("neither", &host, writable));
    let refused = refused.expect_err("writable and read-only");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
}

#[test]
fn what_the_host_mounts_later_is_seen_where_the_request_says_so() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let [host, other] = ["follows", "stays"].map(|name| cri.place.path().join(name));
    let _hosts = [&host, &other].map(|place| {
        let mounted = Mounted::at(place.clone());
        let mut shared = Command::new("mount");
        run(shared.arg("--make-rshared").arg(place), SOON).ok();
        mounted
    });
    let propagation = |propagation: MountPropagation| Mount {
        propagation: propagation.into(),
        ..Mount::default()
    };
    let follows = propagation(MountPropagation::PropagationHostToContainer);
    let follows = cri.container(sandbox, with("follows", &host, follows));
    let stays = propagation(MountPropagation::PropagationPrivate);
    let stays = cri.container(sandbox, with("stays", &other, stays));
    let _later = [&host, &other].map(|place| {
        let mounted = Mounted::at(place.join("later"));
        fs::write(place.join("later/file"), "").expect("a file");
        mounted
    });
    eventually("the mount is seen", || {
        (cri.sh(&follows, "ls /mnt/later") == "file").then_some(())
    });
    assert_eq!(cri.sh(&stays, "ls /mnt/later"), "");
    cri.remove(&follows);
    cri.remove(&stays);
    let both = propagation(MountPropagation::PropagationBidirectional);
    let refused = cri.create(sandbox, with("both", &host, both));
    let refused = refused.expect_err("the host would see mounts of the guest");
    assert_eq!(refused.code(), Code::Unimplemented, "{refused}");
}
