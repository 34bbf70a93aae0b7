//! Directories of the host in which other file systems are mounted.

use super::SHARED;
use beluga_tests::cri::{Code, ContainerConfig, Cri, Mount, MountPropagation, busybox};
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

/// A container that may not write to a directory of the host, and what is mounted below
/// it neither where that is said.
fn read_only(recursive_read_only: bool) -> Mount {
    Mount {
        readonly: true,
        recursive_read_only,
        ..Mount::default()
    }
}

/// Asserts that a container may not make a file.
#[track_caller]
fn may_not_make(cri: &Cri, id: &str, file: &str) {
    let refused = cri.sh(id, &format!("! touch {file} 2>&1"));
    assert!(refused.contains("Read-only file system"), "{refused}");
}

#[test]
fn a_read_only_mount_is_not_so_below_where_nobody_says_so() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let host = cri.place.path().join("read-only");
    let _below = Mounted::at(host.join("below"));
    let id = cri.container(sandbox, with("read-only", &host, read_only(false)));
    cri.sh(&id, "touch /mnt/below/file");
    may_not_make(cri, &id, "/mnt/file");
    assert!(host.join("below/file").exists());
    cri.remove(&id);
}

#[test]
fn a_read_only_mount_is_so_below_where_the_request_says_so() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let host = cri.place.path().join("all-read-only");
    let _below = Mounted::at(host.join("below"));
    let id = cri.container(sandbox, with("all-read-only", &host, read_only(true)));
    may_not_make(cri, &id, "/mnt/below/other");
    // One that may be written to, of the same directory, beside it.
    let writes = cri.container(sandbox, with("writes", &host, Mount::default()));
    cri.sh(&writes, "touch /mnt/written");
    may_not_make(cri, &id, "/mnt/written");
    cri.remove(&writes);
    cri.remove(&id);
}

#[test]
fn a_mount_is_not_read_only_below_and_writable_above() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let writable = Mount {
        readonly: false,
        ..read_only(true)
    };
    let host = cri.place.path();
    let refused = cri.create(sandbox, with("neither", host, writable));
    let refused = refused.expect_err("writable and read-only");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
}

/// A file system at a place, whose mounts are told to those who want to know.
fn telling(place: &Path) -> Mounted {
    let mounted = Mounted::at(place.to_owned());
    let mut shared = Command::new("mount");
    run(shared.arg("--make-rshared").arg(place), SOON).ok();
    mounted
}

/// A file system that is mounted below a place later, with a file in it.
fn later(place: &Path) -> Mounted {
    let mounted = Mounted::at(place.join("later"));
    fs::write(place.join("later/file"), "").expect("a file");
    mounted
}

fn told(propagation: MountPropagation) -> Mount {
    Mount {
        propagation: propagation.into(),
        ..Mount::default()
    }
}

#[test]
fn what_the_host_mounts_later_is_seen_where_the_request_says_so() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let host = cri.place.path().join("follows");
    let _host = telling(&host);
    let mount = told(MountPropagation::PropagationHostToContainer);
    let id = cri.container(sandbox, with("follows", &host, mount));
    let _later = later(&host);
    eventually("the mount is seen", || {
        (cri.sh(&id, "ls /mnt/later") == "file").then_some(())
    });
    cri.remove(&id);
}

#[test]
fn what_the_host_mounts_later_is_not_seen_where_the_request_says_so() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let [follows, stays] = ["seen", "stays"].map(|name| cri.place.path().join(name));
    let _hosts = [&follows, &stays].map(|host| telling(host));
    let mount = told(MountPropagation::PropagationHostToContainer);
    let other = cri.container(sandbox, with("seen", &follows, mount));
    let mount = told(MountPropagation::PropagationPrivate);
    let id = cri.container(sandbox, with("stays", &stays, mount));
    let _later = [&follows, &stays].map(|host| later(host));
    eventually("the other one's mount is seen", || {
        (cri.sh(&other, "ls /mnt/later") == "file").then_some(())
    });
    assert_eq!(cri.sh(&id, "ls /mnt/later"), "");
    [id, other].iter().for_each(|id| cri.remove(id));
}

#[test]
fn what_a_container_mounts_is_not_the_hosts() {
    let place = SHARED.get();
    let (cri, sandbox) = place.parts();
    let both = told(MountPropagation::PropagationBidirectional);
    let refused = cri.create(sandbox, with("both", cri.place.path(), both));
    let refused = refused.expect_err("the host would see mounts of the guest");
    assert_eq!(refused.code(), Code::Unimplemented, "{refused}");
}
