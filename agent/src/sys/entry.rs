//! Where the C library starts this program.
//!
//! Not the standard library's own start: that asks the C library for the bounds
//! of the stack, which reads /proc/self/maps with sscanf, and 6 % of the
//! initramfs would be formatted input of numbers that the agent does not have.
//! What else it does is done here.

/// Called by the C library, which has set up the arguments that `std::env` gives.
#[cfg(not(test))]
#[unsafe(no_mangle)]
extern "C" fn main(_count: libc::c_int, _arguments: *const *const libc::c_char) -> libc::c_int {
    hold_standard_streams();
    // SAFETY: SIG_IGN is no code of ours. A reader that is gone is an error of
    // the write, not an end of the program.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    crate::run();
    0
}

/// A standard stream that is closed would be the number of the next file that
/// is opened, and what is written to it would go there.
#[cfg_attr(
    test,
    expect(dead_code, reason = "tests are started by the standard library")
)]
fn hold_standard_streams() {
    let null = c"/dev/null".as_ptr();
    for stream in 0..3 {
        // SAFETY: asks for flags of a number, which may be nobody's.
        let is_open = unsafe { libc::fcntl(stream, libc::F_GETFD) } >= 0;
        if !is_open {
            // SAFETY: a literal path. The lowest free number is this one.
            unsafe { libc::open(null, libc::O_RDWR) };
        }
    }
}
