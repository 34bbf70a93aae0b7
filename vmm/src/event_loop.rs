//! Threads that wait for descriptors: `main` has the control socket and all
//! devices but disks, `block` has the disks.

use crate::jail::Confinement;
use crate::jail::calls::ThreadKind;
use crate::virtio::Token;
use crate::virtio::mmio::Transport;
use crate::virtio::{EventRegistry, Outgoing};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};
use vmm_sys_util::epoll::{Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Bit in an event's source: a queue of that device was notified.
pub const NOTIFY: u32 = 0x100;

/// Source of everything that is no device's.
pub const CONTROL: u32 = 0x200;

/// Stack of a thread in bytes.
const STACK: usize = 256 << 10;

/// Events taken at once.
const BATCH: usize = 16;

/// Messages of all threads for the supervisor; `main` sends them.
#[derive(Debug)]
pub struct Mailbox {
    messages: Mutex<Vec<Outgoing>>,
    wake: EventFd,
}

impl Mailbox {
    /// An empty one.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            messages: Mutex::default(),
            wake: EventFd::new(EFD_NONBLOCK)?,
        })
    }

    /// Readable when there is something in it.
    #[must_use]
    pub fn wake(&self) -> &EventFd {
        &self.wake
    }

    /// Puts messages in and wakes `main`.
    pub fn post(&self, messages: Vec<Outgoing>) {
        if messages.is_empty() {
            return;
        }
        self.messages
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(messages);
        // Fails only when the counter would overflow: then it is awake.
        let _ = self.wake.write(1);
    }

    /// Takes everything out.
    #[must_use]
    pub fn take(&self) -> Vec<Outgoing> {
        // Nothing to read: it was not asleep.
        let _ = self.wake.read();
        std::mem::take(&mut self.messages.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Gives events to the devices of one thread.
#[derive(Debug)]
pub struct DeviceLoop {
    epoll: Arc<Epoll>,
    /// All devices of the machine by number; only this thread's have events.
    devices: Vec<Arc<Transport>>,
    mailbox: Arc<Mailbox>,
}

impl DeviceLoop {
    /// A loop over `epoll`.
    #[must_use]
    pub fn new(epoll: Arc<Epoll>, devices: Vec<Arc<Transport>>, mailbox: Arc<Mailbox>) -> Self {
        Self {
            epoll,
            devices,
            mailbox,
        }
    }

    /// Serves events for ever; what is no device's goes to `other`.
    pub fn run(&self, mut other: impl FnMut(Token, EventSet)) -> io::Error {
        let mut events = [EpollEvent::default(); BATCH];
        loop {
            let count = match self.epoll.wait(-1, &mut events) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return error,
            };
            for event in &events[..count] {
                let (source, token) = EventRegistry::split(event.data());
                match source {
                    CONTROL => other(token, event.event_set()),
                    _ => self.serve_device(source, token, event.event_set()),
                }
            }
        }
    }

    fn serve_device(&self, source: u32, token: Token, interest: EventSet) {
        let Some(device) = self.devices.get((source & !NOTIFY) as usize) else {
            return;
        };
        if source & NOTIFY != 0 {
            device.queue_notified(token.0 as usize);
        } else {
            device.ready(token, interest);
        }
        self.mailbox.post(device.take_messages());
    }

    /// Runs on a thread of its own, for ever, as one for disks. An epoll that fails is reported
    /// to `on_error`.
    pub fn spawn(
        self,
        name: &str,
        confinement: Confinement,
        on_error: impl FnOnce(io::Error) + Send + 'static,
    ) -> io::Result<()> {
        std::thread::Builder::new()
            .name(name.to_owned())
            .stack_size(STACK)
            .spawn(move || {
                if let Err(error) = confinement.begin(ThreadKind::Block) {
                    return on_error(io::Error::other(error));
                }
                drop(confinement);
                on_error(self.run(|_, _| {}))
            })
            .map(drop)
    }
}

/// Watches the notifications of all queues of device number `index`.
pub fn watch_queues(epoll: &Arc<Epoll>, index: u32, notifiers: &[EventFd]) -> io::Result<()> {
    let registry = EventRegistry::new(Arc::clone(epoll), index | NOTIFY);
    for (queue, notifier) in notifiers.iter().enumerate() {
        // Edge-triggered: every notification wakes the thread, and nobody has
        // to read the counter.
        registry.add(
            notifier.as_raw_fd(),
            Token(queue as u32),
            EventSet::IN | EventSet::EDGE_TRIGGERED,
        )?;
    }
    Ok(())
}
