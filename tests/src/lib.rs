//! What stories are told with: a Beluga of one's own, pods that clean up after
//! themselves, commands bounded in time.
//!
//! A story is a `#[test]` in `stories/`: at most fifteen lines, one behaviour,
//! no sleep. What it needs of a running pod it asks [`Beluga`] and [`Pod`];
//! when it fails, the fixture shows the pod's description, with the guest's
//! console where its machine has ended, and its logs. A story that cannot run where it is calls [`skip`], which
//! is counted and printed by the runner; returning early without it is a bug.
#![forbid(unsafe_code)]

mod command;
pub mod containerd;
pub mod cri;
mod doomed;
pub mod failing;
pub mod ordinary;
mod pod;
pub mod registry;
pub mod stream;

pub use command::{Ran, alone, kill, run, run_with_input, runs};
pub use doomed::{Doomed, Host, Steps};
pub use pod::{Beluga, Common, CommonPod, Lasting, Pod, image, shared};
pub use stream::{own_kib, peak_kib, resident_kib, status_number, vmm_kib};

use std::time::{Duration, Instant};

/// Longest that a story waits for something that should happen soon. The lab
/// emulates every instruction: what takes 50 ms on metal takes seconds there.
pub const SOON: Duration = Duration::from_secs(90);

/// Asks again and again until `ready` gives a value.
/// Panics with `what` when it does not within [`SOON`].
pub fn eventually<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + SOON;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < end, "not within {SOON:?}: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Counts this story as skipped, with the reason. The runner reads the line.
pub fn skip(story: &str, reason: &str) {
    command::tell(&format!("SKIPPED {story}: {reason}"));
}

/// Says something although the story passes: a figure that people want to see.
pub fn say(line: &str) {
    use std::io::Write as _;
    // Not by a macro: libtest keeps what those print to itself.
    let _ = writeln!(std::io::stderr(), "\n{line}");
}
