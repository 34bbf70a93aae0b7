//! Containers spawned for real. Skipped by name where a right is missing.

mod fixture;

use super::*;
use beluga_proto::FaultCode;
use beluga_proto::container::{Rlimit, Seccomp, TerminalSize};
use fixture::{BASE, all_capabilities, fixture, read_terminal, shell, skipped, wait};
use std::fs;
use std::os::unix::fs::symlink;

fn root(plan: &mut SpawnPlan) -> &mut RootPlan {
    match &mut plan.place {
        Place::Create(root) => root,
        Place::Join { .. } => panic!("no root"),
    }
}

fn volume(destination: &str, sub_path: Option<&str>, read_only: bool) -> VolumeMount {
    VolumeMount {
        source: format!("{BASE}/volumes/data"),
        destination: destination.to_owned(),
        sub_path: sub_path.map(str::to_owned),
        read_only,
    }
}

#[test]
fn a_process_runs_with_its_exit_code_and_its_surroundings() {
    let Some(place) = fixture("surroundings") else {
        return;
    };
    let script = "echo $$; pwd; echo $HOME; umask; cat /etc/hosts; ls /proc/self/fd; \
        readlink /proc/1/cwd; exit 37";
    let mut process = shell(script);
    process.cwd = "/made/on/demand".to_owned();
    let outcome = place.run(&place.plan(process));
    assert_eq!(outcome.code, 37);
    let lines: Vec<&str> = outcome.output.lines().collect();
    let wanted = [
        "1",
        "/made/on/demand",
        "/root",
        "0022",
        "127.0.0.1 localhost",
    ];
    assert_eq!(lines[..5], wanted, "{}", outcome.output);
    // Standard streams, and the directory that ls itself reads.
    assert_eq!(lines[5..9], ["0", "1", "2", "3"], "{}", outcome.output);
    assert_eq!(lines[9], "/made/on/demand");
}

#[test]
fn only_the_containers_own_mounts_are_left() {
    let Some(place) = fixture("mounts") else {
        return;
    };
    let script = "cat /proc/self/mountinfo; ls /";
    let output = place.run(&place.plan(shell(script))).output;
    let mounts: Vec<&str> = output
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .collect();
    for wanted in [
        "/",
        "/proc",
        "/sys",
        "/sys/fs/cgroup",
        "/dev",
        "/dev/pts",
        "/etc/hosts",
    ] {
        assert!(mounts.contains(&wanted), "{wanted} is missing: {output}");
    }
    assert!(!output.contains("/run/beluga/layers "), "{output}");
    assert_eq!(
        mounts.iter().filter(|mount| **mount == "/").count(),
        1,
        "{output}"
    );
}

#[test]
fn a_user_of_the_image_has_its_groups_and_no_capabilities() {
    let Some(place) = fixture("user") else { return };
    let mut process = shell("id; echo $HOME; grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status");
    process.user.image_user = "app".to_owned();
    process.user.supplementary = vec![77];
    process.no_new_privileges = true;
    let output = place.run(&place.plan(process)).output;
    assert!(
        output.contains("uid=1000(app) gid=1000(app) groups=20(logs),77,1000(app)"),
        "{output}"
    );
    assert!(output.contains("/home/app"), "{output}");
    for (set, value) in [
        ("Inh", 0),
        ("Prm", 0),
        ("Eff", 0),
        ("Bnd", 0xa804_25fb_u64),
        ("Amb", 0),
    ] {
        assert!(
            output.contains(&format!("Cap{set}:\t{value:016x}")),
            "{set}: {output}"
        );
    }
    assert!(output.contains("NoNewPrivs:\t1"), "{output}");
    assert!(output.contains("Seccomp:\t2"), "{output}");
}

