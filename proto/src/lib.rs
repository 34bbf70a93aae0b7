//! The types that two Beluga processes must agree on.
