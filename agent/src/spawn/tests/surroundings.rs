//! What a process finds around it: mounts, devices, a terminal.

use super::*;

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
fn what_a_plan_covers_is_hidden_or_read_only_where_it_is_there() {
    let Some(place) = fixture("covered") else {
        return;
    };
    let script =
        "/bin/ls; cat /etc/passwd | wc -c; echo x > /etc/group; echo x > /tmp/new && cat /tmp/new";
    let mut plan = place.plan(shell(script));
    root(&mut plan).covered = CoveredPaths {
        hidden: ["/bin/ls", "/etc/passwd", "/no/such"]
            .map(str::to_owned)
            .into(),
        protected: ["/etc/group", "/not/there/either"]
            .map(str::to_owned)
            .into(),
    };
    let output = place.run(&plan).output;
    assert!(output.contains("/bin/ls: Permission denied"), "{output}");
    assert!(output.contains("\n0\n"), "{output}");
    assert!(
        output.contains("/etc/group: Read-only file system"),
        "{output}"
    );
    assert!(output.ends_with("x\n"), "{output}");
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
