//! PID 1 of the pod guest: runs the pod's containers as its supervisor says.
//!
//! | phase | what | module |
//! |---|---|---|
//! | init | own mounts and cgroups | [`boot`] |
//! | connect | the control connection to the supervisor | [`link`] |
//! | set up | name, network, scratch disk, volumes | [`setup`], [`network`] |
//! | serve | containers and commands, until the end | [`agent`], [`pod`] |
//!
//! The same file, executed as `beluga-spawn`, is the helper that becomes a
//! container's process ([`spawn`]).

#![cfg_attr(not(test), no_main)]

mod agent;
mod boot;
mod cgroup;
mod check;
mod clock;
mod copy;
mod disk;
mod files;
mod layers;
mod link;
mod log;
mod network;
mod pod;
mod poller;
mod probe;
mod quota;
mod reaper;
mod reclaim;
mod setup;
mod spawn;
mod stats;
mod stream;
mod sys;
mod termination;
mod variables;
mod watch;

use agent::{Agent, End};
use beluga_proto::Stamp;
use log::Level;
use rustix::system::{RebootCommand, reboot};

/// Found in the initramfs by `beluga doctor` and `beluga version`.
#[used]
static VERSION_MARK: &str = concat!("beluga-agent-version=", env!("CARGO_PKG_VERSION"), "\n");

/// The phases; called by the program's entry in [`sys`].
#[cfg_attr(test, expect(dead_code, reason = "tests have an entry of their own"))]
fn run() {
    if std::env::args_os()
        .next()
        .is_some_and(|name| name == spawn::HELPER_ARG0)
    {
        spawn::helper_main();
    }
    if std::process::id() != 1 {
        println!("beluga-agent {}", env!("CARGO_PKG_VERSION"));
        return;
    }
    sys::stamp(Stamp::Init);
    std::panic::set_hook(Box::new(|panic| fail(&panic)));
    if let Err(error) = boot::mount_all() {
        fail(&log::chain(&error));
    }
    sys::stamp(Stamp::Mounted);
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let mut agent = match Agent::new(sys::dial_host, boot_id.trim().to_owned()) {
        Ok(agent) => agent,
        Err(error) => fail(&log::chain(&error)),
    };
    match agent.run() {
        Ok(End::Shutdown) => end(Stamp::EndShutdown),
        Ok(End::Orphaned) => {
            log::write(Level::Error, &"no supervisor came within 10 s");
            end(Stamp::EndOrphaned)
        }
        Err(error) => fail(&log::chain(&error)),
    }
}

/// Ends the guest because of an error.
fn fail(message: &dyn std::fmt::Display) -> ! {
    log::write(Level::Error, message);
    end(Stamp::EndAgentFault)
}

/// Ends the guest. Never by power-off: without ACPI that halts for ever.
fn end(stamp: Stamp) -> ! {
    sys::stamp(stamp);
    loop {
        // Refused only without the right to do it, which PID 1 has.
        let _ = reboot(RebootCommand::Restart);
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}
