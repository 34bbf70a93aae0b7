//! System calls of the balloon device.