#[test]
fn root_has_the_listed_capabilities_and_no_others() {
    let Some(place) = fixture("root") else { return };
    let output = place
        .run(&place.plan(shell("grep Cap /proc/self/status")))
        .output;
    for (set, value) in [
        ("Inh", 0),
        ("Prm", 0xa804_25fb_u64),
        ("Eff", 0xa804_25fb),
        ("Amb", 0),
    ] {
        assert!(
            output.contains(&format!("Cap{set}:\t{value:016x}")),
            "{set}: {output}"
        );
    }
}

#[test]
fn a_user_can_open_its_standard_output_again() {
    let Some(place) = fixture("streams") else {
        return;
    };
    let mut process = shell("echo again > /dev/stdout; echo error > /dev/stderr; cat /dev/stdin");
    process.user.uid = Some(4242);
    let outcome = place.run(&place.plan(process));
    assert_eq!(
        (outcome.output.as_str(), outcome.code),
        ("again\nerror\n", 0)
    );
}

#[test]
fn what_runc_hides_is_hidden_and_what_it_protects_is_read_only() {
    let Some(place) = fixture("masks") else {
        return;
    };
    let script = "wc -c < /proc/keys; wc -c < /proc/timer_list; ls /sys/firmware | wc -l; \
        for p in /proc/sys/kernel/domainname /proc/sys/vm/drop_caches /sys/kernel/uevent_seqnum \
            /sys/fs/cgroup/cgroup.procs; do (echo x > $p) 2>&1 | grep -o 'Read-only.*'; done; \
        umount /proc/keys; mount -t tmpfs none /tmp";
    let output = place.run(&place.plan(shell(script))).output;
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..3], ["0", "0", "0"], "{output}");
    assert_eq!(lines[3..7], ["Read-only file system"; 4], "{output}");
    assert!(lines[7].contains("not permitted"), "{output}");
    assert!(lines[8].contains("permission denied"), "{output}");
}

#[test]
fn devices_are_the_harmless_ones() {
    let Some(place) = fixture("devices") else {
        return;
    };
    let script = "ls /dev; readlink /dev/ptmx; readlink /dev/fd; head -c 3 /dev/zero | wc -c; \
        echo x > /dev/full; stat -c %a /dev/null";
    let output = place.run(&place.plan(shell(script))).output;
    for name in [
        "null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm",
    ] {
        assert!(output.lines().any(|line| line == name), "{name}: {output}");
    }
    assert!(
        !output.contains("vda") && !output.contains("kmsg"),
        "{output}"
    );
    assert!(output.contains("pts/ptmx\n/proc/self/fd\n3\n"), "{output}");
    assert!(output.contains("No space left"), "{output}");
    assert!(output.ends_with("666\n"), "{output}");
}

#[test]
fn a_privileged_container_has_devices_mounts_and_all_capabilities() {
    let Some(place) = fixture("privileged") else {
        return;
    };
    let mut process = shell(
        "grep CapEff /proc/self/status; ls /dev/kmsg; mount -t tmpfs none /tmp && echo mounted; \
         mkdir /sys/fs/cgroup/below && echo writable",
    );
    process.capabilities = all_capabilities();
    process.seccomp = Seccomp::Unconfined;
    let mut plan = place.plan(process);
    plan.privileged = true;
    plan.mask_paths = false;
    let output = place.run(&plan).output;
    let _ = fs::remove_dir(place.cgroup.join("below"));
    assert!(output.contains("CapEff:\t000001ff"), "{output}");
    assert!(
        output.contains("/dev/kmsg\nmounted\nwritable\n"),
        "{output}"
    );
}

#[test]
fn the_filter_denies_what_it_should_in_a_real_process() {
    let Some(place) = fixture("filter") else {
        return;
    };
    let output = place
        .run(&place.plan(shell("unshare -U true; unshare -m true; echo end")))
        .output;
    assert_eq!(
        output.matches("Operation not permitted").count(),
        2,
        "{output}"
    );
    assert!(output.ends_with("end\n"), "{output}");
}

