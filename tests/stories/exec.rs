//! Commands in a running container: streams, terminals, exit codes.

use beluga_tests::{Pod, run, shared};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

static POD: LazyLock<Pod<'static>> =
    LazyLock::new(|| shared().pod(include_str!("../pods/sleep.yaml")));

fn name() -> &'static str {
    POD.name()
}

#[test]
fn exec_keeps_exit_codes_as_a_shell_does() {
    shared()
        .run(["exec", name(), "--", "sh", "-c", "exit 42"])
        .exits(42);
    shared()
        .run(["exec", name(), "--", "sh", "-c", "kill -9 $$"])
        .exits(137);
    shared()
        .run(["exec", name(), "--", "no-such-command"])
        .exits(127)
        .complains("no-such-command");
    shared()
        .run(["exec", name(), "--", "/etc/passwd"])
        .exits(126);
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
fn exec_with_a_terminal_has_a_terminal() {
    let mut script = Command::new("script");
    script.args([
        "-qec",
        &format!("beluga exec -it {} -- sh -c 'tty; stty size'", name()),
        "/dev/null",
    ]);
    script
        .env("BELUGA_ROOT", shared().root())
        .env("BELUGA_STATE", shared().state());
    run(&mut script, Duration::from_secs(60))
        .ok()
        .says("/dev/pts/");
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
fn many_streams_at_once() {
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..8)
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

/// Pseudo-random bytes there and back, compared by digest.
fn there_and_back(size: &str) {
    let line = format!(
        "head -c {size} /dev/zero | openssl enc -aes-128-ctr -K 00 -iv 00 2>/dev/null \
         | tee >(sha256sum >/tmp/sent.{size}) | beluga exec -i {} -- cat | sha256sum >/tmp/got.{size}; \
         sleep 0.2; cmp /tmp/sent.{size} /tmp/got.{size}",
        name()
    );
    let mut bash = Command::new("bash");
    bash.args(["-o", "pipefail", "-c", &line]);
    bash.env("BELUGA_ROOT", shared().root())
        .env("BELUGA_STATE", shared().state());
    run(&mut bash, Duration::from_secs(900)).ok();
    assert_eq!(POD.container("main")["restartCount"], 0);
}

#[test]
fn a_stream_of_32_mib_arrives_unchanged() {
    there_and_back("32M");
}

/// Long runs: `make soak`.
mod soak {
    #[test]
    fn a_gibibyte_arrives_unchanged() {
        super::there_and_back("1G");
    }
}
