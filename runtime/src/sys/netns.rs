//! Network namespaces other than our own: made, kept by a file, worked in.
//!
//! A thread changes its namespace for good; so each piece of work has a thread
//! of its own, which ends with it.

use rustix::mount::{MountFlags, UnmountFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

/// Makes a network namespace that lives as long as `path`, an empty file, is
/// mounted, as `ip netns` does.
pub fn make(path: &Path) -> io::Result<()> {
    on_a_thread(|| {
        // SAFETY: of what can be unshared only a table of descriptors endangers
        // the memory of others; a network namespace is this thread's, which ends.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
        let own = "/proc/thread-self/ns/net";
        Ok(rustix::mount::mount(own, path, "", MountFlags::BIND, None)?)
    })
}

/// Lets go of a namespace and removes its file. One that is not there is no error.
pub fn remove(path: &Path) -> io::Result<()> {
    match rustix::mount::unmount(path, UnmountFlags::DETACH) {
        // Not mounted, or not there at all; or mounted by an ordinary user's supervisor,
        // where only that one sees it: with the file it goes there too.
        Ok(())
        | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT | rustix::io::Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Does something in the network namespace of a file: sockets and taps that are
/// made there are of that namespace wherever they are used.
pub fn within<T: Send, E: From<io::Error> + Send>(
    path: &Path,
    work: impl FnOnce() -> Result<T, E> + Send,
) -> Result<T, E> {
    let namespace = std::fs::File::open(path)?;
    on_a_thread(move || {
        let kind = Some(LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(namespace.as_fd(), kind)
            .map_err(io::Error::from)?;
        work()
    })
}

/// Does something that changes the calling thread for good.
pub(super) fn on_a_thread<T: Send, E: From<io::Error> + Send>(
    work: impl FnOnce() -> Result<T, E> + Send,
) -> Result<T, E> {
    std::thread::scope(|scope| {
        let ended = scope.spawn(work).join();
        ended.unwrap_or_else(|_| Err(io::Error::other("a thread has panicked").into()))
    })
}
