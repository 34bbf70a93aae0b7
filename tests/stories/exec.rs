//! Commands in a running container: streams, terminals, exit codes.

use beluga_tests::{Lasting, SOON, peak_kib, run, say, shared, stream, vmm_kib};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A pod that runs, has said nothing, and takes no input.
pub static POD: Lasting = Lasting::new(|| {
    let manifest = include_str!("../pods/sleep.yaml");
    // The agent is seen too: what it takes for a stream is measured.
    let more = "  labels: {app: idle, tier: front}\nspec:\n  hostPID: true\n";
    shared().pod(&manifest.replace("spec:\n", more))
});

fn name() -> &'static str {
    POD.name()
}

#[test]
fn exec_keeps_exit_codes_as_a_shell_does() {
    let exec = |line: &str| shared().types(&format!("exec {} -- {line}", name()));
    exec("sh -c 'exit 42'").exits(42);
    exec("sh -c 'kill -9 $$'").exits(137);
    exec("no-such-command").fails(127, "no-such-command");
    exec("/etc/passwd").exits(126);
}

#[test]
fn a_pod_without_limits_has_one_cpu() {
    assert_eq!(POD.sh("main", "nproc"), "1");
}

#[test]
fn a_pod_without_limits_gives_huge_pages_to_who_asks_and_keeps_no_memory_back_for_them() {
    let read = "cd /sys/kernel/mm; cat transparent_hugepage/enabled; \
                [ $(cat /proc/sys/vm/min_free_kbytes) -lt 8192 ] && echo little";
    assert_eq!(POD.sh("main", read), "always [madvise] never\nlittle");
}

#[test]
fn a_user_may_have_as_many_processes_as_the_cgroup_has_room_for() {
    assert_eq!(
        POD.sh(
            "main",
            "grep -c 'processes *unlimited *unlimited' /proc/self/limits"
        ),
        "1"
    );
}

#[test]
fn exec_gives_every_byte_to_a_reader_that_takes_its_time() {
    let mut exec = shared().command(["exec", name(), "--", "seq", "20000"]);
    let mut exec = exec.stdout(Stdio::piped()).spawn().expect("it runs");
    // Longer than a silence of the pod's is waited for.
    let ended = "sleep 1; while pidof seq >/dev/null; do sleep 0.1; done; sleep 1";
    POD.sh("main", ended);
    let read = std::io::read_to_string(exec.stdout.take().expect("a pipe"));
    assert_eq!(read.expect("text").lines().count(), 20_000);
    assert!(exec.wait().expect("an end").success());
}

