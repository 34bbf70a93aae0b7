//! Processes beside others.

use super::*;

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

/// What a container with every right over processes, short of a privileged
/// one's devices and mounts, does to get at the guest through the helper of a
/// command that is run beside it (CVE-2016-9962, CVE-2024-21626).
const SNOOP: &str = r"
    echo ready
    while test ! -e /tmp/stop; do
        for p in /proc/[0-9]*; do
            test -e $p/root/run/beluga/etc/secret && echo root of $p
            test -e $p/cwd/run/beluga/etc/secret && echo cwd of $p
            for f in $p/fd/*; do
                case $(readlink $f) in
                /dev/null | /dev/pts/* | /proc* | /tmp* | pipe:* | socket:* | '') ;;
                *) echo $f is $(readlink $f) ;;
                esac
            done
        done
    done";

#[test]
fn a_container_that_traces_finds_nothing_of_the_guest_in_a_commands_helper() {
    let Some(place) = fixture("snoop") else {
        return;
    };
    let mut process = shell(SNOOP);
    process.capabilities = all_capabilities();
    process.seccomp = Seccomp::Unconfined;
    let mut plan = place.plan(process);
    plan.mask_paths = false;
    let (first, mut output) = place.begin(&plan);
    let mut ready = [0; 6];
    std::io::Read::read_exact(&mut output, &mut ready).unwrap();
    for _ in 0..200 {
        assert_eq!(place.run(&place.join(first.pid, shell("true"))).code, 0);
    }
    let stop = shell("touch /tmp/stop");
    assert_eq!(place.run(&place.join(first.pid, stop)).code, 0);
    let mut found = String::new();
    std::io::Read::read_to_string(&mut output, &mut found).unwrap();
    let (seen, first_seen) = (found.lines().count(), found.lines().next());
    assert_eq!(first_seen, None, "{seen} glimpses of the guest");
    wait(first.pid);
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
