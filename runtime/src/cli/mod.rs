//! The `beluga` command: one file per verb.
