//! Layers, volumes and files, and paths that try to lead out of them.

use super::*;

#[test]
fn volumes_are_shared_and_links_of_the_image_stay_inside() {
    let Some(place) = fixture("volumes") else {
        return;
    };
    for destination in [
        "/data/deep",
        "/escape/here",
        "/climb/here",
        "/dangling/here",
    ] {
        let mut plan = place.plan(shell(&format!("echo one > {destination}/file")));
        root(&mut plan).mounts = vec![volume(destination, None, false)];
        assert_eq!(place.run(&plan).code, 0, "{destination}");
        let file = format!("{BASE}/volumes/data/file");
        assert_eq!(fs::read_to_string(&file).unwrap(), "one\n", "{destination}");
        fs::remove_file(file).unwrap();
    }
    let guest: Vec<_> = fs::read_dir(format!("{BASE}/etc")).unwrap().collect();
    assert_eq!(
        guest.len(),
        2,
        "a mount point was made in the guest's own tree"
    );
}

#[test]
fn a_file_of_the_agent_covers_a_link_to_nothing_but_not_a_volume() {
    let Some(place) = fixture("files") else {
        return;
    };
    let stub = "../run/systemd/resolve/stub-resolv.conf";
    symlink(stub, format!("{BASE}/image/etc/resolv.conf")).unwrap();
    fs::write(format!("{BASE}/volumes/data/own"), "the volume's\n").unwrap();
    let mut plan = place.plan(shell("cat /etc/resolv.conf /etc/hosts"));
    let files = &mut root(&mut plan).files;
    files.push(FileMount {
        source: files[0].source.clone(),
        destination: "/etc/resolv.conf".to_owned(),
    });
    root(&mut plan).mounts = vec![volume("/etc//hosts", Some("own"), false)];
    let output = place.run(&plan).output;
    assert_eq!(output, "127.0.0.1 localhost\nthe volume's\n");
}

#[test]
fn a_read_only_volume_is_read_only() {
    let Some(place) = fixture("readonly") else {
        return;
    };
    let mut plan = place.plan(shell("echo x > /data/file; echo x > /file"));
    root(&mut plan).mounts = vec![volume("/data", None, true)];
    root(&mut plan).read_only = true;
    let output = place.run(&plan).output;
    assert_eq!(
        output.matches("Read-only file system").count(),
        2,
        "{output}"
    );
}

#[test]
fn a_sub_path_is_made_and_never_leaves_its_volume() {
    let Some(place) = fixture("subpath") else {
        return;
    };
    let data = format!("{BASE}/volumes/data");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(&data, mode).unwrap();
    symlink("/run/beluga/etc", format!("{data}/absolute")).unwrap();
    symlink("../../etc", format!("{data}/relative")).unwrap();
    symlink("new", format!("{data}/inside")).unwrap();
    fs::write(format!("{data}/one.conf"), "a file\n").unwrap();
    let run = |sub_path: &str, script: &str| {
        let mut process = shell(script);
        process.user.uid = Some(1000);
        let mut plan = place.plan(process);
        root(&mut plan).mounts = vec![volume("/mnt/here", Some(sub_path), false)];
        plan
    };
    for path in ["new/below", "inside/below"] {
        assert_eq!(
            place.run(&run(path, "echo x > /mnt/here/file")).code,
            0,
            "{path}"
        );
    }
    assert!(fs::exists(format!("{data}/new/below/file")).unwrap());
    assert_eq!(
        place.run(&run("one.conf", "cat /mnt/here")).output,
        "a file\n"
    );
    for path in [
        "absolute",
        "relative",
        "absolute/x",
        "relative/x",
        "../etc",
        "/etc",
    ] {
        let (code, message) = place.fault(&run(path, "true"));
        assert_eq!(code, FaultCode::InvalidArgument, "{path}: {message}");
    }
}

#[test]
fn nothing_is_mounted_into_proc_or_over_the_root() {
    let Some(place) = fixture("proc") else { return };
    for destination in ["/proc", "/proc/self/attr", "/kernel/attr", "/", "/data/.."] {
        let mut plan = place.plan(shell("true"));
        root(&mut plan).mounts = vec![volume(destination, None, false)];
        let (code, message) = place.fault(&plan);
        assert_eq!(code, FaultCode::InvalidArgument, "{destination}: {message}");
    }
    let image = format!("{BASE}/image");
    symlink("/tmp", format!("{image}/proc")).unwrap();
    let (code, message) = place.fault(&place.plan(shell("true")));
    assert_eq!(code, FaultCode::InvalidArgument, "{message}");
    assert!(message.contains("link"), "{message}");
}

/// On a guest with disks: an EROFS image of busybox, and ext4 with project
/// quota. Says so where it has none.
#[test]
fn layers_are_mounted_once_and_the_writable_layer_has_a_limit() {
    let Some(place) = fixture("disks") else {
        return;
    };
    let (Ok(layer), Ok(scratch)) = (
        std::env::var("BELUGA_TEST_LAYER"),
        std::env::var("BELUGA_TEST_SCRATCH"),
    ) else {
        skipped("disks", "needs BELUGA_TEST_LAYER and BELUGA_TEST_SCRATCH");
        return;
    };
    let dir = format!("{BASE}/disk");
    let mount_point = format!("{BASE}/layers/9");
    fs::create_dir_all(&dir).unwrap();
    fs::create_dir_all(&mount_point).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount(
        scratch.as_str(),
        dir.as_str(),
        "ext4",
        flags,
        Some(c"prjquota"),
    )
    .unwrap();
    let script = "dd if=/dev/zero of=/big bs=64k count=64; chattr -p 0 /big; echo end";
    for number in 1..3 {
        let mut plan = place.plan(shell(script));
        let root = root(&mut plan);
        root.layers = vec![LayerMount {
            device: layer.clone(),
            mount_point: mount_point.clone(),
        }];
        root.writable = Writable {
            dir: format!("{dir}/{number}"),
            project: Some(crate::quota::ProjectQuota {
                id: 1000 + number,
                limit_bytes: Some(1 << 20),
            }),
        };
        let output = place.run(&plan).output;
        assert!(output.contains("quota exceeded"), "{output}");
        assert!(output.ends_with("end\n"), "{output}");
    }
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    assert_eq!(mounts.matches("/layers/9 ").count(), 1, "{mounts}");
}
