//! Event files of cgroups: the kernel says when the out-of-memory killer has
//! struck in a container, and when its last process is gone.

use crate::cgroup::Cgroup;
use beluga_proto::ContainerId;
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use std::collections::BTreeMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Watches over containers' cgroups.
pub struct Watches {
    inotify: OwnedFd,
    containers: BTreeMap<i32, ContainerId>,
}

impl Watches {
    /// None yet.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            inotify: inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?,
            containers: BTreeMap::new(),
        })
    }

    /// Readable when something changed.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Watches a container's cgroup until it is removed.
    pub fn add(&mut self, id: &ContainerId, cgroup: &Cgroup) -> io::Result<()> {
        for path in [cgroup.events_path(), cgroup.population_path()] {
            let watch = inotify::add_watch(&self.inotify, path, WatchFlags::MODIFY)?;
            self.containers.insert(watch, id.clone());
        }
        Ok(())
    }

    /// Forgets a container. Its cgroup's files are gone, but not for the kernel:
    /// a watch keeps the inode of a removed file of this file system.
    pub fn forget(&mut self, id: &ContainerId) {
        let inotify = &self.inotify;
        self.containers.retain(|watch, watched| {
            if watched != id {
                return true;
            }
            // Gone already is as good.
            let _ = inotify::remove_watch(inotify, *watch);
            false
        });
    }

    /// Containers whose cgroups have news, each once.
    pub fn changed(&mut self) -> Vec<ContainerId> {
        let mut buffer = [MaybeUninit::uninit(); 2048];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut changed = Vec::new();
        while let Ok(event) = reader.next() {
            if let Some(id) = self.containers.get(&event.wd())
                && !changed.contains(id)
            {
                changed.push(id.clone());
            }
            if reader.is_buffer_empty() {
                break;
            }
        }
        changed
    }
}
