//! Messages for the operator, on standard error: a file of the pod's.

use std::fmt::Arguments;
use std::io::Write as _;

/// Writes one line. A log that cannot be written (a full disk) must not end
/// the machine, as `eprintln!` would.
pub fn line(message: Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "beluga-vmm: {message}");
}
