//! `beluga version`.

use super::{CliError, exit};
use crate::settings::{Parts, Settings};
use std::path::Path;
use std::process::{Command, Stdio};

/// Version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Runs the verb.
#[expect(
    clippy::unnecessary_wraps,
    reason = "every verb has the same shape for the dispatcher"
)]
pub fn run(settings: &Settings) -> Result<u8, CliError> {
    say!("beluga {VERSION}");
    match settings.parts() {
        Ok(Parts {
            vmm,
            kernel,
            initramfs,
        }) => {
            say!(
                "vmm {} ({})",
                of_program(&vmm).unwrap_or("unknown".into()),
                vmm.display()
            );
            if let Ok(share) = settings.share_server() {
                say!(
                    "share {} ({})",
                    of_program(&share).unwrap_or("unknown".into()),
                    share.display()
                );
            }
            say!("kernel {}", kernel.display());
            say!("initramfs {}", initramfs.display());
        }
        Err(error) => say!("{error}"),
    }
    Ok(exit::OK)
}

/// What a program of ours says that it is: the last word of `--version`.
pub fn of_program(program: &Path) -> Option<String> {
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split_whitespace().last()?;
    output.status.success().then(|| version.to_owned())
}
