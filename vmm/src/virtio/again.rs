//! A turn that ends before its work does.

use super::{EventRegistry, Interest, Token};
use std::io;
use std::os::fd::AsRawFd;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Wakes a device for what its turn has left over: a driver whose queue was not
/// rearmed says nothing. It is made with its device, when the process may still
/// make descriptors, and watched when it is needed first: the drivers that we
/// know never have so much waiting.
#[derive(Debug)]
pub struct Again {
    /// `None` when the host had none to give.
    line: Option<EventFd>,
    is_watched: bool,
}

impl Default for Again {
    fn default() -> Self {
        Self {
            line: EventFd::new(EFD_NONBLOCK).ok(),
            is_watched: false,
        }
    }
}

impl Again {
    /// Under which the device is woken.
    pub const TOKEN: Token = Token(u32::MAX);

    /// Asks for another turn, after those of other devices.
    pub fn ask(&mut self, events: &EventRegistry) {
        if let Err(error) = self.wake(events) {
            crate::log::line(format_args!("a device waits for its guest: {error}"));
        }
    }

    fn wake(&mut self, events: &EventRegistry) -> io::Result<()> {
        let line = self.line.as_ref().ok_or(io::ErrorKind::OutOfMemory)?;
        if !self.is_watched {
            // Edge-triggered: nobody has to read the counter.
            let interest = Interest::IN | Interest::EDGE_TRIGGERED;
            events.add(line.as_raw_fd(), Self::TOKEN, interest)?;
            self.is_watched = true;
        }
        // Fails only when the counter would overflow: then it is awake.
        let _ = line.write(1);
        Ok(())
    }

    /// Forgets what was asked.
    pub fn reset(&mut self, events: &EventRegistry) {
        if let (Some(line), true) = (&self.line, self.is_watched) {
            // The next driver may be woken once for nothing: a vCPU, which resets
            // devices, has no way to read.
            events.remove(line.as_raw_fd());
        }
        self.is_watched = false;
    }
}