#[test]
fn a_32_bit_program_runs() {
    let Some(place) = fixture("i386") else { return };
    // mov eax, 1 (exit); mov ebx, 42; int 0x80
    let code = [0xb8, 1, 0, 0, 0, 0xbb, 42, 0, 0, 0, 0xcd, 0x80];
    let load = 0x0804_8000u32;
    let size = 84 + code.len() as u32;
    let mut elf = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x03\0\x01\0\0\0".to_vec();
    for word in [load + 84, 52, 0, 0] {
        elf.extend(word.to_le_bytes());
    }
    for half in [52u16, 32, 1, 0, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    for word in [1, 0, load, load, size, size, 5, 0x1000] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(code);
    let path = format!("{BASE}/image/bin/tiny");
    fs::write(&path, elf).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&path, mode).unwrap();
    let mut process = shell("");
    process.args = vec!["tiny".to_owned()];
    assert_eq!(place.run(&place.plan(process)).code, 42);
}

#[test]
fn commands_that_cannot_run_say_why() {
    let Some(place) = fixture("commands") else {
        return;
    };
    let fault = |command: &str| {
        let mut process = shell("");
        process.args = vec![command.to_owned()];
        place.fault(&place.plan(process))
    };
    for (command, code) in [
        ("nonesuch", FaultCode::CommandNotFound),
        ("/bin/nonesuch", FaultCode::CommandNotFound),
        ("orphan", FaultCode::CommandNotFound),
        ("/bin/orphan", FaultCode::CommandNotFound),
        ("data", FaultCode::CommandNotExecutable),
        ("/bin/data", FaultCode::CommandNotExecutable),
        ("/bin", FaultCode::CommandNotExecutable),
        ("", FaultCode::InvalidArgument),
    ] {
        let (found, message) = fault(command);
        assert_eq!(found, code, "{command}: {message}");
    }
}

#[test]
fn working_directories_that_cannot_be_say_why() {
    let Some(place) = fixture("directories") else {
        return;
    };
    for (cwd, read_only) in [
        ("/bin/data", false),
        ("relative", false),
        ("/made/in/vain", true),
    ] {
        let mut process = shell("true");
        process.cwd = cwd.to_owned();
        let mut plan = place.plan(process);
        if read_only {
            // A volume that may not be written to.
            root(&mut plan).mounts.push(volume("/made", None, true));
        }
        let (code, message) = place.fault(&plan);
        assert_eq!(code, FaultCode::BadWorkingDirectory, "{cwd}: {message}");
        assert!(message.contains(cwd), "{message}");
    }
}

#[test]
fn users_that_cannot_be_say_why() {
    let Some(place) = fixture("users") else {
        return;
    };
    let mut process = shell("true");
    process.user.image_user = "ghost".to_owned();
    assert_eq!(place.fault(&place.plan(process)).0, FaultCode::UserNotFound);
    let mut process = shell("true");
    process.user.refuse_root = true;
    let (code, message) = place.fault(&place.plan(process));
    assert_eq!(code, FaultCode::RunsAsRoot);
    assert!(message.contains("runAsNonRoot"), "{message}");
}

#[test]
fn a_passwd_file_that_is_a_fifo_does_not_stall() {
    let Some(place) = fixture("fifo") else { return };
    let passwd = format!("{BASE}/image/etc/passwd");
    fs::remove_file(&passwd).unwrap();
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(CWD, &passwd, kind, Mode::from(0o644), 0).unwrap();
    assert_eq!(
        place.fault(&place.plan(shell("true"))).0,
        FaultCode::InvalidArgument
    );
}

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

#[test]
fn a_terminal_is_the_containers_own_and_has_its_size() {
    let Some(place) = fixture("terminal") else {
        return;
    };
    let mut process = shell(
        "tty; stty size; test -t 0 && echo $TERM; echo hi > /dev/tty; ls -l /dev/console | wc -l",
    );
    process.tty = Some(TerminalSize {
        rows: 33,
        cols: 101,
    });
    let (pid, terminal) = place.begin_terminal(&place.plan(process));
    let output = read_terminal(&terminal);
    assert_eq!(output, "/dev/pts/0\r\n33 101\r\nxterm\r\nhi\r\n1\r\n");
    assert_eq!(wait(pid), 0);
}

