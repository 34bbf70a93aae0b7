//! README.md is true: a newcomer who types its commands gets what it says.

use beluga_tests::{run, skip};
use std::process::Command;
use std::time::Duration;

#[test]
fn every_command_of_readme_does_what_readme_says() {
    if std::env::var_os("BELUGA_LAB").is_none() {
        skip(
            "readme::every_command_of_readme_does_what_readme_says",
            "it installs to /usr/local: only in the lab host, which forgets it",
        );
        return;
    }
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/readme.py");
    run(
        Command::new("python3").args([program, "run"]),
        Duration::from_secs(900),
    )
    .ok();
}
