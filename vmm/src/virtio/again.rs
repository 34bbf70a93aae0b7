//! A turn that ends before its work does.

use super::{EventRegistry, Interest, Token};
use std::os::fd::AsRawFd;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Wakes a device for what its turn has left over: a driver whose queue was not
/// rearmed says nothing. Made when it is needed first, since the drivers that
/// we know never have so much waiting.
#[derive(Debug, Default)]
pub struct Again(Option<EventFd>);

impl Again {
    /// Under which the device is woken.
    pub const TOKEN: Token = Token(u32::MAX);

    /// Asks for another turn, after those of other devices.
    pub fn ask(&mut self, events: &EventRegistry) {
        if self.0.is_none() {
            // Edge-triggered: nobody has to read the counter.
            let interest = Interest::IN | Interest::EDGE_TRIGGERED;
            let made = EventFd::new(EFD_NONBLOCK).and_then(|fd| {
                events.add(fd.as_raw_fd(), Self::TOKEN, interest)?;
                Ok(fd)
            });
            match made {
                Ok(fd) => self.0 = Some(fd),
                Err(error) => {
                    crate::log::line(format_args!("a device waits for its guest: {error}"));
                }
            }
        }
        if let Some(fd) = &self.0 {
            // Fails only when the counter would overflow: then it is awake.
            let _ = fd.write(1);
        }
    }

    /// Forgets what was asked.
    pub fn reset(&mut self, events: &EventRegistry) {
        if let Some(fd) = self.0.take() {
            events.remove(fd.as_raw_fd());
        }
    }
}
