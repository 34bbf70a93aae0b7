//! The process that resolves pods' names: one per network, on the bridge's address.
//!
//! It is nobody's in particular. It holds a lock for as long as it lives, and
//! says in the locked file which process it is; every supervisor of the network
//! watches it (the keeper, which ends with the one that answers), and when it ends one of them gets the lock and starts the next.
//! A supervisor that dies takes nothing with it. It ends with the network.

use super::lock::FileLock;
use super::network::Net;
use super::process;
use crate::store::ProcessRef;
use rustix::io::FdFlags;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The hidden verb that makes a process the resolver.
pub const RESOLVE: &str = "resolve-names";

/// The hidden verb of the process that it starts, which answers.
pub const ANSWER: &str = "answer-names";

/// Its cgroup, beside those of the pods.
pub const CGROUP: &str = "resolver";

/// Bytes of memory that it may have, whatever pods ask of it.
const MEMORY_MAX: &str = "67108864";

/// Where DNS is spoken.
pub const PORT: u16 = 53;

/// Before a resolver that ended is replaced: at first, and when it ends again
/// and again.
const AGAIN: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(30)];

/// One that has lived so long has not ended for what is still so.
const STEADY: Duration = Duration::from_secs(10);

/// Longest that it takes to end, in milliseconds.
const END_MILLIS: u32 = 2000;

/// What is held by the resolver, with its name in it.
fn lock_path(net: &Net) -> PathBuf {
    net.home().join("resolver")
}

/// Its cgroup, relative to the mount.
#[must_use]
pub fn cgroup_name(net: &Net) -> String {
    match net.definition() {
        None => CGROUP.to_owned(),
        Some(one) => format!("{CGROUP}-{}", one.name),
    }
}

fn cgroup(net: &Net) -> PathBuf {
    net.settings().cgroup().join(cgroup_name(net))
}

/// The resolver of this network, if one runs.
#[must_use]
pub fn running(net: &Net) -> Option<ProcessRef> {
    let path = lock_path(net);
    if FileLock::try_take(&path).is_ok_and(|lock| lock.is_some()) {
        return None;
    }
    // Somebody else may just be looking, and the name be that of a dead one.
    let process = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    process::open(process).map(|_| process)
}

/// The one that answers and its keeper, if they run, by what they are for.
#[must_use]
pub fn processes(net: &Net) -> Vec<(&'static str, i32)> {
    let Some(ProcessRef { pid: keeper, .. }) = running(net) else {
        return Vec::new();
    };
    // The keeper starts no other.
    let children = format!("/proc/{keeper}/task/{keeper}/children");
    let children = std::fs::read_to_string(children).unwrap_or_default();
    let answering = children.split_whitespace().flat_map(str::parse);
    let answering = answering.map(|pid| ("resolver", pid));
    answering.chain([("resolver's keeper", keeper)]).collect()
}

/// What they have to say.
#[must_use]
pub fn log(net: &Net) -> PathBuf {
    net.home().join("resolver.log")
}

/// Whether a resolver can answer: not where another program of this host has
/// port 53 of every address.
#[must_use]
pub fn is_to_be_had(net: &Net) -> bool {
    // Some address of loopback that nobody listens on by name, and no other
    // command looks at just now.
    let [.., a, b] = std::process::id().to_be_bytes();
    let anywhere = (Ipv4Addr::new(127, 88, a, b), PORT);
    running(net).is_some() || UdpSocket::bind(anywhere).is_ok()
}

/// Sees to it that a resolver runs, for as long as this is polled.
pub async fn keep(net: Net, gateway: IpAddr) {
    let mut patience = AGAIN[0];
    loop {
        let began = Instant::now();
        match turn(&net, gateway) {
            Ok(Turn::Ours(mut child)) => drop(child.wait().await),
            Ok(Turn::Theirs(other)) => ended(other).await,
            Ok(Turn::Unknown) => {}
            Err(error) => tell!("cannot start a resolver of pods' names: {error}"),
        }
        if began.elapsed() > STEADY {
            patience = AGAIN[0];
        }
        tokio::time::sleep(patience).await;
        patience = (patience * 2).min(AGAIN[1]);
    }
}

async fn ended(other: OwnedFd) {
    if let Ok(other) = crate::sys::watch(other) {
        drop(other.readable().await);
    }
}

/// Whose the resolver is.
enum Turn {
    /// Just started here.
    Ours(tokio::process::Child),
    /// Another supervisor's, by its pidfd.
    Theirs(OwnedFd),
    /// It is just coming or going.
    Unknown,
}

fn turn(net: &Net, gateway: IpAddr) -> io::Result<Turn> {
    let path = lock_path(net);
    drop(File::options().create(true).append(true).open(&path)?);
    let Some(lock) = FileLock::try_take(&path)? else {
        let pidfd = running(net).and_then(process::open);
        return Ok(pidfd.map_or(Turn::Unknown, Turn::Theirs));
    };
    let log = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(log(net))?;
    let inherit = |flags| rustix::io::fcntl_setfd(lock.file(), flags);
    inherit(FdFlags::empty())?;
    let spawned = tokio::process::Command::new(std::env::current_exe()?)
        .arg(RESOLVE)
        .args([&net.settings().root, &net.settings().state])
        .arg(gateway.to_string())
        .arg(lock.file().as_raw_fd().to_string())
        .arg(net.name())
        // What the caller's holds is nobody's to know who breaks out of a guest.
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn();
    inherit(FdFlags::CLOEXEC)?;
    spawned.map(Turn::Ours)
}

/// What the new resolver does first: it says who it is, and leaves the cgroup
/// of the pod whose supervisor has started it.
pub fn begin(net: &Net) -> io::Result<()> {
    let own = process::identify(std::process::id().cast_signed());
    std::fs::write(lock_path(net), serde_json::to_vec(&own)?)?;
    let cgroup = super::cgroup::absolute(&cgroup(net));
    // A host without a writable cgroup v2 has pods and their names all the same.
    let _ = std::fs::create_dir_all(&cgroup);
    let _ = std::fs::write(cgroup.join("memory.max"), MEMORY_MAX);
    let _ = std::fs::write(cgroup.join("cgroup.procs"), "0");
    Ok(())
}

/// Ends the resolver, if one runs, and leaves nothing of it.
pub fn end(net: &Net) {
    if let Some(pidfd) = running(net).and_then(process::open) {
        let _ = process::kill(&pidfd);
        let _ = process::wait_end(&pidfd, END_MILLIS);
    }
    // The one that answers is ended by the kernel when its keeper has: a moment later.
    let until = Instant::now() + Duration::from_millis(END_MILLIS.into());
    while super::cgroup::remove(&cgroup(net)).is_err() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
}
