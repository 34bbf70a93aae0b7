//! A container that crashes all the time, and what that leaves behind: nothing.

use beluga_tests::{Pod, eventually, own_kib, say, shared};

/// It crashes at once, beside one that looks at the guest.
const MANIFEST: &str = "
apiVersion: v1
kind: Pod
metadata: {name: crashes-TIMES}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: kept, emptyDir: {}}]
  containers:
  - name: crasher
    image: busybox
    command: [sh, -c, 'echo run >> /kept/runs; exit 1']
    volumeMounts: [{name: kept, mountPath: /kept}]
  - name: watch
    image: busybox
    command: [sleep, infinity]
    securityContext: {privileged: true}
    volumeMounts: [{name: kept, mountPath: /kept, readOnly: true}]
";

/// What, its KiB now, and how many more they may be: the noise of the figure.
type Held = [(&'static str, u32, u32); 5];

/// A page of the guest that was not used before is a huge page of the host's.
const HUGE_PAGES: u32 = 4096;

fn held(pod: &Pod<'_>) -> Held {
    let look = "echo 3 > /proc/sys/vm/drop_caches; \
        awk '/^(AnonPages|KReclaimable|SUnreclaim)/ { print $2 }' /proc/meminfo";
    let said = pod.sh("watch", look);
    let mut guest = said.lines().map(|kib| kib.parse().expect("a number"));
    let [vmm, supervisor] = pod.processes();
    let mut guest = || guest.next().expect("three figures");
    [
        ("programs of the guest", guest(), 256),
        // Files: all that nobody holds has just been dropped.
        ("inodes and such of the guest", guest(), 64),
        ("other slab of the guest", guest(), 256),
        ("supervisor", own_kib(supervisor), 256),
        ("VMM and its guest", own_kib(vmm), HUGE_PAGES),
    ]
}

/// Waits until it was started again so often; each score of restarts has its own time limit.
fn restarted(pod: &Pod<'_>, times: u64) {
    for goal in (0..times).step_by(20).skip(1).chain([times]) {
        eventually(&format!("{goal} restarts"), || {
            let count = pod.container("crasher")["restartCount"].as_u64();
            (count >= Some(goal)).then_some(())
        });
    }
}

/// A pod whose crashing container is started again after 10 ms each; what is held
/// does not grow from one of these counts of restarts to the next. By the first all
/// caches are as large as they get.
pub fn leave_nothing_behind(marks: &[u64]) {
    let times = *marks.last().expect("a count");
    let manifest = MANIFEST.replace("TIMES", &times.to_string());
    let pod = shared().pod_under(("BELUGA_BACKOFF", "0.01,0.01,600"), &manifest);
    let who = || (pod.ip(), pod.field("/metadata/uid"));
    let before = who();
    let mut seen: Vec<Held> = Vec::new();
    for mark in marks {
        restarted(&pod, *mark);
        seen.push(held(&pod));
    }
    say(&format!("KiB after {marks:?} restarts: {seen:?}"));
    for pair in seen.windows(2) {
        for ((what, before, noise), (_, after, _)) in pair[0].into_iter().zip(pair[1]) {
            assert!(
                after <= before + noise,
                "{what}: {before} KiB, then {after}"
            );
        }
    }
    assert_eq!(who(), before);
    let runs: u64 = pod
        .sh("watch", "wc -l < /kept/runs")
        .parse()
        .expect("a number");
    assert!(runs > times, "{runs} runs of {times}");
}

#[test]
fn b11_a_container_that_crashes_sixty_times_leaves_nothing_behind() {
    leave_nothing_behind(&[30, 60]);
}
