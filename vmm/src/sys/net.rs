//! System calls of the net device.
