//! A machine in mid-I/O becomes plain values, and goes on from them.
