//! What the server is started with: two descriptors and how to show the one.

use crate::sys;
use std::os::fd::OwnedFd;

/// How the shared directory is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct View {
    /// Nothing can be changed through it.
    pub read_only: bool,
    /// The descriptor is a file's: the guest sees a directory in which it is
    /// alone, under the name [`crate::server::FILE_NAME`].
    pub single_file: bool,
}

/// The command line.
#[derive(Debug)]
pub struct Options {
    /// Packets from and to the VMM.
    pub socket: OwnedFd,
    /// The directory or file, open with `O_PATH`.
    pub root: OwnedFd,
    /// How it is shown.
    pub view: View,
}

impl Options {
    /// Takes over the descriptors that the arguments name; `None` when they
    /// are not as they should be. Call once, before anything is opened.
    #[must_use]
    pub fn parse(arguments: &[String]) -> Option<Self> {
        let (mut socket, mut root, mut view) = (None, None, View::default());
        let mut words = arguments.iter().map(String::as_str);
        while let Some(word) = words.next() {
            match word {
                "--socket" if socket.is_none() => socket = Some(descriptor(words.next()?)?),
                "--root" if root.is_none() => root = Some(descriptor(words.next()?)?),
                "--read-only" => view.read_only = true,
                "--file" => view.single_file = true,
                _ => return None,
            }
        }
        Some(Self {
            socket: socket?,
            root: root?,
            view,
        })
    }
}

fn descriptor(number: &str) -> Option<OwnedFd> {
    sys::take_inherited(number.parse().ok()?)
}
