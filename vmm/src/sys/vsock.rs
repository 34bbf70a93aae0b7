//! System calls of the vsock device.