#[test]
fn a_second_process_joins_the_first_one() {
    let Some(place) = fixture("join") else { return };
    let (first, _output) =
        place.begin(&place.plan(shell("echo there > /tmp/mark; exec sleep 1000")));
    while fs::read_to_string(format!("/proc/{}/comm", first.pid)).unwrap() != "sleep\n" {
        std::thread::yield_now();
    }
    let script = "cat /tmp/mark; cat /proc/1/comm; ls /proc/self/fd | wc -l; \
        grep CapEff /proc/self/status; for n in pid mnt cgroup; do readlink /proc/1/ns/$n; \
        readlink /proc/self/ns/$n; done; exit 5";
    let outcome = place.run(&place.join(first.pid, shell(script)));
    let lines: Vec<&str> = outcome.output.lines().collect();
    assert_eq!(lines[..3], ["there", "sleep", "4"], "{}", outcome.output);
    assert!(lines[3].ends_with("00000000a80425fb"), "{}", outcome.output);
    for pair in lines[4..].chunks(2) {
        assert_eq!(pair[0], pair[1], "{}", outcome.output);
    }
    assert_eq!(outcome.code, 5);
    let mut process = shell("tty; stty size");
    process.tty = Some(TerminalSize { rows: 5, cols: 50 });
    let (pid, terminal) = place.begin_terminal(&place.join(first.pid, process));
    assert_eq!(read_terminal(&terminal), "/dev/pts/0\r\n5 50\r\n");
    assert_eq!(wait(pid), 0);
}

#[test]
fn containers_can_share_a_pid_namespace() {
    let Some(place) = fixture("pause") else {
        return;
    };
    let pause = start_pause(&place.cgroup.display().to_string()).unwrap();
    let mut plan = place.plan(shell("exec sleep 1000"));
    root(&mut plan).shared_pid = Some(pause);
    let (first, _output) = place.begin(&plan);
    let mut plan = place.plan(shell(
        "cat /proc/1/comm; until grep sleep /proc/2/comm; do :; done; ls /proc/1/root/",
    ));
    root(&mut plan).shared_pid = Some(pause);
    let outcome = place.run(&plan);
    let expected = "pause\nsleep\n";
    assert!(outcome.output.starts_with(expected), "{}", outcome.output);
    assert!(
        !outcome.output[expected.len()..].contains("run"),
        "{}",
        outcome.output
    );
    let joined = place.run(&place.join(first.pid, shell("cat /proc/1/comm")));
    assert_eq!(joined.output, "pause\n");
}

#[test]
fn limits_are_set() {
    let Some(place) = fixture("limits") else {
        return;
    };
    let mut process = shell("ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj");
    process.oom_score_adj = 321;
    process.rlimits = vec![Rlimit {
        name: "nofile".into(),
        soft: 123,
        hard: 456,
    }];
    assert_eq!(place.run(&place.plan(process)).output, "123\n456\n321\n");
}

#[test]
fn the_agents_own_program_cannot_be_written() {
    let program = program_file().unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(program));
    let error = fs::OpenOptions::new().write(true).open(path).unwrap_err();
    assert!(
        matches!(error.raw_os_error(), Some(libc::EROFS | libc::ETXTBSY)),
        "{error}"
    );
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

/// What a container costs until its program runs. Under instruction counting
/// (one CPU) the time is the number of instructions in thousandths.
#[test]
#[ignore = "prints figures; run it alone"]
fn what_a_container_costs() {
    let Some(place) = fixture("cost") else { return };
    let begin = std::time::Instant::now();
    const ROUNDS: u32 = 20;
    for _ in 0..ROUNDS {
        let mut process = shell("");
        process.args = vec!["/bin/true".to_owned()];
        let (spawning, _output) = place.begin(&place.plan(process));
        wait(spawning.pid);
    }
    eprintln!(
        "a container and its /bin/true: {:?}",
        begin.elapsed() / ROUNDS
    );
}