#[test]
fn exec_whose_output_is_lost_fails() {
    let exec = shared().command(["exec", name(), "--", "sh", "-c", "seq 100000; exit 0"]);
    let mut full = Command::new("sh");
    full.args(["-c", r#"exec "$@" >/dev/full"#, "sh"]);
    full.arg(exec.get_program()).args(exec.get_args());
    full.envs(
        exec.get_envs()
            .flat_map(|(name, value)| value.map(|value| (name, value))),
    );
    run(&mut full, SOON).exits(1).complains("No space left");
}

#[test]
fn exec_keeps_output_and_error_apart() {
    let ran = shared()
        .run(["exec", name(), "--", "sh", "-c", "echo out; echo err >&2"])
        .ok();
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("out\n", "err\n"));
}

#[test]
fn exec_carries_input_to_its_end() {
    let input = "a line\n".repeat(10_000);
    let ran = shared()
        .feed(["exec", "-i", name(), "--", "sort", "-u"], input.as_bytes())
        .ok();
    assert_eq!(ran.out, "a line\n");
}

#[test]
fn a_command_needs_no_dashes_and_has_the_flags_behind_it() {
    let exec = |line: &str| shared().types(&format!("exec {}", line.replace("POD", name())));
    let ran = exec("-c main POD echo -n -i --container=x");
    ran.ok().prints("-i --container=x");
    exec("POD sh -c 'exit 42' -- -t").exits(42);
    exec("--no-such-flag POD true").exits(2);
}

#[test]
fn exec_with_a_terminal_has_a_terminal() {
    let line = format!("exec -it {} -- sh -c 'tty; stty size'", name());
    let ran = shared().types_on_terminal(&line, Duration::from_secs(60));
    ran.ok().says("/dev/pts/");
}

/// A terminal of 30 lines of 100, which becomes one of 40 of 120 once the command
/// in it has said how large it is; prints what the command said, exits as it does.
const RESIZED: &str = r#"
import fcntl, os, pty, struct, sys, termios
child, terminal = pty.fork()
if child == 0:
    os.execvp("sh", ["sh", "-c", 'read go; exec "$@"', "sh", *sys.argv[1:]])
def size(lines, columns):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
size(30, 100)
os.write(terminal, b"go\n")
said = b""
try:
    while piece := os.read(terminal, 4096):
        if b"30 100" not in said and b"30 100" in said + piece:
            size(40, 120)
        said += piece
except OSError:
    pass
print(said.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"#;

#[test]
fn exec_tells_the_size_of_the_terminal_and_its_changes() {
    let line = r#"trap 'stty size; [ "$(stty size)" = "40 120" ] && exit 7' WINCH
        stty size; while :; do sleep 0.1; done"#;
    let exec = ["beluga", "exec", "-it", name(), "--", "sh", "-c", line];
    let mut python = Command::new("python3");
    python.args(["-c", RESIZED]).args(exec);
    python
        .env("BELUGA_ROOT", shared().root())
        .env("BELUGA_STATE", shared().state());
    let ran = run(&mut python, SOON).exits(7);
    let at = |size| {
        ran.out
            .find(size)
            .unwrap_or_else(|| panic!("{size}: {ran}"))
    };
    assert!(at("30 100") < at("40 120"), "{ran}");
}

#[test]
fn exec_into_nothing_says_so() {
    shared()
        .run(["exec", "no-such-pod", "--", "true"])
        .exits(1)
        .complains("no-such-pod");
    shared()
        .run(["exec", "-c", "nobody", name(), "--", "true"])
        .exits(1)
        .complains("nobody");
}

#[test]
fn sixty_four_commands_at_once_are_all_answered() {
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..64)
            .map(|n| {
                scope.spawn(move || {
                    shared()
                        .run(["exec", name(), "--", "echo", &format!("n{n}")])
                        .ok()
                        .out
                })
            })
            .collect();
        for (n, one) in all.into_iter().enumerate() {
            assert_eq!(one.join().expect("no panic"), format!("n{n}\n"));
        }
    });
}

/// So many MiB through `cat` and back, compared on arrival. What it costs in
/// memory does not depend on how much it is: after a little has warmed all
/// buffers, the rest makes the peak of the command line, of the supervisor and of
/// the agent, and what the VMM has beside the guest's memory, grow by at most
/// 4 MiB, two huge pages.
fn there_and_back(mib: usize) {
    let [vmm, supervisor] = POD.processes();
    let cat = |mib: usize| {
        let mut command = shared().command(["exec", "-i", name(), "--", "cat"]);
        let (limit, mut most) = (Duration::from_secs(1500), 0);
        let look = || most = vmm_kib(vmm).max(most);
        let moved = stream::there_and_back(&mut command, mib * 16, limit, look);
        let agent = POD.sh("main", "awk '/VmHWM/ {print $2}' /proc/1/status");
        let agent = agent.parse().expect("the agent's peak is a number");
        let peaks = [moved.peak_kib, most, peak_kib(supervisor), agent];
        (moved.took, peaks)
    };
    let (_, before) = cat(16.min(mib / 2));
    let (took, peaks) = cat(mib);
    let rate = mib as f64 / took.as_secs_f64();
    let line = format!(
        "{mib} MiB there and back at {rate:.1} MiB/s; peaks of command line, VMM, supervisor, agent: {peaks:?} KiB"
    );
    say(&line);
    let mut all = peaks.iter().zip(before);
    let bounded = all.all(|(now, then)| *now <= then + 4096);
    assert!(bounded, "{line}; before: {before:?} KiB");
    assert_eq!(POD.container("main")["restartCount"], 0);
}

#[test]
fn a_stream_of_32_mib_arrives_unchanged_in_bounded_memory() {
    there_and_back(32);
}

/// Long runs: `make soak`.
mod soak {
    #[test]
    fn a_gibibyte_arrives_unchanged() {
        super::there_and_back(1024);
    }
}
